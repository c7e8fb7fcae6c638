//! The behaviours of the Kubernetes conformance suite, each seen on a real cluster: real etcd, containerd, nftables and kubectl.
//!
//! A test is named after its behaviour's codename. Files mirror upstream's: `apimachinery/watch.rs` holds what is in upstream's
//! `test/e2e/apimachinery/watch.go`. `behaviours.txt` lists what is covered; the list and the tests agree, or nothing runs.
//! To add a file: `pub const BEHAVIOURS` in it, a line in [`FILES`], lines in `behaviours.txt`. Start reading at `framework/mod.rs`.
//!
//! Needs root and built programs (`cargo build --workspace --bins`); with `FERRITE_CONFORMANCE_KUBECONFIG` it needs neither and uses
//! that cluster. Arguments are those of any test binary: parts of names, `--exact`, `--test-threads`, `--list`.

mod apimachinery;
mod apps;
mod architecture;
mod auth;
mod clients;
mod common;
mod framework;
mod instrumentation;
mod kubectl;
mod network;
mod newer;
mod node;
mod scheduling;
mod storage;

use std::process::ExitCode;

use framework::{Behaviour, cluster, run};
use libtest_mimic::Arguments;

/// The files, each with its behaviours, in the order in which they run.
const FILES: &[(&str, &[Behaviour])] = &[
    ("apimachinery/aggregator", apimachinery::aggregator::BEHAVIOURS),
    ("apimachinery/crd_conversion_webhook", apimachinery::crd_conversion_webhook::BEHAVIOURS),
    ("apimachinery/crd_publish_openapi", apimachinery::crd_publish_openapi::BEHAVIOURS),
    ("apimachinery/crd_watch", apimachinery::crd_watch::BEHAVIOURS),
    ("apimachinery/custom_resource_definition", apimachinery::custom_resource_definition::BEHAVIOURS),
    ("apimachinery/discovery", apimachinery::discovery::BEHAVIOURS),
    ("apimachinery/field_validation", apimachinery::field_validation::BEHAVIOURS),
    ("apimachinery/garbage_collector", apimachinery::garbage_collector::BEHAVIOURS),
    ("apimachinery/namespace", apimachinery::namespace::BEHAVIOURS),
    ("apimachinery/resource_quota", apimachinery::resource_quota::BEHAVIOURS),
    ("apimachinery/server_version", apimachinery::server_version::BEHAVIOURS),
    ("apimachinery/table_conversion", apimachinery::table_conversion::BEHAVIOURS),
    ("apimachinery/watch", apimachinery::watch::BEHAVIOURS),
    ("apimachinery/webhook", apimachinery::webhook::BEHAVIOURS),
    ("apps/controller_revision", apps::controller_revision::BEHAVIOURS),
    ("apps/cronjob", apps::cronjob::BEHAVIOURS),
    ("apps/daemon_set", apps::daemon_set::BEHAVIOURS),
    ("apps/deployment", apps::deployment::BEHAVIOURS),
    ("apps/disruption", apps::disruption::BEHAVIOURS),
    ("apps/job", apps::job::BEHAVIOURS),
    ("apps/rc", apps::rc::BEHAVIOURS),
    ("apps/replica_set", apps::replica_set::BEHAVIOURS),
    ("apps/statefulset", apps::statefulset::BEHAVIOURS),
    ("architecture/conformance", architecture::conformance::BEHAVIOURS),
    ("auth/certificates", auth::certificates::BEHAVIOURS),
    ("auth/service_accounts", auth::service_accounts::BEHAVIOURS),
    ("auth/subjectreviews", auth::subjectreviews::BEHAVIOURS),
    ("common/network/networking", common::network::networking::BEHAVIOURS),
    ("common/node/configmap", common::node::configmap::BEHAVIOURS),
    ("common/node/container_probe", common::node::container_probe::BEHAVIOURS),
    ("common/node/containers", common::node::containers::BEHAVIOURS),
    ("common/node/downwardapi", common::node::downwardapi::BEHAVIOURS),
    ("common/node/ephemeral_containers", common::node::ephemeral_containers::BEHAVIOURS),
    ("common/node/expansion", common::node::expansion::BEHAVIOURS),
    ("common/node/init_container", common::node::init_container::BEHAVIOURS),
    ("common/node/kubelet", common::node::kubelet::BEHAVIOURS),
    ("common/node/kubelet_etc_hosts", common::node::kubelet_etc_hosts::BEHAVIOURS),
    ("common/node/lease", common::node::lease::BEHAVIOURS),
    ("common/node/lifecycle_hook", common::node::lifecycle_hook::BEHAVIOURS),
    ("common/node/pods", common::node::pods::BEHAVIOURS),
    ("common/node/podtemplates", common::node::podtemplates::BEHAVIOURS),
    ("common/node/runtime", common::node::runtime::BEHAVIOURS),
    ("common/node/runtimeclass", common::node::runtimeclass::BEHAVIOURS),
    ("common/node/secrets", common::node::secrets::BEHAVIOURS),
    ("common/node/security_context", common::node::security_context::BEHAVIOURS),
    ("common/node/sysctl", common::node::sysctl::BEHAVIOURS),
    ("common/storage/configmap_volume", common::storage::configmap_volume::BEHAVIOURS),
    ("common/storage/downwardapi_volume", common::storage::downwardapi_volume::BEHAVIOURS),
    ("common/storage/empty_dir", common::storage::empty_dir::BEHAVIOURS),
    ("common/storage/projected_combined", common::storage::projected_combined::BEHAVIOURS),
    ("common/storage/projected_configmap", common::storage::projected_configmap::BEHAVIOURS),
    ("common/storage/projected_downwardapi", common::storage::projected_downwardapi::BEHAVIOURS),
    ("common/storage/projected_secret", common::storage::projected_secret::BEHAVIOURS),
    ("common/storage/secrets_volume", common::storage::secrets_volume::BEHAVIOURS),
    ("instrumentation/core_events", instrumentation::core_events::BEHAVIOURS),
    ("instrumentation/events", instrumentation::events::BEHAVIOURS),
    ("kubectl/kubectl", kubectl::kubectl::BEHAVIOURS),
    ("kubectl/logs", kubectl::logs::BEHAVIOURS),
    ("network/dns", network::dns::BEHAVIOURS),
    ("network/endpointslice", network::endpointslice::BEHAVIOURS),
    ("network/endpointslicemirroring", network::endpointslicemirroring::BEHAVIOURS),
    ("network/hostport", network::hostport::BEHAVIOURS),
    ("network/ingress", network::ingress::BEHAVIOURS),
    ("network/ingressclass", network::ingressclass::BEHAVIOURS),
    ("network/proxy", network::proxy::BEHAVIOURS),
    ("network/service", network::service::BEHAVIOURS),
    ("network/service_latency", network::service_latency::BEHAVIOURS),
    ("node/pods", node::pods::BEHAVIOURS),
    ("node/pre_stop", node::pre_stop::BEHAVIOURS),
    ("node/security_context", node::security_context::BEHAVIOURS),
    ("node/taints", node::taints::BEHAVIOURS),
    ("scheduling/limit_range", scheduling::limit_range::BEHAVIOURS),
    ("scheduling/predicates", scheduling::predicates::BEHAVIOURS),
    ("scheduling/preemption", scheduling::preemption::BEHAVIOURS),
    ("storage/csi_inline", storage::csi_inline::BEHAVIOURS),
    ("storage/csistoragecapacity", storage::csistoragecapacity::BEHAVIOURS),
    ("storage/empty_dir_wrapper", storage::empty_dir_wrapper::BEHAVIOURS),
    ("storage/subpath", storage::subpath::BEHAVIOURS),
];

/// Clients that nobody here wrote; no behaviours of that suite, but they want the same cluster.
const CLIENTS: &[(&str, &[Behaviour])] = &[
    ("clients/kube_crate", clients::kube_crate::BEHAVIOURS),
    ("clients/kubectl_connections", clients::kubectl_connections::BEHAVIOURS),
    ("clients/kubectl_logs", clients::kubectl_logs::BEHAVIOURS),
    ("clients/kubectl_objects", clients::kubectl_objects::BEHAVIOURS),
    ("clients/kubectl_words", clients::kubectl_words::BEHAVIOURS),
    ("clients/node", clients::node::BEHAVIOURS),
    ("clients/python", clients::python::BEHAVIOURS),
];

/// What entered that suite after 1.28, which `behaviours.txt` lists, and features that are on since.
const NEWER: &[(&str, &[Behaviour])] = &[
    ("newer/aggregated_discovery", newer::aggregated_discovery::BEHAVIOURS),
    ("newer/chunking", newer::chunking::BEHAVIOURS),
    ("newer/crd_rules", newer::crd_rules::BEHAVIOURS),
    ("newer/endpointslice", newer::endpointslice::BEHAVIOURS),
    ("newer/env", newer::env::BEHAVIOURS),
    ("newer/eviction", newer::eviction::BEHAVIOURS),
    ("newer/field_selectors", newer::field_selectors::BEHAVIOURS),
    ("newer/flowcontrol", newer::flowcontrol::BEHAVIOURS),
    ("newer/job", newer::job::BEHAVIOURS),
    ("newer/kubectl", newer::kubectl::BEHAVIOURS),
    ("newer/kubelet_api", newer::kubelet_api::BEHAVIOURS),
    ("newer/lifecycle", newer::lifecycle::BEHAVIOURS),
    ("newer/node_features", newer::node_features::BEHAVIOURS),
    ("newer/node_lifecycle", newer::node_lifecycle::BEHAVIOURS),
    ("newer/ordered_deletion", newer::ordered_deletion::BEHAVIOURS),
    ("newer/pod_generation", newer::pod_generation::BEHAVIOURS),
    ("newer/pod_resize", newer::pod_resize::BEHAVIOURS),
    ("newer/pod_resize_refused", newer::pod_resize_refused::BEHAVIOURS),
    ("newer/pod_resize_waits", newer::pod_resize_waits::BEHAVIOURS),
    ("newer/resource", newer::resource::BEHAVIOURS),
    ("newer/scheduling", newer::scheduling::BEHAVIOURS),
    ("newer/service", newer::service::BEHAVIOURS),
    ("newer/service_cidrs", newer::service_cidrs::BEHAVIOURS),
    ("newer/statefulset", newer::statefulset::BEHAVIOURS),
    ("newer/storage", newer::storage::BEHAVIOURS),
    ("newer/validating_policy", newer::validating_policy::BEHAVIOURS),
    ("newer/watch_list", newer::watch_list::BEHAVIOURS),
];

fn main() -> ExitCode {
    if let Err(difference) = run::agrees_with_the_list(FILES) {
        eprintln!("{difference}");
        return ExitCode::FAILURE;
    }
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(run::AT_ONCE);
    let conclusion =
        libtest_mimic::run(&arguments, [run::trials(FILES), run::trials(CLIENTS), run::trials(NEWER)].into_iter().flatten().collect());
    eprint!("{}", run::unsteady());
    if let Err(error) = cluster::take_down() {
        eprintln!("taking the cluster down: {error:#}");
        return ExitCode::FAILURE;
    }
    conclusion.exit_code()
}
