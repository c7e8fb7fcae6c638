//! What should happen to a packet, straight from the Services: slow, plain, and without a thought of tables.

use std::collections::BTreeSet;
use std::net::IpAddr;

use kube_proxy::model::{Endpoint, Node, Service, ServicePort, Services};

use crate::tracer::{Fate, Packet};

pub fn fates(services: &Services, node: &Node, packet: &Packet) -> BTreeSet<Fate> {
    let cluster = node.cluster_cidr.unwrap();
    for (key, service) in &services.services {
        for port in service.ports.iter().filter(|p| p.protocol == packet.protocol) {
            let Some(external) = frontend(service, port, node, packet) else { continue };
            let is_balancer = service.load_balancer_ips.contains(&packet.to);
            if is_balancer && !service.source_ranges.is_empty() && !service.source_ranges.iter().any(|r| r.contains(&packet.from)) {
                return [Fate::Dropped].into();
            }
            let slice = &services.slices[key];
            let number = slice.ports.iter().find(|(name, ..)| *name == port.name).unwrap().2;
            let inside = cluster.contains(&packet.from) || packet.made_here;
            let local = if external { service.external_local && !inside } else { service.internal_local };
            let anywhere = usable(&slice.endpoints, false, node);
            let chosen = if local { usable(&slice.endpoints, true, node) } else { anywhere.clone() };
            if chosen.is_empty() {
                return [if anywhere.is_empty() { Fate::Refused } else { Fate::Dropped }].into();
            }
            let off_cluster = !cluster.contains(&packet.from);
            let masqueraded = if external && !service.external_local { true } else { off_cluster && !(external && local) };
            let sent = |to: &IpAddr| Fate::Sent { to: *to, port: number, masqueraded: masqueraded || *to == packet.from };
            return chosen.iter().map(sent).collect();
        }
    }
    let leaves = node.pod_cidrs[0].contains(&packet.from) && !cluster.contains(&packet.to);
    [Fate::Sent { to: packet.to, port: packet.port, masqueraded: leaves }].into()
}

/// Whether the packet is for this port, and if so, whether by an address for strangers.
fn frontend(service: &Service, port: &ServicePort, node: &Node, packet: &Packet) -> Option<bool> {
    let at_port = packet.port == port.port;
    if at_port && service.cluster_ips.contains(&packet.to) {
        return Some(false);
    }
    let external = at_port && (service.external_ips.contains(&packet.to) || service.load_balancer_ips.contains(&packet.to));
    let on_node = Some(packet.port) == port.node_port && node.addresses.contains(&packet.to);
    (external || on_node).then_some(true)
}

fn usable(endpoints: &[Endpoint], local: bool, node: &Node) -> Vec<IpAddr> {
    let here = |e: &&Endpoint| !local || e.node.as_ref() == Some(&node.name);
    let ready: Vec<&Endpoint> = endpoints.iter().filter(|e| e.ready).collect();
    let zone = node.zone.as_ref().unwrap();
    let hinted = !local && ready.iter().all(|e| !e.zones.is_empty()) && ready.iter().any(|e| e.zones.contains(zone));
    let mut found: Vec<&Endpoint> = ready.into_iter().filter(here).filter(|e| !hinted || e.zones.contains(zone)).collect();
    if found.is_empty() {
        found = endpoints.iter().filter(|e| e.serving && e.terminating).filter(here).collect();
    }
    found.into_iter().map(|e| e.address).collect()
}
