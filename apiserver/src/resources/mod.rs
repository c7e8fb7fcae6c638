//! The resource table. A new resource is a new file and one line here; order within a group version is the order of discovery.

pub mod admissionregistration;
pub mod apiextensions;
pub mod apiregistration;
pub mod apps;
pub mod authentication;
pub mod authorization;
pub mod autoscaling;
pub mod batch;
pub mod bounds;
pub mod cells;
pub mod certificates;
pub mod coordination;
pub mod core;
pub mod discovery;
pub mod equality;
pub mod events_k8s_io;
pub mod flowcontrol;
pub mod label_selector;
pub mod metadata;
pub mod network;
pub mod networking;
pub mod node;
pub mod pod_template;
pub mod policy;
pub mod quantities;
pub mod rbac;
pub mod resource;
#[cfg(test)]
pub(crate) mod rows_in_tests;
pub mod scheduling;
pub mod storage;

use crate::resource::Resource;

/// Kinds whose objects own nothing, by version and name: they go by themselves, and what they owned would be lost.
pub const NEVER_OWNERS: &[(&str, &str)] = &[("v1", "Event")];

/// Every built-in row.
#[must_use]
pub fn builtin() -> Vec<Resource> {
    vec![
        core::bindings::row(),
        core::componentstatuses::row(),
        core::configmaps::row(),
        core::endpoints::row(),
        core::events::row(),
        core::limitranges::row(),
        core::namespaces::row(),
        core::nodes::row(),
        core::persistentvolumeclaims::row(),
        core::persistentvolumes::row(),
        core::pod::row(),
        core::podtemplates::row(),
        core::replicationcontrollers::row(),
        core::resourcequotas::row(),
        core::secrets::row(),
        core::serviceaccounts::row(),
        core::services::row(),
        apiregistration::apiservices::row(),
        apps::controllerrevisions::row(),
        apps::daemonsets::row(),
        apps::deployments::row(),
        apps::replicasets::row(),
        apps::statefulsets::row(),
        events_k8s_io::events::row(),
        authentication::selfsubjectreviews::row(),
        authentication::tokenreviews::row(),
        authorization::localsubjectaccessreviews::row(),
        authorization::selfsubjectaccessreviews::row(),
        authorization::selfsubjectrulesreviews::row(),
        authorization::subjectaccessreviews::row(),
        autoscaling::v2::row(),
        autoscaling::v1::row(),
        batch::cronjobs::row(),
        batch::jobs::row(),
        certificates::certificatesigningrequests::row(),
        networking::ingressclasses::row(),
        networking::ingresses::row(),
        networking::ipaddresses::row(),
        networking::networkpolicies::row(),
        networking::servicecidrs::row(),
        policy::poddisruptionbudgets::row(),
        rbac::clusterrolebindings::row(),
        rbac::clusterroles::row(),
        rbac::rolebindings::row(),
        rbac::roles::row(),
        storage::csidrivers::row(),
        storage::csinodes::row(),
        storage::csistoragecapacities::row(),
        storage::storageclasses::row(),
        storage::volumeattachments::row(),
        storage::volumeattributesclasses::row(),
        admissionregistration::mutatingwebhookconfigurations::row(),
        admissionregistration::validatingadmissionpolicies::row(),
        admissionregistration::validatingadmissionpolicybindings::row(),
        admissionregistration::validatingwebhookconfigurations::row(),
        admissionregistration::mutatingadmissionpolicies::row(),
        admissionregistration::mutatingadmissionpolicybindings::row(),
        apiextensions::customresourcedefinitions::row(),
        scheduling::priorityclasses::row(),
        coordination::leases::row(),
        node::runtimeclasses::row(),
        discovery::endpointslices::row(),
        flowcontrol::flowschemas::row(),
        flowcontrol::prioritylevelconfigurations::row(),
        resource::deviceclasses::row(),
        resource::resourceclaims::row(),
        resource::resourceclaimtemplates::row(),
        resource::resourceslices::row(),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_row_stands_once_under_its_own_path() {
        let rows = builtin();
        let paths: BTreeSet<String> = rows.iter().map(|r| format!("{}/{}", r.api_version(), r.plural)).collect();
        assert_eq!(paths.len(), rows.len());
    }

    #[test]
    fn rows_of_other_versions_are_stored_as_one_that_is_there() {
        let rows = builtin();
        for row in rows.iter().filter(|r| r.conversion.is_some()) {
            let stored = rows.iter().find(|r| r.conversion.is_none() && r.storage_prefix() == row.storage_prefix());
            let stored = stored.unwrap_or_else(|| panic!("{row:?} is stored as nothing"));
            assert_eq!(row.selectable.len(), stored.selectable.len(), "{row:?}: selectable fields stand in the stored row's order");
        }
    }

    #[test]
    fn every_table_begins_with_a_name_or_has_one() {
        for row in builtin().iter().filter(|r| !r.virtual_kind) {
            assert!(row.columns.iter().any(|c| c.format == "name"), "{row:?}");
            let headings: BTreeSet<&str> = row.columns.iter().map(|c| c.name.as_ref()).collect();
            assert_eq!(headings.len(), row.columns.len(), "{row:?}");
        }
    }
}
