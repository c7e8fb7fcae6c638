//! coredns-lite
