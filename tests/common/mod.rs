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
