//! Every limit from both sides: what fits is stored, what does not is an error with both numbers,
//! and nothing is written.

use siltstone::limits::{COLLECTION_NAME_LEN_MAX, KEY_LEN_MAX, VALUE_LEN_MAX};
use siltstone::{Db, Durability, OpenError, Options, WriteBatch, WriteError};

#[test]
fn keys_and_names_fit_up_to_their_limit() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path()).unwrap();
    let name = "n".repeat(COLLECTION_NAME_LEN_MAX);
    for len in [0, 1, KEY_LEN_MAX - 1, KEY_LEN_MAX] {
        db.put(&name, &vec![b'k'; len], b"v").unwrap();
        db.put("", &vec![b'k'; len], b"").unwrap();
    }
    assert_eq!((db.len(&name), db.len("")), (4, 4));
    drop(db);
    let db = Db::open(dir.path()).unwrap();
    assert_eq!(db.get(&name, &vec![b'k'; KEY_LEN_MAX]).unwrap().as_deref(), Some(&b"v"[..]));
    assert_eq!(db.get("", b"").unwrap().as_deref(), Some(&b""[..]));
}

#[test]
fn what_is_too_large_is_refused_before_a_byte_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path()).unwrap();
    db.put("c", b"k", b"v").unwrap();
    let before = db.stats().appended_bytes;
    let is_refused = |result: Result<(), WriteError>, found: usize, limit: usize| match result {
        Err(WriteError::TooLarge { len, max, .. }) => {
            assert_eq!((len, max), (found as u64, limit as u64));
        }
        other => panic!("{other:?}"),
    };
    let long_name = "n".repeat(COLLECTION_NAME_LEN_MAX + 1);
    is_refused(db.put(&long_name, b"k", b"v"), long_name.len(), COLLECTION_NAME_LEN_MAX);
    is_refused(db.put("c", &vec![0; KEY_LEN_MAX + 1], b"v"), KEY_LEN_MAX + 1, KEY_LEN_MAX);
    let large = vec![0; VALUE_LEN_MAX + 1];
    is_refused(db.put("c", b"k", &large), large.len(), VALUE_LEN_MAX);
    // A batch keeps what it holds when a further operation is refused.
    let mut batch = WriteBatch::new();
    batch.put("c", b"a", b"1").unwrap();
    let result = batch.put_with("c", b"b", |buf| buf.resize(buf.len() + large.len(), 0));
    is_refused(result, large.len(), VALUE_LEN_MAX);
    assert_eq!((batch.len(), db.stats().appended_bytes), (1, before));
    db.write(&mut batch, Durability::Buffered).unwrap();
    assert_eq!(db.len("c"), 2);
}

#[test]
fn a_value_larger_than_a_segment_is_stored_and_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let options = || Options::new().segment_len(1 << 20);
    let db = options().open(dir.path()).unwrap();
    let large: Vec<u8> = (0..20_000_000u32).map(|i| (i % 253) as u8).collect();
    db.put("c", b"large", &large).unwrap();
    db.put("c", b"small", b"s").unwrap();
    assert_eq!(&*db.get("c", b"large").unwrap().unwrap(), &large[..]);
    db.close().unwrap();
    let db = options().open(dir.path()).unwrap();
    assert_eq!(&*db.get("c", b"large").unwrap().unwrap(), &large[..]);
    assert_eq!(db.iter("c").count(), 2);
    assert!(db.check().unwrap().is_ok());
}

#[test]
fn options_out_of_range_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    for len in [0, 511, (1 << 30) + 1, u64::MAX] {
        let error = Options::new().segment_len(len).open(dir.path()).unwrap_err();
        assert!(matches!(error, OpenError::InvalidOption(_)), "{error}");
        assert!(error.to_string().contains(&len.to_string()), "{error}");
    }
    for len in [512, 1 << 30] {
        Options::new().segment_len(len).open(dir.path().join("ok")).unwrap();
    }
}

#[test]
fn many_collections_in_one_batch() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path()).unwrap();
    let mut batch = WriteBatch::new();
    for i in 0..20_000 {
        batch.put(&format!("collection {i}"), b"k", &[1]).unwrap();
        batch.put(&format!("collection {}", i / 2), b"l", &[2]).unwrap();
    }
    db.write(&mut batch, Durability::Buffered).unwrap();
    assert_eq!(db.collections().len(), 20_000);
    drop(db);
    let db = Db::open(dir.path()).unwrap();
    assert_eq!(db.collections().len(), 20_000);
    assert_eq!(db.len("collection 7"), 2);
    assert_eq!(db.len("collection 19999"), 1);
}
