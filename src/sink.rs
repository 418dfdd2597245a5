//! [`Sink`]: the way in for pipelines. Many producers, one log.
//!
//! Producers hand over records or batches and go on; a writer thread gathers them, by bytes and by
//! time, and appends each group as one write; a second thread syncs group after group meanwhile.
//! Every hand-over gives a ticket, a [`Pending`], that resolves once its records are durable. When
//! too many bytes are under way, handing over blocks: a pipeline cannot outrun its disk.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! use siltstone::{Db, Sink, SinkOptions};
//!
//! let db = Db::open(dir.path())?;
//! let sink = Sink::new(db.clone(), SinkOptions::default())?;
//! let ticket = sink.put("chunks", b"c1", b"text")?;
//! ticket.wait()?; // on the device now
//! sink.close()?;
//! assert_eq!(db.len("chunks"), 1);
//! # Ok(()) }
//! ```

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded, unbounded};
use parking_lot::{Condvar, Mutex};

use crate::engine::{
    Commit, Completer, Db, Durability, Pending, WriteBatch, WriteError, join, pending,
};
use crate::vfs::IoError;

/// How a [`Sink`] gathers and how much it takes on.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct SinkOptions {
    /// A group is written once it holds this many bytes. Default: 1 MiB.
    pub group_bytes: usize,
    /// A group is written once its oldest record has waited this long. Default: 2 ms.
    pub group_delay: Duration,
    /// Bytes that may be under way, handed over and not yet durable; producers wait beyond that.
    /// One batch that is larger by itself is taken when nothing else is under way. Default: 64 MiB.
    pub queue_bytes: usize,
}

impl Default for SinkOptions {
    fn default() -> Self {
        SinkOptions {
            group_bytes: 1 << 20,
            group_delay: Duration::from_millis(2),
            queue_bytes: 64 << 20,
        }
    }
}

/// A bounded writer for many producers. Clones share it; the last one that is dropped waits until
/// everything handed over is durable or has failed.
#[derive(Clone, Debug)]
pub struct Sink {
    inner: Arc<Inner>,
}

/// Dropped in this order: the channel closes, then the threads are joined.
#[derive(Debug)]
struct Inner {
    queue: Option<Sender<Job>>,
    budget: Arc<Budget>,
    threads: Vec<JoinHandle<()>>,
}

/// What a producer handed over.
struct Job {
    batch: WriteBatch,
    ticket: Ticket,
}

/// A promise to a producer, with the bytes it holds of the budget.
struct Ticket {
    completer: Completer<Commit>,
    _bytes: Share,
}

/// A group that is appended and waits for its sync.
struct Appended {
    commit: Commit,
    tickets: Vec<(Ticket, Commit)>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.queue = None;
        let current = std::thread::current().id();
        if self.threads.iter().any(|thread| thread.thread().id() == current) {
            // A waker dropped the last handle on one of the sink's own threads, for which the
            // other may be waiting: both end by themselves when they are done.
            return;
        }
        for thread in self.threads.drain(..) {
            join(thread);
        }
    }
}

impl Sink {
    /// Starts a sink into `db`.
    ///
    /// # Errors
    ///
    /// [`WriteError::Io`] if its threads cannot be started.
    pub fn new(db: Db, options: SinkOptions) -> Result<Self, WriteError> {
        let (queue, jobs) = unbounded();
        // Two groups may wait for their sync: while one is synced the next is complete.
        let (appended, to_sync) = bounded(2);
        let budget = Arc::new(Budget::new(options.queue_bytes));
        let failed = |e| WriteError::Io(IoError::new("start a thread for", "", e));
        let named = |name: &str| std::thread::Builder::new().name(name.to_owned());
        let writer_db = db.clone();
        let writer = named("siltstone-sink")
            .spawn(move || gather(&writer_db, options, &jobs, &appended))
            .map_err(failed)?;
        let syncer =
            named("siltstone-sync").spawn(move || settle(&db, &to_sync)).map_err(failed)?;
        let inner = Inner { queue: Some(queue), budget, threads: vec![writer, syncer] };
        Ok(Sink { inner: Arc::new(inner) })
    }

    /// Hands over one record. Blocks while too much is under way.
    ///
    /// # Errors
    ///
    /// [`WriteError::TooLarge`] if it is over a limit: nothing was handed over. What goes wrong
    /// later is told by the ticket.
    pub fn put(
        &self,
        collection: &str,
        key: &[u8],
        value: &[u8],
    ) -> Result<Pending<Commit>, WriteError> {
        let mut batch = WriteBatch::new();
        batch.put(collection, key, value)?;
        Ok(self.write(batch))
    }

    /// Hands over a batch, to be applied all or nothing. Blocks while too much is under way.
    pub fn write(&self, batch: WriteBatch) -> Pending<Commit> {
        let bytes = self.inner.budget.take(batch.byte_len());
        self.hand_over(batch, bytes)
    }

    /// As [`Sink::write`], but gives the batch back instead of blocking.
    ///
    /// # Errors
    ///
    /// The batch, if too much is under way.
    pub fn try_write(&self, batch: WriteBatch) -> Result<Pending<Commit>, WriteBatch> {
        match self.inner.budget.try_take(batch.byte_len()) {
            Some(bytes) => Ok(self.hand_over(batch, bytes)),
            None => Err(batch),
        }
    }

    /// Waits until everything handed over before is durable or has failed; failures are told by
    /// the tickets they concern.
    pub fn flush(&self) {
        // An empty batch is committed after all that was handed over before it.
        let _ = self.write(WriteBatch::new()).wait();
    }

    /// Waits until everything handed over is durable or has failed, and ends the sink if this is
    /// its last handle.
    ///
    /// # Errors
    ///
    /// [`WriteError::Poisoned`] if the store refuses writes; all else is told by the tickets.
    pub fn close(self) -> Result<(), WriteError> {
        self.write(WriteBatch::new()).wait().map(drop)
    }

    fn hand_over(&self, batch: WriteBatch, bytes: Share) -> Pending<Commit> {
        let (completer, pending) = pending();
        let job = Job { batch, ticket: Ticket { completer, _bytes: bytes } };
        if let Some(queue) = &self.inner.queue {
            // Fails only when the writer is gone; the dropped ticket then says so.
            let _ = queue.send(job);
        }
        pending
    }
}

/// The writer: gathers jobs and appends them as groups.
fn gather(db: &Db, options: SinkOptions, jobs: &Receiver<Job>, appended: &Sender<Appended>) {
    while let Ok(first) = jobs.recv() {
        // A delay that no clock reaches is none.
        let deadline = Instant::now().checked_add(options.group_delay);
        let mut bytes = first.batch.byte_len();
        // An empty batch asks for what is there to be written now.
        let mut is_urgent = first.batch.is_empty();
        let mut group = vec![first];
        while bytes < options.group_bytes && !is_urgent {
            let next = match deadline {
                Some(deadline) => jobs.recv_deadline(deadline),
                None => jobs.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match next {
                Ok(job) => {
                    bytes += job.batch.byte_len();
                    is_urgent = job.batch.is_empty();
                    group.push(job);
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
            }
        }
        let done = append(db, group);
        if !done.tickets.is_empty() && appended.send(done).is_err() {
            return;
        }
    }
}

/// Appends a group as one batch. If that fails each job is tried by itself, so that an error
/// reaches the producer that it concerns and no other.
fn append(db: &Db, mut group: Vec<Job>) -> Appended {
    let mut whole = WriteBatch::with_capacity(group.iter().map(|j| j.batch.byte_len()).sum());
    let is_whole = group.len() > 1 && group.iter().all(|job| whole.append(&job.batch).is_ok());
    if is_whole && let Ok(commit) = db.write(&mut whole, Durability::Buffered) {
        let tickets = group.into_iter().map(|job| (job.ticket, commit)).collect();
        return Appended { commit, tickets };
    }
    let mut done = Appended { commit: Commit::default(), tickets: Vec::new() };
    for mut job in group.drain(..) {
        match db.write(&mut job.batch, Durability::Buffered) {
            Ok(commit) => {
                done.commit = commit;
                done.tickets.push((job.ticket, commit));
            }
            Err(e) => job.ticket.completer.complete(Err(e)),
        }
    }
    done
}

/// The syncer: makes groups durable, all that wait with one sync, and keeps the promises.
fn settle(db: &Db, to_sync: &Receiver<Appended>) {
    while let Ok(first) = to_sync.recv() {
        let groups: Vec<_> = std::iter::once(first).chain(to_sync.try_iter()).collect();
        let result = groups.last().map_or(Ok(()), |last| db.sync_commit(&last.commit));
        for (ticket, commit) in groups.into_iter().flat_map(|group| group.tickets) {
            ticket.completer.complete(result.clone().map(|()| commit));
        }
    }
}

/// Bytes that may be under way.
#[derive(Debug)]
struct Budget {
    max: usize,
    /// Held by the producer whose turn it is, so that a large batch is not overtaken for ever by
    /// small ones that always fit.
    turn: Mutex<()>,
    used: Mutex<usize>,
    freed: Condvar,
}

/// A part of the budget, given back when dropped.
#[derive(Debug)]
struct Share {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Budget {
    fn new(max: usize) -> Self {
        Budget { max, turn: Mutex::new(()), used: Mutex::new(0), freed: Condvar::new() }
    }

    /// Takes `bytes`, waiting for them if need be.
    fn take(self: &Arc<Self>, bytes: usize) -> Share {
        let _turn = self.turn.lock();
        let mut used = self.used.lock();
        while !self.fits(*used, bytes) {
            self.freed.wait(&mut used);
        }
        *used += bytes;
        Share { budget: Arc::clone(self), bytes }
    }

    fn try_take(self: &Arc<Self>, bytes: usize) -> Option<Share> {
        let _turn = self.turn.try_lock()?;
        let mut used = self.used.lock();
        if !self.fits(*used, bytes) {
            return None;
        }
        *used += bytes;
        Some(Share { budget: Arc::clone(self), bytes })
    }

    fn fits(&self, used: usize, bytes: usize) -> bool {
        used == 0 || used.saturating_add(bytes) <= self.max
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        *self.budget.used.lock() -= self.bytes;
        self.budget.freed.notify_all();
    }
}
