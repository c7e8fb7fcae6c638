//! The `scheduler` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    daemon::run("scheduler", 2, scheduler::run)
}
