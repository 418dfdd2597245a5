//! [`WriterLock`]: one change at a time, whoever holds the handles.
//!
//! Two locks. The *writers'* is held for a whole change: while it reads, decides and stages,
//! however long that takes, with whatever its caller does in between. Readers do not take it. The
//! *batch* lock is what keeps a read of several records from seeing half a change: readers share
//! it, and a change has it to itself while its one batch is written, which waits for no device.
//!
//! The order is writers, then batch. So a change that is begun within a read is refused, on the
//! same thread: it would wait for others who wait for the read to end.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{ReentrantMutex, RwLock};

use super::KvError;

/// How long a read stands back for a batch that waits to be written. Then it goes ahead with the
/// reads that are under way: one of those may be waiting for it.
const STAND_BACK: Duration = Duration::from_millis(20);

thread_local! {
    /// The locks by which this thread reads.
    static READING: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

/// The lock of those who read records, decide, and write: the stores over a
/// [`KvStore`](super::KvStore). Clones are one lock. Opaque: a key-value store keeps one and hands
/// out clones of it.
#[derive(Clone, Debug, Default)]
pub struct WriterLock(Arc<Locks>);

#[derive(Debug, Default)]
struct Locks {
    /// Held for a whole change.
    writers: ReentrantMutex<RefCell<State>>,
    /// Shared by readers, and a change's own while its batch is written.
    batch: RwLock<()>,
}

#[derive(Debug, Default)]
struct State {
    /// Somebody is between reading and writing.
    is_changing: bool,
    /// Who gave out numbers last, by what is numbered.
    numbering: HashMap<String, u64>,
}

/// Whoever gives out numbers of a block that it has reserved.
#[derive(Debug)]
pub(crate) struct Numberer(u64);

impl Numberer {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Numberer(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

impl WriterLock {
    /// Runs `change` while no other thread changes anything. What it writes goes through
    /// [`WriterLock::write`], at its end.
    ///
    /// # Errors
    ///
    /// If this thread is within a change or a read already, whose view of the store would be wrong
    /// after this one: a function that was given to a store calls another handle of it.
    pub(crate) fn change<T>(&self, change: impl FnOnce() -> T) -> Result<T, KvError> {
        if self.is_reading() {
            return Err(KvError::custom(
                "cannot change the store",
                "a read of it is under way, which called this change; change it when the read is \
                 done",
            ));
        }
        let state = self.0.writers.lock();
        if self.is_changing() {
            return Err(KvError::custom(
                "cannot change the store",
                "another change of it is under way, which called this one; use the store or the \
                 context that it was given, or wait until it is done",
            ));
        }
        state.borrow_mut().is_changing = true;
        let _end = End(&state);
        Ok(change())
    }

    /// Runs `read` while no other thread writes the batch of a change. Waits neither for changes
    /// nor for other reads.
    pub(crate) fn read<T>(&self, read: impl FnOnce() -> T) -> T {
        // Nobody else writes while this thread has the writers' lock; and what it holds already,
        // it must not wait for behind a writer.
        if self.is_changing() || self.is_reading() {
            return read();
        }
        let batch = &self.0.batch;
        let _shared =
            batch.try_read_for(STAND_BACK).unwrap_or_else(|| self.0.batch.read_recursive());
        let _reading = Reading::start(self.id());
        read()
    }

    /// Runs `write`, which writes the batch of a change, while nobody reads what must fit
    /// together. Requires: within a change, and not called by `write` again.
    pub(crate) fn write<T>(&self, write: impl FnOnce() -> T) -> T {
        let _exclusive = self.0.batch.write();
        write()
    }

    /// True if this thread is within a change.
    pub(crate) fn is_changing(&self) -> bool {
        let writers = &self.0.writers;
        writers.is_owned_by_current_thread() && writers.lock().borrow().is_changing
    }

    fn is_reading(&self) -> bool {
        READING.with_borrow(|ids| ids.contains(&self.id()))
    }

    /// Tells this lock from others as long as it is there.
    fn id(&self) -> usize {
        Arc::as_ptr(&self.0).addr()
    }

    /// True if `who` was the last one to give out numbers of `what`; it is from now on. Requires:
    /// within a change.
    pub(crate) fn numbers_on(&self, what: &str, who: &Numberer) -> bool {
        let state = self.0.writers.lock();
        let mut state = state.borrow_mut();
        match state.numbering.get_mut(what) {
            Some(last) => std::mem::replace(last, who.0) == who.0,
            None => {
                state.numbering.insert(what.to_owned(), who.0);
                false
            }
        }
    }
}

/// A read of this thread, until it ends, also if it panics.
struct Reading(usize);

impl Reading {
    fn start(id: usize) -> Self {
        READING.with_borrow_mut(|ids| ids.push(id));
        Reading(id)
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        READING.with_borrow_mut(|ids| {
            if let Some(place) = ids.iter().rposition(|id| *id == self.0) {
                ids.remove(place);
            }
        });
    }
}

/// Ends a change, also if it panics.
struct End<'a>(&'a RefCell<State>);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.borrow_mut().is_changing = false;
    }
}
