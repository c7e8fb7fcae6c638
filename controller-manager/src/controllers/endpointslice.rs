//! EndpointSlices of Services with a selector: who is behind them, and how they fare.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointHints, EndpointPort, EndpointSlice, ForNode, ForZone};

use crate::cache::Change;
use crate::caches::Caches;
use crate::kind::{Key, Object};
use crate::plan::{Action, Plan, Propagation};
use crate::pod_state;
use crate::queue::Queue;
use crate::runner::{Controller, View};
use crate::service_pods::{
    HEADLESS, families, hostname, is_headless, is_of_family, is_reachable, pods_of, publishes_not_ready, selects, target_port, target_ref,
    wake_for_pods,
};
use crate::slices::{Group, MANAGED_BY, SERVICE_NAME, Wanted, reconcile};

const CONTROLLER: &str = "endpointslice-controller.k8s.io";
/// Endpoints in a slice (upstream's `--max-endpoints-per-slice`).
const MOST: usize = 100;
/// The zone of a node.
const ZONE: &str = "topology.kubernetes.io/zone";

/// What a plan is made from.
pub struct Observed {
    /// The Service; none when it is gone.
    pub service: Option<Arc<Service>>,
    /// The pods it selects.
    pub pods: Vec<Arc<Pod>>,
    /// The zone of each node of these pods.
    pub zones: BTreeMap<String, String>,
    /// The slices under its name that this controller manages.
    pub slices: Vec<Arc<EndpointSlice>>,
}

/// Makes the slices say what the pods say.
#[must_use]
pub fn plan(seen: &Observed) -> Plan {
    let mut plan = Plan::default();
    let Some(service) = seen.service.as_ref() else {
        plan.actions = seen.slices.iter().filter(|s| !s.deleting()).map(|s| Action::delete(s.as_ref(), Propagation::Default)).collect();
        return plan;
    };
    if !selects(service) || service.deleting() {
        return plan;
    }
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.remove(HEADLESS);
    labels.insert(SERVICE_NAME.to_owned(), service.name().to_owned());
    labels.insert(MANAGED_BY.to_owned(), CONTROLLER.to_owned());
    if is_headless(service) {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    let wanted = Wanted {
        owner: service.controller_ref(),
        namespace: service.namespace().to_owned(),
        labels,
        annotations: BTreeMap::new(),
        groups: families(service).into_iter().map(|family| (family.clone(), groups(seen, service, &family))).collect(),
        most: MOST,
        placeholder: true,
    };
    reconcile(wanted, &seen.slices, &mut plan);
    plan
}

/// The endpoints of a family, by the ports that their pods resolve the Service's ports to.
fn groups(seen: &Observed, service: &Service, family: &str) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for pod in seen.pods.iter().filter(|p| is_reachable(p)) {
        let Some(ip) = pod_state::ips(pod).find(|ip| is_of_family(ip, family)) else { continue };
        let endpoint = endpoint(seen, service, pod, ip);
        let ports = ports(service, pod);
        match groups.iter_mut().find(|g| g.ports == ports) {
            Some(group) => group.endpoints.push(endpoint),
            None => groups.push(Group { ports, endpoints: vec![endpoint] }),
        }
    }
    groups
}

fn ports(service: &Service, pod: &Pod) -> Vec<EndpointPort> {
    let all = service.spec.iter().flat_map(|s| s.ports.iter().flatten());
    let resolve = |port: &k8s_openapi::api::core::v1::ServicePort| {
        Some(EndpointPort {
            name: Some(port.name.clone().unwrap_or_default()),
            port: Some(target_port(pod, port)?),
            protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".to_owned())),
            app_protocol: port.app_protocol.clone(),
        })
    };
    all.filter_map(resolve).collect()
}

fn endpoint(seen: &Observed, service: &Service, pod: &Pod, ip: &str) -> Endpoint {
    let (serving, terminating) = (pod_state::is_ready(pod), pod.deleting());
    let node = Some(pod_state::node(pod).to_owned()).filter(|n| !n.is_empty());
    let zone = node.as_ref().and_then(|n| seen.zones.get(n)).cloned();
    let ready = publishes_not_ready(service) || (serving && !terminating);
    let hints = match service.spec.as_ref().and_then(|s| s.traffic_distribution.as_deref()) {
        Some("PreferClose" | "PreferSameZone") if ready => {
            zone.clone().map(|name| EndpointHints { for_zones: Some(vec![ForZone { name }]), for_nodes: None })
        }
        Some("PreferSameNode") if ready => node.clone().map(|name| EndpointHints {
            for_nodes: Some(vec![ForNode { name }]),
            for_zones: zone.clone().map(|name| vec![ForZone { name }]),
        }),
        _ => None,
    };
    Endpoint {
        addresses: vec![ip.to_owned()],
        conditions: Some(EndpointConditions { ready: Some(ready), serving: Some(serving), terminating: Some(terminating) }),
        hostname: hostname(service, pod),
        node_name: node,
        target_ref: Some(target_ref(pod)),
        zone,
        hints,
        deprecated_topology: None,
    }
}

/// The controller.
pub struct EndpointSlices;

impl Controller for EndpointSlices {
    fn subscribe(&self, caches: &Arc<Caches>, queue: &Arc<Queue>) {
        let own = queue.clone();
        caches.services.subscribe(move |change: Change<'_, Service>| own.add(change.latest().key()));
        wake_for_pods(caches, queue);
        let own = queue.clone();
        caches.endpoint_slices.subscribe(move |change: Change<'_, EndpointSlice>| {
            for slice in change.both().filter(|s| s.label(MANAGED_BY) == Some(CONTROLLER)) {
                if let Some(service) = slice.label(SERVICE_NAME) {
                    own.add(Key::new(slice.namespace(), service));
                }
            }
        });
        let (all, own) = (caches.clone(), queue.clone());
        caches.nodes.subscribe(move |change: Change<'_, Node>| {
            let zone = |n: Option<&Node>| n.and_then(|n| n.label(ZONE)).map(str::to_owned);
            if zone(change.old) != zone(change.new) {
                all.services.list().iter().for_each(|s| own.add(s.key()));
            }
        });
    }

    fn plan(&self, view: &View<'_>, key: &Key) -> Plan {
        let caches = view.caches;
        let service = caches.services.get(key);
        let mut slices = caches.endpoint_slices.indexed(&key.to_string());
        slices.retain(|s| s.label(MANAGED_BY) == Some(CONTROLLER));
        let pods = service.as_ref().map(|s| pods_of(s, caches)).unwrap_or_default();
        let zone = |pod: &Arc<Pod>| {
            let node = caches.nodes.get(&Key::cluster(pod_state::node(pod)))?;
            Some((node.name().to_owned(), node.label(ZONE)?.to_owned()))
        };
        let zones = pods.iter().filter_map(zone).collect();
        plan(&Observed { service, pods, zones, slices })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::{World, kubelet};
    use expect_test::{Expect, expect};
    use serde_json::{Value, json};

    fn world(spec: Value) -> World {
        let mut world = World::new();
        world.add::<Service>(json!({"metadata": {"name": "web", "namespace": "default", "labels": {"tier": "front"}}, "spec": spec}));
        world
    }

    fn pod(world: &mut World, name: &str, ip: &str) {
        world.add::<Pod>(json!({
            "metadata": {"name": name, "namespace": "default", "labels": {"app": "web"}},
            "spec": {"containers": [{"name": "c", "ports": [{"name": "http", "containerPort": 8080}]}]},
            "status": {"podIPs": [{"ip": ip}], "podIP": ip}
        }));
    }

    fn settle(world: &mut World) {
        world.settle::<Service>(&EndpointSlices);
    }

    /// One line a slice: labels aside, its ports and endpoints.
    fn slices(world: &World) -> String {
        let flag = |c: Option<bool>, letter: &'static str| if c == Some(true) { letter } else { "-" };
        let endpoint = |e: &Endpoint| {
            let c = e.conditions.clone().unwrap_or_default();
            format!(" {}:{}{}{}", e.addresses[0], flag(c.ready, "r"), flag(c.serving, "s"), flag(c.terminating, "t"))
        };
        let port = |p: &EndpointPort| format!("{}={}", p.name.as_deref().unwrap_or("-"), p.port.unwrap_or(0));
        let all = world.list::<EndpointSlice>();
        let line = |s: &EndpointSlice| {
            let ports: Vec<String> = s.ports.iter().flatten().map(port).collect();
            format!("{} [{}]{}\n", s.name(), ports.join(","), s.endpoints.iter().map(endpoint).collect::<String>())
        };
        all.iter().map(line).collect()
    }

    #[track_caller]
    fn is(world: &World, expected: Expect) {
        expected.assert_eq(&slices(world));
    }

    #[test]
    fn a_service_without_pods_has_one_empty_slice() {
        let mut world = world(json!({"selector": {"app": "web"}, "ports": [{"port": 80}]}));
        settle(&mut world);
        is(
            &world,
            expect![[r#"
            web-1 []
        "#]],
        );
        let slice = &world.list::<EndpointSlice>()[0];
        assert_eq!((slice.label("tier"), slice.label(SERVICE_NAME), slice.label(HEADLESS)), (Some("front"), Some("web"), None));
    }

    #[test]
    fn follows_readiness_and_termination() {
        let mut world = world(json!({"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "http"}]}));
        pod(&mut world, "a", "10.0.0.1");
        settle(&mut world);
        is(
            &world,
            expect![[r#"
            web-1 [=8080] 10.0.0.1:---
        "#]],
        );
        kubelet(&mut world);
        settle(&mut world);
        is(
            &world,
            expect![[r#"
            web-1 [=8080] 10.0.0.1:rs-
        "#]],
        );
        let at = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(world.now);
        world.edit::<Pod>(&Key::new("default", "a"), |p| {
            p.metadata.deletion_timestamp = Some(at);
            p.metadata.deletion_grace_period_seconds = Some(30);
        });
        settle(&mut world);
        is(
            &world,
            expect![[r#"
            web-1 [=8080] 10.0.0.1:-st
        "#]],
        );
        world.remove::<Pod>(&Key::new("default", "a"));
        settle(&mut world);
        is(
            &world,
            expect![[r#"
            web-1 []
        "#]],
        );
    }

    #[test]
    fn not_ready_addresses_are_published_when_asked() {
        let mut world = world(json!({"selector": {"app": "web"}, "clusterIP": "None", "publishNotReadyAddresses": true}));
        pod(&mut world, "a", "10.0.0.1");
        settle(&mut world);
        is(
            &world,
            expect![[r#"
            web-1 [] 10.0.0.1:r--
        "#]],
        );
        assert_eq!(world.list::<EndpointSlice>()[0].label(HEADLESS), Some(""));
    }

    #[test]
    fn a_hundred_endpoints_fill_a_slice_and_few_slices_are_written() {
        let mut world = world(json!({"selector": {"app": "web"}, "ports": [{"port": 80}]}));
        for i in 0..150 {
            pod(&mut world, &format!("p{i}"), &format!("10.0.1.{i}"));
        }
        settle(&mut world);
        let counts = |w: &World| w.list::<EndpointSlice>().iter().map(|s| s.endpoints.len()).collect::<Vec<_>>();
        assert_eq!(counts(&world), [100, 50]);
        world.told();
        world.remove::<Pod>(&Key::new("default", "p3"));
        pod(&mut world, "new", "10.0.2.1");
        settle(&mut world);
        assert_eq!(world.told().lines().count(), 1, "one slice written");
        assert_eq!(counts(&world), [100, 50]);
    }

    #[test]
    fn slices_go_with_their_service() {
        let mut world = world(json!({"selector": {"app": "web"}, "ports": [{"port": 80}]}));
        settle(&mut world);
        world.remove::<Service>(&Key::new("default", "web"));
        world.step(&EndpointSlices, &Key::new("default", "web"));
        is(&world, expect![[""]]);
    }
}
