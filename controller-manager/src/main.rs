//! The `controller-manager` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    daemon::run("controller-manager", 2, controller_manager::run)
}
