//! Custom resources: a CustomResourceDefinition becomes rows of the engine, and its objects are held to its schema.
//!
//! [`controller`] watches the definitions, plans their status ([`status`]) and swaps the catalog; [`row`] makes a row of a definition's version, whose
//! rules are [`defaults`] and [`validate`] over a compiled [`schema`]; [`definition`] adds to the definition's own rules that its schemas are
//! structural ([`structural`]). Everything but the controller is pure.

pub mod controller;
pub mod defaults;
pub mod definition;
pub mod formats;
pub mod json_path;
pub mod row;
pub mod schema;
pub mod status;
pub mod structural;
pub mod validate;
