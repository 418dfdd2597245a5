//! [`Failure`]: why the program ends with exit code 2.

use std::error::Error;
use std::fmt::Display;
use std::io::Write;

use super::output::one_line;

/// Why a verb failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// A line that a person can act on.
    Message(String),
    /// Standard output was closed by its reader: no failure of ours.
    NobodyReads,
}

impl Failure {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Failure::Message(message.into())
    }

    /// A failure with what was tried.
    pub(super) fn of(what: impl Display, source: impl Display) -> Self {
        Failure::Message(format!("{what}: {source}"))
    }

    /// The first paragraph of what `clap` says; the rest is a copy of the help.
    pub(super) fn usage(error: &clap::Error) -> Self {
        let text = error.to_string();
        let text = text.strip_prefix("error: ").unwrap_or(&text);
        let first = text.split("\n\n").next().unwrap_or_default();
        let words: Vec<&str> = first.split_whitespace().collect();
        Failure::Message(format!("{} (see siltstone --help)", words.join(" ")))
    }

    /// Writes the failure to standard error.
    pub(super) fn report(&self) {
        if let Failure::Message(message) = self {
            line(&format!("siltstone: {message}"));
        }
    }
}

impl<E: Error> From<E> for Failure {
    fn from(e: E) -> Self {
        Failure::Message(e.to_string())
    }
}

/// Writes a remark to standard error.
pub(super) fn warn(message: &str) {
    line(&format!("siltstone: {message}"));
}

/// Writes one line, whatever the names in it hold.
fn line(text: &str) {
    // If standard error is closed, nobody is left to tell.
    let _ = writeln!(std::io::stderr(), "{}", one_line(text));
}
