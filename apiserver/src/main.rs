//! The `apiserver` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    let workers = std::thread::available_parallelism().map_or(2, usize::from).min(8);
    daemon::run("apiserver", workers, apiserver::run)
}
