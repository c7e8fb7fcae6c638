//! The only door to the cluster's state: REST, watch, authentication, admission, patch.
//!
//! One engine, many rows. A request goes [`http::serve`] → [`auth`] → a verb of [`verbs`] → [`storage`]; what is particular to a kind stands in
//! its row in [`resources`], what needs other objects in [`admission`], what opens a connection in [`connect`]. Nothing else speaks to etcd.

pub mod admission;
pub mod aggregation;
pub mod allocate;
pub mod apply;
pub mod auth;
pub mod bootstrap;
pub mod catalog;
pub mod cel;
pub mod connect;
pub mod crd;
pub mod flags;
pub mod flowcontrol;
pub mod http;
pub mod openapi;
pub mod outbound;
pub mod overwrite;
pub mod protobuf;
pub mod resource;
pub mod resources;
pub mod run;
pub mod server;
pub mod start;
pub mod storage;
pub mod typed;
pub mod verbs;
pub mod yaml;

pub use flags::Flags;
pub use run::run;
