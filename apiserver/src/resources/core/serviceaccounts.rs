//! v1 ServiceAccount

use k8s_openapi::api::core::v1::ServiceAccount;

use crate::resource::{Column, Resource};
use crate::resources::cells::count;

/// The row.
#[must_use]
pub fn row() -> Resource {
    Resource::namespaced("", "v1", "ServiceAccount", "serviceaccounts")
        .returns_deleted()
        .short(&["sa"])
        .custom("token", ("authentication.k8s.io", "v1", "TokenRequest"), &["create"])
        .columns(vec![Column::name(), Column::compute("Secrets", |o, _| count(o, "/secrets").to_string().into()), Column::age()])
        .rules::<ServiceAccount>(())
}
