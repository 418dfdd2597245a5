//! Operations on a store whose disk fails now and then, against a model.

use super::super::store::{CrashTest, FaultTest, Run, Setup, Step, Workload};
use super::super::{CallKind, CrashOptions, Fault, FaultPlan, SimVfs};
use super::Outcome;
use super::input::Input;
use crate::engine::ReadError;
use crate::format::checksum;

/// Crash states are looked at after one run in so many.
const CRASH_EVERY: u32 = 32;
/// Most operations of an input.
const OPS_MAX: usize = 40;
/// Crash states are looked at after runs of at most this many operations.
const CRASH_OPS_MAX: usize = 12;

const FAULTS: [Fault; 9] = [
    Fault::Error(Fault::EIO),
    Fault::Error(Fault::ENOSPC),
    Fault::Error(Fault::EINTR),
    Fault::ErrorAfter(Fault::EIO),
    Fault::ErrorAfter(Fault::ENOSPC),
    Fault::ErrorAfterAll(Fault::EIO),
    Fault::Short(0),
    Fault::Short(5),
    Fault::Kill,
];

/// Kinds of calls that fail alone; the empty list is all of them.
const KINDS: [&[CallKind]; 8] = [
    &[],
    &[CallKind::Write],
    &[CallKind::Sync],
    &[CallKind::Read],
    &[CallKind::Allocate, CallKind::SetLen],
    &[CallKind::SyncDir, CallKind::Rename, CallKind::Remove],
    &[CallKind::Open, CallKind::Create, CallKind::Lock, CallKind::List],
    &[CallKind::Len, CallKind::Map],
];

/// The input is operations, and when the disk fails: what is acknowledged must be there, reads
/// agree with the model or return an error, and every open finds a legal state.
pub fn ops_faults(bytes: &[u8]) -> Outcome {
    let mut input = Input::new(bytes);
    let segment_len = 512 + 64 * u64::from(input.byte() % 9);
    let setup = Setup::of(segment_len);
    let place = Workload { seed: 0, dir: "/store".into(), setup, steps: Vec::new() };
    let sim = SimVfs::new();
    let mut run = Run::new(&sim, &place, true);
    let mut ops = 0;
    while !input.is_empty() && ops < OPS_MAX {
        ops += 1;
        operate(&mut input, &sim, &mut run, ops);
    }
    sim.set_fault(None);
    sim.set_quota(None);
    run.expect_faults(false);
    FaultTest::new(0).go_on(&mut run).unwrap_or_else(|e| panic!("without faults: {e}"));
    // Chosen by a number that a fuzzer cannot aim at: it would try nothing else, and it is slow.
    if ops <= CRASH_OPS_MAX && checksum::plain(bytes).is_multiple_of(CRASH_EVERY) {
        let options = CrashOptions { subsets_max: 2, samples: 2, contexts: 0, tears: 2, seed: 1 };
        let looked = CrashTest::new(options.clone(), options, 0).look_at(
            &sim,
            run.history(),
            &place,
            run.trusted(),
        );
        looked.unwrap_or_else(|e| panic!("{e}"));
    }
    if run.errors() > 0 { Outcome::Refused } else { Outcome::Accepted }
}

fn operate(input: &mut Input<'_>, sim: &SimVfs, run: &mut Run, op: usize) {
    let step = u8::try_from(op).unwrap_or(0);
    let done = match input.below(16) {
        0..8 => {
            let batch = input.batch(step);
            let durability = input.durability();
            run.step(&mut Step::Write(batch, durability))
        }
        8 => run.step(&mut Step::Persist),
        9 => run.step(&mut Step::Close),
        10 => run.step(&mut Step::Kill),
        11 | 12 => {
            let (collection, key) = input.key();
            get(run, collection, &key);
            Ok(())
        }
        13 | 14 => {
            let fault = FAULTS[input.below(FAULTS.len())];
            let kinds = KINDS[input.below(KINDS.len())];
            let times = match input.byte() {
                255 => u64::MAX,
                n => u64::from(n % 4) + 1,
            };
            let first = u64::from(input.byte() % 64);
            let plan = FaultPlan { kinds: kinds.to_vec(), first, times, fault };
            sim.set_fault(Some(plan));
            Ok(())
        }
        _ => {
            sim.set_fault(None);
            let room = input.byte();
            sim.set_quota((room > 0).then(|| sim.used() + usize::from(room) * 32));
            Ok(())
        }
    };
    done.unwrap_or_else(|e| panic!("operation {op}: {e}"));
}

/// Look-ups of a key agree with the model, or fail.
fn get(run: &Run, collection: &str, key: &[u8]) {
    let Some(db) = run.db().filter(|_| !run.is_in_doubt()) else { return };
    let contents = run.history().now().contents();
    let expected = contents.get(&(collection.to_owned(), key.to_vec()));
    let is_right = |found: Result<Option<Vec<u8>>, ReadError>| match found {
        Ok(found) => assert_eq!(found.as_ref(), expected, "{collection:?} {key:?}"),
        Err(ReadError::Io(_)) => {}
        Err(e) => panic!("{collection:?} {key:?}: {e}"),
    };
    is_right(db.get(collection, key).map(|value| value.map(|v| v.to_vec())));
    let many = db.get_many(collection, &[key, key]);
    is_right(many.map(|mut values| values.pop().flatten().map(|v| v.to_vec())));
    match db.contains(collection, key) {
        Ok(found) => assert_eq!(found, expected.is_some(), "{collection:?} {key:?}"),
        Err(ReadError::Io(_)) => {}
        Err(e) => panic!("{collection:?} {key:?}: {e}"),
    }
    let count = contents.keys().filter(|(name, _)| name == collection).count();
    assert_eq!(db.len(collection), count as u64, "{collection:?}");
}
