//! [`Load`]: what the walk through a file does with what it finds.
//!
//! The same walk is made to check a file, when nothing is written, and to import it. A kind of
//! file needs to know neither which walk it is, nor of batches, salvage and reports.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::sync::Arc;

use super::error::Stop;
use super::files::Source;
use super::report::FileReport;
use super::space::Space;
use crate::engine::Durability;
use crate::kv::json::{JsonReader, Next, StreamError};
use crate::kv::{KvStore, MemoryKv, Staged, Text, Value};
use crate::limits::{COLLECTION_NAME_LEN_MAX, KEY_LEN_MAX};
use crate::stores::OWNER_LEN_MAX;

/// Bytes that become one batch, or a little more: of a file, or of memory for what was made of it,
/// which is far more if the records are small.
const BATCH_LEN: usize = 4 << 20;
/// Bytes of a file after which progress is told.
const PROGRESS_LEN: usize = 256 << 10;

/// The document that is walked through.
pub(super) type Json<'s> = JsonReader<Box<dyn Read + 's>>;

/// Which walk it is.
pub(super) enum Walk {
    /// Nothing is written.
    Check,
    /// What can be written as it comes.
    First(Arc<Staged>),
    /// What was put off.
    Second(Arc<Staged>),
}

/// What the files fill, and which of them does.
pub(super) type Claims = BTreeMap<Space, String>;

/// How far the work is: bytes that were read, of all that will be.
pub(super) type Progress<'a> = dyn FnMut(u64, u64) + 'a;

/// What a check learns of a file for the walks after it.
#[derive(Debug, Default)]
pub(super) struct Learned {
    /// Some records must wait until all others are there.
    pub(super) needs_second: bool,
    /// Where in the file it says that embeddings are in half precision.
    pub(super) halves: BTreeSet<Text>,
    /// How often each key came that may come once: the last is what Python keeps.
    occurrences: BTreeMap<Text, u32>,
}

/// One walk through one file.
pub(super) struct Load<'a> {
    pub(super) walk: Walk,
    source: &'a dyn Source,
    pub(super) is_salvage: bool,
    pub(super) learned: &'a mut Learned,
    claims: &'a mut Claims,
    pub(super) report: &'a mut FileReport,
    /// Told the bytes of this walk.
    pub(super) progress: &'a mut dyn FnMut(u64),
    seen: BTreeMap<Text, u32>,
    batch_start: usize,
    told: usize,
}

impl<'a> Load<'a> {
    pub(super) fn new(
        walk: Walk,
        source: &'a dyn Source,
        is_salvage: bool,
        learned: &'a mut Learned,
        claims: &'a mut Claims,
        report: &'a mut FileReport,
        progress: &'a mut dyn FnMut(u64),
    ) -> Self {
        let seen = BTreeMap::new();
        let (batch_start, told) = (0, 0);
        Load {
            walk,
            source,
            is_salvage,
            learned,
            claims,
            report,
            progress,
            seen,
            batch_start,
            told,
        }
    }

    /// Where to write; nowhere in a check.
    pub(super) fn kv(&self) -> Option<Arc<dyn KvStore>> {
        match &self.walk {
            Walk::Check => None,
            Walk::First(staged) | Walk::Second(staged) => Some(staged.clone()),
        }
    }

    /// True in the walks that come first: the check, and the writing of what need not wait.
    pub(super) fn is_first(&self) -> bool {
        !matches!(self.walk, Walk::Second(_))
    }

    /// True in the walks in which what waits is looked at.
    pub(super) fn is_for_waiting(&self) -> bool {
        match self.walk {
            Walk::Check | Walk::Second(_) => true,
            Walk::First(_) => !self.learned.needs_second,
        }
    }

    /// True if records must be looked into: always in the check, and then only in a salvage, which
    /// leaves out again what the check has found.
    pub(super) fn is_to_check(&self) -> bool {
        matches!(self.walk, Walk::Check) || self.is_salvage
    }

    /// The file once more, from its start.
    pub(super) fn open_again(&self) -> Result<Json<'a>, Stop> {
        Ok(JsonReader::new(self.source.open(&self.report.name).map_err(Stop::Open)?))
    }

    /// In a salvage, the end of what can be read is an end like any other.
    pub(super) fn tolerate<T>(&self, read: Result<T, StreamError>) -> Result<Option<T>, Stop> {
        match read {
            Ok(found) => Ok(Some(found)),
            Err(_) if self.is_salvage => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    /// How often a key came that may come once.
    pub(super) fn occurrences(&self, key: &Text) -> u32 {
        self.learned.occurrences.get(key).copied().unwrap_or(1)
    }

    /// What the file says of `space` takes the place of what is there. No other file may. False if
    /// the space cannot be: its collections would have names that are too long.
    pub(super) fn claim(&mut self, json: &Json<'_>, space: Space) -> Result<bool, Stop> {
        if self.is_to_check() {
            let nowhere: Arc<dyn KvStore> = Arc::new(MemoryKv::new());
            if space.clear(&nowhere).is_err() {
                let what = "its collections would have names of more than";
                self.bad(json, || format!("{space}: {what} {COLLECTION_NAME_LEN_MAX} bytes"))?;
                return Ok(false);
            }
        }
        if !matches!(self.walk, Walk::Check) {
            return Ok(true);
        }
        match self.claims.get(&space) {
            None => {
                self.claims.insert(space, self.report.name.clone());
                Ok(true)
            }
            Some(other) if *other == self.report.name => Ok(true),
            Some(other) => Err(Stop::Twice { space: space.to_string(), other: other.clone() }),
        }
    }

    /// True unless `key`, which may come once, comes again later in the file.
    pub(super) fn is_last(&mut self, json: &Json<'_>, key: &Text) -> bool {
        if matches!(self.walk, Walk::Check) {
            let count = self.learned.occurrences.entry(key.clone()).or_default();
            *count += 1;
            if *count > 1 {
                let what = format!("{} comes again: the earlier one", shown(key));
                self.leave_out(json, || what);
            }
            return true;
        }
        let seen = self.seen.entry(key.clone()).or_default();
        *seen += 1;
        self.learned.occurrences.get(key).is_none_or(|all| *seen >= *all)
    }

    /// Steps into the dictionary that comes next, which is called `what`; false if it is none.
    pub(super) fn enter(&mut self, json: &mut Json<'_>, what: &str) -> Result<bool, Stop> {
        if json.peek()? == Next::Map {
            return Ok(json.enter()?);
        }
        json.skip()?;
        self.bad(json, || format!("{what} is no dictionary"))?;
        Ok(false)
    }

    /// A record was taken.
    pub(super) fn taken(&mut self, json: &Json<'_>) -> Result<(), Stop> {
        if self.is_first_count() {
            self.report.records += 1;
        }
        self.read_upto(json)
    }

    /// Records are counted where they are taken, in the check.
    fn is_first_count(&self) -> bool {
        matches!(self.walk, Walk::Check)
    }

    /// Everything up to the reader's position is done: time for a batch, perhaps.
    pub(super) fn read_upto(&mut self, json: &Json<'_>) -> Result<(), Stop> {
        let at = json.byte();
        if at - self.told >= PROGRESS_LEN {
            self.told = at;
            (self.progress)(at as u64);
        }
        if at - self.batch_start >= BATCH_LEN {
            self.batch_start = at;
            return self.commit();
        }
        self.commit_if_large()
    }

    /// Time for a batch, perhaps, wherever the reader is.
    pub(super) fn commit_if_large(&self) -> Result<(), Stop> {
        match &self.walk {
            Walk::First(staged) | Walk::Second(staged) if staged.byte_len() >= BATCH_LEN => {
                self.commit()
            }
            _ => Ok(()),
        }
    }

    /// Writes what is staged.
    pub(super) fn commit(&self) -> Result<(), Stop> {
        match &self.walk {
            Walk::Check => Ok(()),
            Walk::First(staged) | Walk::Second(staged) => Ok(staged.commit(Durability::Buffered)?),
        }
    }

    /// Something that was just read is not as LlamaIndex writes it: the end of the walk, or, in a
    /// salvage, a line in the report.
    pub(super) fn bad(
        &mut self,
        json: &Json<'_>,
        what: impl FnOnce() -> String,
    ) -> Result<(), Stop> {
        let byte = json.byte();
        if !self.is_salvage {
            return Err(Stop::Shape { byte, what: what() });
        }
        if matches!(self.walk, Walk::Check) {
            self.report.problems.add(byte as u64, what());
        }
        Ok(())
    }

    /// Something that no store has a place for, and LlamaIndex does not read: a line in the report.
    pub(super) fn leave_out(&mut self, json: &Json<'_>, what: impl FnOnce() -> String) {
        if matches!(self.walk, Walk::Check) {
            self.report.left_out.add(json.byte() as u64, what());
        }
    }

    /// True for a key that can be stored.
    pub(super) fn fits(&mut self, json: &Json<'_>, key: &Text) -> Result<bool, Stop> {
        self.fits_in(json, key, KEY_LEN_MAX)
    }

    /// True for a key that owns a list, whose chunks are stored under more than that key.
    pub(super) fn fits_as_owner(&mut self, json: &Json<'_>, key: &Text) -> Result<bool, Stop> {
        self.fits_in(json, key, OWNER_LEN_MAX)
    }

    fn fits_in(&mut self, json: &Json<'_>, key: &Text, max: usize) -> Result<bool, Stop> {
        let len = key.len();
        if len > max {
            self.bad(json, || format!("a key is {len} bytes long, more than {max}"))?;
        }
        Ok(len <= max)
    }

    /// The name of a collection; `None` if none can be named so.
    pub(super) fn collection(
        &mut self,
        json: &Json<'_>,
        name: &Text,
    ) -> Result<Option<String>, Stop> {
        match name.as_str() {
            Some(plain) if plain.len() <= COLLECTION_NAME_LEN_MAX => Ok(Some(plain.to_owned())),
            _ => {
                let shown = shown(name);
                self.bad(json, || format!("no collection can be named {shown}"))?;
                Ok(None)
            }
        }
    }
}

/// A key in a message.
pub(super) fn shown(key: &Text) -> String {
    let text = key.to_string_lossy();
    let short: String = text.chars().take(64).collect();
    let dots = if short.len() < text.len() { "..." } else { "" };
    format!("\"{}{dots}\"", short.escape_debug())
}

/// A record in a message.
pub(super) fn of(collection: &str, key: &Text, what: &str) -> String {
    format!("{collection}: {} {what}", shown(key))
}

/// The path to a field of `value` that `kept`, which was made of it, does not have; other than
/// `known`, which has become another.
pub(super) fn lost_field(value: &Value, kept: &Value, known: &str) -> Option<String> {
    match (value, kept) {
        (Value::Map(value), Value::Map(kept)) => value.iter().find_map(|(name, inner)| {
            let lost = match kept.get(name) {
                Some(kept) => lost_field(inner, kept, known),
                // Nothing is lost with it.
                None if *inner == Value::Null || name == known => None,
                None => Some(String::new()),
            };
            lost.map(|path| format!("/{}{path}", name.to_string_lossy()))
        }),
        (Value::List(value), Value::List(kept)) => {
            value.iter().zip(kept).find_map(|(value, kept)| lost_field(value, kept, known))
        }
        _ => None,
    }
}

/// True for a record of an index store: `__type__` is a word there, and a number for nodes.
pub(super) fn is_struct(record: &Value) -> bool {
    let kind = record.get("__type__").and_then(Value::as_text);
    kind.is_some_and(|kind| !kind.as_bytes().iter().all(u8::is_ascii_digit))
}
