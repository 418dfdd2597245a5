//! What to compact next: a pure function of the segments' counters.

use crate::format::hint::HINT_LEN;
use crate::format::record::{FRAME_HEADER_LEN, RECORD_HEADER_LEN};
use crate::format::segment::{SEGMENT_FOOTER_LEN, SEGMENT_HEADER_LEN};

/// What is known about a sealed segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SegmentCounts {
    /// Its id.
    pub id: u64,
    /// It is a stretch of the log, not the output of a compaction.
    pub is_log: bool,
    /// Sequence number of its first record.
    pub first: u64,
    /// The sequence number after its last record.
    pub next: u64,
    /// Bytes of its header, frames and records.
    pub bytes: u64,
    /// Bytes of its records.
    pub record_bytes: u64,
    /// How many they are.
    pub records: u64,
    /// Bytes of records that are live or needed for good.
    pub live: u64,
    /// Bytes of records that only snapshots need.
    pub pinned: u64,
    /// Bytes of deletions and clearings.
    pub tombstones: u64,
    /// Compaction found that its tombstones were needed.
    pub tombstones_are_needed: bool,
    /// It holds puts that are not the newest of their key.
    pub has_old_puts: bool,
    /// It is damaged and stays as it is. What hides its old puts is needed as long as it is there.
    pub is_damaged: bool,
    /// Its values take less when they are moved.
    pub shrinks: bool,
}

/// When and how much is compacted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Policy {
    /// Compaction starts when the log takes more than this many percent of what is needed of it.
    pub space_percent: u64,
    /// Size of a full segment, in bytes.
    pub segment_len: u64,
}

/// Why segments are compacted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// Nothing in them is needed.
    Dead,
    /// The log has grown over its share.
    Space,
    /// They are small and many.
    Small,
    /// Somebody asked for it.
    Asked,
}

/// Segments to compact together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Their ids, in the order of their sequence numbers.
    pub inputs: Vec<u64>,
    /// Why.
    pub reason: Reason,
}

/// Segments below this share of a full one are small.
const SMALL_SHARE: u64 = 8;
/// So many small segments are merged into one.
const SMALL_COUNT: usize = 8;
/// A segment helps a full device if one part in so many of a full segment comes back.
const ROOM_SHARE: u64 = 64;
/// Frame headers take one part in so many of what is copied, at most.
const FRAMES_SHARE: u64 = 512;
/// A log segment is worth rewriting when that is asked for if this share of it, in percent, comes
/// back.
const FRAMES_PERCENT: u64 = 1;
/// A segment is worth rewriting for space if this share of it, in percent, comes back.
const DEAD_PERCENT_MIN: u64 = 10;

/// Chooses what to compact, by cost and benefit; `None` if nothing is worth it. `open_bytes` is
/// what segments take that are not sealed, all of it counted as needed.
///
/// - What is wholly dead goes first: it costs nothing.
/// - If the log takes more than its share, the segments that give back the most for what must be
///   copied go, old ones before young ones, since what is young is likely to die by itself
///   (Rosenblum and Ousterhout's cost and benefit, "The Design and Implementation of a
///   Log-Structured File System", 1991). As many at a time as fill two segments.
/// - Many small segments become a large one.
pub(crate) fn choose(segments: &[SegmentCounts], open_bytes: u64, policy: &Policy) -> Option<Plan> {
    let dead: Vec<&SegmentCounts> =
        segments.iter().filter(|s| !s.is_damaged && needed(s, segments) == 0).collect();
    if !dead.is_empty() {
        return Some(plan(dead, Reason::Dead));
    }
    space(segments, open_bytes, policy).or_else(|| small(segments, policy))
}

/// Chooses among segments up to `id_max` everything of which something comes back, also by storing
/// values smaller or by merging small ones. What the frames of full log segments take is nothing:
/// whoever follows the log would have to begin anew for it.
pub(crate) fn choose_asked(
    segments: &[SegmentCounts],
    id_max: u64,
    policy: &Policy,
) -> Option<Plan> {
    let asked = || segments.iter().filter(|s| s.id <= id_max && !s.is_damaged);
    let is_small = |s: &SegmentCounts| s.bytes * 2 < policy.segment_len;
    let are_small = asked().filter(|s| is_small(s)).count() > 1;
    let comes_back = |s: &SegmentCounts| {
        let bytes = reclaimable(s, segments);
        match s.is_log {
            true => bytes * 100 >= s.bytes * FRAMES_PERCENT || are_small && is_small(s),
            false => bytes > 0,
        }
    };
    let mut all: Vec<_> = asked().filter(|s| s.shrinks || comes_back(s)).collect();
    all.sort_unstable_by_key(|s| s.first);
    let mut copied = 0;
    let fits = |s: &&&SegmentCounts| {
        copied += needed(s, segments);
        copied <= 2 * policy.segment_len
    };
    let count = all.iter().take_while(fits).count().max(1);
    all.truncate(count);
    (!all.is_empty()).then(|| plan(all, Reason::Asked))
}

/// At most so many bytes are written when `plan` is run.
pub(crate) fn copy_len(segments: &[SegmentCounts], plan: &Plan) -> u64 {
    segments.iter().filter(|s| plan.inputs.contains(&s.id)).map(copy_len_of).sum()
}

fn copy_len_of(segment: &SegmentCounts) -> u64 {
    let records = segment.live + segment.pinned + segment.tombstones;
    if records == 0 {
        return 0;
    }
    let hints = segment.records.min(records / RECORD_HEADER_LEN as u64) * HINT_LEN as u64;
    // Frames are long, or as long as a record.
    let frames = records / FRAMES_SHARE + 2 * FRAME_HEADER_LEN as u64;
    records + hints + frames + SEGMENT_HEADER_LEN + SEGMENT_FOOTER_LEN
}

/// So many bytes are written at least.
pub(crate) fn copy_len_min(segments: &[SegmentCounts], plan: &Plan) -> u64 {
    segments.iter().filter(|s| plan.inputs.contains(&s.id)).map(|s| s.live + s.pinned).sum()
}

/// Id of the segment of which the least must be copied, among those that `may` be.
pub(crate) fn shortest(
    segments: &[SegmentCounts],
    may: impl Fn(&SegmentCounts) -> bool,
) -> Option<u64> {
    let all = segments.iter().filter(|s| !s.is_damaged && may(s));
    all.min_by_key(|s| copy_len_of(s)).map(|s| s.id)
}

/// True if so much of `segment` comes back that it helps a full device.
pub(crate) fn is_worth_room(
    segment: &SegmentCounts,
    segments: &[SegmentCounts],
    policy: &Policy,
) -> bool {
    let back = reclaimable(segment, segments);
    back * 100 >= segment.bytes * DEAD_PERCENT_MIN && back * ROOM_SHARE >= policy.segment_len
}

/// Bytes with which any one of the segments can be compacted. Less would do for those of which
/// little is needed; but when they are gone, and what came back of them is taken, it would not.
///
/// Segments of more than `len_max` bytes hold a large record, which goes as a whole or not at all.
pub(crate) fn room_for_a_step(segments: &[SegmentCounts], len_max: u64) -> u64 {
    let longest = segments.iter().filter(|s| !s.is_damaged).map(copy_len_of).max();
    longest.unwrap_or(0).min(len_max)
}

/// Bytes of `segment` that must be copied when it is compacted.
fn needed(segment: &SegmentCounts, segments: &[SegmentCounts]) -> u64 {
    if segment.is_damaged {
        // All of it stays, whatever it is worth.
        return segment.bytes;
    }
    // Nobody has looked yet whether the others are needed: mostly they are not.
    let may_stay = segment.tombstones_are_needed
        && segments.iter().any(|s| s.has_old_puts && s.first < segment.next);
    segment.live + segment.pinned + if may_stay { segment.tombstones } else { 0 }
}

/// Bytes of `segment` that come back when it is compacted.
fn reclaimable(segment: &SegmentCounts, segments: &[SegmentCounts]) -> u64 {
    // What a compacted segment takes beside its records, the next one takes too.
    let bytes = if segment.is_log { segment.bytes } else { segment.record_bytes };
    bytes.saturating_sub(needed(segment, segments))
}

fn space(segments: &[SegmentCounts], open_bytes: u64, policy: &Policy) -> Option<Plan> {
    let mut bytes: u64 = segments.iter().map(|s| s.bytes).sum::<u64>() + open_bytes;
    let total_needed: u64 = segments.iter().map(|s| needed(s, segments)).sum::<u64>() + open_bytes;
    let is_over = |bytes: u64| bytes * 100 > total_needed * policy.space_percent;
    if !is_over(bytes) {
        return None;
    }
    let newest = segments.iter().map(|s| s.next).max()?;
    let oldest = segments.iter().map(|s| s.first).min()?;
    let score = |s: &SegmentCounts| {
        let (dead, needed) = (reclaimable(s, segments) as f64, needed(s, segments) as f64);
        let span = newest.saturating_sub(oldest).max(1);
        let age = newest.saturating_sub(s.next) as f64 / span as f64;
        dead / (needed + s.bytes as f64) * (1.0 + age)
    };
    let mut victims: Vec<(f64, &SegmentCounts)> = segments
        .iter()
        .filter(|s| reclaimable(s, segments) * 100 >= s.bytes * DEAD_PERCENT_MIN)
        .map(|s| (score(s), s))
        .collect();
    victims.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut chosen = Vec::new();
    let mut copied = 0;
    for (_, victim) in victims {
        copied += needed(victim, segments);
        if !chosen.is_empty() && (copied > 2 * policy.segment_len || !is_over(bytes)) {
            break;
        }
        bytes = bytes.saturating_sub(reclaimable(victim, segments));
        chosen.push(victim);
    }
    (!chosen.is_empty()).then(|| plan(chosen, Reason::Space))
}

fn small(segments: &[SegmentCounts], policy: &Policy) -> Option<Plan> {
    let mut small: Vec<&SegmentCounts> =
        segments.iter().filter(|s| s.bytes < policy.segment_len / SMALL_SHARE).collect();
    small.retain(|s| !s.is_damaged);
    if small.len() < SMALL_COUNT {
        return None;
    }
    small.sort_unstable_by_key(|s| s.first);
    small.truncate(SMALL_COUNT);
    Some(plan(small, Reason::Small))
}

fn plan(mut segments: Vec<&SegmentCounts>, reason: Reason) -> Plan {
    segments.sort_unstable_by_key(|s| s.first);
    Plan { inputs: segments.iter().map(|s| s.id).collect(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: Policy = Policy { space_percent: 125, segment_len: 1000 };

    fn segment(id: u64, live: u64) -> SegmentCounts {
        SegmentCounts {
            id,
            is_log: true,
            first: id * 100,
            next: id * 100 + 100,
            bytes: 1000,
            record_bytes: 1000,
            records: 10,
            live,
            has_old_puts: live < 1000,
            ..SegmentCounts::default()
        }
    }

    #[test]
    fn nothing_is_done_while_the_log_keeps_to_its_share() {
        let segments: Vec<_> = (1..=10).map(|id| segment(id, 850)).collect();
        assert_eq!(choose(&segments, 500, &POLICY), None);
    }

    #[test]
    fn what_is_dead_goes_first() {
        let segments = [segment(1, 500), segment(2, 0), segment(3, 100), segment(4, 0)];
        let plan = choose(&segments, 0, &POLICY).expect("two are dead");
        assert_eq!(plan, Plan { inputs: vec![2, 4], reason: Reason::Dead });
    }

    #[test]
    fn the_emptiest_and_oldest_are_chosen_until_the_share_is_kept() {
        let segments = [segment(1, 600), segment(2, 950), segment(3, 600), segment(4, 200)];
        let plan = choose(&segments, 0, &POLICY).expect("too much is dead");
        assert_eq!(plan, Plan { inputs: vec![1, 4], reason: Reason::Space });
    }

    #[test]
    fn a_full_device_keeps_room_for_any_one_segment() {
        let mut segments = vec![segment(1, 200), segment(2, 900), segment(3, 0)];
        let of = |id| copy_len(&segments, &Plan { inputs: vec![id], reason: Reason::Space });
        assert!((200..1000).contains(&of(1)), "{}", of(1));
        assert!((900..2000).contains(&of(2)), "{}", of(2));
        assert_eq!(of(3), 0);
        assert_eq!(room_for_a_step(&segments, 2000), of(2));
        // A record of many segments' length goes as a whole: no room is kept for its copy.
        segments.push(SegmentCounts { bytes: 90_000, ..segment(4, 90_000) });
        assert_eq!(room_for_a_step(&segments, 2000), 2000);
        segments[3].is_damaged = true;
        assert!(room_for_a_step(&segments, 2000) < 2000);
    }

    #[test]
    fn on_a_full_device_the_segment_goes_that_takes_the_least() {
        let segments = [segment(1, 950), segment(2, 400), segment(3, 300)];
        let is_worth_it = |s: &SegmentCounts| is_worth_room(s, &segments, &POLICY);
        assert_eq!(shortest(&segments, is_worth_it), Some(3));
        assert_eq!(shortest(&segments, |s| s.id < 3 && is_worth_it(s)), Some(2));
        assert_eq!(shortest(&segments, |s| s.id < 2 && is_worth_it(s)), None);
    }

    #[test]
    fn what_snapshots_need_is_no_gain() {
        let pinned = |id| SegmentCounts { pinned: 800, ..segment(id, 200) };
        assert_eq!(choose(&[pinned(1), pinned(2)], 0, &POLICY), None);
    }

    /// Goal: a segment of tombstones that are needed is not rewritten again and again.
    #[test]
    fn needed_tombstones_wait_for_what_they_hide() {
        let mut segments = [segment(1, 900), segment(2, 0)];
        segments[1].tombstones = 950;
        segments[1].has_old_puts = false;
        assert_eq!(choose(&segments, 0, &POLICY).expect("unexamined").inputs, [2]);
        segments[1].tombstones_are_needed = true;
        segments[1].is_log = false;
        segments[1].record_bytes = 950;
        assert_eq!(choose(&segments, 0, &POLICY), None);
        segments[0].has_old_puts = false;
        assert_eq!(choose(&segments, 0, &POLICY).expect("free now").inputs, [2]);
    }

    /// Goal: what stays for the sake of a damaged segment is not rewritten for ever, and that
    /// segment is in no plan.
    #[test]
    fn a_damaged_segment_stays_and_so_does_what_hides_its_records() {
        let mut segments = [segment(1, 0), segment(2, 0)];
        segments[0].is_damaged = true;
        segments[1] = SegmentCounts {
            tombstones: 950,
            tombstones_are_needed: true,
            is_log: false,
            record_bytes: 950,
            has_old_puts: false,
            ..segments[1]
        };
        assert_eq!(choose(&segments, 0, &POLICY), None);
        assert_eq!(choose_asked(&segments, 2, &POLICY), None);
    }

    #[test]
    fn many_small_segments_become_one() {
        let small = |id| SegmentCounts { bytes: 100, record_bytes: 90, ..segment(id, 90) };
        let segments: Vec<_> = (1..=9).map(small).collect();
        let plan = choose(&segments, 0, &POLICY).expect("eight is many");
        assert_eq!(plan, Plan { inputs: (1..=8).collect(), reason: Reason::Small });
        assert_eq!(choose(&segments[..7], 0, &POLICY), None);
    }

    /// Goal: compaction comes to an end. Method: random segments; what a plan rewrites comes out
    /// whole, and each plan gives something back or lessens the number of segments.
    #[test]
    fn plans_come_to_an_end() {
        let mut rng = 0x1234_5678_9ABC_DEF1u64;
        let mut next = || {
            rng ^= rng << 13;
            rng ^= rng >> 7;
            rng ^= rng << 17;
            rng
        };
        for _ in 0..200 {
            let mut segments: Vec<_> = (1..=30).map(|id| segment(id, next() % 1001)).collect();
            let mut id = 100;
            let mut runs = 0;
            while let Some(plan) = choose(&segments, 0, &POLICY) {
                runs += 1;
                assert!(runs < 200, "goes on for ever");
                let inputs: Vec<_> =
                    segments.iter().filter(|s| plan.inputs.contains(&s.id)).copied().collect();
                segments.retain(|s| !plan.inputs.contains(&s.id));
                let live: u64 = inputs.iter().map(|s| s.live).sum();
                let first = inputs.iter().map(|s| s.first).min().expect("not empty");
                let mut left = live;
                while left > 0 {
                    id += 1;
                    let bytes = left.min(1000);
                    left -= bytes;
                    let whole = SegmentCounts { bytes, record_bytes: bytes, ..segment(id, bytes) };
                    segments.push(SegmentCounts {
                        is_log: false,
                        has_old_puts: false,
                        first,
                        next: first + 100,
                        ..whole
                    });
                }
            }
        }
    }
}
