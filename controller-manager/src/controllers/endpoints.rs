//! Endpoints of Services with a selector: the older form of EndpointSlices, which clients still read.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort, EndpointSubset, Endpoints, Pod, Service};

use crate::cache::Change;
use crate::caches::Caches;
use crate::kind::{Key, Object};
use crate::plan::{Action, Plan, Propagation};
use crate::pod_state;
use crate::queue::Queue;
use crate::runner::{Controller, View};
use crate::service_pods::{
    HEADLESS, families, hostname, is_headless, is_of_family, pods_of, publishes_not_ready, selects, target_port, target_ref, wake_for_pods,
};

/// Marks what this controller made.
const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const CONTROLLER: &str = "endpoint-controller";
/// Old leader election kept its record in Endpoints; those are nobody's endpoints.
pub const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";
/// Says that there are more addresses than are shown.
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
/// Most addresses in one Endpoints.
const MOST: usize = 1_000;

/// What a plan is made from.
pub struct Observed {
    /// The Service; none when it is gone.
    pub service: Option<Arc<Service>>,
    /// The pods it selects.
    pub pods: Vec<Arc<Pod>>,
    /// Its Endpoints.
    pub endpoints: Option<Arc<Endpoints>>,
}

/// Makes the Endpoints say what the pods say.
#[must_use]
pub fn plan(seen: &Observed) -> Plan {
    let mut plan = Plan::default();
    let Some(service) = &seen.service else {
        let ours = seen.endpoints.as_ref().filter(|e| e.annotation(LEADER).is_none());
        plan.push(ours.map(|e| Action::delete(e.as_ref(), Propagation::Default)));
        return plan;
    };
    if !selects(service) {
        return plan;
    }
    let (subsets, truncated) = truncate(subsets(service, &seen.pods));
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.remove(HEADLESS);
    labels.insert(MANAGED_BY.to_owned(), CONTROLLER.to_owned());
    if is_headless(service) {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    let mut new = seen.endpoints.as_deref().cloned().unwrap_or_default();
    new.metadata.labels = Some(labels);
    let annotations = new.metadata.annotations.get_or_insert_default();
    if truncated {
        annotations.insert(OVER_CAPACITY.to_owned(), "truncated".to_owned());
    } else {
        annotations.remove(OVER_CAPACITY);
    }
    if annotations.is_empty() {
        new.metadata.annotations = None;
    }
    new.subsets = Some(subsets).filter(|s| !s.is_empty());
    match &seen.endpoints {
        Some(old) => plan.update(old.as_ref(), &new),
        None => {
            new.metadata.name = service.metadata.name.clone();
            new.metadata.namespace = service.metadata.namespace.clone();
            let failed = ("FailedToCreateEndpoint", format!("Failed to create endpoint for service {}: {{}}", service.key()));
            plan.push(Action::create(&new).about(service.as_ref(), None, failed));
        }
    }
    plan
}

/// A port, in the order in which ports stand in a subset.
type Port = (String, i32, String, Option<String>);
/// By address, whether it is ready.
type Addresses = BTreeMap<String, (bool, EndpointAddress)>;

/// Ports with the same addresses share a subset (`RepackSubsets`); everything is in a fixed order.
fn subsets(service: &Service, pods: &[Arc<Pod>]) -> Vec<EndpointSubset> {
    let mut by_port: BTreeMap<Option<Port>, Addresses> = BTreeMap::new();
    let family = families(service).swap_remove(0);
    let ports = service.spec.as_ref().and_then(|s| s.ports.as_deref()).unwrap_or_default();
    for pod in pods {
        if pod_state::is_terminal(pod) || (pod.deleting() && !publishes_not_ready(service)) {
            continue;
        }
        let Some(ip) = pod_state::ips(pod).find(|ip| is_of_family(ip, &family)) else { continue };
        let address = EndpointAddress {
            ip: ip.to_owned(),
            hostname: hostname(service, pod),
            node_name: Some(pod_state::node(pod).to_owned()).filter(|n| !n.is_empty()),
            target_ref: Some(target_ref(pod)),
        };
        let ready = publishes_not_ready(service) || pod_state::is_ready(pod);
        let mut add = |port: Option<Port>| by_port.entry(port).or_default().insert(ip.to_owned(), (ready, address.clone()));
        if ports.is_empty() && is_headless(service) {
            add(None);
        }
        for port in ports {
            if let Some(number) = target_port(pod, port) {
                let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
                add(Some((port.name.clone().unwrap_or_default(), number, protocol, port.app_protocol.clone())));
            }
        }
    }
    let mut groups: Vec<(Addresses, Vec<EndpointPort>)> = Vec::new();
    for (port, addresses) in by_port {
        let port = port.map(|(name, port, protocol, app_protocol)| EndpointPort {
            name: Some(name).filter(|n| !n.is_empty()),
            port,
            protocol: Some(protocol),
            app_protocol,
        });
        match groups.iter_mut().find(|(a, _)| *a == addresses) {
            Some((_, ports)) => ports.extend(port),
            None => groups.push((addresses, port.into_iter().collect())),
        }
    }
    let subset = |(addresses, ports): (Addresses, Vec<EndpointPort>)| {
        let (ready, not_ready): (Vec<_>, Vec<_>) = addresses.into_values().partition(|(ready, _)| *ready);
        let some = |all: Vec<(bool, EndpointAddress)>| Some(all.into_iter().map(|(_, a)| a).collect::<Vec<_>>()).filter(|a| !a.is_empty());
        EndpointSubset { addresses: some(ready), not_ready_addresses: some(not_ready), ports: Some(ports).filter(|p| !p.is_empty()) }
    };
    groups.into_iter().map(subset).collect()
}

/// Keeps at most [`MOST`] addresses, ready ones first. Whether any were left out.
fn truncate(mut subsets: Vec<EndpointSubset>) -> (Vec<EndpointSubset>, bool) {
    let mut room = MOST;
    let mut truncated = false;
    let mut keep = |list: &mut Option<Vec<EndpointAddress>>| {
        if let Some(addresses) = list {
            truncated |= addresses.len() > room;
            addresses.truncate(room);
            room -= addresses.len();
        }
        *list = list.take().filter(|l| !l.is_empty());
    };
    subsets.iter_mut().for_each(|s| keep(&mut s.addresses));
    subsets.iter_mut().for_each(|s| keep(&mut s.not_ready_addresses));
    subsets.retain(|s| s.addresses.is_some() || s.not_ready_addresses.is_some());
    (subsets, truncated)
}

/// The controller.
pub struct EndpointsOfServices;

impl Controller for EndpointsOfServices {
    fn subscribe(&self, caches: &Arc<Caches>, queue: &Arc<Queue>) {
        let own = queue.clone();
        caches.services.subscribe(move |change: Change<'_, Service>| own.add(change.latest().key()));
        wake_for_pods(caches, queue);
        // Only what this controller made: Endpoints made by hand may precede their Service.
        let own = queue.clone();
        caches.endpoints.subscribe(move |change: Change<'_, Endpoints>| {
            if change.both().any(|e| e.label(MANAGED_BY) == Some(CONTROLLER)) {
                own.add(change.latest().key());
            }
        });
    }

    fn plan(&self, view: &View<'_>, key: &Key) -> Plan {
        let service = view.caches.services.get(key);
        let pods = service.as_ref().map(|s| pods_of(s, view.caches)).unwrap_or_default();
        plan(&Observed { service, pods, endpoints: view.caches.endpoints.get(key) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::{World, kubelet};
    use expect_test::{Expect, expect};
    use serde_json::{Value, json};

    /// `pods` is a name, an address and the ports by name, a line each; `!` before the name means not ready.
    #[track_caller]
    fn check(spec: Value, pods: &str, expected: Expect) {
        let mut world = World::new();
        world.add::<Service>(json!({"metadata": {"name": "web", "namespace": "default"}, "spec": spec}));
        for line in pods.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            let ports: Vec<Value> = words[2..]
                .iter()
                .filter_map(|p| p.split_once('='))
                .map(|(n, p)| json!({"name": n, "containerPort": p.parse::<i32>().expect("a port")}))
                .collect();
            world.add::<Pod>(json!({
                "metadata": {"name": words[0].trim_start_matches('!'), "namespace": "default", "labels": {"app": "web"}},
                "spec": {"nodeName": "n1", "containers": [{"name": "c", "ports": ports}]},
                "status": {"podIPs": [{"ip": words[1]}], "phase": if words[0].starts_with('!') { "Running" } else { "Pending" }}
            }));
        }
        kubelet(&mut world);
        world.settle::<Service>(&EndpointsOfServices);
        let endpoints = &world.list::<Endpoints>()[0];
        let ips = |a: &Option<Vec<EndpointAddress>>| a.iter().flatten().map(|a| a.ip.clone()).collect::<Vec<_>>().join(",");
        let ports = |s: &EndpointSubset| {
            s.ports.iter().flatten().map(|p| format!("{}:{}", p.name.as_deref().unwrap_or("-"), p.port)).collect::<Vec<_>>().join(",")
        };
        let lines = endpoints
            .subsets
            .iter()
            .flatten()
            .map(|s| format!("[{}] ready {} not {}\n", ports(s), ips(&s.addresses), ips(&s.not_ready_addresses)));
        expected.assert_eq(&lines.collect::<String>());
    }

    #[test]
    fn ready_and_not_ready_pods_stand_apart() {
        check(
            json!({"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]}),
            "a 10.0.0.2\n!b 10.0.0.1",
            expect![[r#"
            [-:8080] ready 10.0.0.2 not 10.0.0.1
        "#]],
        );
    }

    #[test]
    fn ports_with_the_same_pods_share_a_subset() {
        check(
            json!({"selector": {"app": "web"}, "ports": [{"name": "a", "port": 80, "targetPort": "x"}, {"name": "b", "port": 81, "targetPort": "y"}]}),
            "one 10.0.0.1 x=1 y=2\ntwo 10.0.0.2 x=1",
            expect![[r#"
                [a:1] ready 10.0.0.1,10.0.0.2 not 
                [b:2] ready 10.0.0.1 not 
            "#]],
        );
    }

    #[test]
    fn a_service_without_pods_has_endpoints_without_subsets() {
        check(json!({"selector": {"app": "web"}, "ports": [{"port": 80}]}), "", expect![""]);
    }

    #[test]
    fn ready_addresses_are_kept_before_others() {
        let address = |i: usize| EndpointAddress { ip: i.to_string(), ..EndpointAddress::default() };
        let subset = EndpointSubset {
            addresses: Some((0..600).map(address).collect()),
            not_ready_addresses: Some((0..600).map(address).collect()),
            ports: None,
        };
        let (kept, truncated) = truncate(vec![subset]);
        assert!(truncated);
        assert_eq!((kept[0].addresses.as_ref().map(Vec::len), kept[0].not_ready_addresses.as_ref().map(Vec::len)), (Some(600), Some(400)));
    }
}
