//! EndpointSlices after Endpoints that people or other programs write for Services without a selector.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{EndpointAddress, Endpoints, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};

use super::endpoints::LEADER;
use crate::cache::Change;
use crate::caches::Caches;
use crate::kind::{Key, Object};
use crate::plan::Plan;
use crate::queue::Queue;
use crate::runner::{Controller, View};
use crate::service_pods::is_of_family;
use crate::slices::{Group, MANAGED_BY, SERVICE_NAME, Wanted, reconcile};

const CONTROLLER: &str = "endpointslicemirroring-controller.k8s.io";
/// Endpoints with this label are left alone.
const SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";
/// Most addresses of a subset that are mirrored.
const MOST: usize = 1_000;

/// What a plan is made from.
pub struct Observed {
    /// The Service of the same name.
    pub service: Option<Arc<Service>>,
    /// The Endpoints.
    pub endpoints: Option<Arc<Endpoints>>,
    /// The slices under that name that this controller manages.
    pub slices: Vec<Arc<EndpointSlice>>,
}

/// Makes the slices say what the Endpoints say; none for what is not to be mirrored.
#[must_use]
pub fn plan(seen: &Observed) -> Plan {
    let mut plan = Plan::default();
    let selectorless = |s: &Arc<Service>| {
        s.spec.as_ref().is_some_and(|s| s.type_.as_deref() != Some("ExternalName") && s.selector.as_ref().is_none_or(BTreeMap::is_empty))
    };
    let mirrored = |e: &&Arc<Endpoints>| e.label(SKIP) != Some("true") && e.annotation(LEADER).is_none() && !e.deleting();
    let endpoints = seen.endpoints.as_ref().filter(|_| seen.service.as_ref().is_some_and(selectorless)).filter(mirrored);
    let Some(endpoints) = endpoints else {
        plan.actions = seen.slices.iter().map(|s| crate::plan::Action::delete(s.as_ref(), crate::plan::Propagation::Default)).collect();
        return plan;
    };
    let mut labels = endpoints.metadata.labels.clone().unwrap_or_default();
    labels.insert(SERVICE_NAME.to_owned(), endpoints.name().to_owned());
    labels.insert(MANAGED_BY.to_owned(), CONTROLLER.to_owned());
    let not_copied = ["kubectl.kubernetes.io/last-applied-configuration", "endpoints.kubernetes.io/last-change-trigger-time"];
    let mut annotations = endpoints.metadata.annotations.clone().unwrap_or_default();
    annotations.retain(|k, _| !not_copied.contains(&k.as_str()));
    let wanted = Wanted {
        owner: endpoints.controller_ref(),
        namespace: endpoints.namespace().to_owned(),
        labels,
        annotations,
        groups: ["IPv4", "IPv6"].map(|family| (family.to_owned(), groups(endpoints, family))).into(),
        most: MOST,
        placeholder: false,
    };
    reconcile(wanted, &seen.slices, &mut plan);
    plan
}

fn groups(endpoints: &Endpoints, family: &str) -> Vec<Group> {
    let group = |subset: &k8s_openapi::api::core::v1::EndpointSubset| {
        let ports = subset.ports.iter().flatten().map(|p| EndpointPort {
            name: Some(p.name.clone().unwrap_or_default()),
            port: Some(p.port),
            protocol: Some(p.protocol.clone().unwrap_or_else(|| "TCP".to_owned())),
            app_protocol: p.app_protocol.clone(),
        });
        let all = |list: &Option<Vec<EndpointAddress>>, ready: bool| -> Vec<Endpoint> {
            list.iter().flatten().filter(|a| is_of_family(&a.ip, family)).map(|a| endpoint(a, ready)).collect()
        };
        let mut endpoints = all(&subset.addresses, true);
        endpoints.extend(all(&subset.not_ready_addresses, false));
        endpoints.truncate(MOST);
        Group { ports: ports.collect(), endpoints }
    };
    endpoints.subsets.iter().flatten().map(group).collect()
}

fn endpoint(address: &EndpointAddress, ready: bool) -> Endpoint {
    Endpoint {
        addresses: vec![address.ip.clone()],
        conditions: Some(EndpointConditions { ready: Some(ready), ..EndpointConditions::default() }),
        hostname: address.hostname.clone(),
        node_name: address.node_name.clone(),
        target_ref: address.target_ref.clone(),
        ..Endpoint::default()
    }
}

/// The controller.
pub struct Mirroring;

impl Controller for Mirroring {
    fn subscribe(&self, caches: &Arc<Caches>, queue: &Arc<Queue>) {
        let own = queue.clone();
        caches.endpoints.subscribe(move |change: Change<'_, Endpoints>| own.add(change.latest().key()));
        let own = queue.clone();
        caches.services.subscribe(move |change: Change<'_, Service>| own.add(change.latest().key()));
        let own = queue.clone();
        caches.endpoint_slices.subscribe(move |change: Change<'_, EndpointSlice>| {
            for slice in change.both().filter(|s| s.label(MANAGED_BY) == Some(CONTROLLER)) {
                if let Some(service) = slice.label(SERVICE_NAME) {
                    own.add(Key::new(slice.namespace(), service));
                }
            }
        });
    }

    fn plan(&self, view: &View<'_>, key: &Key) -> Plan {
        let mut slices = view.caches.endpoint_slices.indexed(&key.to_string());
        slices.retain(|s| s.label(MANAGED_BY) == Some(CONTROLLER));
        plan(&Observed { service: view.caches.services.get(key), endpoints: view.caches.endpoints.get(key), slices })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::World;
    use expect_test::expect;
    use serde_json::json;

    #[test]
    fn mirrors_endpoints_written_by_hand_and_follows_them() {
        let mut world = World::new();
        world.add::<Service>(json!({"metadata": {"name": "db", "namespace": "default"}, "spec": {"ports": [{"port": 5432}]}}));
        world.add::<Endpoints>(json!({
            "metadata": {"name": "db", "namespace": "default"},
            "subsets": [{"addresses": [{"ip": "192.0.2.1"}], "notReadyAddresses": [{"ip": "2001:db8::1"}], "ports": [{"port": 5432}]}]
        }));
        world.settle::<Endpoints>(&Mirroring);
        let lines = |w: &World| -> String {
            let one = |s: &EndpointSlice| {
                format!("{} {} {:?}\n", s.name(), s.address_type, s.endpoints.iter().map(|e| &e.addresses[0]).collect::<Vec<_>>())
            };
            w.list::<EndpointSlice>().iter().map(one).collect()
        };
        expect![[r#"
            db-1 IPv4 ["192.0.2.1"]
            db-2 IPv6 ["2001:db8::1"]
        "#]]
        .assert_eq(&lines(&world));
        world.edit::<Endpoints>(&Key::new("default", "db"), |e| e.metadata.labels = Some([(SKIP.to_owned(), "true".to_owned())].into()));
        world.settle::<Endpoints>(&Mirroring);
        expect![""].assert_eq(&lines(&world));
    }
}
