//! What has been seen of the cluster so far, and whether that is enough to make rules of.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use jiff::Timestamp;

use crate::compile::local_endpoints;
use crate::flags::{Flags, NodePortAddresses};
use crate::links::Address;
use crate::model::{Node, ObjectKey, Services};
use crate::policy::Policy;
use crate::routes::Host;
use crate::watch::{DatedSlice, News, Update, Whose};

/// The observation.
#[derive(Debug, Default)]
pub struct Known {
    name: String,
    services: Services,
    /// Kept apart from `services` until everything that they speak of is known.
    policies: BTreeMap<ObjectKey, Policy>,
    /// The nodes.
    pub hosts: BTreeMap<String, Host>,
    /// The addresses of this node.
    pub addresses: Vec<Address>,
    listed: Listed,
    /// When the endpoint changes happened that are not in the rules yet.
    changes: Vec<Timestamp>,
}

/// What has been listed at least once. "Not yet seen" is not "none".
#[derive(Debug, Default)]
struct Listed {
    services: bool,
    slices: bool,
    policies: bool,
    nodes: bool,
    /// Pods of this node.
    pods: bool,
    /// Pods of all nodes.
    all_pods: bool,
    namespaces: bool,
}

/// The most change times kept for the metric between two syncs.
const MAX_CHANGES: usize = 1_024;

/// What an update changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Changed {
    /// Nothing that matters.
    Nothing,
    /// Services.
    Services,
    /// Endpoints.
    Endpoints,
    /// Nodes: rules and routes.
    Nodes,
    /// Pods, namespaces or policies.
    Policies,
}

impl Known {
    /// Nothing is known but the name of this node.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }

    /// The name of this node.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Takes news in.
    pub fn take(&mut self, update: Update) -> Changed {
        let or = |changed: bool, what| if changed { what } else { Changed::Nothing };
        match update {
            Update::Services(news) => or(merge(&mut self.services.services, news, &mut self.listed.services), Changed::Services),
            Update::Slices(news) => {
                let news = self.note_times(news);
                or(merge(&mut self.services.slices, news, &mut self.listed.slices), Changed::Endpoints)
            }
            Update::Nodes(news) => {
                let mut hosts = std::mem::take(&mut self.hosts).into_iter().map(|(name, h)| (ObjectKey::new("", &name), h)).collect();
                let changed = merge(&mut hosts, news, &mut self.listed.nodes);
                self.hosts = hosts.into_iter().map(|(key, h)| (key.name, h)).collect();
                or(changed, Changed::Nodes)
            }
            Update::Pods(of, news) => {
                let listed = match of {
                    Whose::Everybody => &mut self.listed.all_pods,
                    Whose::Ours => &mut self.listed.pods,
                };
                or(merge(&mut self.services.pods, news, listed), Changed::Policies)
            }
            Update::Namespaces(news) => {
                let mut keyed =
                    std::mem::take(&mut self.services.namespaces).into_iter().map(|(n, l)| (ObjectKey::new("", &n), l)).collect();
                let changed = merge(&mut keyed, news, &mut self.listed.namespaces);
                self.services.namespaces = keyed.into_iter().map(|(key, l)| (key.name, l)).collect();
                or(changed, Changed::Policies)
            }
            Update::Policies(news) => or(merge(&mut self.policies, news, &mut self.listed.policies), Changed::Policies),
        }
    }

    fn note_times(&mut self, news: News<DatedSlice>) -> News<crate::model::Slice> {
        match news {
            // A list tells what was, maybe long ago; only what comes while we watch is measured.
            News::All(all) => News::All(all.into_iter().map(|(key, dated)| (key, dated.0)).collect()),
            News::One(key, dated) => News::One(
                key,
                dated.map(|DatedSlice(slice, time)| {
                    if self.changes.len() < MAX_CHANGES {
                        self.changes.extend(time);
                    }
                    slice
                }),
            ),
        }
    }

    /// Whether there are policies, so that all pods and namespaces must be known.
    #[must_use]
    pub fn has_policies(&self) -> bool {
        !self.policies.is_empty()
    }

    /// Nothing is known of pods any more, because another watch tells of them from now on.
    pub fn forget_pods(&mut self) {
        self.listed.pods = false;
        self.listed.all_pods = false;
        self.listed.namespaces = false;
    }

    /// Whether enough is known to make rules.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        let l = &self.listed;
        let pods = if self.has_policies() { l.all_pods && l.namespaces } else { l.pods || l.all_pods };
        l.services && l.slices && l.nodes && l.policies && pods
    }

    /// Whether nodes are known, so that routes can be made.
    #[must_use]
    pub fn knows_nodes(&self) -> bool {
        self.listed.nodes
    }

    /// The change times since the last call.
    pub fn take_changes(&mut self) -> Vec<Timestamp> {
        std::mem::take(&mut self.changes)
    }

    /// What rules are made of, with the policies in force.
    pub fn services(&mut self) -> &Services {
        if self.is_complete() {
            self.services.policies.clone_from(&self.policies);
        }
        &self.services
    }

    /// This node.
    #[must_use]
    pub fn node(&self, flags: &Flags) -> Node {
        let host = self.hosts.get(&self.name).cloned().unwrap_or_default();
        let primary = flags.given_node_ip().or_else(|| host.addresses.iter().find(|a| a.is_ipv4()).copied());
        let answers = |addr: Ipv4Addr| {
            flags.nodeport_addresses.is_empty()
                || flags.nodeport_addresses.iter().any(|wanted| match wanted {
                    NodePortAddresses::Primary => primary == Some(IpAddr::V4(addr)),
                    NodePortAddresses::Range(net) => net.contains(&IpAddr::V4(addr)),
                })
        };
        let mut addresses: Vec<IpAddr> =
            self.addresses.iter().map(|a| a.net.addr()).filter(|a| !a.is_loopback() && answers(*a)).map(IpAddr::V4).collect();
        addresses.sort_unstable();
        addresses.dedup();
        Node {
            name: self.name.clone(),
            zone: host.zone,
            addresses,
            pod_cidrs: host.pod_cidrs,
            cluster_cidr: flags.cluster_cidr.iter().find(|c| c.addr().is_ipv4()).copied(),
            masquerade_all: flags.masquerade_all,
        }
    }

    /// Whether this node is being taken away.
    #[must_use]
    pub fn is_leaving(&self) -> bool {
        self.hosts.get(&self.name).is_some_and(|h| h.leaving)
    }

    /// The health check node ports: Service, and its number of endpoints on this node.
    #[must_use]
    pub fn health_ports(&self, node: &Node) -> BTreeMap<u16, (ObjectKey, usize)> {
        let with_port = self.services.services.iter().filter_map(|(key, s)| Some((key, s.health_check_node_port?)));
        with_port.map(|(key, port)| (port, (key.clone(), local_endpoints(&self.services, key, node)))).collect()
    }
}

/// Takes news into a map; says whether that changed it, or listed it for the first time.
fn merge<T: PartialEq>(map: &mut BTreeMap<ObjectKey, T>, news: News<T>, listed: &mut bool) -> bool {
    match news {
        News::All(all) => {
            let all: BTreeMap<ObjectKey, T> = all.into_iter().collect();
            let same = *map == all;
            *map = all;
            !std::mem::replace(listed, true) || !same
        }
        News::One(key, Some(value)) => {
            let changed = map.get(&key).is_none_or(|old| *old != value);
            map.insert(key, value);
            changed
        }
        News::One(key, None) => map.remove(&key).is_some(),
    }
}
