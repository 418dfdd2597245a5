//! Tests of the public interface on a real file system.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod collections;
mod compaction;
mod engine;
mod handles;
mod lifetimes;
mod limits;
mod races;
mod sink;
mod snapshots;
