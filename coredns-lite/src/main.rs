//! The `coredns-lite` binary.
fn main() {}
