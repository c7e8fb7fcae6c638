//! Everything where the apiserver calls out by HTTPS, against a real apiserver on real etcd: admission webhooks, conversion webhooks,
//! aggregated apiservers. The others are HTTPS servers of the test's own.

mod admission;
mod aggregation;
mod conversion;
