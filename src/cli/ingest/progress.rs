//! The progress bar: on a terminal only.

use std::cell::Cell;
use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressStyle};

use super::super::failure::warn;
use super::report::Counts;
use super::walk::Walked;

/// Most remarks that are shown.
const REMARKS_MAX: u32 = 20;

pub(super) struct Progress {
    bar: ProgressBar,
    remarks: Cell<u32>,
}

impl Progress {
    /// A bar as long as the files; without an end if standard input is read too.
    pub(super) fn new(walked: &Walked) -> Self {
        if !std::io::stderr().is_terminal() {
            return Progress { bar: ProgressBar::hidden(), remarks: Cell::new(0) };
        }
        let total = walked.files.iter().map(|file| file.bytes).sum();
        let (bar, template) = match walked.stdin {
            false => (
                ProgressBar::new(total),
                "{bar:30} {bytes}/{total_bytes} {binary_bytes_per_sec} {msg}",
            ),
            true => (ProgressBar::no_length(), "{spinner} {bytes} {binary_bytes_per_sec} {msg}"),
        };
        // Else the default style does as well.
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("##-"));
        }
        Progress { bar, remarks: Cell::new(0) }
    }

    pub(super) fn advance(&self, bytes: u64, counts: &Counts) {
        self.bar.inc(bytes);
        if !self.bar.is_hidden() {
            self.bar.set_message(format!("{} documents", counts.documents()));
        }
    }

    /// Writes a remark above the bar; after many, none.
    pub(super) fn warn(&self, message: &str) {
        let remarks = self.remarks.get().saturating_add(1);
        self.remarks.set(remarks);
        match remarks {
            ..=REMARKS_MAX => self.bar.suspend(|| warn(message)),
            _ if remarks == REMARKS_MAX + 1 => {
                self.bar.suspend(|| warn("more of the like are counted, but not shown"));
            }
            _ => {}
        }
    }

    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
