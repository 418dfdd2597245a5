//! The example's follower and its leader, killed in turns.
//!
//! `SILTSTONE_FEED_KILLS` sets the number of kills, `SILTSTONE_SEED` repeats a run's choices; the
//! moments themselves depend on the machine.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use siltstone::testing::store::contents_of;
use siltstone::testing::{Contents, Model, Rng};
use siltstone::{CollectionOptions, Db, Durability, Options, WriteBatch};

use super::numbered;

#[expect(dead_code, reason = "an example, used as a module: its main is not")]
#[path = "../../examples/follower.rs"]
mod follower;

use follower::{News, OWN, follow};

/// Batches that the leader writes.
const BATCHES: u64 = 12_000;
const KILLS: u64 = 60;

/// Which part a child process plays.
const PART: &str = "SILTSTONE_FEED_PART";

struct Place {
    leader: PathBuf,
    follower: PathBuf,
    /// There once the leader has written everything.
    done: PathBuf,
}

impl Place {
    fn new(dir: &Path) -> Self {
        let path = |name| dir.join(name);
        Place { leader: path("leader"), follower: path("follower"), done: path("done") }
    }

    fn spawn(&self, part: &str) -> Child {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "kill::plays_its_part", "--nocapture"])
            .env(PART, part)
            .env("SILTSTONE_FEED_DIR", self.leader.parent().unwrap())
            .stdout(Stdio::null())
            .spawn()
            .unwrap()
    }
}

/// Not a test: what the child processes run.
#[test]
fn plays_its_part() {
    let Ok(part) = std::env::var(PART) else { return };
    let place = Place::new(Path::new(&std::env::var("SILTSTONE_FEED_DIR").unwrap()));
    match part.as_str() {
        "leader" => lead(&place),
        _ => follow(&place.leader_store(), &place.follower, |news| match news {
            News::Idle(_) => !place.done.exists(),
            News::Applied | News::Copied(_) => true,
        })
        .unwrap(),
    }
}

impl Place {
    /// The leader's directory, once there is a store in it.
    fn leader_store(&self) -> PathBuf {
        while !self.leader.join("MANIFEST").exists() {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.leader.clone()
    }
}

/// Writes on from where the last leader was killed.
fn lead(place: &Place) {
    let db = Options::new().segment_len(32 << 10).open(&place.leader).unwrap();
    for n in written(&db)..BATCHES {
        let mut batch = numbered(n);
        batch.put("count", b"written", &(n + 1).to_le_bytes()).unwrap();
        let durability = if n % 16 == 3 { Durability::Sync } else { Durability::Buffered };
        db.write(&mut batch, durability).unwrap();
    }
    db.close().unwrap();
}

/// How many batches are in a store.
fn written(db: &Db) -> u64 {
    let count = db.get("count", b"written").unwrap();
    count.map_or(0, |bytes| u64::from_le_bytes(bytes[..].try_into().unwrap()))
}

/// What a store holds, without what is the follower's own.
fn contents(db: &Db) -> Contents {
    let mut contents = contents_of(db).unwrap();
    contents.retain(|(collection, _), _| collection != OWN);
    contents
}

/// What a store holds after so many batches.
struct Expected {
    model: Model,
    batches: u64,
}

impl Expected {
    fn after(&mut self, batches: u64) -> &Contents {
        assert!(batches >= self.batches, "it went back from {} to {batches}", self.batches);
        for n in self.batches..batches {
            self.model.apply(&numbered(n));
            self.model.put("count", b"written", &(n + 1).to_le_bytes());
        }
        self.batches = batches;
        self.model.contents()
    }
}

/// Goal: whoever is killed, and when, the follower holds a state that the leader was in, never an
/// older one than before, and all of it in the end.
#[test]
fn a_follower_and_its_leader_survive_kills() {
    let kills: u64 =
        std::env::var("SILTSTONE_FEED_KILLS").map_or(KILLS, |text| text.parse().unwrap());
    let seed = std::env::var("SILTSTONE_SEED")
        .map_or_else(|_| u64::from(std::process::id()), |text| text.parse().unwrap());
    let mut rng = Rng::new(seed);
    let dir = tempfile::tempdir().unwrap();
    let place = Place::new(dir.path());
    let (mut leader, mut follower) = (place.spawn("leader"), place.spawn("follower"));
    let mut expected = Expected { model: Model::default(), batches: 0 };
    let (mut leaders, mut followers, mut midway) = (0, 0, 0);
    while leaders + followers < kills {
        std::thread::sleep(Duration::from_millis(5 + rng.below(60) as u64));
        if rng.percent(50) {
            leader.kill().unwrap();
            leader.wait().unwrap();
            leader = place.spawn("leader");
            leaders += 1;
            continue;
        }
        follower.kill().unwrap();
        follower.wait().unwrap();
        followers += 1;
        if place.follower.join("MANIFEST").exists() {
            let db = Db::open(&place.follower).unwrap();
            let batches = written(&db);
            midway += u64::from(batches > 0 && batches < BATCHES);
            assert!(contents(&db) == *expected.after(batches), "seed {seed}: {batches} batches");
        }
        follower = place.spawn("follower");
    }
    assert!(leader.wait().unwrap().success(), "seed {seed}");
    std::fs::write(&place.done, "").unwrap();
    assert!(follower.wait().unwrap().success(), "seed {seed}");
    let [leader, follower] = [&place.leader, &place.follower].map(|dir| Db::open(dir).unwrap());
    assert_eq!(written(&leader), BATCHES);
    assert!(contents(&follower) == contents(&leader), "seed {seed}");
    assert!(contents(&follower) == *expected.after(BATCHES), "seed {seed}");
    say!(
        "feed: {leaders} leaders and {followers} followers killed, {midway} midway, seed {seed}; \
         the stores are equal after {BATCHES} batches"
    );
}

/// Goal: a follower that begins with a copy has the leader's options and its records' expiry.
#[test]
fn a_copy_keeps_options_and_expiry() {
    let dir = tempfile::tempdir().unwrap();
    let place = Place::new(dir.path());
    let leader = Db::open(&place.leader).unwrap();
    leader.configure("c", CollectionOptions::new().ordered(true)).unwrap();
    let mut batch = WriteBatch::new();
    batch.put("c", b"stays", b"1").unwrap();
    batch.put_expiring("c", b"goes", b"2", 100).unwrap();
    leader.write(&mut batch, Durability::Sync).unwrap();
    let mut copied = 0;
    follow(&place.leader, &place.follower, |news| {
        copied += u64::from(matches!(news, News::Copied(2)));
        !matches!(news, News::Idle(_))
    })
    .unwrap();
    assert_eq!(copied, 1);
    let follower = Db::open(&place.follower).unwrap();
    for db in [&leader, &follower] {
        assert!(db.collection_options("c").ordered);
        let in_log = db.iter("c").map(|entry| entry.map(|e| (e.key, e.expires_at)));
        let mut found = in_log.collect::<Result<Vec<_>, _>>().unwrap();
        found.sort();
        assert_eq!(found, [(b"goes".to_vec(), Some(100)), (b"stays".to_vec(), None)]);
        let in_order = db.range("c", ..).unwrap().map(|entry| entry.map(|e| (e.key, e.expires_at)));
        assert_eq!(in_order.collect::<Result<Vec<_>, _>>().unwrap(), found);
        db.set_time(100);
        assert!(db.get("c", b"goes").unwrap().is_none());
    }
}
