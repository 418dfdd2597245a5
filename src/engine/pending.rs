//! Writes for async callers: a thread commits, a future tells.
//!
//! The future needs no runtime: any executor can poll it, and [`Pending::wait`] blocks a thread
//! on it. Jobs that are queued at the same time share one sync.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::thread::JoinHandle;

use crossbeam::channel::{Receiver, Sender, unbounded};
use parking_lot::{Condvar, Mutex};

use super::batch::WriteBatch;
use super::commit::Commit;
use super::core::Core;
use super::durable::{PersistOptions, SnapshotInfo};
use super::error::WriteError;
use super::options::Durability;

/// Most jobs that share one sync: bounds how long the first of them waits.
const GROUP_MAX: usize = 4096;

/// The outcome of a write that is under way. Dropping it does not take the write back.
#[derive(Debug)]
pub struct Pending<T = Commit> {
    state: Arc<Shared<T>>,
}

#[derive(Debug)]
struct Shared<T> {
    slot: Mutex<Slot<T>>,
    done: Condvar,
}

#[derive(Debug)]
struct Slot<T> {
    result: Option<Result<T, WriteError>>,
    waker: Option<Waker>,
}

/// The other end of a [`Pending`]. Dropped without a result, it tells that the store was closed.
#[derive(Debug)]
pub(crate) struct Completer<T>(Option<Arc<Shared<T>>>);

/// A future and the end that completes it.
pub(crate) fn pending<T>() -> (Completer<T>, Pending<T>) {
    let slot = Mutex::new(Slot { result: None, waker: None });
    let state = Arc::new(Shared { slot, done: Condvar::new() });
    (Completer(Some(Arc::clone(&state))), Pending { state })
}

impl<T> Completer<T> {
    pub(crate) fn complete(mut self, result: Result<T, WriteError>) {
        self.finish(result);
    }

    fn finish(&mut self, result: Result<T, WriteError>) {
        let Some(state) = self.0.take() else { return };
        let waker = {
            let mut slot = state.slot.lock();
            slot.result = Some(result);
            slot.waker.take()
        };
        state.done.notify_all();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<T> Drop for Completer<T> {
    fn drop(&mut self) {
        self.finish(Err(WriteError::Closed));
    }
}

impl<T> Pending<T> {
    /// Blocks until the write is done.
    ///
    /// # Errors
    ///
    /// Those of the write.
    pub fn wait(self) -> Result<T, WriteError> {
        let mut slot = self.state.slot.lock();
        loop {
            if let Some(result) = slot.result.take() {
                return result;
            }
            self.state.done.wait(&mut slot);
        }
    }

    /// The result, if the write is done; takes it.
    pub fn try_take(&self) -> Option<Result<T, WriteError>> {
        self.state.slot.lock().result.take()
    }
}

impl<T> Future for Pending<T> {
    type Output = Result<T, WriteError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut slot = self.state.slot.lock();
        match slot.result.take() {
            Some(result) => Poll::Ready(result),
            None => {
                slot.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

/// Waits for `thread` to end, unless it is the one that runs: a waker may drop the last handle of
/// a store on the very thread that this would wait for, which then ends by itself.
pub(crate) fn join(thread: JoinHandle<()>) {
    if thread.thread().id() != std::thread::current().id() {
        let _ = thread.join();
    }
}

/// What the committer is to do.
enum Job {
    Write { batch: WriteBatch, durability: Durability, completer: Completer<Commit> },
    Persist { options: PersistOptions, completer: Completer<SnapshotInfo> },
}

/// The thread that commits for async callers; started with the first job.
#[derive(Default)]
pub(super) struct Committer {
    running: Mutex<Option<(Sender<Job>, JoinHandle<()>)>>,
}

impl Committer {
    /// Queues a write. `core` is called on the committer's thread.
    pub(super) fn submit(
        &self,
        core: &Arc<Core>,
        batch: WriteBatch,
        durability: Durability,
    ) -> Pending<Commit> {
        let (completer, future) = pending();
        self.queue(core, Job::Write { batch, durability, completer });
        future
    }

    /// Queues the recording of a snapshot.
    pub(super) fn submit_persist(
        &self,
        core: &Arc<Core>,
        options: PersistOptions,
    ) -> Pending<SnapshotInfo> {
        let (completer, future) = pending();
        self.queue(core, Job::Persist { options, completer });
        future
    }

    fn queue(&self, core: &Arc<Core>, job: Job) {
        let mut running = self.running.lock();
        if running.is_none() {
            let (sender, jobs) = unbounded();
            let core = Arc::clone(core);
            let run = move || run(&core, &jobs);
            match std::thread::Builder::new().name("siltstone-commit".to_owned()).spawn(run) {
                Ok(thread) => *running = Some((sender, thread)),
                Err(e) => {
                    let e = crate::vfs::IoError::new("start a thread for", "", e);
                    return job.fail(WriteError::Io(e));
                }
            }
        }
        if let Some((sender, _)) = &*running {
            // A send fails only when the thread is gone; the job then tells that it was dropped.
            let _ = sender.send(job);
        }
    }

    /// Finishes what is queued and ends the thread.
    pub(super) fn stop(&self) {
        let running = self.running.lock().take();
        if let Some((sender, thread)) = running {
            drop(sender);
            join(thread);
        }
    }
}

impl Job {
    fn fail(self, error: WriteError) {
        match self {
            Job::Write { completer, .. } => completer.complete(Err(error)),
            Job::Persist { completer, .. } => completer.complete(Err(error)),
        }
    }
}

/// Commits jobs as they come: first all that are queued, then one sync for those that want it.
fn run(core: &Core, jobs: &Receiver<Job>) {
    while let Ok(first) = jobs.recv() {
        let mut synced = Vec::new();
        let mut upto = 0;
        for job in std::iter::once(first).chain(jobs.try_iter()).take(GROUP_MAX) {
            let (mut batch, durability, completer) = match job {
                Job::Write { batch, durability, completer } => (batch, durability, completer),
                Job::Persist { options, completer } => {
                    let recorded = core.record_snapshot(&mut WriteBatch::new(), options);
                    completer.complete(recorded.map(|(info, _)| info));
                    continue;
                }
            };
            let result = core.write(&mut batch, Durability::Buffered);
            match (result, durability) {
                (Ok(commit), Durability::Sync) => {
                    upto = upto.max(commit.next_seqno);
                    synced.push((completer, commit));
                }
                (result, _) => completer.complete(result),
            }
        }
        if synced.is_empty() {
            continue;
        }
        let result = core.sync_upto(upto);
        for (completer, commit) in synced {
            completer.complete(result.clone().map(|()| commit));
        }
    }
}
