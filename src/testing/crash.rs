//! Crash states: what a disk can hold after the power was cut at a moment of a recorded run.
//!
//! The walk goes through the recorded operations once. At each moment it knows what is surely on
//! the disk, and which operations are *free*: done, and not made durable since. A crash state is
//! a choice of free operations that survive, and perhaps one write among them that is torn.
//!
//! How many choices are tried depends on how many operations are free:
//!
//! - few (`subsets_max`): every subset;
//! - more: all prefixes, each operation lost alone, each kept alone, pairs lost, and random
//!   subsets; `samples` of each at most;
//! - for each write besides: torn at every byte if it is short (at every 8, 512 or 4096 bytes if
//!   longer), what is missing being the old bytes, zeros or noise, or the front missing instead of
//!   the end; with all other operations kept, with none, and with random ones.
//!
//! When an operation has just been added, only choices in which it survives are new, so only those
//! are listed; at a [`SimVfs::mark`] all of them are.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::disk::{Image, Op};
use super::rng::Rng;
use super::sim::SimVfs;
use super::walk::{Choice, Mask, Rest, Tear, Walk};

/// How far the enumeration of crash states goes.
#[derive(Clone, Debug)]
pub struct CrashOptions {
    /// With at most this many free operations, every subset of them is tried. Default: 8.
    pub subsets_max: usize,
    /// With more, this many of each kind of choice. Default: 32.
    pub samples: usize,
    /// Torn writes are tried with this many random choices of the other operations, besides
    /// "all" and "none". Default: 1.
    pub contexts: usize,
    /// A write that can be torn in more places than this is torn in so many of them, at random.
    /// Default: no limit.
    pub tears: usize,
    /// Seed of the random choices. Default: 0.
    pub seed: u64,
}

impl Default for CrashOptions {
    fn default() -> Self {
        CrashOptions { subsets_max: 8, samples: 32, contexts: 1, tears: usize::MAX, seed: 0 }
    }
}

/// Names one crash state of a run: written as `cut:choice`, and read back from that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CrashPoint {
    /// How many operations were done before the power went.
    pub cut: usize,
    /// Which of the choices listed at this cut.
    pub choice: usize,
}

impl fmt::Display for CrashPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.cut, self.choice)
    }
}

impl FromStr for CrashPoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |part: &str| part.parse().map_err(|e| format!("crash point {text:?}: {e}"));
        let (cut, choice) = text.split_once(':').ok_or("a crash point is written cut:choice")?;
        Ok(CrashPoint { cut: number(cut)?, choice: number(choice)? })
    }
}

/// What a power cut left.
#[derive(Clone, Debug)]
pub struct CrashState {
    /// Which state of the run this is.
    pub point: CrashPoint,
    /// Equal for states that are equal, and different for others, as good as surely.
    pub hash: u64,
    image: Image,
}

impl CrashState {
    /// The disk as the next start finds it: all that is there is durable. What is done to it is
    /// recorded anew, so that a crash during recovery can be tried as well.
    pub fn disk(&self) -> SimVfs {
        SimVfs::from_image(self.image.clone())
    }
}

/// Iterates over the crash states of a run; see [`SimVfs::crash_states`]. A state that can arise
/// at several moments comes up at each of them.
#[derive(Debug)]
pub struct CrashStates {
    ops: Vec<Op>,
    options: CrashOptions,
    walk: Walk,
    cut: usize,
    choices: Vec<Choice>,
    next: usize,
}

impl CrashStates {
    pub(super) fn new(base: Arc<Image>, ops: Vec<Op>, options: CrashOptions) -> Self {
        let mut states = CrashStates {
            walk: Walk::new(&base),
            ops,
            options,
            cut: 0,
            choices: Vec::new(),
            next: 0,
        };
        states.choices.push(Choice { kept: Mask::none(0), tear: None });
        states
    }

    /// The state that `point` names, if there is one at or after where the iteration stands.
    pub fn seek(&mut self, point: CrashPoint) -> Option<CrashState> {
        while self.cut < point.cut {
            self.advance()?;
        }
        self.next = point.choice;
        if self.cut == point.cut {
            self.choices.get(point.choice)?;
            self.next()
        } else {
            None
        }
    }

    /// What was lost in the state that was returned last, for people.
    pub fn describe(&self) -> String {
        let Some(choice) = self.next.checked_sub(1).and_then(|i| self.choices.get(i)) else {
            return String::new();
        };
        let mut text = format!("power cut after {} operations", self.cut);
        for (slot, op) in self.walk.free().iter().enumerate() {
            match choice.tear {
                Some(tear) if tear.slot == slot => {
                    text += &format!("\n  torn: {op} {:?}: {tear:?}", self.ops[*op]);
                }
                _ if choice.kept.has(slot) => {}
                _ => text += &format!("\n  lost: {op} {:?}", self.ops[*op]),
            }
        }
        text
    }

    /// Does the next operation and lists the choices after it.
    fn advance(&mut self) -> Option<()> {
        let op = self.ops.get(self.cut)?;
        self.walk.step(self.cut, &self.ops);
        self.cut += 1;
        self.next = 0;
        self.choices = match op {
            // What is possible after a sync was possible before it.
            Op::SyncFile { .. } | Op::SyncDir { .. } => Vec::new(),
            Op::Mark => list_choices(self.walk.free(), &self.ops, None, &self.options),
            _ => list_choices(self.walk.free(), &self.ops, Some(self.cut - 1), &self.options),
        };
        Some(())
    }
}

impl Iterator for CrashStates {
    type Item = CrashState;

    fn next(&mut self) -> Option<CrashState> {
        while self.next >= self.choices.len() {
            self.advance()?;
        }
        let image = self.walk.image(&self.ops, &self.choices[self.next]);
        let point = CrashPoint { cut: self.cut, choice: self.next };
        self.next += 1;
        Some(CrashState { point, hash: image.hash(), image })
    }
}

const RESTS: [Rest; 4] = [Rest::Old, Rest::Zeros, Rest::Noise, Rest::FrontOld];

/// Lists what may survive of the `free` operations; with `newest`, only choices in which that
/// operation has an effect.
fn list_choices(
    free: &[usize],
    ops: &[Op],
    newest: Option<usize>,
    options: &CrashOptions,
) -> Vec<Choice> {
    let len = free.len();
    let newest_slot = newest.and_then(|op| free.binary_search(&op).ok());
    let mut rng =
        Rng::new(options.seed ^ (len as u64) << 32 ^ free.last().map_or(0, |op| *op as u64));
    let mut masks = Vec::new();
    if len <= options.subsets_max {
        masks.extend((0..1_u64 << len).map(|bits| Mask::from_bits(len, bits)));
    } else {
        let all = || Mask::prefix(len, len);
        masks.push(all());
        for i in sampled(len, options.samples, &mut rng) {
            masks.push(Mask::prefix(len, i));
            masks.push(all().without(i));
            masks.push(Mask::none(len).with(i));
            masks.push(all().without(i).without(rng.below(len)));
            masks.push(Mask::random(len, &mut rng));
        }
    }
    match newest_slot {
        Some(slot) if len <= options.subsets_max => masks.retain(|mask| mask.has(slot)),
        Some(slot) => masks = masks.into_iter().map(|mask| mask.with(slot)).collect(),
        None => {}
    }
    let mut choices: Vec<_> = masks.into_iter().map(|kept| Choice { kept, tear: None }).collect();
    for slot in sampled(len, options.samples, &mut rng) {
        if let Op::Write { bytes, .. } = &ops[free[slot]] {
            let is_new = newest_slot.is_none_or(|new| new == slot);
            list_tears(
                &mut choices,
                len,
                slot,
                bytes.len(),
                is_new,
                newest_slot,
                options,
                &mut rng,
            );
        }
    }
    choices
}

/// Lists the ways in which the write at `slot` can be torn. One that was listed before, when it
/// was new, is torn more coarsely.
#[expect(clippy::too_many_arguments, reason = "a piece of list_choices, split off for its length")]
fn list_tears(
    choices: &mut Vec<Choice>,
    len: usize,
    slot: usize,
    bytes: usize,
    is_new: bool,
    newest: Option<usize>,
    options: &CrashOptions,
    rng: &mut Rng,
) {
    let mut contexts = vec![Mask::prefix(len, len)];
    if len > 1 && is_new {
        contexts.push(Mask::none(len));
        contexts.extend((0..options.contexts).map(|_| Mask::random(len, rng)));
    }
    for context in contexts {
        let kept = newest.map_or(context.clone(), |new| context.clone().with(new)).with(slot);
        let step = tear_step(bytes);
        let places = if is_new { step } else { step.max(8) };
        let count = bytes.div_ceil(places) - 1;
        for i in sampled(count, options.tears, rng) {
            let at = (i + 1) * places;
            let rests = if is_new { &RESTS[..] } else { &RESTS[at / places % 4..][..1] };
            for rest in rests {
                choices.push(Choice {
                    kept: kept.clone(),
                    tear: Some(Tear { slot, at, rest: *rest }),
                });
            }
        }
    }
}

/// At which multiples a write of this length is torn.
fn tear_step(bytes: usize) -> usize {
    match bytes {
        0..=512 => 1,
        513..=4096 => 8,
        4097..=65536 => 512,
        _ => 4096.max(bytes / 128),
    }
}

/// All numbers below `len`, or `max` of them: the last few and others at random.
fn sampled(len: usize, max: usize, rng: &mut Rng) -> Vec<usize> {
    if len <= max {
        return (0..len).collect();
    }
    let newest = (len - max / 4..len).collect::<Vec<_>>();
    let others = (0..max - newest.len()).map(|_| rng.below(len - max / 4)).collect::<Vec<_>>();
    newest.into_iter().chain(others).collect()
}
