//! Planted bugs: switch one on, run the tests, and see that they fail.
//!
//! ```
//! use siltstone::testing::bugs::{self, Bug};
//! let on = bugs::switch_on(Bug::SyncSkipped);
//! assert!(bugs::is_on(Bug::SyncSkipped));
//! drop(on);
//! assert!(!bugs::is_on(Bug::SyncSkipped));
//! ```
//!
//! A bug is on for one thread only: the store must be opened and used on that thread, with the
//! option that keeps maintenance inline.

pub use crate::planted::{Bug, SwitchedOn, is_on, switch_on};

pub use crate::observed::{Moment, Situation, Situations, situations, with_hook};
