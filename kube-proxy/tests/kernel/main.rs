//! The rules in a real kernel: packets between network namespaces. Needs root.
#![allow(clippy::unwrap_used, reason = "the helpers of tests, too, say by panicking what is wrong")]

mod world;

mod policies;
mod recovery;
mod routes;
mod services;
mod sinks;
