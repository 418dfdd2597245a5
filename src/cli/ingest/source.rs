//! The source: turns files and standard input into groups, in order.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::sync::Arc;

use super::super::failure::Failure;
use super::group::{Gone, Group, Grouper, Item, Origin};
use super::stage::TEXT_LEN_MAX;
use super::walk::{Found, Kind};
use super::{StdinFormat, Stop};
use crate::kv::Text;

/// The id of standard input.
const STDIN_ID: &str = "-";

/// What there is to read.
pub(super) struct Source {
    pub(super) files: Vec<Found>,
    pub(super) stdin: Option<StdinFormat>,
    pub(super) batch: usize,
    pub(super) stop: Stop,
}

impl Source {
    /// Sends everything in groups, until all is sent, the run is to stop, or nobody receives.
    pub(super) fn produce(
        self,
        send: impl FnMut(Group) -> Result<(), Gone>,
    ) -> Result<(), Failure> {
        let mut groups = Grouper::new(self.batch, send);
        let sent = self.read_all(&mut groups);
        // What was read before a failure is stored.
        let flushed = groups.flush();
        match sent {
            Err(Ended::Failed(failure)) => Err(failure),
            Err(Ended::Gone) => Ok(()),
            Ok(()) => {
                // If nobody receives, the receiver says why.
                drop(flushed);
                Ok(())
            }
        }
    }

    fn read_all<F>(self, groups: &mut Grouper<F>) -> Result<(), Ended>
    where
        F: FnMut(Group) -> Result<(), Gone>,
    {
        for file in self.files {
            if self.stop.is_set() {
                return Err(Ended::Gone);
            }
            if file.kind == Kind::Text {
                let bytes = file.bytes;
                groups.push(Item::File(file), bytes)?;
                continue;
            }
            let name = file.path.display().to_string();
            let cannot = |e| Failure::of(format!("cannot read {name}"), e);
            let reader = BufReader::with_capacity(1 << 20, File::open(&file.path).map_err(cannot)?);
            let origin = Origin { id: file.id, name: name.clone() };
            read_records(reader, Arc::new(origin), &self.stop, groups)?;
        }
        match self.stdin {
            None => {}
            Some(StdinFormat::Jsonl) => {
                let origin = Origin { id: STDIN_ID.into(), name: "standard input".into() };
                let reader = BufReader::with_capacity(1 << 20, std::io::stdin());
                read_records(reader, Arc::new(origin), &self.stop, groups)?;
            }
            Some(StdinFormat::Text) => {
                let mut bytes = Vec::new();
                let stdin = std::io::stdin().lock();
                let read = stdin.take(TEXT_LEN_MAX + 1).read_to_end(&mut bytes);
                read.map_err(|e| Failure::of("cannot read standard input", e))?;
                let len = bytes.len() as u64;
                groups.push(Item::Stdin(bytes), len)?;
            }
        }
        Ok(())
    }
}

/// Why reading ended early.
enum Ended {
    Failed(Failure),
    Gone,
}

impl From<Failure> for Ended {
    fn from(failure: Failure) -> Self {
        Ended::Failed(failure)
    }
}

impl From<Gone> for Ended {
    fn from(_: Gone) -> Self {
        Ended::Gone
    }
}

/// The id of the text of standard input.
pub(super) fn stdin_id() -> Text {
    STDIN_ID.into()
}

fn read_records<F>(
    mut reader: impl BufRead,
    origin: Arc<Origin>,
    stop: &Stop,
    groups: &mut Grouper<F>,
) -> Result<(), Ended>
where
    F: FnMut(Group) -> Result<(), Gone>,
{
    for line in 1.. {
        if stop.is_set() {
            return Err(Ended::Gone);
        }
        let mut bytes = Vec::new();
        let read = reader.by_ref().take(TEXT_LEN_MAX + 1).read_until(b'\n', &mut bytes);
        let read = read.map_err(|e| Failure::of(format!("cannot read {}", origin.name), e))?;
        if read == 0 {
            return Ok(());
        }
        let len = bytes.len() as u64;
        if len > TEXT_LEN_MAX {
            let name = &origin.name;
            let limit = TEXT_LEN_MAX >> 20;
            let what = format!("{name} line {line}: longer than the limit of {limit} MiB");
            return Err(Failure::new(what).into());
        }
        groups.push(Item::Record { origin: Arc::clone(&origin), line, bytes }, len)?;
    }
    Ok(())
}
