//! [`FeedSignal`]: how a writer wakes those who wait for changes, at the cost of a fence and a load
//! while nobody waits.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// What writers tell the feeds of their process.
#[derive(Default)]
pub(in crate::engine) struct FeedSignal {
    is_closed: AtomicBool,
    waiting: AtomicUsize,
    lock: Mutex<()>,
    changed: Condvar,
}

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waited {
    /// Something has changed.
    Enough,
    /// The time was up.
    InVain,
}

impl FeedSignal {
    /// Wakes whoever waits, after something that a feed may wait for has changed.
    pub(in crate::engine) fn wake(&self) {
        // Pairs with the one in `wait_while`: either this sees the waiter, or the waiter sees what
        // has changed.
        fence(Ordering::SeqCst);
        if self.waiting.load(Ordering::Relaxed) > 0 {
            drop(self.lock.lock());
            self.changed.notify_all();
        }
    }

    /// Notes that nothing more will be written.
    pub(in crate::engine) fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        self.wake();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }

    /// Waits while `condition` holds, at most for `timeout`.
    pub(super) fn wait_while(
        &self,
        timeout: Duration,
        mut condition: impl FnMut() -> bool,
    ) -> Waited {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        let mut guard = self.lock.lock();
        let result = self.changed.wait_while_for(&mut guard, |()| condition(), timeout);
        drop(guard);
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        if result.timed_out() { Waited::InVain } else { Waited::Enough }
    }
}
