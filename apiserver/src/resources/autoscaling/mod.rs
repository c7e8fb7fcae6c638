//! The group `autoscaling`: one kind in two versions, stored as v2.

mod conversion;
pub mod v1;
pub mod v2;
