//! The resource table. A new resource is a new file and one line here; order within a group version is the order of discovery.

pub mod apps;
pub mod authentication;
pub mod authorization;
pub mod bounds;
pub mod cells;
pub mod certificates;
pub mod coordination;
pub mod core;
pub mod discovery;
pub mod events;
pub mod label_selector;
pub mod metadata;
pub mod network;
pub mod pod_template;
pub mod quantities;
pub mod rbac;
#[cfg(test)]
pub(crate) mod rows_in_tests;

use crate::resource::Resource;

/// Every built-in row.
#[must_use]
pub fn builtin() -> Vec<Resource> {
    vec![
        core::componentstatuses::row(),
        core::configmaps::row(),
        core::endpoints::row(),
        core::events::row(),
        core::namespaces::row(),
        core::nodes::row(),
        core::persistentvolumeclaims::row(),
        core::pod::row(),
        core::secrets::row(),
        core::serviceaccounts::row(),
        core::services::row(),
        apps::controllerrevisions::row(),
        apps::deployments::row(),
        apps::replicasets::row(),
        events::events::row(),
        certificates::certificatesigningrequests::row(),
        authentication::selfsubjectreviews::row(),
        authentication::tokenreviews::row(),
        authorization::localsubjectaccessreviews::row(),
        authorization::selfsubjectaccessreviews::row(),
        authorization::selfsubjectrulesreviews::row(),
        authorization::subjectaccessreviews::row(),
        rbac::clusterrolebindings::row(),
        rbac::clusterroles::row(),
        rbac::rolebindings::row(),
        rbac::roles::row(),
        coordination::leases::row(),
        discovery::endpointslices::row(),
    ]
}
