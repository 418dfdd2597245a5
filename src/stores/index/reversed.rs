//! [`Reversed`]: where the texts of a field stand, so that one is removed without looking for it.
//!
//! In the collection of members, for the struct of serial number `S` and the field of letter `F`:
//!
//! ```text
//! "pSF{key, text}"         for fields with a set or one text under a key (AllNodes, Table):
//!                          [chunk of the contents, chunk of the list of keys in which the key is]
//!                          for others (Nodes, SummaryNodes), which may have a text several times:
//!                          the chunk in which it is, or the head of a list of such chunks
//! list "SF<{text}"         AllNodes, Table: the keys under which the text is
//! list "SF>{key, text}"    Nodes, SummaryNodes: the chunks, oldest first
//! ```
//!
//! Entering or removing one mention touches its record and the ends of one list, however many
//! other mentions there are, of the text or under the key.

use super::kind::Field;
use crate::kv::{KvStore, Text, Value};
use crate::stores::StoreError;
use crate::stores::graph::joined;
use crate::stores::list::List;

/// The mentions of texts in one field of one struct.
pub(super) struct Reversed<'a> {
    pub(super) kv: &'a dyn KvStore,
    /// Name of the collection of members.
    pub(super) members: &'a str,
    pub(super) serial: u64,
    pub(super) field: Field,
}

impl<'a> Reversed<'a> {
    fn name(&self, first: &str, mark: &str, rest: &[u8]) -> Vec<u8> {
        let Reversed { serial, field, .. } = self;
        let mut name = format!("{first}{serial}{}{mark}", field.letter()).into_bytes();
        name.extend_from_slice(rest);
        name
    }

    fn record(&self, key: &Text, text: &Text) -> Vec<u8> {
        self.name("p", "", &joined(&[key.as_bytes(), text.as_bytes()]))
    }

    /// The list of keys under which `text` is.
    fn keys(&self, text: &Text) -> Result<List<'a>, StoreError> {
        List::load(self.kv, self.members, self.name("", "<", text.as_bytes()))
    }

    /// The list of chunks in which `text` is, of those under `key`.
    fn chunks(&self, key: &Text, text: &Text) -> List<'a> {
        let owner = self.name("", ">", &joined(&[key.as_bytes(), text.as_bytes()]));
        List::new(self.kv, self.members, owner)
    }

    fn open_chunks(&self, key: &Text, text: &Text, head: &Value) -> Result<List<'a>, StoreError> {
        let owner = self.name("", ">", &joined(&[key.as_bytes(), text.as_bytes()]));
        List::open(self.kv, self.members, owner, head)
    }

    fn damaged(&self, key: &Text, text: &Text) -> StoreError {
        let record = self.record(key, text);
        StoreError::corrupt(self.members, &record, "does not say where a node is")
    }

    /// True if `text` is under `key`.
    pub(super) fn contains(&self, key: &Text, text: &Text) -> Result<bool, StoreError> {
        Ok(self.kv.contains(self.members, &self.record(key, text))?)
    }

    /// The keys under which `text` is, in the order in which it came there.
    pub(super) fn keys_with(&self, text: &Text) -> Result<Vec<Text>, StoreError> {
        let keys = self.keys(text)?.values()?.into_iter();
        let key = |key: Value| match key {
            Value::Text(key) => Ok(key),
            _ => Err(self.damaged(&Text::default(), text)),
        };
        keys.map(key).collect()
    }

    /// Notes that `text` is under `key`, in the chunk `handle` of what is there.
    pub(super) fn link(&self, key: &Text, text: &Text, handle: u64) -> Result<(), StoreError> {
        let record = self.record(key, text);
        let place = if self.field.lists_keys() {
            let mut keys = self.keys(text)?;
            let at = keys.push(key.into())?;
            keys.save()?;
            Value::List(vec![handle.into(), at.into()])
        } else {
            match self.kv.get(self.members, &record)? {
                None => handle.into(),
                Some(Value::Int(only)) => {
                    let mut chunks = self.chunks(key, text);
                    chunks.push(only.into())?;
                    chunks.push(handle.into())?;
                    chunks.head()
                }
                Some(head) => {
                    let mut chunks = self.open_chunks(key, text, &head)?;
                    chunks.push(handle.into())?;
                    chunks.head()
                }
            }
        };
        Ok(self.kv.put(self.members, &record, &place)?)
    }

    /// Forgets the oldest mention of `text` under `key`. Returns the chunk in which it is, if there
    /// is one.
    pub(super) fn unlink(&self, key: &Text, text: &Text) -> Result<Option<u64>, StoreError> {
        let record = self.record(key, text);
        let number = |value: &Value| value.as_int().and_then(|int| u64::try_from(int).ok());
        let damaged = || self.damaged(key, text);
        let Some(place) = self.kv.get(self.members, &record)? else { return Ok(None) };
        let handle = match &place {
            Value::Int(_) => number(&place),
            Value::List(both) => {
                let [handle, at] = both.as_slice() else { return Err(damaged()) };
                let mut keys = self.keys(text)?;
                let at = number(at).ok_or_else(damaged)?;
                keys.remove_in(at, |found| found.as_text() == Some(key))?.ok_or_else(damaged)?;
                keys.save()?;
                number(handle)
            }
            head => {
                let mut chunks = self.open_chunks(key, text, head)?;
                let first = chunks.remove_at(0)?.ok_or_else(damaged)?;
                if !chunks.is_empty() {
                    self.kv.put(self.members, &record, &chunks.head())?;
                    return number(&first).ok_or_else(damaged).map(Some);
                }
                number(&first)
            }
        };
        self.kv.delete(self.members, &record)?;
        handle.ok_or_else(damaged).map(Some)
    }

    /// Forgets all mentions of `text` under `key`.
    pub(super) fn forget(&self, key: &Text, text: &Text) -> Result<(), StoreError> {
        if self.field.lists_keys() {
            return self.unlink(key, text).map(drop);
        }
        let record = self.record(key, text);
        match self.kv.get(self.members, &record)? {
            None => return Ok(()),
            Some(Value::Int(_)) => {}
            Some(head) => self.open_chunks(key, text, &head)?.clear()?,
        }
        self.kv.delete(self.members, &record)?;
        Ok(())
    }
}
