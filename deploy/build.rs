//! Compiles `pause/pause.rs` into a static program of a few kilobytes, which the pause image consists of.
//!
//! A binary target of this package could not be linked without a C library, so the build script asks the same `rustc`.

use std::path::PathBuf;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=pause/pause.rs");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("pause");
    let rustc = std::env::var_os("RUSTC").expect("cargo sets RUSTC");
    let status = Command::new(rustc)
        .args(["--edition=2024", "--crate-type=bin", "--crate-name=pause", "-Cpanic=abort", "-Copt-level=s", "-Cstrip=symbols"])
        .args(["-Crelocation-model=static", "-Clink-arg=-static", "-Clink-arg=-nostdlib", "-Clink-arg=-nostartfiles"])
        .arg("-Clink-arg=-Wl,--build-id=none,-z,noseparate-code")
        .arg("--target")
        .arg(std::env::var("TARGET").expect("cargo sets TARGET"))
        .arg("-o")
        .arg(&out)
        .arg("pause/pause.rs")
        .status()
        .expect("rustc can be started");
    assert!(status.success(), "rustc could not compile pause/pause.rs");
}
