//! The compaction thread, its pace, and its switches.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, bounded};
use parking_lot::{Condvar, Mutex, MutexGuard};

use super::super::core::Core;
use super::super::error::WriteError;
use super::super::pending::join;
use super::plan::{Plan, Policy, SegmentCounts, choose, choose_asked};
use super::run::Failure;
use crate::format::segment::{SEGMENT_HEADER_LEN, SegmentKind};
use crate::vfs::OpenMode;

/// File that holds room for compaction on a full device.
pub(in crate::engine) const RESERVE_NAME: &str = "RESERVE";
/// Largest reserve, in bytes.
const RESERVE_LEN_MAX: u64 = 64 << 20;
/// A smaller reserve is not worth a file.
const RESERVE_LEN_MIN: u64 = 4 << 10;
/// A store gets a reserve of one part in so many of its log.
const RESERVE_SHARE: u64 = 16;
/// After so many runs in a row that gave nothing back, compaction waits to be woken.
const BARREN_RUNS_MAX: u32 = 4;
/// Waits for the throttle are cut into slices so long.
const PACE_SLICE: Duration = Duration::from_millis(50);
/// What is told of a run that was cancelled.
const CANCELLED: &str = "cancelled";
/// How long a writer waits for a run of compaction when the device is full.
const RELIEF_WAIT: Duration = Duration::from_secs(1);
/// For how many runs it waits.
const RELIEF_TRIES: u32 = 16;

/// What compaction did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CompactionReport {
    /// How often segments were compacted.
    pub runs: u64,
    /// Segments that were replaced.
    pub segments_in: u64,
    /// Segments that were written.
    pub segments_out: u64,
    /// Bytes of the segments that were replaced.
    pub bytes_in: u64,
    /// Bytes that were written.
    pub bytes_out: u64,
    /// Why a run came to nothing, the last time that one did. The store is as it was then.
    pub failure: Option<String>,
}

impl CompactionReport {
    fn add(&mut self, run: &CompactionReport) {
        self.runs += run.runs;
        self.segments_in += run.segments_in;
        self.segments_out += run.segments_out;
        self.bytes_in += run.bytes_in;
        self.bytes_out += run.bytes_out;
    }
}

/// State of compaction, shared by its thread and those who steer it.
#[derive(Default)]
pub(in crate::engine) struct Control {
    /// Held while a plan is made and run, and by whoever holds compaction off.
    running: Mutex<()>,
    state: Mutex<Switches>,
    changed: Condvar,
    /// No run is to begin, and the present one gives up.
    is_closing: AtomicBool,
    bytes_per_second: AtomicU64,
    done: Mutex<CompactionReport>,
    /// Leads to the thread, if there is one.
    tasks: OnceLock<Sender<Task>>,
}

#[derive(Default)]
struct Switches {
    is_paused: bool,
    is_running: bool,
    /// Runs that were begun before this many cancellations are given up.
    cancellations: u64,
    /// The number of cancellations when the present run began.
    began_at: u64,
    /// Runs that have ended.
    ended: u64,
    /// The thread looks for work, and does it.
    is_looking: bool,
    /// How often it has done so.
    looks: u64,
}

impl Control {
    /// Counts `bytes` as written, waits as the throttle says and while paused. `Err`: the run was
    /// cancelled. A cancellation, a close and a new rate end the wait that goes on.
    pub(super) fn pace(&self, bytes: u64) -> Result<(), ()> {
        // What is still to be waited for, in bytes: the engine reads no clock, so it waits in
        // slices and strikes off those that have passed whole.
        let mut due = bytes as f64;
        let mut state = self.state.lock();
        loop {
            if state.cancellations > state.began_at || self.is_closing.load(Ordering::Acquire) {
                return Err(());
            }
            if state.is_paused && !planted!(PauseIgnored) {
                self.changed.wait(&mut state);
                continue;
            }
            let rate = self.bytes_per_second.load(Ordering::Relaxed) as f64;
            if rate == 0.0 || due <= 0.0 {
                return Ok(());
            }
            let slice = PACE_SLICE.min(Duration::from_secs_f64(due / rate));
            if slice.is_zero() || self.changed.wait_for(&mut state, slice).timed_out() {
                due -= (slice.as_secs_f64() * rate).max(1.0);
            }
        }
    }

    /// Lets a run begin. While compaction is paused, it waits if it `may_wait`; `Err` if it is not
    /// to begin, with true if that is because somebody has cancelled it.
    fn begin(&self, may_wait: bool) -> Result<Running<'_>, bool> {
        let asked_at = self.state.lock().cancellations;
        loop {
            let alone = self.running.lock();
            let mut state = self.state.lock();
            if self.is_stopped() {
                return Err(false);
            }
            if !state.is_paused || planted!(PauseIgnored) {
                state.began_at = state.cancellations;
                state.is_running = true;
                return Ok(Running { control: self, _alone: alone });
            }
            // Others may hold compaction off meanwhile.
            drop(alone);
            if !may_wait {
                return Err(false);
            }
            while state.is_paused && state.cancellations == asked_at && !self.is_stopped() {
                self.changed.wait(&mut state);
            }
            if state.cancellations > asked_at {
                return Err(true);
            }
        }
    }

    /// Has the thread look for work, if there is one; returns at once.
    fn wake(&self) {
        if let Some(tasks) = self.tasks.get() {
            // Full means that it is about to look anyway.
            let _ = tasks.try_send(Task::Look);
        }
    }

    /// Sets the throttle; 0 for none.
    pub(in crate::engine) fn set_rate(&self, bytes_per_second: u64) {
        let _state = self.state.lock();
        self.bytes_per_second.store(bytes_per_second, Ordering::Relaxed);
        self.changed.notify_all();
    }

    /// Has the present run wait, and no other begin.
    pub(in crate::engine) fn pause(&self, is_paused: bool) {
        self.state.lock().is_paused = is_paused;
        self.changed.notify_all();
    }

    /// Gives up the present run, if there is one.
    pub(in crate::engine) fn cancel(&self) {
        self.state.lock().cancellations += 1;
        self.changed.notify_all();
    }

    /// Gives up the present run, waits for its end, and lets no other begin.
    pub(in crate::engine) fn close(&self) {
        {
            // With the lock, or it would come between somebody's look and his wait.
            let _state = self.state.lock();
            self.is_closing.store(true, Ordering::Release);
            self.changed.notify_all();
        }
        drop(self.running.lock());
    }

    /// Lets no run begin until the answer is dropped; `None` if one goes on for longer than `wait`.
    pub(in crate::engine) fn hold_off(&self, wait: Duration) -> Option<MutexGuard<'_, ()>> {
        self.running.try_lock_for(wait)
    }

    /// What was done so far.
    pub(in crate::engine) fn report(&self) -> CompactionReport {
        self.done.lock().clone()
    }

    /// True while a plan is run.
    pub(in crate::engine) fn is_running(&self) -> bool {
        self.state.lock().is_running
    }

    /// The store is being closed.
    pub(in crate::engine) fn is_stopped(&self) -> bool {
        self.is_closing.load(Ordering::Acquire)
    }
}

/// Kept while a plan is made and run.
struct Running<'a> {
    control: &'a Control,
    _alone: MutexGuard<'a, ()>,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.control.state.lock().is_running = false;
    }
}

impl Core {
    /// Has the compaction thread look for work, if it is to work by itself; returns at once.
    pub(in crate::engine) fn wake_compaction(&self) {
        self.compaction.wake();
    }

    fn policy(&self) -> Policy {
        Policy {
            space_percent: self.options.compaction.space_percent,
            segment_len: self.options.segment_len,
        }
    }

    /// The counters of the sealed segments, and the bytes of the others.
    fn segment_counts(&self) -> (Vec<SegmentCounts>, u64) {
        let mut counts = Vec::new();
        let mut open_bytes = 0;
        for s in self.segments.all() {
            let load = |n: &AtomicU64| n.load(Ordering::Relaxed);
            if s.seal().is_none() {
                open_bytes += s.end();
                continue;
            }
            let is_damaged = s.is_damaged.load(Ordering::Relaxed);
            if is_damaged && planted!(PlanForgetsDamaged) {
                continue;
            }
            counts.push(SegmentCounts {
                id: s.id,
                is_log: s.kind == SegmentKind::Log,
                first: load(&s.first),
                next: load(&s.next),
                bytes: s.end(),
                record_bytes: load(&s.written.bytes),
                // What is damaged stays whole: nobody needs to read it.
                live: if is_damaged { s.end() } else { self.still_live(&s) },
                pinned: load(&s.pinned_bytes),
                tombstones: load(&s.written.tombstone_bytes),
                tombstones_are_needed: s.tombstones_are_needed.load(Ordering::Relaxed),
                has_old_puts: s.has_old_puts(),
                is_damaged,
            });
        }
        (counts, open_bytes)
    }

    /// Compacts what is worth it, until nothing is. Called by the compaction thread, or by writers
    /// if there is none.
    pub(in crate::engine) fn compact_due(&self) -> Result<(), WriteError> {
        // Before there is work: under a steady stream of writes there always is.
        self.keep_reserve();
        let mut barren = 0;
        while let Some(run) = self.compact_once(false, choose)? {
            // Where counters mislead the plan, compaction must not go on for ever: it has another
            // try the next time that it is woken.
            let is_barren = run.runs > 0
                && run.bytes_out >= run.bytes_in
                && run.segments_out >= run.segments_in;
            barren = if is_barren { barren + 1 } else { 0 };
            if barren == BARREN_RUNS_MAX {
                break;
            }
            self.checkpoint_if_due();
        }
        self.keep_reserve();
        Ok(())
    }

    /// Compacts every segment of which something comes back; those that are written meanwhile are
    /// left alone.
    pub(in crate::engine) fn compact_all(&self) -> Result<CompactionReport, WriteError> {
        self.check_writable()?;
        // On a full device there may be no room for the log's next segment, nor for a footer: what
        // is sealed can be compacted, and room comes of that.
        let ready = self.end_dirty_active().and_then(|()| self.maintain());
        if !matches!(ready, Err(WriteError::Full(_))) {
            ready?;
        }
        let id_max = self.segments.all().iter().map(|s| s.id).max().unwrap_or(0);
        let mut total = CompactionReport::default();
        let mut done = std::collections::HashSet::new();
        let mut planned = Vec::new();
        loop {
            let run = self.compact_once(true, |counts, _, policy| {
                let left: Vec<SegmentCounts> =
                    counts.iter().filter(|s| !done.contains(&s.id)).copied().collect();
                let plan = choose_asked(&left, id_max, policy)?;
                planned.clone_from(&plan.inputs);
                done.extend(plan.inputs.iter().copied());
                Some(plan)
            })?;
            match run {
                Some(run) => {
                    total.add(&run);
                    total.failure = run.failure.clone().or(total.failure);
                    if run.segments_in < planned.len() as u64 {
                        // Not all of them: those that are still there have their turn again.
                        done.retain(|id| !planned.contains(id));
                    }
                }
                None => break,
            }
        }
        self.keep_reserve();
        Ok(total)
    }

    /// Runs `plan`. If the device has no room for so much at once, the segment goes first of which
    /// the least must be copied: that is what the reserve is for.
    fn run_as_room_allows(
        &self,
        plan: &Plan,
        counts: &[SegmentCounts],
    ) -> Result<CompactionReport, Failure> {
        let result = self.run_plan(plan);
        let planned = counts.iter().filter(|s| plan.inputs.contains(&s.id));
        let least = planned.min_by_key(|s| s.live + s.pinned);
        match (&result, least) {
            (Err(Failure::Write(WriteError::Full(_))), Some(least)) if plan.inputs.len() > 1 => {
                self.run_plan(&Plan { inputs: vec![least.id], reason: plan.reason })
            }
            _ => result,
        }
    }

    /// Makes one plan and runs it; `None` if there is nothing to do, or it came to nothing. While
    /// compaction is paused it waits, if it `may_wait`, and else does nothing.
    fn compact_once(
        &self,
        may_wait: bool,
        choose: impl FnOnce(&[SegmentCounts], u64, &Policy) -> Option<Plan>,
    ) -> Result<Option<CompactionReport>, WriteError> {
        let _running = match self.compaction.begin(may_wait) {
            Ok(running) => running,
            Err(is_cancelled) => {
                if is_cancelled {
                    self.compaction.done.lock().failure = Some(CANCELLED.to_owned());
                }
                return Ok(None);
            }
        };
        self.poison.check()?;
        let (counts, open_bytes) = self.segment_counts();
        let Some(plan) = choose(&counts, open_bytes, &self.policy()) else { return Ok(None) };
        let result = self.run_as_room_allows(&plan, &counts);
        self.compaction.state.lock().ended += 1;
        self.compaction.changed.notify_all();
        let failure = match result {
            Ok(run) => {
                self.compaction.done.lock().add(&run);
                return Ok(Some(run));
            }
            Err(failure) => failure,
        };
        situation!(PlanFailed);
        let what = match &failure {
            Failure::Cancelled => CANCELLED.to_owned(),
            Failure::Damaged(e) => e.to_string(),
            Failure::Write(e) => e.to_string(),
        };
        self.compaction.done.lock().failure = Some(what.clone());
        match failure {
            Failure::Write(e) => Err(e),
            // Left alone from now on: another plan may go on with the others.
            Failure::Damaged(_) => {
                Ok(Some(CompactionReport { failure: Some(what), ..CompactionReport::default() }))
            }
            Failure::Cancelled => Ok(None),
        }
    }

    /// Ends the active segment if something in it is dead, so that it can be compacted.
    fn end_dirty_active(&self) -> Result<(), WriteError> {
        let mut log = self.log.lock();
        let is_dirty = log.active.as_ref().is_some_and(|s| {
            let is_used = s.end() > SEGMENT_HEADER_LEN;
            let has_tombstones = s.written.tombstone_bytes.load(Ordering::Relaxed) > 0;
            is_used && (s.has_old_puts() || has_tombstones || self.may_expire(s))
        });
        if !is_dirty || log.is_closed {
            return Ok(());
        }
        self.rotate(&mut log, 0)
    }

    /// Does `write`; if the device is full, gives the reserve back and tries again.
    pub(super) fn with_reserve<T>(
        &self,
        mut write: impl FnMut() -> Result<T, WriteError>,
    ) -> Result<T, WriteError> {
        match write() {
            Err(WriteError::Full(_)) if self.release_reserve() => write(),
            result => result,
        }
    }

    /// Removes the reserve; false if there was none.
    fn release_reserve(&self) -> bool {
        if planted!(ReserveNotUsed) {
            return false;
        }
        let is_released = self.options.vfs.remove(&self.dir.join(RESERVE_NAME)).is_ok();
        if is_released {
            situation!(ReserveReleased);
        }
        is_released
    }

    /// Makes the reserve, once the store is large enough to need one. Nobody misses it if it
    /// cannot be made, and it holds nothing that a power cut could damage.
    fn keep_reserve(&self) {
        let log_bytes: u64 = self.segments.all().iter().map(|s| s.end()).sum();
        let len = (log_bytes / RESERVE_SHARE).min(RESERVE_LEN_MAX).min(self.options.segment_len);
        // Whoever closes the store has given up the directory, or is about to.
        if len < RESERVE_LEN_MIN || self.compaction.is_stopped() {
            return;
        }
        let path = self.dir.join(RESERVE_NAME);
        let vfs = &self.options.vfs;
        if let Ok(file) = vfs.open(&path, OpenMode::CreateNew) {
            if file.allocate(len).is_err() {
                let _ = vfs.remove(&path);
            }
        } else if let Ok(file) = vfs.open(&path, OpenMode::ReadWrite)
            && let Ok(now) = file.len()
            && now + now / 2 < len
        {
            // It grows with the store, in steps. What cannot be had leaves it as it was.
            let _ = file.allocate(len);
        }
    }

    /// Runs `write`; as long as the device is full and compaction, which has a reserve for this,
    /// gives space back, waits for that and runs `write` again. Requires: no lock held that
    /// compaction needs.
    pub(in crate::engine) fn with_relief<T, E>(
        &self,
        is_full: impl Fn(&E) -> bool,
        mut write: impl FnMut() -> Result<T, E>,
    ) -> Result<T, E> {
        let mut tries = 0;
        loop {
            // Before the write: what a run gives back while it fails counts as well.
            let before = self.compaction.state.lock().ended;
            match write() {
                // One run may give less than is needed, and others may take it.
                Err(e) if is_full(&e) && tries < RELIEF_TRIES && self.await_relief(before) => {
                    tries += 1;
                }
                done => return done,
            }
        }
    }

    /// True if more than `before` runs have ended, now or in a moment. Waits for none that cannot
    /// come: where nothing compacts by itself, all of it is paused, or there is nothing to do.
    fn await_relief(&self, before: u64) -> bool {
        let has_thread = self.compaction.tasks.get().is_some();
        if !has_thread || !self.options.compaction.auto {
            return false;
        }
        // Only what is sealed can be compacted. What cannot be sealed now is left.
        let _ = self.maintain();
        let mut state = self.compaction.state.lock();
        // A look that goes on may already have passed over what this is about.
        let looks = state.looks + 1 + u64::from(state.is_looking);
        self.wake_compaction();
        while state.ended == before
            && state.looks < looks
            && !state.is_paused
            && !self.compaction.is_stopped()
        {
            if self.compaction.changed.wait_for(&mut state, RELIEF_WAIT).timed_out() {
                break;
            }
        }
        state.ended != before
    }
}

/// The thread that compacts.
pub(in crate::engine) struct Compactor {
    tasks: Sender<Task>,
    thread: Option<JoinHandle<()>>,
}

enum Task {
    Look,
    Stop,
}

impl Compactor {
    /// Starts the thread.
    pub(in crate::engine) fn start(core: &Arc<Core>) -> std::io::Result<Self> {
        let (sender, tasks) = bounded(1);
        let _ = core.compaction.tasks.set(sender.clone());
        let core = Arc::clone(core);
        let run = move || run(&core, &tasks);
        let thread = std::thread::Builder::new().name("siltstone-compact".to_owned()).spawn(run)?;
        Ok(Compactor { tasks: sender, thread: Some(thread) })
    }
}

impl Drop for Compactor {
    /// Ends the thread. Whoever drops it has told the present run to give up.
    fn drop(&mut self) {
        let _ = self.tasks.send(Task::Stop);
        if let Some(thread) = self.thread.take() {
            join(thread);
        }
    }
}

fn run(core: &Core, tasks: &Receiver<Task>) {
    while let Ok(Task::Look) = tasks.recv() {
        core.compaction.state.lock().is_looking = true;
        core.checkpoint_if_due();
        if core.options.compaction.auto {
            // What fails is tried again at the next wake-up, and is told by the store's counters.
            let _ = core.compact_due();
        }
        let mut state = core.compaction.state.lock();
        state.is_looking = false;
        state.looks += 1;
        core.compaction.changed.notify_all();
    }
}
