//! Upstream's `test/e2e/network`.

pub mod dns;
pub mod endpointslice;
pub mod endpointslicemirroring;
pub mod hostport;
pub mod ingress;
pub mod ingressclass;
pub mod proxy;
pub mod service;
pub mod service_latency;
pub mod serving;
