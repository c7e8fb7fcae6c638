//! The rules in a real kernel: packets between network namespaces. Needs root.

mod world;

mod policies;
mod recovery;
mod routes;
mod services;
mod sinks;
