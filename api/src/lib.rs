//! The vocabulary of the Kubernetes API: object identity, metadata, selectors, quantities, names, Status errors, schema facts.
//!
//! Everything here is pure: no IO, no tokio, no clock. Time, ids and randomness are arguments.

pub mod field;
pub mod fields;
pub mod json;
pub mod labels;
pub mod names;
pub mod object;
pub mod quantity;
pub mod schema;
pub mod status;
