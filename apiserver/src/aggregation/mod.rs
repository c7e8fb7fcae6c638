//! Aggregation: group versions that another apiserver serves, behind a Service that an APIService names.
//!
//! [`registry`] knows which these are; [`proxy`] passes requests on, with the user's identity in headers and our front proxy's certificate;
//! [`controller`] keeps each APIService's `Available` condition ([`availability`]) and what discovery says of it ([`discovery`]), and writes the
//! APIServices of what this server serves itself ([`local`]). Everything but the controller and the passing on is pure.

pub mod availability;
pub mod controller;
pub mod discovery;
pub mod local;
pub mod proxy;
pub mod registry;

pub use registry::{Aggregation, Known, Other, Remote};
