//! A progress bar for work of a known length: on a terminal only.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressStyle};

/// A bar on standard error.
pub(super) struct Bar(ProgressBar);

impl Bar {
    /// A bar for `total` bytes; nothing where standard error is no terminal.
    pub(super) fn new(total: u64) -> Self {
        Self::with(total, "{bar:30} {bytes}/{total_bytes} {binary_bytes_per_sec} {msg}")
    }

    /// As [`Bar::new`], for records.
    pub(super) fn of_records(total: u64) -> Self {
        Self::with(total, "{bar:30} {human_pos}/{human_len} records {msg}")
    }

    /// No bar after all where the answer itself goes to the terminal.
    pub(super) fn unless_printed(self) -> Self {
        if std::io::stdout().is_terminal() { Bar(ProgressBar::hidden()) } else { self }
    }

    fn with(total: u64, template: &str) -> Self {
        if !std::io::stderr().is_terminal() {
            return Bar(ProgressBar::hidden());
        }
        let bar = ProgressBar::new(total);
        // Else the default style does as well.
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("##-"));
        }
        Bar(bar)
    }

    /// `done` of `total` bytes are done.
    pub(super) fn show(&self, done: u64, total: u64, message: impl FnOnce() -> String) {
        if !self.0.is_hidden() {
            self.0.set_length(total);
            self.0.set_position(done);
            self.0.set_message(message());
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
