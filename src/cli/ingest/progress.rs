//! The progress bar: on a terminal only.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressStyle};

use super::super::failure::warn;
use super::report::Counts;
use super::walk::Walked;

pub(super) struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// A bar as long as the files; without an end if standard input is read too.
    pub(super) fn new(walked: &Walked) -> Self {
        if !std::io::stderr().is_terminal() {
            return Progress { bar: ProgressBar::hidden() };
        }
        let total = walked.files.iter().map(|file| file.bytes).sum();
        let (bar, template) = match walked.stdin {
            false => (
                ProgressBar::new(total),
                "{bar:30} {bytes}/{total_bytes} {binary_bytes_per_sec} {msg}",
            ),
            true => (ProgressBar::no_length(), "{spinner} {bytes} {binary_bytes_per_sec} {msg}"),
        };
        match ProgressStyle::with_template(template) {
            Ok(style) => bar.set_style(style.progress_chars("##-")),
            // The default style does as well.
            Err(_) => {}
        }
        Progress { bar }
    }

    pub(super) fn advance(&self, bytes: u64, counts: &Counts) {
        self.bar.inc(bytes);
        if !self.bar.is_hidden() {
            self.bar.set_message(format!("{} documents", counts.documents()));
        }
    }

    /// Writes a line above the bar.
    pub(super) fn warn(&self, message: &str) {
        self.bar.suspend(|| warn(message));
    }

    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
