//! The list of controllers. It does nothing else. Names are upstream's, as `--controllers` takes them.

use std::sync::Arc;

use crate::flags::Flags;
use crate::runner::Controller;

pub mod bootstrap_signer;
pub mod clusterrole_aggregation;
pub mod cronjob;
pub mod csr;
pub mod daemonset;
pub mod deployment;
pub mod disruption;
pub mod endpoints;
pub mod endpointslice;
pub mod endpointslice_mirroring;
pub mod ephemeral_volume;
pub mod garbage_collector;
pub mod horizontal;
pub mod job;
pub mod namespace;
pub mod node_ipam;
pub mod node_lifecycle;
pub mod persistentvolume;
pub mod pod_gc;
pub mod pv_protection;
pub mod pvc_protection;
pub mod replicaset;
pub mod replicationcontroller;
pub mod resourcequota;
pub mod root_ca;
pub mod serviceaccount;
pub mod serviceaccount_token;
pub mod statefulset;
pub mod taint_eviction;
pub mod token_cleaner;
pub mod ttl_after_finished;
pub mod vac_protection;

/// A controller, or none when its flags are not set.
pub type Made = anyhow::Result<Option<Arc<dyn Controller>>>;

/// One line of the list.
pub struct Row {
    /// Upstream's name.
    pub name: &'static str,
    /// The name its queue's metrics carry.
    pub queue: &'static str,
    /// The component in its events.
    pub component: &'static str,
    /// The kinds whose caches it reads.
    pub reads: &'static [(&'static str, &'static str)],
    /// How many keys it works on at a time.
    pub workers: fn(&Flags) -> usize,
    /// Makes it, when the flags allow.
    pub make: fn(&Flags) -> Made,
}

const BOOTSTRAP_TOKENS: (&str, &str) = ("v1", "BootstrapToken");
const CLUSTER_INFOS: (&str, &str) = ("v1", "ClusterInfo");
const CLUSTER_ROLES: (&str, &str) = ("rbac.authorization.k8s.io/v1", "ClusterRole");
const CONFIG_MAPS: (&str, &str) = ("v1", "ConfigMap");
const CONTROLLER_REVISIONS: (&str, &str) = ("apps/v1", "ControllerRevision");
const CRON_JOBS: (&str, &str) = ("batch/v1", "CronJob");
const CSRS: (&str, &str) = ("certificates.k8s.io/v1", "CertificateSigningRequest");
const DAEMON_SETS: (&str, &str) = ("apps/v1", "DaemonSet");
const DEPLOYMENTS: (&str, &str) = ("apps/v1", "Deployment");
const ENDPOINTS: (&str, &str) = ("v1", "Endpoints");
const ENDPOINT_SLICES: (&str, &str) = ("discovery.k8s.io/v1", "EndpointSlice");
const HORIZONTAL_POD_AUTOSCALERS: (&str, &str) = ("autoscaling/v2", "HorizontalPodAutoscaler");
const JOBS: (&str, &str) = ("batch/v1", "Job");
const LEASES: (&str, &str) = ("coordination.k8s.io/v1", "Lease");
const NAMESPACES: (&str, &str) = ("v1", "Namespace");
const NODES: (&str, &str) = ("v1", "Node");
const PERSISTENT_VOLUME_CLAIMS: (&str, &str) = ("v1", "PersistentVolumeClaim");
const PERSISTENT_VOLUMES: (&str, &str) = ("v1", "PersistentVolume");
const POD_DISRUPTION_BUDGETS: (&str, &str) = ("policy/v1", "PodDisruptionBudget");
const PODS: (&str, &str) = ("v1", "Pod");
const REPLICA_SETS: (&str, &str) = ("apps/v1", "ReplicaSet");
const REPLICATION_CONTROLLERS: (&str, &str) = ("v1", "ReplicationController");
const RESOURCE_QUOTAS: (&str, &str) = ("v1", "ResourceQuota");
const SECRETS: (&str, &str) = ("v1", "Secret");
const SERVICES: (&str, &str) = ("v1", "Service");
const SERVICE_ACCOUNTS: (&str, &str) = ("v1", "ServiceAccount");
const STATEFUL_SETS: (&str, &str) = ("apps/v1", "StatefulSet");
const STORAGE_CLASSES: (&str, &str) = ("storage.k8s.io/v1", "StorageClass");
const VOLUME_ATTRIBUTES_CLASSES: (&str, &str) = ("storage.k8s.io/v1", "VolumeAttributesClass");

fn some(controller: impl Controller) -> Made {
    Ok(Some(Arc::new(controller)))
}

/// All of them. The order has no meaning.
pub const ALL: &[Row] = &[
    Row {
        name: "bootstrap-signer-controller",
        queue: "bootstrap_signer_queue",
        component: "bootstrap-signer",
        reads: &[BOOTSTRAP_TOKENS, CLUSTER_INFOS],
        workers: |_| 1,
        make: |_| some(bootstrap_signer::BootstrapSigner),
    },
    Row {
        name: "certificatesigningrequest-approving-controller",
        queue: "certificate",
        component: "certificate-controller",
        reads: &[CSRS],
        workers: |_| 1,
        make: |_| some(csr::approving::Approving),
    },
    Row {
        name: "certificatesigningrequest-cleaner-controller",
        queue: "certificate_cleaner",
        component: "certificate-controller",
        reads: &[CSRS],
        workers: |_| 1,
        make: |_| some(csr::cleaning::Cleaning),
    },
    Row {
        name: "certificatesigningrequest-signing-controller",
        queue: "certificate_signer",
        component: "certificate-controller",
        reads: &[CSRS],
        workers: |_| 1,
        make: |f| match csr::signing::Signing::new(f) {
            Some(signing) => some(signing),
            None => Ok(None),
        },
    },
    Row {
        name: "clusterrole-aggregation-controller",
        queue: "ClusterRoleAggregator",
        component: "clusterrole-aggregation-controller",
        reads: &[CLUSTER_ROLES],
        workers: |_| 1,
        make: |_| some(clusterrole_aggregation::ClusterRoleAggregation),
    },
    Row {
        name: "cronjob-controller",
        queue: "cronjob",
        component: "cronjob-controller",
        reads: &[CRON_JOBS, JOBS],
        workers: |f| f.concurrent_cron_job_syncs,
        make: |_| some(cronjob::CronJobs),
    },
    Row {
        name: "daemonset-controller",
        queue: "daemonset",
        component: "daemonset-controller",
        reads: &[DAEMON_SETS, CONTROLLER_REVISIONS, PODS, NODES],
        workers: |f| f.concurrent_daemonset_syncs,
        make: |_| some(daemonset::DaemonSets),
    },
    Row {
        name: "deployment-controller",
        queue: "deployment",
        component: "deployment-controller",
        reads: &[DEPLOYMENTS, REPLICA_SETS, PODS],
        workers: |f| f.concurrent_deployment_syncs,
        make: |_| some(deployment::Deployments),
    },
    Row {
        name: "disruption-controller",
        queue: "disruption",
        component: "controllermanager",
        reads: &[POD_DISRUPTION_BUDGETS, PODS, REPLICA_SETS, DEPLOYMENTS, STATEFUL_SETS, REPLICATION_CONTROLLERS],
        workers: |_| 1,
        make: |_| some(disruption::Disruption),
    },
    Row {
        name: "endpoints-controller",
        queue: "endpoint",
        component: "endpoint-controller",
        reads: &[SERVICES, PODS, ENDPOINTS],
        workers: |f| f.concurrent_endpoint_syncs,
        make: |_| some(endpoints::EndpointsOfServices),
    },
    Row {
        name: "endpointslice-controller",
        queue: "endpoint_slice",
        component: "endpoint-slice-controller",
        reads: &[SERVICES, PODS, NODES, ENDPOINT_SLICES],
        workers: |f| f.concurrent_service_endpoint_syncs,
        make: |_| some(endpointslice::EndpointSlices),
    },
    Row {
        name: "endpointslice-mirroring-controller",
        queue: "endpoint_slice_mirroring",
        component: "endpoint-slice-mirroring-controller",
        reads: &[SERVICES, ENDPOINTS, ENDPOINT_SLICES],
        workers: |f| f.mirroring_concurrent_service_endpoint_syncs,
        make: |_| some(endpointslice_mirroring::Mirroring),
    },
    Row {
        name: "ephemeral-volume-controller",
        queue: "ephemeral_volume",
        component: "ephemeral_volume",
        reads: &[PODS, PERSISTENT_VOLUME_CLAIMS],
        workers: |f| f.concurrent_ephemeralvolume_syncs,
        make: |_| some(ephemeral_volume::EphemeralVolumes),
    },
    Row {
        name: "garbage-collector-controller",
        queue: "garbage_collector",
        component: "garbage-collector-controller",
        reads: &[],
        workers: |f| f.concurrent_gc_syncs,
        make: |_| some(garbage_collector::GarbageCollector::default()),
    },
    Row {
        name: "horizontal-pod-autoscaler-controller",
        queue: "horizontalpodautoscaler",
        component: "horizontal-pod-autoscaler",
        reads: &[HORIZONTAL_POD_AUTOSCALERS, PODS],
        workers: |f| f.concurrent_horizontal_pod_autoscaler_syncs,
        make: |f| some(horizontal::HorizontalPodAutoscalers::new(f)),
    },
    Row {
        name: "job-controller",
        queue: "job",
        component: "job-controller",
        reads: &[JOBS, PODS],
        workers: |f| f.concurrent_job_syncs,
        make: |_| some(job::Jobs),
    },
    Row {
        name: "namespace-controller",
        queue: "namespace",
        component: "namespace-controller",
        reads: &[NAMESPACES, PODS],
        workers: |f| f.concurrent_namespace_syncs,
        make: |_| some(namespace::Namespaces),
    },
    Row {
        name: "node-ipam-controller",
        queue: "node_ipam",
        component: "cidrAllocator",
        reads: &[NODES],
        workers: |_| 1,
        make: |f| if f.allocate_node_cidrs { some(node_ipam::NodeIpam::new(f)?) } else { Ok(None) },
    },
    Row {
        name: "node-lifecycle-controller",
        queue: "node_lifecycle_controller",
        component: "node-controller",
        reads: &[NODES, LEASES, PODS],
        workers: |_| 1,
        make: |f| some(node_lifecycle::NodeLifecycle::new(f)),
    },
    Row {
        name: "persistentvolume-binder-controller",
        queue: "volumes",
        component: "persistentvolume-controller",
        reads: &[PERSISTENT_VOLUMES, PERSISTENT_VOLUME_CLAIMS, STORAGE_CLASSES, PODS],
        workers: |_| 1,
        make: |_| some(persistentvolume::PersistentVolumes),
    },
    Row {
        name: "persistentvolume-protection-controller",
        queue: "pvprotection",
        component: "pv-protection-controller",
        reads: &[PERSISTENT_VOLUMES],
        workers: |_| 1,
        make: |_| some(pv_protection::PvProtection),
    },
    Row {
        name: "persistentvolumeclaim-protection-controller",
        queue: "pvcprotection",
        component: "pvc-protection-controller",
        reads: &[PERSISTENT_VOLUME_CLAIMS, PODS],
        workers: |_| 1,
        make: |_| some(pvc_protection::PvcProtection),
    },
    Row {
        name: "pod-garbage-collector-controller",
        queue: "pod_gc",
        component: "pod-garbage-collector",
        reads: &[PODS, NODES],
        workers: |_| 1,
        make: |f| some(pod_gc::PodGc::new(f)),
    },
    Row {
        name: "replicaset-controller",
        queue: "replicaset",
        component: "replicaset-controller",
        reads: &[REPLICA_SETS, PODS],
        workers: |f| f.concurrent_replicaset_syncs,
        make: |_| some(replicaset::ReplicaSets),
    },
    Row {
        name: "replicationcontroller-controller",
        queue: "replicationmanager",
        component: "replication-controller",
        reads: &[REPLICATION_CONTROLLERS, PODS],
        workers: |f| f.concurrent_rc_syncs,
        make: |_| some(replicationcontroller::ReplicationControllers),
    },
    Row {
        name: "resourcequota-controller",
        queue: "resourcequota_primary",
        component: "resourcequota-controller",
        reads: &[RESOURCE_QUOTAS, PODS, SERVICES, PERSISTENT_VOLUME_CLAIMS],
        workers: |f| f.concurrent_resource_quota_syncs,
        make: |_| some(resourcequota::ResourceQuotas),
    },
    Row {
        name: "root-ca-certificate-publisher-controller",
        queue: "root_ca_cert_publisher",
        component: "root-ca-cert-publisher",
        reads: &[NAMESPACES, CONFIG_MAPS],
        workers: |_| 1,
        make: |f| match &f.root_ca_file {
            Some(file) => some(root_ca::RootCa::load(file)?),
            None => Ok(None),
        },
    },
    Row {
        name: "serviceaccount-controller",
        queue: "serviceaccount",
        component: "serviceaccount-controller",
        reads: &[NAMESPACES, SERVICE_ACCOUNTS],
        workers: |_| 1,
        make: |_| some(serviceaccount::ServiceAccounts),
    },
    Row {
        name: "serviceaccount-token-controller",
        queue: "serviceaccount_tokens_secret",
        component: "serviceaccount-token-controller",
        reads: &[SECRETS, SERVICE_ACCOUNTS],
        workers: |f| f.concurrent_serviceaccount_token_syncs,
        make: |f| match serviceaccount_token::ServiceAccountTokens::load(f)? {
            Some(tokens) => some(tokens),
            None => Ok(None),
        },
    },
    Row {
        name: "statefulset-controller",
        queue: "statefulset",
        component: "statefulset-controller",
        reads: &[STATEFUL_SETS, CONTROLLER_REVISIONS, PODS, PERSISTENT_VOLUME_CLAIMS],
        workers: |f| f.concurrent_statefulset_syncs,
        make: |_| some(statefulset::StatefulSets),
    },
    Row {
        name: "taint-eviction-controller",
        queue: "taint_eviction",
        component: "taint-eviction-controller",
        reads: &[PODS, NODES],
        workers: |_| 8,
        make: |_| some(taint_eviction::TaintEviction::default()),
    },
    Row {
        name: "token-cleaner-controller",
        queue: "token_cleaner",
        component: "token-cleaner",
        reads: &[BOOTSTRAP_TOKENS],
        workers: |_| 1,
        make: |_| some(token_cleaner::TokenCleaner),
    },
    Row {
        name: "ttl-after-finished-controller",
        queue: "ttl_jobs_to_delete",
        component: "ttl-after-finished-controller",
        reads: &[JOBS],
        workers: |f| f.concurrent_ttl_after_finished_syncs,
        make: |_| some(ttl_after_finished::TtlAfterFinished),
    },
    Row {
        name: "volumeattributesclass-protection-controller",
        queue: "vacprotection",
        component: "vac-protection-controller",
        reads: &[VOLUME_ATTRIBUTES_CLASSES, PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES],
        workers: |_| 1,
        make: |_| some(vac_protection::VacProtection),
    },
];
