//! A conversation of a [`ChatQueue`](super::ChatQueue): its lists and its rows.

use std::ops::ControlFlow;

use super::dict::read_message;
use super::queue::{ChatRow, MessageStatus};
use crate::kv::{KvStore, Map, Text, Value};
use crate::model::ChatMessage;
use crate::stores::StoreError;
use crate::stores::directory::Directory;
use crate::stores::list::{List, number};

/// The collections of a store.
pub(super) struct Names {
    pub(super) queues: String,
    pub(super) rows: String,
}

/// A conversation while it is read or changed.
pub(super) struct Chat<'a> {
    pub(super) kv: &'a dyn KvStore,
    pub(super) names: &'a Names,
    pub(super) key: &'a Text,
    pub(super) serial: u64,
    pub(super) active: List<'a>,
    pub(super) archived: List<'a>,
}

/// What numbers rows.
#[derive(Clone, Copy)]
pub(super) struct Counter {
    pub(super) next: u64,
    pub(super) timestamp: i64,
}

impl<'a> Chat<'a> {
    /// The conversation, if it is there.
    pub(super) fn open(
        kv: &'a dyn KvStore,
        names: &'a Names,
        key: &'a Text,
    ) -> Result<Option<Self>, StoreError> {
        let Some(record) = kv.get(&names.queues, key.as_bytes())? else { return Ok(None) };
        let found = record.as_map().and_then(|map| {
            Some((number(map, "#order")?, map.get("#active")?, map.get("#archived")?))
        });
        let wrong = || StoreError::corrupt(&names.queues, key.as_bytes(), "is no conversation");
        let (serial, active, archived) = found.ok_or_else(wrong)?;
        let mut chat = Chat::new(kv, names, key, serial);
        chat.active = List::open(kv, &names.rows, format!("{serial}a"), active)?;
        chat.archived = List::open(kv, &names.rows, format!("{serial}z"), archived)?;
        Ok(Some(chat))
    }

    /// A conversation without messages.
    pub(super) fn new(kv: &'a dyn KvStore, names: &'a Names, key: &'a Text, serial: u64) -> Self {
        let active = List::new(kv, &names.rows, format!("{serial}a"));
        let archived = List::new(kv, &names.rows, format!("{serial}z"));
        Chat { kv, names, key, serial, active, archived }
    }

    pub(super) fn list(&self, status: MessageStatus) -> &List<'a> {
        match status {
            MessageStatus::Active => &self.active,
            MessageStatus::Archived => &self.archived,
        }
    }

    fn list_mut(&mut self, status: MessageStatus) -> &mut List<'a> {
        match status {
            MessageStatus::Active => &mut self.active,
            MessageStatus::Archived => &mut self.archived,
        }
    }

    /// Writes the conversation's record; one without messages goes.
    pub(super) fn save(&self) -> Result<(), StoreError> {
        if self.active.is_empty() && self.archived.is_empty() {
            if self.kv.delete(&self.names.queues, self.key.as_bytes())? {
                let mut directory = Directory::load(self.kv, &self.names.rows)?;
                directory.leave(self.serial, self.key)?;
                directory.save()?;
            }
            return Ok(());
        }
        let mut record = Map::with_capacity(3);
        record.set("#order", self.serial);
        record.set("#active", self.active.head());
        record.set("#archived", self.archived.head());
        Ok(self.kv.put(&self.names.queues, self.key.as_bytes(), &record.into())?)
    }

    /// Writes a row and puts it in its place in the list of its status.
    pub(super) fn put(&mut self, row: &ChatRow) -> Result<(), StoreError> {
        let place = (row.timestamp, row.id);
        let item = Value::List(vec![row.timestamp.into(), row.id.into()]);
        let list = self.list_mut(row.status);
        let position = list.partition_point(|item| order(item).is_some_and(|at| at < place))?;
        let chunk = match position == list.len() {
            true => Some(list.push(item)?),
            false => {
                list.insert(position, item)?;
                None
            }
        };
        let mut record = Map::with_capacity(5);
        record.set("key", &row.key);
        record.set("timestamp", row.timestamp);
        record.set("status", row.status.name());
        record.set("data", row.message.to_value());
        if let Some(chunk) = chunk {
            record.set("#chunk", chunk);
        }
        Ok(self.kv.put(&self.names.rows, &row_key(row.id), &record.into())?)
    }

    /// Removes the row with that id, if it is of this conversation.
    pub(super) fn remove(&mut self, id: u64) -> Result<Option<ChatMessage>, StoreError> {
        let Some(row) = self.row(id)?.filter(|row| row.0.key == *self.key) else { return Ok(None) };
        self.take_out(&row)?;
        self.kv.delete(&self.names.rows, &row_key(id))?;
        Ok(Some(row.0.message))
    }

    /// Takes a row out of the list of its status.
    fn take_out(&mut self, (row, chunk): &(ChatRow, Option<u64>)) -> Result<(), StoreError> {
        let place = (row.timestamp, row.id);
        let is_it = |item: &Value| order(item) == Some(place);
        let list = self.list_mut(row.status);
        if let Some(chunk) = chunk
            && list.has_chunk(*chunk)?
            && list.remove_in(*chunk, is_it)?.is_some()
        {
            return Ok(());
        }
        let position = list.partition_point(|item| order(item).is_some_and(|at| at < place))?;
        match list.get(position)?.filter(is_it) {
            Some(_) => list.remove_at(position).map(drop),
            None => Err(self.damaged(row.id, "is not in the list of its conversation")),
        }
    }

    /// Removes the rows of a status, or all.
    pub(super) fn clear(&mut self, status: Option<MessageStatus>) -> Result<(), StoreError> {
        for status in MessageStatus::lists(status) {
            for item in self.list(*status).values()? {
                let (_, id) = order(&item).ok_or_else(|| self.malformed())?;
                self.kv.delete(&self.names.rows, &row_key(id))?;
            }
            self.list_mut(*status).clear()?;
        }
        Ok(())
    }

    /// The rows of a status, or of all, in order. Walks from the nearer end.
    pub(super) fn rows(
        &self,
        status: Option<MessageStatus>,
        limit: Option<u64>,
        offset: u64,
    ) -> Result<Vec<ChatRow>, StoreError> {
        let lists = MessageStatus::lists(status).iter().map(|status| self.list(*status));
        let lists: Vec<&List<'_>> = lists.filter(|list| !list.is_empty()).collect();
        let total: u64 = lists.iter().map(|list| list.len()).sum();
        let left = total.saturating_sub(offset);
        let limit = limit.unwrap_or(u64::MAX).min(left);
        if limit == 0 {
            return Ok(Vec::new());
        }
        let mut places = Vec::new();
        let skipped = match *lists {
            [list] => {
                self.places(list, offset, limit, &mut places)?;
                0
            }
            // Of two lists the first ones of both together are among the first ones of each, and
            // the last ones among the last.
            _ if offset.saturating_add(limit) <= left => {
                let most = offset.saturating_add(limit);
                lists.iter().try_for_each(|list| self.places(list, 0, most, &mut places))?;
                offset
            }
            _ => {
                for list in &lists {
                    let from = list.len().saturating_sub(left);
                    self.places(list, from, left, &mut places)?;
                }
                (places.len() as u64).saturating_sub(left)
            }
        };
        if lists.len() > 1 {
            places.sort_unstable();
            let skipped = usize::try_from(skipped).unwrap_or(usize::MAX).min(places.len());
            places.drain(..skipped);
            places.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        }
        let mut rows = Vec::with_capacity(places.len());
        for (_, id) in places {
            let row = self.row(id)?.ok_or_else(|| self.damaged(id, "is missing"))?;
            rows.push(row.0);
        }
        Ok(rows)
    }

    /// Appends timestamps and ids of at most `most` items of a list, from the position `from` on.
    fn places(
        &self,
        list: &List<'_>,
        from: u64,
        most: u64,
        places: &mut Vec<(i64, u64)>,
    ) -> Result<(), StoreError> {
        let mut left = most;
        list.visit(from, &mut |_, item| {
            places.push(order(&item).ok_or_else(|| self.malformed())?);
            left = left.saturating_sub(1);
            Ok(if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })
    }

    /// The row with that id, of any conversation, and the chunk of the list in which it was put.
    fn row(&self, id: u64) -> Result<Option<(ChatRow, Option<u64>)>, StoreError> {
        let Some(record) = self.kv.get(&self.names.rows, &row_key(id))? else { return Ok(None) };
        let fields = record.as_map().and_then(|map| {
            let status = map.get("status")?.as_text()?.as_str()?;
            let status = MessageStatus::from_name(status)?;
            let key = map.get("key")?.as_text()?.clone();
            Some((key, map.get("timestamp")?.as_int()?, status, map.get("data")?, map))
        });
        let wrong = || self.damaged(id, "is no row of a conversation");
        let (key, timestamp, status, data, map) = fields.ok_or_else(wrong)?;
        let message = read_message(&key, data)?;
        Ok(Some((ChatRow { id, key, timestamp, status, message }, number(map, "#chunk"))))
    }

    fn damaged(&self, id: u64, what: &'static str) -> StoreError {
        StoreError::corrupt(&self.names.rows, &row_key(id), what)
    }

    fn malformed(&self) -> StoreError {
        let what = "lists something that is no row";
        StoreError::corrupt(&self.names.queues, self.key.as_bytes(), what)
    }
}

impl Counter {
    pub(super) fn load(kv: &dyn KvStore, names: &Names) -> Result<Counter, StoreError> {
        let Some(record) = kv.get(&names.rows, b"rows")? else {
            return Ok(Counter { next: 1, timestamp: 0 });
        };
        let found = record.as_map().and_then(|map| {
            let timestamp = map.get("#timestamp")?.as_int()?;
            Some(Counter { next: number(map, "#next")?, timestamp })
        });
        found.ok_or_else(|| StoreError::corrupt(&names.rows, b"rows", "numbers no rows"))
    }

    pub(super) fn save(self, kv: &dyn KvStore, names: &Names) -> Result<(), StoreError> {
        let mut record = Map::with_capacity(2);
        record.set("#next", self.next);
        record.set("#timestamp", self.timestamp);
        Ok(kv.put(&names.rows, b"rows", &record.into())?)
    }
}

pub(super) fn row_key(id: u64) -> Vec<u8> {
    format!("r{id}").into_bytes()
}

/// Timestamp and row id of an item of a list.
fn order(item: &Value) -> Option<(i64, u64)> {
    match item.as_list()? {
        [timestamp, id] => Some((timestamp.as_int()?, u64::try_from(id.as_int()?).ok()?)),
        _ => None,
    }
}
