//! The `kube-proxy` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    daemon::run("kube-proxy", 2, kube_proxy::run)
}
