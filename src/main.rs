//! The `siltstone` program. All of it is in [`siltstone::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    siltstone::cli::run()
}
