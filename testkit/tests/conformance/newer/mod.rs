//! Behaviours that entered Kubernetes' conformance suite after 1.28, up to 1.35, and features that became stable or are on by default
//! since. Names are upstream's, behind the word `newer:`; files are named after what they are about, as upstream's mostly are.

pub mod aggregated_discovery;
pub mod chunking;
mod container_resources;
pub mod crd_rules;
pub mod endpointslice;
pub mod env;
pub mod eviction;
pub mod field_selectors;
pub mod flowcontrol;
pub mod job;
pub mod kubectl;
pub mod kubelet_api;
pub mod lifecycle;
pub mod node_features;
pub mod node_lifecycle;
pub mod ordered_deletion;
pub mod pod_generation;
pub mod pod_resize;
pub mod pod_resize_refused;
pub mod pod_resize_waits;
pub mod resource;
pub mod scheduling;
pub mod service;
pub mod service_cidrs;
pub mod statefulset;
pub mod storage;
pub mod validating_policy;
pub mod watch_list;
