//! The compaction thread, its pace, and its switches.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, bounded};
use parking_lot::{Condvar, Mutex, MutexGuard};

use super::super::core::Core;
use super::super::error::WriteError;
use super::super::pending::join;
use super::super::segments::Segment;
use super::plan::{
    Plan, Policy, SegmentCounts, choose, choose_asked, copy_len, copy_len_min, is_worth_room,
    shortest,
};
use super::reserve::Reserve;
use super::run::Failure;
use crate::format::segment::{SEGMENT_HEADER_LEN, SegmentKind};

/// After so many runs in a row that gave nothing back, compaction waits to be woken.
const BARREN_RUNS_MAX: u32 = 4;
/// Waits for the throttle are cut into slices so long.
const PACE_SLICE: Duration = Duration::from_millis(50);
/// What is told of a run that was cancelled.
const CANCELLED: &str = "cancelled";

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
    /// Room for it on a full device.
    pub(super) reserve: Reserve,
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

    /// How many runs have ended.
    pub(super) fn runs_ended(&self) -> u64 {
        self.state.lock().ended
    }

    /// There is a thread that compacts.
    pub(super) fn has_thread(&self) -> bool {
        self.tasks.get().is_some()
    }

    /// Has the thread look for work; true if more than `before` runs have ended, now or within
    /// `patience`. Waits for none that does not come.
    pub(super) fn await_run(&self, before: u64, patience: Duration) -> bool {
        let mut state = self.state.lock();
        // A look that goes on may already have passed over what this is about.
        let looks = state.looks + 1 + u64::from(state.is_looking);
        self.wake();
        while state.ended == before && state.looks < looks && !state.is_paused && !self.is_stopped()
        {
            if self.changed.wait_for(&mut state, patience).timed_out() {
                break;
            }
        }
        state.ended != before
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

    pub(super) fn policy(&self) -> Policy {
        Policy {
            // A writer that waits for room gets what there is.
            space_percent: match self.compaction.reserve.is_short() {
                true => 100,
                false => self.options.compaction.space_percent,
            },
            segment_len: self.usual_segment_len(),
        }
    }

    /// The counters of the sealed segments, and the bytes of the others.
    pub(super) fn segment_counts(&self) -> (Vec<SegmentCounts>, u64) {
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
                records: load(&s.written.records),
                // What is damaged stays whole: nobody needs to read it.
                live: if is_damaged { s.end() } else { self.still_live(&s) },
                pinned: load(&s.pinned_bytes),
                tombstones: load(&s.written.tombstone_bytes),
                tombstones_are_needed: s.tombstones_are_needed.load(Ordering::Relaxed),
                has_old_puts: s.has_old_puts(),
                is_damaged,
                // Only found out when it is asked for.
                shrinks: false,
            });
        }
        (counts, open_bytes)
    }

    /// Compacts what is worth it, until nothing is. Called by the compaction thread, or by writers
    /// if there is none.
    pub(in crate::engine) fn compact_due(&self) -> Result<(), WriteError> {
        let mut barren = 0;
        loop {
            // Before the work: under a steady stream of writes there always is more.
            self.keep_reserve();
            let Some(run) = self.compact_once(false, choose)? else { return Ok(()) };
            // Where counters mislead the plan, compaction must not go on for ever: it has another
            // try the next time that it is woken.
            let is_barren = run.runs > 0
                && run.bytes_out >= run.bytes_in
                && run.segments_out >= run.segments_in;
            barren = if is_barren { barren + 1 } else { 0 };
            if barren == BARREN_RUNS_MAX {
                self.keep_reserve();
                return Ok(());
            }
            self.checkpoint_if_due();
        }
    }

    /// Compacts every segment of which something comes back, also by storing values as their
    /// collections are configured now; those that are written meanwhile are left alone.
    pub(in crate::engine) fn compact_all(&self) -> Result<CompactionReport, WriteError> {
        self.check_writable()?;
        // On a full device there may be no room for the log's next segment, nor for a footer: what
        // is sealed can be compacted, and room comes of that.
        let ready = self.end_dirty_active().and_then(|()| self.maintain());
        if !matches!(ready, Err(WriteError::Full(_))) {
            ready?;
        }
        let all = self.segments.all();
        let id_max = all.iter().map(|s| s.id).max().unwrap_or(0);
        let is_sealed = |s: &&Arc<Segment>| s.seal().is_some();
        let shrinking: HashSet<u64> =
            all.iter().filter(is_sealed).filter(|s| self.would_shrink(s)).map(|s| s.id).collect();
        // Or their files would stay until this has ended.
        drop(all);
        let mut total = CompactionReport::default();
        let mut done = HashSet::new();
        let mut planned = Vec::new();
        loop {
            self.keep_reserve();
            let run = self.compact_once(true, |counts, _, policy| {
                let left: Vec<SegmentCounts> = counts
                    .iter()
                    .filter(|s| !done.contains(&s.id))
                    .map(|s| SegmentCounts { shrinks: shrinking.contains(&s.id), ..*s })
                    .collect();
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
                None => return Ok(total),
            }
        }
    }

    /// Runs `plan`. If the device has no room for so much at once, the segment goes first of which
    /// the least must be copied: that is what the reserve is for.
    fn run_as_room_allows(
        &self,
        plan: &Plan,
        counts: &[SegmentCounts],
    ) -> Result<CompactionReport, Failure> {
        let of_one = |id: u64| Plan { inputs: vec![id], reason: plan.reason };
        let mut steps = vec![plan.clone()];
        steps.extend(shortest(counts, |s| plan.inputs.contains(&s.id)).map(of_one));
        steps.extend(shortest(counts, |s| is_worth_room(s, counts, &self.policy())).map(of_one));
        steps.dedup();
        if let Some(room) = self.room() {
            // Writing what will not fit is work for nothing.
            let fits = steps.iter().position(|step| copy_len(counts, step) <= room);
            steps.drain(..fits.unwrap_or(steps.len().saturating_sub(1)));
            if steps.iter().all(|step| copy_len_min(counts, step) > room) {
                return Err(Failure::Write(self.no_room("copy a segment in")));
            }
        }
        let mut result = Ok(CompactionReport::default());
        for step in &steps {
            result = self.run_plan(step);
            if !matches!(result, Err(Failure::Write(WriteError::Full(_)))) {
                break;
            }
        }
        result
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

    /// Ends the active segment if something in it is dead or may be stored smaller, so that it can
    /// be compacted.
    fn end_dirty_active(&self) -> Result<(), WriteError> {
        let mut log = self.log.lock();
        let is_dirty = log.active.as_ref().is_some_and(|s| {
            let is_used = s.end() > SEGMENT_HEADER_LEN;
            let has_tombstones = s.written.tombstone_bytes.load(Ordering::Relaxed) > 0;
            let is_dead = s.has_old_puts() || has_tombstones || self.may_expire(s);
            is_used && (is_dead || self.compresses())
        });
        if !is_dirty || log.is_closed {
            return Ok(());
        }
        self.rotate(&mut log, 0)
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
