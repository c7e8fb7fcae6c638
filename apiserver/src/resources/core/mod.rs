//! The core group.

pub mod componentstatuses;
pub mod configmaps;
pub mod endpoints;
pub mod events;
pub mod namespaces;
pub mod nodes;
pub mod persistentvolumeclaims;
pub mod pod;
pub mod secrets;
pub mod serviceaccounts;
pub mod services;
