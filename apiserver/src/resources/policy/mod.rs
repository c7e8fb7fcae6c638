//! The group `policy`.

pub mod poddisruptionbudgets;
