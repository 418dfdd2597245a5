//! What several test programs share.

/// Prints a line past the test harness, which swallows what passing tests print: counts and rates
/// are a part of the result.
#[macro_export]
macro_rules! say {
    ($($text:tt)*) => {{
        use std::io::Write;
        let _ = writeln!(std::io::stdout(), $($text)*);
    }};
}

/// Runs a closure when it goes: threads that work until they are told to end are told so by a
/// test that fails, too, which would wait for them for ever otherwise.
#[allow(dead_code, reason = "not every test program has such threads")]
pub(crate) struct OnDrop<F: Fn()>(pub(crate) F);

impl<F: Fn()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}
