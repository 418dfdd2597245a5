//! The pipeline: one thread reads the input in order, many stage, this one commits in order.
//!
//! Everything between is bounded: at most two groups per thread, and two more, are on their way.
//! Since groups are cut by the input alone and committed in their order, the store does not depend
//! on the number of threads.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError, bounded};

use super::super::failure::Failure;
use super::group::{Gone, Group};
use super::progress::Progress;
use super::report::Counts;
use super::source::Source;
use super::stage::{Staged, stage};
use super::walk::Walked;
use super::{Run, StdinFormat, Stop};
use crate::engine::{Commit, Db, Durability, Pending};

/// How long Ctrl-C may go unnoticed while the input is silent.
const PATIENCE: Duration = Duration::from_millis(50);

/// With `--durability sync`: batches whose sync is under way while the next is written.
const TICKETS_MAX: usize = 2;

pub(super) struct Pipeline<'a> {
    pub(super) run: &'a Run,
    pub(super) db: &'a Db,
    pub(super) jobs: usize,
    pub(super) stdin_format: StdinFormat,
    pub(super) progress: Progress,
}

/// Written batches that count once their sync is done.
type Tickets = VecDeque<(Pending<Commit>, Counts, u64)>;

impl Pipeline<'_> {
    /// Stores everything; adds to `counts` what is acknowledged, also if it ends early.
    pub(super) fn run(&self, walked: &Walked, counts: &mut Counts) -> Result<(), Failure> {
        let window = self.jobs * 2 + 2;
        // One permit for each group between source and commit.
        let (permits, returned) = bounded::<()>(window);
        let (groups, to_stage) = bounded::<Group>(self.jobs);
        let (staged, to_commit) = bounded::<(Group, Staged)>(window);
        let source = Source {
            files: walked.files.clone(),
            stdin: walked.stdin.then_some(self.stdin_format),
            batch: self.run.batch,
            stop: self.run.stop.clone(),
        };
        // Not a scoped thread: nothing wakes it from a silent standard input, so after Ctrl-C it is
        // left behind.
        let source = std::thread::spawn(move || {
            source.produce(|group| {
                permits.send(()).map_err(|_| Gone)?;
                groups.send(group).map_err(|_| Gone)
            })
        });
        let run = self.run;
        let done = std::thread::scope(|scope| {
            for _ in 0..self.jobs {
                let (to_stage, staged) = (to_stage.clone(), staged.clone());
                scope.spawn(move || {
                    while let Some(group) = next(&run.stop, &to_stage) {
                        let outcome = stage(run, &group.items);
                        if staged.send((group, outcome)).is_err() {
                            break;
                        }
                    }
                });
            }
            drop((to_stage, staged));
            let done = self.commit_all(to_commit, &returned, counts);
            if done.is_err() {
                self.run.stop.fail();
            }
            drop(returned);
            done
        });
        done?;
        if self.run.stop.is_set() {
            return Ok(());
        }
        source.join().map_err(|_| Failure::new("the thread that reads the input panicked"))?
    }

    /// Commits the groups in their order.
    fn commit_all(
        &self,
        staged: Receiver<(Group, Staged)>,
        returned: &Receiver<()>,
        counts: &mut Counts,
    ) -> Result<(), Failure> {
        let mut early = BTreeMap::new();
        let mut tickets = Tickets::new();
        let mut number = 0;
        while let Some((group, outcome)) = next(&self.run.stop, &staged) {
            early.insert(group.number, (group, outcome));
            while let Some((group, outcome)) = early.remove(&number) {
                number += 1;
                let committed = self.commit(group, outcome, &mut tickets, counts);
                if committed.is_err() {
                    // What was written before it still counts if it is durable.
                    let settled = self.settle(&mut tickets, 0, counts);
                    return committed.and(settled);
                }
                // The source may be gone already.
                let _ = returned.try_recv();
            }
        }
        self.settle(&mut tickets, 0, counts)
    }

    fn commit(
        &self,
        group: Group,
        mut outcome: Staged,
        tickets: &mut Tickets,
        counts: &mut Counts,
    ) -> Result<(), Failure> {
        if !self.run.dedup.is_current(&outcome.judged) {
            outcome = stage(self.run, &group.items);
        }
        for warning in &outcome.warnings {
            self.progress.warn(warning);
        }
        // Buffered: the sync, if one is wanted, runs while the next batch is written.
        outcome.batch.commit(Durability::Buffered)?;
        self.run.dedup.accept(outcome.judged);
        if self.run.durability == Durability::Sync {
            tickets.push_back((self.db.sync_async(), outcome.counts, group.bytes));
            self.settle(tickets, TICKETS_MAX, counts)?;
        } else {
            counts.add(&outcome.counts);
            self.progress.advance(group.bytes, counts);
        }
        match outcome.error {
            Some(failure) => Err(failure),
            None => Ok(()),
        }
    }

    /// Waits until at most `left` batches are not yet durable.
    fn settle(
        &self,
        tickets: &mut Tickets,
        left: usize,
        counts: &mut Counts,
    ) -> Result<(), Failure> {
        while tickets.len() > left {
            let Some((ticket, batch, bytes)) = tickets.pop_front() else { break };
            ticket.wait()?;
            counts.add(&batch);
            self.progress.advance(bytes, counts);
        }
        Ok(())
    }

    /// Deletes the documents that the run did not see.
    pub(super) fn delete_vanished(&self, counts: &mut Counts) -> Result<(), Failure> {
        let vanished = self.run.dedup.vanished()?;
        for ids in vanished.chunks(self.run.batch) {
            if self.run.stop.is_set() {
                break;
            }
            let mut batch = self.run.store.begin();
            for id in ids {
                if self.run.store.ref_doc_exists(id)? {
                    batch.delete_ref_doc(id);
                } else {
                    batch.delete_document(id);
                }
            }
            batch.commit(self.run.durability)?;
            counts.deleted += ids.len() as u64;
        }
        Ok(())
    }
}

/// The next message; `None` if there will be none or the run is to stop.
fn next<T>(stop: &Stop, messages: &Receiver<T>) -> Option<T> {
    while !stop.is_set() {
        match messages.recv_timeout(PATIENCE) {
            Ok(message) => return Some(message),
            Err(RecvTimeoutError::Disconnected) => return None,
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
    None
}
