//! Do the tests bite? Known mistakes are switched on one at a time, and the crash, fault and damage
//! tests, cut down to a few seconds, must find each of them; and nothing when none is on.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[macro_use]
mod common;
#[path = "common/compacting.rs"]
mod compacting;
#[path = "common/sharing.rs"]
mod sharing;
#[path = "common/swings.rs"]
mod swings;
#[path = "common/lifetimes.rs"]
mod world;

use std::collections::HashSet;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use siltstone::testing::bugs::{self, Bug};
use siltstone::testing::fuzz;
use siltstone::testing::store::{
    BackupTest, CheckpointTest, CrashTest, Damage, FaultTest, FeedTest, Moment, Outcomes,
    RepairOutcomes, RepairTally, RepairTest, RollbackTest, Specimen, Violation, Workload,
    full_disk_is_left_by_compaction, full_disk_never_sticks,
};
use siltstone::testing::{CallKind, CrashOptions, Fault, FaultPlan, SimVfs};
use siltstone::{
    CollectionOptions, CompactionOptions, Compression, Durability, FeedError, Options, Update,
    WriteBatch,
};

/// The probes are tried in rounds: most bugs show in the first few seeds of the right one, so that
/// all have a short turn before any has a long one.
#[derive(Clone, Copy)]
struct Round(usize);

impl Round {
    const ALL: [Round; 3] = [Round(0), Round(1), Round(2)];

    /// Of the seeds from 1 to `count`, those of this round.
    fn of(self, count: u64) -> RangeInclusive<u64> {
        let ends = [0, (count / 10).max(1), count / 3, count];
        ends[self.0] + 1..=ends[self.0 + 1]
    }

    /// Of the numbers below `len`, those of this round: every third of every `step`.
    fn within(self, len: usize, step: usize) -> impl Iterator<Item = usize> {
        (self.0 * step..len).step_by(Self::ALL.len() * step)
    }

    fn is_first(self) -> bool {
        self.0 == 0
    }
}

/// Power cuts: few states of many workloads, and of the recoveries from them.
fn crashes(round: Round) -> Result<(), Violation> {
    for seed in round.of(30) {
        let options = CrashOptions { subsets_max: 4, samples: 4, contexts: 0, tears: 4, seed };
        let deep = CrashOptions { subsets_max: 2, samples: 2, contexts: 0, tears: 1, seed };
        CrashTest::new(options, deep, 20).run(seed)?;
    }
    Ok(())
}

/// Power cuts in the midst of compactions and snapshots.
fn churn(round: Round) -> Result<(), Violation> {
    for seed in round.of(40).map(|seed| Workload::CHURN + seed) {
        let options = CrashOptions { subsets_max: 3, samples: 4, contexts: 0, tears: 2, seed };
        let deep = CrashOptions { subsets_max: 2, samples: 2, contexts: 0, tears: 1, seed };
        let mut test = CrashTest::new(options, deep, 100);
        test.outside_every = 4;
        test.run(seed)?;
    }
    Ok(())
}

/// Failing calls in the midst of compactions and snapshots.
fn churn_faults(round: Round) -> Result<(), Violation> {
    let mut test = FaultTest::new(40);
    for seed in round.of(5).map(|seed| Workload::CHURN + seed) {
        for n in 0..200 {
            let plan = FaultPlan::once(n, Fault::Error(Fault::EIO)).of(&[CallKind::Write]);
            let told = |e: Violation| Violation(format!("seed {seed}, {plan:?}: {e}"));
            if !test.run(seed, Moment::Run, &plan).map_err(told)? {
                break;
            }
        }
    }
    Ok(())
}

/// Compaction of a store on a full disk.
fn reserve(round: Round) -> Result<(), Violation> {
    if !round.is_first() {
        return Ok(());
    }
    full_disk_is_left_by_compaction(80_000, false)?;
    full_disk_never_sticks(150, 16 << 10, 1)
}

/// Failing calls, each followed by a look at what a power cut leaves.
fn faults(round: Round) -> Result<(), Violation> {
    let plans = [
        (Fault::Error(Fault::EIO), vec![CallKind::Sync]),
        (Fault::ErrorAfter(Fault::EIO), vec![CallKind::Write]),
        (Fault::ErrorAfterAll(Fault::EIO), vec![CallKind::Write]),
        (Fault::Short(13), vec![CallKind::Read]),
        (Fault::Kill, vec![]),
    ];
    let mut test = FaultTest::new(3);
    for seed in round.of(6) {
        for moment in [Moment::Run, Moment::Open] {
            for (fault, kinds) in &plans {
                for n in 0..40 {
                    let plan = FaultPlan::once(n, *fault).of(kinds);
                    let told =
                        |e: Violation| Violation(format!("seed {seed}, {moment:?}, {plan:?}: {e}"));
                    if !test.run(seed, moment, &plan).map_err(told)? {
                        break;
                    }
                }
                let plan = FaultPlan::forever(0, *fault).of(kinds);
                if let Fault::Short(_) = fault {
                    FaultTest::new(0).run(seed, moment, &plan)?;
                }
            }
        }
    }
    Ok(())
}

/// Damage to files.
fn damage(round: Round) -> Result<(), Violation> {
    let mut outcomes = Outcomes::default();
    let small = [Specimen::closed(), Specimen::reopened(), Specimen::killed(), Specimen::sealed()];
    for specimen in small {
        for (path, bytes) in &specimen.files {
            for at in round.within(bytes.len(), 1) {
                specimen.damage(path, Damage::Other, &mut outcomes, |bytes| bytes[at] ^= 0x10)?;
                specimen.damage(path, Damage::Other, &mut outcomes, |b| b.truncate(at))?;
            }
            let mut files = specimen.files.clone();
            files.remove(path);
            specimen.judge(path, &files, Damage::Other, &mut outcomes)?;
        }
    }
    Ok(())
}

/// Consumers of the change feed, before and after power cuts.
fn feeds(round: Round) -> Result<(), Violation> {
    let mut test = FeedTest::new(CrashOptions::default());
    for seed in round.of(12) {
        test.options = CrashOptions { subsets_max: 3, samples: 3, contexts: 0, tears: 2, seed };
        test.run(seed)?;
    }
    Ok(())
}

/// A feed that compaction passes: it stands at the end of a segment, and what follows is gone.
fn passed_feeds(round: Round) -> Result<(), Violation> {
    if !round.is_first() {
        return Ok(());
    }
    let failed = |e: &dyn std::fmt::Display| Violation(e.to_string());
    let options = Options::new().vfs(Arc::new(SimVfs::new())).segment_len(512);
    let options = options.compaction(CompactionOptions::manual()).inline_maintenance(true);
    let db = options.open("/store").map_err(|e| failed(&e))?;
    let mut changes = db.changes_since(0).map_err(|e| failed(&e))?;
    let write = || {
        let mut batch = WriteBatch::new();
        batch.put("c", b"key", &[1; 100]).map_err(|e| failed(&e))?;
        db.write(&mut batch, Durability::Sync).map_err(|e| failed(&e))
    };
    write()?;
    changes.try_next().map_err(|e| failed(&e))?;
    (0..20).try_for_each(|_| write().map(drop))?;
    // So that compaction ends the active segment too.
    db.delete("c", b"none").map_err(|e| failed(&e))?;
    db.compact_now().map_err(|e| failed(&e))?;
    loop {
        match changes.try_next() {
            Ok(Some(_)) => {}
            Err(FeedError::Passed { .. }) => return Ok(()),
            other => return Err(Violation(format!("a feed that was passed: {other:?}"))),
        }
    }
}

/// A disk that is full for a while.
fn full_disk(round: Round) -> Result<(), Violation> {
    if !round.is_first() {
        return Ok(());
    }
    let violation = |e: &dyn std::fmt::Display| Violation(format!("full disk: {e}"));
    let sim = SimVfs::new();
    let options =
        Options::new().vfs(Arc::new(sim.clone())).segment_len(1024).inline_maintenance(true);
    let db = options.open("/store").map_err(|e| violation(&e))?;
    let mut batch = WriteBatch::new();
    batch.put("c", b"key", &[1; 300]).map_err(|e| violation(&e))?;
    sim.set_quota(Some(5_000));
    while db.write(&mut batch, Durability::Sync).is_ok() {}
    sim.set_quota(None);
    db.write(&mut batch, Durability::Sync).map_err(|e| violation(&e))?;
    Ok(())
}

/// Backups that a power cut interrupts.
fn backups(round: Round) -> Result<(), Violation> {
    let options = CrashOptions { subsets_max: 4, samples: 4, contexts: 0, tears: 2, seed: 1 };
    let mut test = BackupTest::new(options);
    round.of(24).try_for_each(|seed| test.crash(seed))
}

/// Stores that are opened from a checkpoint.
fn checkpoints(round: Round) -> Result<(), Violation> {
    let mut test = CheckpointTest::default();
    round.of(80).try_for_each(|seed| test.run(seed))
}

/// Records that expire and values that are compressed.
fn lifetimes(round: Round) -> Result<(), Violation> {
    for seed in round.of(40) {
        world::run(seed);
    }
    Ok(())
}

/// Power cuts in rollbacks.
fn rollbacks(round: Round) -> Result<(), Violation> {
    let options =
        CrashOptions { subsets_max: 4, samples: 4, contexts: 0, tears: 4, ..Default::default() };
    let mut test = RollbackTest::new(options);
    round.of(12).try_for_each(|seed| test.run(seed))
}

/// An update whose key is written while it is computed.
fn updates(round: Round) -> Result<(), Violation> {
    if !round.is_first() {
        return Ok(());
    }
    let sim = SimVfs::new();
    let options = Options::new().vfs(Arc::new(sim)).segment_len(512).inline_maintenance(true);
    let db = options.open("/store").map_err(|e| Violation(e.to_string()))?;
    let mut runs = 0;
    let done = db.fetch_update("c", b"k", |old| {
        runs += 1;
        if runs == 1 {
            db.put("c", b"k", b"1").unwrap();
        }
        Update::Put([old.unwrap_or(b""), b"2"].concat())
    });
    done.map_err(|e| Violation(e.to_string()))?;
    match db.get("c", b"k").unwrap().as_deref() {
        Some(b"12") => Ok(()),
        _ => Err(Violation("an update has overwritten what it had not seen".to_owned())),
    }
}

/// Repairs of damaged stores, and power cuts in them.
fn repairs(round: Round) -> Result<(), Violation> {
    let (mut tally, mut seen) = (RepairTally::default(), HashSet::new());
    for specimen in [Specimen::closed(), Specimen::sealed()] {
        let test = RepairTest::new(specimen);
        let mut outcomes = RepairOutcomes::default();
        for (path, bytes) in &test.specimen.files {
            for at in round.within(bytes.len(), 97) {
                let mut files = test.specimen.files.clone();
                if let Some(bytes) = files.get_mut(path) {
                    bytes[at] ^= 0x10;
                }
                test.judge(&files, None, &mut outcomes)?;
                if at.is_multiple_of(4) {
                    let options = CrashOptions {
                        subsets_max: 3,
                        samples: 4,
                        contexts: 0,
                        tears: 2,
                        seed: at as u64,
                    };
                    test.cut_power(&files, &options, &mut seen, &mut tally)?;
                }
            }
        }
    }
    Ok(())
}

/// A walk at a snapshot over keys that were deleted since.
fn orders(round: Round) -> Result<(), Violation> {
    if !round.is_first() {
        return Ok(());
    }
    let failed = |e: &dyn std::fmt::Display| Violation(e.to_string());
    let sim = SimVfs::new();
    let options = Options::new().vfs(Arc::new(sim)).segment_len(512).inline_maintenance(true);
    let db = options.open("/store").map_err(|e| failed(&e))?;
    let ordered = CollectionOptions::new().ordered(true);
    db.configure("c", ordered).map_err(|e| failed(&e))?;
    db.put("c", b"k", b"v").map_err(|e| failed(&e))?;
    let before = db.snapshot();
    let count = || before.range("c", ..).map(Iterator::count).map_err(|e| failed(&e));
    let (all, _) = (count()?, db.delete("c", b"k").map_err(|e| failed(&e))?);
    match count()? == all {
        true => Ok(()),
        false => Err(Violation("a walk at a snapshot misses a key".to_owned())),
    }
}

/// Values of two dictionaries, of which the earlier is not the newest any more.
fn dictionaries(round: Round) -> Result<(), Violation> {
    if !round.is_first() {
        return Ok(());
    }
    let failed = |e: &dyn std::fmt::Display| Violation(e.to_string());
    let sim = SimVfs::new();
    let open = || {
        let options = Options::new().vfs(Arc::new(sim.clone())).segment_len(64 << 10);
        let options = options.compaction(CompactionOptions::manual()).inline_maintenance(true);
        options.dictionary_records(50).open("/store").map_err(|e| failed(&e))
    };
    let db = open()?;
    let zstd = CollectionOptions::new().compression(Compression::Dictionary);
    db.configure("c", zstd).map_err(|e| failed(&e))?;
    let texts =
        ["Below the silt lies sand, and below the sand the river's gravel", "0123456789abcd"];
    let value = |text: &str, i: u32| format!("{text} {i} {text} {}", i * i).into_bytes();
    for (kind, text) in (0u32..).zip(texts) {
        for i in 0..400u32 {
            let key = (kind * 1000 + i).to_le_bytes();
            db.put("c", &key, &value(text, i)).map_err(|e| failed(&e))?;
        }
        // Something to give back, so that the segment moves; the earlier one stays.
        db.delete("c", &(kind * 1000).to_le_bytes()).map_err(|e| failed(&e))?;
        db.compact_now().map_err(|e| failed(&e))?;
    }
    db.close().map_err(|e| failed(&e))?;
    let db = open()?;
    for (kind, text) in (0u32..).zip(texts) {
        for i in 1..400u32 {
            let got = db.get("c", &(kind * 1000 + i).to_le_bytes()).map_err(|e| failed(&e))?;
            if got.as_deref() != Some(&value(text, i)[..]) {
                return Err(Violation(format!("value {i} of text {kind} is {got:?}")));
            }
        }
    }
    let count: u64 = db.stats().compression.iter().map(|c| c.dictionaries).sum();
    if count < 2 {
        return Err(Violation(format!("{count} dictionaries: the probe shows nothing")));
    }
    Ok(())
}

/// A snapshot that is read while compaction leads keys elsewhere.
fn swings(round: Round) -> Result<(), Violation> {
    if let Some(what) = round.is_first().then(swings::expired_while_compacted).flatten() {
        return Err(Violation(what));
    }
    match round.is_first().then(swings::read_while_swung) {
        None | Some([1, 1]) => Ok(()),
        Some(counts) => Err(Violation(format!("keys of a snapshot were found {counts:?} times"))),
    }
}

/// Compaction beside a segment that is damaged.
fn damaged_inputs(round: Round) -> Result<(), Violation> {
    if round.is_first() && compacting::deleted_beside_damage() {
        return Err(Violation("a key that was deleted from a damaged segment is back".to_owned()));
    }
    match round.is_first().then(compacting::beside_damage) {
        None | Some(0..3) => Ok(()),
        Some(runs) => Err(Violation(format!("{runs} runs for nothing beside a damaged segment"))),
    }
}

/// Compaction that is paused.
fn pauses(round: Round) -> Result<(), Violation> {
    match round.is_first().then(compacting::while_paused) {
        None | Some(0) => Ok(()),
        Some(runs) => Err(Violation(format!("{runs} runs while compaction was paused"))),
    }
}

/// Others in the store's directory.
fn sharing(round: Round) -> Result<(), Violation> {
    if !round.is_first() {
        return Ok(());
    }
    sharing::one_writer().map_err(Violation)?;
    sharing::beside_foreign_files().map_err(Violation)?;
    sharing::sync_fails_before_the_append().map_err(Violation)
}

/// Compaction whose syncs fail.
fn failing_syncs(round: Round) -> Result<(), Violation> {
    match round.is_first().then(compacting::with_failing_syncs) {
        None | Some(None) => Ok(()),
        Some(Some(n)) => Err(Violation(format!("failed sync {n} of a compaction is not told"))),
    }
}

/// A power cut after a compaction of what was just overwritten.
fn unsynced_overwrites(round: Round) -> Result<(), Violation> {
    match round.is_first().then(compacting::before_the_overwrites_are_durable) {
        None | Some(None) => Ok(()),
        Some(Some(key)) => Err(Violation(format!("compaction has lost key {key}"))),
    }
}

/// Inputs of the fuzz targets that once broke something.
fn regressions(round: Round) -> Result<(), Violation> {
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/regressions");
    for (name, target) in fuzz::TARGETS.iter().filter(|_| round.is_first()) {
        for file in std::fs::read_dir(dir.join(name)).into_iter().flatten() {
            target(&std::fs::read(file.unwrap().path()).unwrap());
        }
    }
    Ok(())
}

type Probe = (&'static str, fn(Round) -> Result<(), Violation>);
const PROBES: [Probe; 24] = [
    ("unsynced overwrites", unsynced_overwrites),
    ("failing syncs in compactions", failing_syncs),
    ("others in the directory", sharing),
    ("swings", swings),
    ("damaged inputs", damaged_inputs),
    ("pauses", pauses),
    ("dictionaries", dictionaries),
    ("full disk", full_disk),
    ("passed feeds", passed_feeds),
    ("updates", updates),
    ("orders", orders),
    ("checkpoints", checkpoints),
    ("crashes", crashes),
    ("lifetimes", lifetimes),
    ("regressions", regressions),
    ("damage", damage),
    ("backups", backups),
    ("feeds", feeds),
    ("rollbacks", rollbacks),
    ("repairs", repairs),
    ("faults", faults),
    ("reserve", reserve),
    ("compactions", churn),
    ("faults in compactions", churn_faults),
];

/// The bugs of compaction: what is about it is tried first.
const OF_COMPACTION: [Bug; 17] = [
    Bug::CompactedNotSynced,
    Bug::CompactedDirNotSynced,
    Bug::CompactionDropsBeforeSync,
    Bug::CompactionForgetsSnapshots,
    Bug::TombstonesDroppedTooSoon,
    Bug::InputsGoBeforeTheEdit,
    Bug::SwingIgnoresOverwrites,
    Bug::ReplayInFileOrder,
    Bug::CompactionRenumbers,
    Bug::FailedMergeTakesInputs,
    Bug::CompactionEditInTwo,
    Bug::ClearsDroppedTooSoon,
    Bug::BooksNotSwung,
    Bug::ReserveNotUsed,
    Bug::LogTakesAllRoom,
    Bug::SegmentIdReused,
    Bug::SegmentsPinnedLate,
];

/// Bugs that only damage behind right checksums shows: that is what a fuzz target is for.
const BEHIND_CHECKSUMS: [Bug; 3] =
    [Bug::UnnamedIsDead, Bug::HintsOfOthersCount, Bug::FramesOfOthersCount];

/// The test that finds something, and what; a panic of the store is a find too.
fn find(bug: Option<Bug>) -> Option<(&'static str, String)> {
    let mut probes = PROBES.to_vec();
    if bug.is_some_and(|bug| BEHIND_CHECKSUMS.contains(&bug)) {
        probes.insert(0, ("regressions", regressions));
    }
    if bug.is_some_and(|bug| OF_COMPACTION.contains(&bug)) {
        probes.rotate_right(3);
    }
    let mut rounds = Round::ALL.iter().flat_map(|round| probes.iter().map(move |p| (*round, p)));
    rounds.find_map(|(round, (name, probe))| {
        let found = std::panic::catch_unwind(|| probe(round));
        match found {
            Ok(Ok(())) => None,
            Ok(Err(e)) => Some((*name, e.0)),
            Err(_) => Some((*name, "a panic".to_owned())),
        }
    })
}

#[test]
fn nothing_is_found_where_nothing_is_wrong() {
    assert_eq!(find(None), None);
}

#[test]
fn every_planted_bug_is_caught() {
    // `SILTSTONE_PLANTED` names some of them, to try only those.
    let named = std::env::var("SILTSTONE_PLANTED").unwrap_or_default();
    let is_named = |bug: &Bug| named.is_empty() || named.contains(&format!("{bug:?}"));
    let waiting = Mutex::new(Bug::ALL.iter().copied().filter(is_named).collect::<Vec<_>>());
    let missed = Mutex::new(Vec::new());
    let work = || {
        while let Some(bug) = { waiting.lock().unwrap().pop() } {
            let started = Instant::now();
            let on = bugs::switch_on(bug);
            let found = find(Some(bug));
            drop(on);
            let seconds = started.elapsed().as_secs_f64();
            match found {
                Some((by, what)) => {
                    let first = what.lines().find(|line| !line.starts_with("REPRO"));
                    let line: String = first.unwrap_or(&what).chars().take(70).collect();
                    say!("planted: {bug:?} caught by {by} in {seconds:.2} s: {line}");
                }
                None => {
                    say!("planted: {bug:?} MISSED in {seconds:.2} s");
                    missed.lock().unwrap().push(bug);
                }
            }
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(work);
        scope.spawn(work);
    });
    let missed = missed.into_inner().unwrap();
    say!("planted: {} bugs, {} missed", Bug::ALL.len(), missed.len());
    assert!(missed.is_empty(), "not caught: {missed:?}");
    assert!(Bug::ALL.len() >= 20);
}
