//! Going back, and acting on what is there: differences between snapshots, rollback,
//! read-modify-write, and keys in their order.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod crash;
mod model;
mod ordered;
mod rollback;
mod update;
