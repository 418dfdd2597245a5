//! Faults: which call of the simulated file system fails, and how.

use std::io;

/// A kind of call on [`crate::vfs::Vfs`] or [`crate::vfs::File`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CallKind {
    /// [`crate::vfs::Vfs::open`] of an existing file.
    Open,
    /// [`crate::vfs::Vfs::open`] of a new file.
    Create,
    /// [`crate::vfs::Vfs::list`].
    List,
    /// [`crate::vfs::Vfs::create_dir_all`].
    MakeDir,
    /// [`crate::vfs::Vfs::rename`].
    Rename,
    /// [`crate::vfs::Vfs::remove`].
    Remove,
    /// [`crate::vfs::Vfs::link`].
    Link,
    /// [`crate::vfs::Vfs::copy`].
    Copy,
    /// [`crate::vfs::Vfs::sync_dir`].
    SyncDir,
    /// [`crate::vfs::Vfs::lock`].
    Lock,
    /// [`crate::vfs::File::read_at`].
    Read,
    /// [`crate::vfs::File::write_at`].
    Write,
    /// [`crate::vfs::File::len`].
    Len,
    /// [`crate::vfs::File::set_len`].
    SetLen,
    /// [`crate::vfs::File::allocate`].
    Allocate,
    /// [`crate::vfs::File::sync_data`] or [`crate::vfs::File::sync_all`].
    Sync,
    /// [`crate::vfs::File::map`].
    Map,
}

/// What a failing call does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// Nothing, and returns the error with this code of the operating system.
    Error(i32),
    /// A write writes the first half, any other call all of its work; then the error with this
    /// code is returned.
    ErrorAfter(i32),
    /// A write writes all of its bytes and returns the error with this code all the same; any
    /// other call as [`Fault::ErrorAfter`].
    ErrorAfterAll(i32),
    /// A read or a write handles at most this many bytes and says so. Other calls are not
    /// affected.
    Short(usize),
    /// The process is killed: this call and all later ones do nothing and leave no trace, until
    /// the plan is taken away.
    Kill,
}

impl Fault {
    /// I/O error.
    pub const EIO: i32 = 5;
    /// Interrupted by a signal: nothing happened, try again.
    pub const EINTR: i32 = 4;
    /// Permission denied.
    pub const EACCES: i32 = 13;
    /// The two names of a link are on different devices.
    pub const EXDEV: i32 = 18;
    /// No space left on the device.
    pub const ENOSPC: i32 = 28;
    /// Disk quota exceeded (as Linux numbers it).
    pub const EDQUOT: i32 = 122;
}

/// Which calls fail: those of `kinds` (all, if empty) from number `first` on, counted from 0 over
/// the calls of these kinds made since the plan was set; `times` of them in a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FaultPlan {
    /// The kinds of calls that are counted and may fail; empty for all.
    pub kinds: Vec<CallKind>,
    /// The number of the first call that fails.
    pub first: u64,
    /// How many calls fail; `u64::MAX` for every later one.
    pub times: u64,
    /// How they fail.
    pub fault: Fault,
}

impl FaultPlan {
    /// Call number `n` of any kind fails once.
    pub fn once(n: u64, fault: Fault) -> Self {
        FaultPlan { kinds: Vec::new(), first: n, times: 1, fault }
    }

    /// Call number `n` of any kind and all calls after it fail.
    pub fn forever(n: u64, fault: Fault) -> Self {
        FaultPlan { times: u64::MAX, ..Self::once(n, fault) }
    }

    /// The same plan for calls of `kinds` only.
    pub fn of(self, kinds: &[CallKind]) -> Self {
        FaultPlan { kinds: kinds.to_vec(), ..self }
    }
}

/// The faults of one simulated file system.
#[derive(Debug, Default)]
pub(super) struct Faults {
    plan: Option<FaultPlan>,
    /// Calls of the plan's kinds since it was set.
    counted: u64,
    calls: u64,
    injected: u64,
}

impl Faults {
    pub(super) fn set(&mut self, plan: Option<FaultPlan>) {
        self.plan = plan;
        self.counted = 0;
        self.injected = 0;
    }

    pub(super) fn calls(&self) -> u64 {
        self.calls
    }

    pub(super) fn injected(&self) -> u64 {
        self.injected
    }

    /// Counts a call; returns the fault it meets.
    pub(super) fn meet(&mut self, kind: CallKind) -> Option<Fault> {
        self.calls += 1;
        let plan = self.plan.as_ref()?;
        if !plan.kinds.is_empty() && !plan.kinds.contains(&kind) {
            return None;
        }
        let number = self.counted;
        self.counted += 1;
        let fails = number >= plan.first && number - plan.first < plan.times;
        let applies = match plan.fault {
            Fault::Short(_) => matches!(kind, CallKind::Read | CallKind::Write),
            _ => true,
        };
        if !fails || !applies {
            return None;
        }
        self.injected += 1;
        Some(plan.fault)
    }
}

/// The error with this code of the operating system.
pub(super) fn os_error(code: i32) -> io::Error {
    io::Error::from_raw_os_error(code)
}
