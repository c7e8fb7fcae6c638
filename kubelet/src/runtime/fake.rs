//! A runtime in memory.
