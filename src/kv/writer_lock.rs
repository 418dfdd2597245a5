//! [`WriterLock`]: one change at a time, whoever holds the handles.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::ReentrantMutex;

use super::KvError;

/// The lock of those who read records, decide, and write: the stores over a
/// [`KvStore`](super::KvStore). Clones are one lock. Opaque: a key-value store keeps one and hands
/// out clones of it.
#[derive(Clone, Debug, Default)]
pub struct WriterLock(Arc<ReentrantMutex<RefCell<State>>>);

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
    /// Runs `change` while no other thread changes anything, or reads what must fit together.
    ///
    /// # Errors
    ///
    /// If this thread is within a change already, whose view of the store would be wrong after
    /// this one: a function that was given to a store calls another handle of it.
    pub(crate) fn change<T>(&self, change: impl FnOnce() -> T) -> Result<T, KvError> {
        let state = self.0.lock();
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

    /// Runs `read` while no other thread changes anything.
    pub(crate) fn read<T>(&self, read: impl FnOnce() -> T) -> T {
        let _lock = self.0.lock();
        read()
    }

    /// True if this thread is within a change.
    pub(crate) fn is_changing(&self) -> bool {
        self.0.is_owned_by_current_thread() && self.0.lock().borrow().is_changing
    }

    /// True if `who` was the last one to give out numbers of `what`; it is from now on. Requires:
    /// within a change or a read.
    pub(crate) fn numbers_on(&self, what: &str, who: &Numberer) -> bool {
        let state = self.0.lock();
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

/// Ends a change, also if it panics.
struct End<'a>(&'a RefCell<State>);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.borrow_mut().is_changing = false;
    }
}
