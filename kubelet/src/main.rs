//! The `kubelet` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    daemon::run("kubelet", 2, kubelet::run)
}
