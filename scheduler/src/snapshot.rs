//! The cluster as one scheduling cycle sees it: a value, cheap to copy and to change.
//!
//! Nodes are shared until they are changed, so a hypothetical world ("and without these pods?") costs one copied node. The
//! cache keeps one of these up to date in place; nothing is rebuilt for a cycle.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use api::labels::Selector;

use crate::identity::{Labels, NodeName, Uid};
use crate::node::{Node, NodeFacts};
use crate::observation::{Change, Key};
use crate::pod::Pod;
use crate::volumes::Volumes;

/// All that filters and scores may look at.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    nodes: Vec<Arc<Node>>,
    index: Arc<HashMap<NodeName, usize>>,
    order: Arc<Vec<usize>>,
    /// Pods with inter-pod affinity of any kind, on all nodes.
    affine: usize,
    /// Pods with required anti-affinity, on all nodes.
    repelling: usize,
    images: Arc<HashMap<String, usize>>,
    namespaces: Arc<HashMap<String, Labels>>,
    groups: Arc<Groups>,
    volumes: Arc<Volumes>,
    nominated: Arc<HashMap<NodeName, Vec<Arc<Pod>>>>,
}

/// Which pods belong together, by the selectors of Services and controllers. Used to spread pods that ask for nothing.
#[derive(Debug, Clone, Default)]
pub struct Groups {
    /// Selectors of Services by namespace and name.
    services: HashMap<String, BTreeMap<String, Selector>>,
    /// Plural and selector of ReplicaSets, StatefulSets and ReplicationControllers, by uid.
    controllers: HashMap<Uid, (&'static str, Selector)>,
}

impl Groups {
    /// Takes in a change of a Service.
    pub fn service(&mut self, change: Change<Key, Selector>) {
        match change {
            Change::Put((namespace, name), selector) => _ = self.services.entry(namespace).or_default().insert(name, selector),
            Change::Gone((namespace, name)) => {
                if let Some(services) = self.services.get_mut(&namespace) {
                    services.remove(&name);
                }
            }
            Change::Listed(keys) => {
                for (namespace, services) in &mut self.services {
                    services.retain(|name, _| keys.contains(&(namespace.clone(), name.clone())));
                }
            }
        }
        self.services.retain(|_, services| !services.is_empty());
    }

    /// Takes in a change of a controller of the resource `plural`.
    pub fn controller(&mut self, plural: &'static str, change: Change<Uid, Selector>) {
        match change {
            Change::Put(uid, selector) => _ = self.controllers.insert(uid, (plural, selector)),
            Change::Gone(uid) => _ = self.controllers.remove(&uid),
            Change::Listed(uids) => self.controllers.retain(|uid, (p, _)| *p != plural || uids.contains(uid)),
        }
    }
}

static NO_LABELS: Labels = Labels::new();

impl Snapshot {
    /// The nodes, in no particular order.
    pub fn nodes(&self) -> impl ExactSizeIterator<Item = &Node> {
        self.nodes.iter().map(|n| &**n)
    }

    /// How many nodes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there is no node.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The nodes of all zones in turn, starting with the `start`th.
    pub fn in_turn(&self, start: usize) -> impl Iterator<Item = &Node> {
        let order = &self.order;
        let start = if order.is_empty() { 0 } else { start % order.len() };
        order[start..].iter().chain(&order[..start]).map(|&i| &*self.nodes[i])
    }

    /// The node of this name.
    #[must_use]
    pub fn node(&self, name: &str) -> Option<&Node> {
        self.index.get(name).map(|&i| &*self.nodes[i])
    }

    /// Whether a pod anywhere has inter-pod affinity of any kind.
    #[must_use]
    pub fn has_affine_pods(&self) -> bool {
        self.affine > 0
    }

    /// Whether a pod anywhere keeps others away by required anti-affinity.
    #[must_use]
    pub fn has_repelling_pods(&self) -> bool {
        self.repelling > 0
    }

    /// How many nodes have the image.
    #[must_use]
    pub fn nodes_with_image(&self, image: &str) -> usize {
        self.images.get(image).copied().unwrap_or(0)
    }

    /// The labels of a namespace; none when it is not known.
    #[must_use]
    pub fn namespace_labels(&self, namespace: &str) -> &Labels {
        self.namespaces.get(namespace).unwrap_or(&NO_LABELS)
    }

    /// The selectors of the Services and the controller that `pod` belongs to.
    #[must_use]
    pub fn group_of(&self, pod: &Pod) -> Vec<Selector> {
        let services = self.groups.services.get(&*pod.namespace).into_iter().flat_map(BTreeMap::values);
        let controller = pod.controller.as_ref().and_then(|uid| self.groups.controllers.get(uid)).map(|(_, s)| s);
        services.filter(|s| s.matches(&pod.labels)).chain(controller).cloned().collect()
    }

    /// Pods other than `pod` and no less important that are to come to the node once room has been made for them.
    pub fn nominated<'a>(&'a self, node: &NodeName, pod: &'a Pod) -> impl Iterator<Item = &'a Arc<Pod>> {
        let pods = self.nominated.get(node).into_iter().flatten();
        pods.filter(move |p| p.priority >= pod.priority && !p.is(pod))
    }

    /// All pods that are to come to the node.
    #[must_use]
    pub fn all_nominated(&self, node: &str) -> &[Arc<Pod>] {
        self.nominated.get(node).map_or(&[], Vec::as_slice)
    }

    /// Puts a pod on a node; `false` when there is no such node.
    pub fn add_pod(&mut self, node: &NodeName, pod: Arc<Pod>) -> bool {
        let affinity = pod.affinity.as_deref();
        let (affine, repelling) = (affinity.is_some(), affinity.is_some_and(|a| !a.forbidden.is_empty()));
        let Some(&at) = self.index.get(node) else { return false };
        self.affine += usize::from(affine);
        self.repelling += usize::from(repelling);
        Arc::make_mut(&mut self.nodes[at]).add(pod);
        true
    }

    /// Takes a pod off a node; `None` when it was not there.
    pub fn remove_pod(&mut self, node: &NodeName, pod: &Pod) -> Option<Arc<Pod>> {
        let &at = self.index.get(node)?;
        let pod = Arc::make_mut(&mut self.nodes[at]).remove(pod)?;
        let affinity = pod.affinity.as_deref();
        self.affine -= usize::from(affinity.is_some());
        self.repelling -= usize::from(affinity.is_some_and(|a| !a.forbidden.is_empty()));
        Some(pod)
    }

    /// Adds a node or changes what is known of it. Gives back what was known before.
    pub fn put_node(&mut self, facts: Arc<NodeFacts>) -> Option<Arc<NodeFacts>> {
        let images = Arc::make_mut(&mut self.images);
        for image in facts.images.keys() {
            *images.entry(image.clone()).or_default() += 1;
        }
        let Some(&at) = self.index.get(&facts.name) else {
            Arc::make_mut(&mut self.index).insert(facts.name.clone(), self.nodes.len());
            self.nodes.push(Arc::new(Node::new(facts)));
            self.reorder();
            return None;
        };
        let node = Arc::make_mut(&mut self.nodes[at]);
        let old = std::mem::replace(&mut node.facts, facts);
        let moved = old.zone() != node.facts.zone();
        self.forget_images(&old);
        if moved {
            self.reorder();
        }
        Some(old)
    }

    /// Removes a node and gives it back with its pods.
    pub fn remove_node(&mut self, name: &str) -> Option<Arc<Node>> {
        let index = Arc::make_mut(&mut self.index);
        let at = index.remove(name)?;
        let node = self.nodes.swap_remove(at);
        if let Some(moved) = self.nodes.get(at) {
            index.insert(moved.name().clone(), at);
        }
        self.affine -= node.affine;
        self.repelling -= node.repelling;
        self.forget_images(&node.facts);
        self.reorder();
        Some(node)
    }

    /// Sets the labels of a namespace; `None` when it is gone. Says whether that is a change.
    pub fn put_namespace(&mut self, name: &str, labels: Option<Labels>) -> bool {
        if self.namespaces.get(name) == labels.as_ref() {
            return false;
        }
        let namespaces = Arc::make_mut(&mut self.namespaces);
        match labels {
            Some(labels) => namespaces.insert(name.to_owned(), labels),
            None => namespaces.remove(name),
        };
        true
    }

    /// Forgets all namespaces but these.
    pub fn retain_namespaces(&mut self, names: &HashSet<String>) {
        Arc::make_mut(&mut self.namespaces).retain(|name, _| names.contains(name));
    }

    /// Everything about storage.
    #[must_use]
    pub fn volumes(&self) -> &Volumes {
        &self.volumes
    }

    /// Everything about storage, to change it.
    pub fn volumes_mut(&mut self) -> &mut Volumes {
        Arc::make_mut(&mut self.volumes)
    }

    /// The groups, to change them.
    pub fn groups_mut(&mut self) -> &mut Groups {
        Arc::make_mut(&mut self.groups)
    }

    /// Which pods are to come to which node, to change it.
    pub fn nominated_mut(&mut self) -> &mut HashMap<NodeName, Vec<Arc<Pod>>> {
        Arc::make_mut(&mut self.nominated)
    }

    fn forget_images(&mut self, facts: &NodeFacts) {
        let images = Arc::make_mut(&mut self.images);
        for image in facts.images.keys() {
            if let Some(count) = images.get_mut(image) {
                *count -= 1;
                if *count == 0 {
                    images.remove(image);
                }
            }
        }
    }

    /// One node of each zone, then the next of each, so that a search that stops early has seen all zones.
    fn reorder(&mut self) {
        let mut zones = BTreeMap::<&str, Vec<usize>>::new();
        for (i, node) in self.nodes.iter().enumerate() {
            zones.entry(node.facts.zone()).or_default().push(i);
        }
        let longest = zones.values().map(Vec::len).max().unwrap_or(0);
        self.order = Arc::new((0..longest).flat_map(|i| zones.values().filter_map(move |z| z.get(i).copied())).collect());
    }
}
