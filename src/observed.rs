//! The engine seen from inside, for tests: how often it got into a situation, and moments at which
//! a test can step in.
//!
//! A test of something rare is worth nothing if the rare thing never happened: engine code says
//! `situation!(Name)` where it did, and tests ask for the counts. `moment!(Name)` is a place
//! between two steps where other threads could do something: a test does it there, on the same
//! thread and at every run alike. Without the feature `testing` neither is compiled in.

/// Counts that the engine got into the situation of this name.
#[cfg(feature = "testing")]
macro_rules! situation {
    ($name:ident) => {
        $crate::observed::count($crate::observed::Situation::$name)
    };
}

/// Nothing: a build without the feature `testing` counts no situations.
#[cfg(not(feature = "testing"))]
macro_rules! situation {
    ($name:ident) => {};
}

/// Lets a test step in here.
#[cfg(feature = "testing")]
macro_rules! moment {
    ($name:ident) => {
        $crate::observed::step_in($crate::observed::Moment::$name)
    };
}

/// Nothing: a build without the feature `testing` lets nobody step in.
#[cfg(not(feature = "testing"))]
macro_rules! moment {
    ($name:ident) => {};
}

#[cfg(feature = "testing")]
pub use registry::{Moment, Situation, Situations, situations, with_hook};
#[cfg(feature = "testing")]
pub(crate) use registry::{count, step_in};

#[cfg(feature = "testing")]
mod registry {
    use std::cell::{Cell, RefCell};
    use std::ops::{AddAssign, Index};

    /// Declares the situations, so that the list of all of them cannot miss one.
    macro_rules! situations {
        ($($(#[$doc:meta])* $name:ident,)*) => {
            /// Something that the engine got into.
            #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
            #[non_exhaustive]
            pub enum Situation {
                $($(#[$doc])* $name,)*
            }

            impl Situation {
                /// Every situation there is.
                pub const ALL: &'static [Situation] = &[$(Situation::$name,)*];
            }
        };
    }

    situations! {
        /// Compaction left out a tombstone that hides nothing any more.
        TombstoneDropped,
        /// Compaction kept a tombstone: an older put of its key stays, in the plan or outside.
        TombstoneKept,
        /// Compaction copied an old version for a snapshot.
        PinnedCopied,
        /// Compaction took in the output of an earlier one.
        OutputMerged,
        /// Compaction had sealed segments that were not in its plan.
        PartialPlan,
        /// Compaction wrote more than one segment.
        SeveralOutputs,
        /// Compaction found nothing that is needed.
        WhollyDead,
        /// A key was written to while its record was moved.
        OverwrittenMeanwhile,
        /// The record of a snapshot's books was moved.
        BooksSwung,
        /// A plan came to nothing because of an error.
        PlanFailed,
        /// The reserve was given back to a full device.
        ReserveReleased,
        /// A segment of which nothing was needed left the store without a look at what was in it.
        DeadUnread,
        /// A segment left the store while somebody still read it.
        RetiredWhileRead,
        /// A reader had to ask again: a segment left between index and segments.
        PinRepeated,
    }

    /// A place where a test can step in.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    #[non_exhaustive]
    pub enum Moment {
        /// Compaction knows what is needed of its inputs.
        Surveyed,
        /// Compaction's outputs are durable, and nobody knows of them.
        Written,
        /// The manifest has the outputs, the index does not.
        Listed,
        /// The index has the outputs, and the inputs are still there.
        Swung,
        /// A reader knows where something stands, and has not asked for the segments.
        Located,
        /// A writer has its batch ready, and has not locked the log.
        Stamped,
        /// A reader of a snapshot knows what is in the index, and not what is in the books.
        IndexRead,
    }

    /// How often each situation came up.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Situations([u64; Situation::ALL.len()]);

    impl Index<Situation> for Situations {
        type Output = u64;
        fn index(&self, situation: Situation) -> &u64 {
            &self.0[situation as usize]
        }
    }

    impl AddAssign for Situations {
        fn add_assign(&mut self, other: Self) {
            self.0.iter_mut().zip(other.0).for_each(|(sum, count)| *sum += count);
        }
    }

    type Hook = Box<dyn FnMut(Moment)>;

    thread_local! {
        static COUNTS: Cell<Situations> = Cell::default();
        static HOOK: RefCell<Option<Hook>> = const { RefCell::new(None) };
    }

    /// Counts a situation of the running thread.
    pub(crate) fn count(situation: Situation) {
        let mut counts = COUNTS.get();
        counts.0[situation as usize] += 1;
        COUNTS.set(counts);
    }

    /// What was counted on the running thread since this was asked last.
    pub fn situations() -> Situations {
        COUNTS.take()
    }

    /// Calls the hook of the running thread, if it has one. Within the hook there is none.
    pub(crate) fn step_in(moment: Moment) {
        let hook = HOOK.try_with(|hook| hook.borrow_mut().take()).ok().flatten();
        if let Some(mut hook) = hook {
            hook(moment);
            HOOK.with(|place| *place.borrow_mut() = Some(hook));
        }
    }

    /// Does `work` on the running thread with `hook` called at every moment that it comes to.
    pub fn with_hook<T>(hook: impl FnMut(Moment) + 'static, work: impl FnOnce() -> T) -> T {
        /// Takes the hook away, also when `work` panics.
        struct Unhook;
        impl Drop for Unhook {
            fn drop(&mut self) {
                HOOK.with(|place| *place.borrow_mut() = None);
            }
        }
        HOOK.with(|place| *place.borrow_mut() = Some(Box::new(hook)));
        let _unhook = Unhook;
        work()
    }
}
