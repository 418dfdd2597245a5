//! Crash tests for storage code: a simulated disk that loses what was not synced, faults at any
//! call, an oracle that knows which states are legal, and the bugs planted to prove that all of
//! this bites.
//!
//! Feature `testing`. Not for production use: speed and memory are traded for control, and a
//! mistake in a test (a position beyond a file, say) may panic.
//!
//! A crash test of any code over a [`Vfs`](crate::vfs::Vfs) runs it once on a [`SimVfs`] and then
//! looks at every state that a power cut could have left:
//!
//! ```
//! use siltstone::testing::{CrashOptions, SimVfs};
//! use siltstone::vfs::{OpenMode, Vfs};
//! # fn main() -> std::io::Result<()> {
//! let sim = SimVfs::new();
//! let file = sim.open("/log".as_ref(), OpenMode::CreateNew)?;
//! file.write_at(b"hello", 0)?;
//! file.sync_data()?;
//! sim.sync_dir("/".as_ref())?;
//! let promised = sim.mark(); // from here on, "hello" must survive
//! file.write_at(b" world", 5)?;
//!
//! for state in sim.crash_states(&CrashOptions::default()) {
//!     let found = state.disk().snapshot();
//!     if state.point.cut >= promised {
//!         assert!(found["/log".as_ref() as &std::path::Path].starts_with(b"hello"));
//!     }
//! }
//! # Ok(()) }
//! ```

pub mod bugs;
mod content;
mod crash;
mod disk;
mod fault;
pub mod fuzz;
#[cfg(feature = "stores")]
pub mod kv_contract;
mod oracle;
mod repro;
mod rng;
mod sim;
pub mod store;
mod walk;

pub use crash::{CrashOptions, CrashPoint, CrashState, CrashStates};
pub use fault::{CallKind, Fault, FaultPlan};
pub use oracle::{Contents, Fingerprint, History, Model};
pub use repro::Repro;
pub use rng::Rng;
pub use sim::SimVfs;

#[cfg(test)]
mod sim_tests;
