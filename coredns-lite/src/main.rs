//! The `coredns-lite` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    daemon::run("coredns-lite", 2, coredns_lite::run)
}
