//! Crash tests for storage code: a simulated disk that loses what was not synced, faults at any
//! call, an oracle that knows which states are legal, and the bugs planted to prove that all of
//! this bites.
//!
//! Feature `testing`. Not for production use: speed and memory are traded for control.

pub mod bugs;
