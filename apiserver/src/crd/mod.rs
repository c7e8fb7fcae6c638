//! Custom resources: a CustomResourceDefinition becomes rows of the engine, and its objects are held to its schema.
//!
//! [`controller`] watches the definitions, plans their status ([`status`]) and swaps the catalog; [`row`] makes a row of a definition's version, whose
//! rules are [`defaults`], [`validate`] over a compiled [`schema`] and [`rules`] in CEL; [`definition`] adds to the definition's own rules that
//! its schemas are structural ([`structural`]). What lies between versions is [`convert`]'s; a webhook that converts is asked by [`webhook`].
//! Everything but the controller and the asking is pure.

pub mod controller;
pub mod convert;
pub mod defaults;
pub mod definition;
pub mod formats;
pub mod json_path;
pub mod row;
pub mod rules;
pub mod rules_check;
pub mod schema;
pub mod status;
pub mod structural;
pub mod validate;
pub mod webhook;
