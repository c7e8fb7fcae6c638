//! Which pods stand behind a Service, and how: what Endpoints and EndpointSlices are made from.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{ObjectReference, Pod, Service, ServicePort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::cache::Change;
use crate::caches::Caches;
use crate::kind::Object as _;
use crate::pod_state;
use crate::queue::Queue;

/// Marks Endpoints and EndpointSlices of a Service without a cluster IP.
pub const HEADLESS: &str = "service.kubernetes.io/headless";

/// Whether the Service chooses its pods by a selector.
#[must_use]
pub fn selects(service: &Service) -> bool {
    let spec = service.spec.as_ref();
    spec.is_some_and(|s| s.type_.as_deref() != Some("ExternalName") && s.selector.as_ref().is_some_and(|s| !s.is_empty()))
}

/// Whether it has no cluster IP.
#[must_use]
pub fn is_headless(service: &Service) -> bool {
    service.spec.as_ref().and_then(|s| s.cluster_ip.as_deref()) == Some("None")
}

/// Whether pods count as ready whatever they say.
#[must_use]
pub fn publishes_not_ready(service: &Service) -> bool {
    service.spec.as_ref().and_then(|s| s.publish_not_ready_addresses) == Some(true)
}

/// The address families, the primary one first.
#[must_use]
pub fn families(service: &Service) -> Vec<String> {
    service.spec.as_ref().and_then(|s| s.ip_families.clone()).filter(|f| !f.is_empty()).unwrap_or_else(|| vec!["IPv4".to_owned()])
}

/// Whether an address is of the family.
#[must_use]
pub fn is_of_family(ip: &str, family: &str) -> bool {
    ip.contains(':') == (family == "IPv6")
}

/// Whether the Service's selector matches the pod.
#[must_use]
pub fn selected(service: &Service, pod: &Pod) -> bool {
    let selector = service.spec.as_ref().and_then(|s| s.selector.as_ref());
    selects(service) && selector.is_some_and(|s| s.iter().all(|(k, v)| pod.label(k) == Some(v)))
}

/// The pods the Service selects.
#[must_use]
pub fn pods_of(service: &Service, caches: &Caches) -> Vec<Arc<Pod>> {
    caches.pods.in_namespace(service.namespace()).into_iter().filter(|pod| selected(service, pod)).collect()
}

/// The number of the pod's port that a Service's port leads to; none when the pod has no port of that name.
#[must_use]
pub fn target_port(pod: &Pod, port: &ServicePort) -> Option<i32> {
    let protocol = |p: Option<&String>| p.map_or("TCP", |p| p.as_str()).to_owned();
    match &port.target_port {
        None => Some(port.port),
        Some(IntOrString::Int(0)) => Some(port.port),
        Some(IntOrString::Int(number)) => Some(*number),
        Some(IntOrString::String(name)) => {
            let spec = pod.spec.as_ref()?;
            // Sidecars have ports too: init containers that keep running.
            let sidecars = spec.init_containers.iter().flatten().filter(|c| c.restart_policy.as_deref() == Some("Always"));
            let mut ports = spec.containers.iter().chain(sidecars).flat_map(|c| c.ports.iter().flatten());
            let wanted = protocol(port.protocol.as_ref());
            ports.find(|p| p.name.as_ref() == Some(name) && protocol(p.protocol.as_ref()) == wanted).map(|p| p.container_port)
        }
    }
}

/// The hostname under which DNS shall know the pod in this Service's domain.
#[must_use]
pub fn hostname(service: &Service, pod: &Pod) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    (spec.subdomain.as_deref() == Some(service.name())).then(|| spec.hostname.clone()).flatten().filter(|h| !h.is_empty())
}

/// What an endpoint says about the pod it is.
#[must_use]
pub fn target_ref(pod: &Pod) -> ObjectReference {
    ObjectReference {
        kind: Some("Pod".to_owned()),
        namespace: pod.metadata.namespace.clone(),
        name: pod.metadata.name.clone(),
        uid: pod.metadata.uid.clone(),
        ..ObjectReference::default()
    }
}

/// Whether the pod belongs behind a Service at all: it has an address and has not ended.
#[must_use]
pub fn is_reachable(pod: &Pod) -> bool {
    !pod_state::is_terminal(pod) && pod_state::ips(pod).next().is_some()
}

/// Wakes every Service that selects, or selected, a pod that changed.
pub fn wake_for_pods(caches: &Arc<Caches>, queue: &Arc<Queue>) {
    let (all, queue) = (caches.clone(), queue.clone());
    caches.pods.subscribe(move |change: Change<'_, Pod>| {
        let services = all.services.in_namespace(change.latest().namespace());
        for service in services.iter().filter(|s| change.both().any(|pod| selected(s, pod))) {
            queue.add(service.key());
        }
    });
}
