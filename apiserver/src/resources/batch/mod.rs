//! The group `batch`.

pub mod cronjobs;
pub mod jobs;
mod policies;
mod schedule;
