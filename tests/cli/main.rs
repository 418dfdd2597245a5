//! The program, run as a process: every verb, its exit codes, its output for machines, wrong use.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[cfg(feature = "testing")]
#[macro_use]
#[path = "../common/mod.rs"]
mod common;

#[cfg(feature = "testing")]
mod backup;
mod chat;
mod damage;
mod history;
mod ingest;
mod look;
mod process;
mod program;
mod query;
mod transfer;
#[cfg(unix)]
mod unix;
