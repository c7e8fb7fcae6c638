//! All caches, one a kind, shared by every controller: each kind is listed and watched once.
//!
//! Only the kinds that the enabled controllers need are watched. The list at the end is the only place a new kind goes.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{
    ConfigMap, Endpoints, Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod, ReplicationController, ResourceQuota, Secret,
    Service, ServiceAccount,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::ClusterRole;
use k8s_openapi::api::storage::v1::{StorageClass, VolumeAttributesClass};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::bootstrap::{BootstrapToken, ClusterInfo};
use crate::cache::{AnyCache, Cache};
use crate::kind::{Kind, Object};

macro_rules! kinds {
    ($($field:ident: $type:ident, $version:literal, $plural:literal, $namespaced:literal, { $($more:tt)* };)*) => {
        /// A cache for each kind.
        #[derive(Default)]
        pub struct Caches {
            $(#[doc = concat!("Every cached ", stringify!($type), ".")] pub $field: Arc<Cache<$type>>,)*
        }

        impl Caches {
            /// The cache of a kind, whatever its type.
            #[must_use]
            pub fn of(&self, api_version: &str, kind: &str) -> Option<Arc<dyn AnyCache>> {
                match (api_version, kind) {
                    $(($version, stringify!($type)) => Some(self.$field.clone()),)*
                    _ => None,
                }
            }

            /// Every cache.
            #[must_use]
            pub fn all(&self) -> Vec<Arc<dyn AnyCache>> {
                vec![$(self.$field.clone()),*]
            }
        }

        $(impl Object for $type {
            const KIND: &'static Kind =
                &Kind { api_version: $version, kind: stringify!($type), plural: $plural, namespaced: $namespaced };
            fn meta(&self) -> &ObjectMeta { &self.metadata }
            fn meta_mut(&mut self) -> &mut ObjectMeta { &mut self.metadata }
            $($more)*
        })*
    };
}

// In alphabetical order of the kinds; the order has no meaning.
kinds! {
    bootstrap_tokens: BootstrapToken, "v1", "secrets", true, {
        const FIELDS: &'static str = "type=bootstrap.kubernetes.io/token";
        const NAMESPACE: &'static str = "kube-system";
    };
    cluster_infos: ClusterInfo, "v1", "configmaps", true, {
        const FIELDS: &'static str = "metadata.name=cluster-info";
        const NAMESPACE: &'static str = "kube-public";
    };
    cluster_roles: ClusterRole, "rbac.authorization.k8s.io/v1", "clusterroles", false, {};
    config_maps: ConfigMap, "v1", "configmaps", true, {
        const FIELDS: &'static str = "metadata.name=kube-root-ca.crt";
    };
    controller_revisions: ControllerRevision, "apps/v1", "controllerrevisions", true, {};
    cron_jobs: CronJob, "batch/v1", "cronjobs", true, {};
    csrs: CertificateSigningRequest, "certificates.k8s.io/v1", "certificatesigningrequests", false, {};
    daemon_sets: DaemonSet, "apps/v1", "daemonsets", true, {};
    deployments: Deployment, "apps/v1", "deployments", true, {};
    endpoint_slices: EndpointSlice, "discovery.k8s.io/v1", "endpointslices", true, {
        fn index(&self) -> Option<String> {
            Some(format!("{}/{}", self.namespace(), self.label("kubernetes.io/service-name")?))
        }
    };
    endpoints: Endpoints, "v1", "endpoints", true, {};
    horizontal_pod_autoscalers: HorizontalPodAutoscaler, "autoscaling/v2", "horizontalpodautoscalers", true, {};
    jobs: Job, "batch/v1", "jobs", true, {};
    leases: Lease, "coordination.k8s.io/v1", "leases", true, {
        const NAMESPACE: &'static str = "kube-node-lease";
    };
    namespaces: Namespace, "v1", "namespaces", false, {};
    nodes: Node, "v1", "nodes", false, {
        fn slim(&mut self) {
            if let Some(status) = &mut self.status {
                status.images = None;
            }
        }
    };
    pod_disruption_budgets: PodDisruptionBudget, "policy/v1", "poddisruptionbudgets", true, {};
    pods: Pod, "v1", "pods", true, {
        fn slim(&mut self) {
            crate::pod_state::slim(self);
        }
        fn index(&self) -> Option<String> {
            self.spec.as_ref()?.node_name.clone()
        }
    };
    persistent_volume_claims: PersistentVolumeClaim, "v1", "persistentvolumeclaims", true, {};
    persistent_volumes: PersistentVolume, "v1", "persistentvolumes", false, {
        fn index(&self) -> Option<String> {
            crate::controllers::persistentvolume::claim_index(self)
        }
    };
    replica_sets: ReplicaSet, "apps/v1", "replicasets", true, {};
    replication_controllers: ReplicationController, "v1", "replicationcontrollers", true, {};
    resource_quotas: ResourceQuota, "v1", "resourcequotas", true, {};
    secrets: Secret, "v1", "secrets", true, {
        const FIELDS: &'static str = "type=kubernetes.io/service-account-token";
    };
    service_accounts: ServiceAccount, "v1", "serviceaccounts", true, {};
    services: Service, "v1", "services", true, {};
    stateful_sets: StatefulSet, "apps/v1", "statefulsets", true, {};
    storage_classes: StorageClass, "storage.k8s.io/v1", "storageclasses", false, {};
    volume_attributes_classes: VolumeAttributesClass, "storage.k8s.io/v1", "volumeattributesclasses", false, {};
}

impl std::fmt::Debug for Caches {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.all().iter().map(|c| (c.kind().kind, c.len()))).finish()
    }
}
