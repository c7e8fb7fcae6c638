//! The `apiserver` binary.

use std::process::ExitCode;

/// A third of what a write costs is memory taken and given back, and this allocator does it in half the time; docs/performance.md.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // The allocator asks for huge pages, with which a heap of 5 MB takes 18 MB. A kernel without them needs no telling.
    if let Err(error) = nix::sys::prctl::set_thp_disable(true) {
        eprintln!("apiserver: huge pages stay on, which takes more memory: {error}");
    }
    // Requests have threads of their own; this one follows the storage and looks after what nobody asks for.
    daemon::run("apiserver", 1, apiserver::run)
}
