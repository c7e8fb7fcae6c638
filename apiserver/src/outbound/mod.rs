//! Requests that the apiserver makes to others by HTTPS: webhooks of admission and conversion, aggregated apiservers.
//!
//! Start at [`Outbound`]. Whom to call is a [`ClientConfig`], read off an object; where that is, [`resolve`] finds out in the watch caches.
//! Certificates are always verified, against the bundle that the object names or else the system's authorities, unless an APIService says
//! by itself that they are not to be. Redirects are never followed, and no answer is read without a bound.

pub mod client;
pub mod config;
pub mod dial;
pub mod resolve;
pub mod tls;
pub mod words;

pub use client::{Answer, Outbound};
pub use config::{ClientConfig, Place, Trust};
