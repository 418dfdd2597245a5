//! Going back, and acting on what is there: differences between snapshots, rollback,
//! read-modify-write, and keys in their order.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod crash;
mod model;
mod ordered;
mod rollback;
#[path = "../common/swings.rs"]
mod swings;
mod update;

/// Goal: a snapshot shows each key once, whatever compaction does meanwhile.
#[test]
fn a_key_is_found_once_while_it_is_moved() {
    assert_eq!(swings::read_while_swung(), [1, 1]);
}

/// Goal: what expires and is overwritten while it is compacted leaves no trace in the books of
/// snapshots. Method: the keys are overwritten between survey and swing.
#[test]
fn what_expires_in_a_compaction_leaves_the_books_of_snapshots() {
    assert_eq!(swings::expired_while_compacted(), None);
}
