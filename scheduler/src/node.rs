//! A node: what it is and offers, and what the pods on it take.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1 as core;

use crate::identity::{Labels, NodeName};
use crate::pod::{HostPort, Pod};
use crate::resources::Resources;
use crate::taints::Taint;

/// What a Node object says that matters for placing pods. A heartbeat does not change it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeFacts {
    /// Its name.
    pub name: NodeName,
    /// Labels.
    pub labels: Labels,
    /// Taints.
    pub taints: Vec<Taint>,
    /// `spec.unschedulable`: cordoned.
    pub unschedulable: bool,
    /// What it can give to pods.
    pub allocatable: Resources,
    /// How many pods it can run.
    pub max_pods: i64,
    /// Size in bytes of the images that it has, by name.
    pub images: BTreeMap<String, i64>,
}

impl NodeFacts {
    /// Parses what the apiserver sent.
    ///
    /// # Errors
    /// An allocatable quantity that is none.
    pub fn parse(node: &core::Node) -> Result<Self, String> {
        let spec = node.spec.as_ref();
        let status = node.status.as_ref();
        let allocatable = status.and_then(|s| s.allocatable.as_ref());
        let pods = allocatable.and_then(|a| a.get("pods")).map(|q| q.0.parse::<api::quantity::Quantity>());
        let pods = pods.transpose().map_err(|e| format!("allocatable pods: {e}"))?;
        let images = status.and_then(|s| s.images.as_ref()).into_iter().flatten();
        Ok(Self {
            name: node.metadata.name.as_deref().unwrap_or_default().into(),
            labels: node.metadata.labels.clone().unwrap_or_default(),
            taints: spec.and_then(|s| s.taints.as_ref()).into_iter().flatten().filter_map(Taint::parse).collect(),
            unschedulable: spec.and_then(|s| s.unschedulable) == Some(true),
            allocatable: Resources::parse(allocatable)?,
            max_pods: pods.map_or(0, |q| i64::try_from(q.value()).unwrap_or(i64::MAX)),
            images: images.flat_map(|i| i.names.iter().flatten().map(|name| (name.clone(), i.size_bytes.unwrap_or(0)))).collect(),
        })
    }

    /// The zone, for looking at nodes of all zones in turn.
    #[must_use]
    pub fn zone(&self) -> &str {
        self.labels.get("topology.kubernetes.io/zone").map_or("", String::as_str)
    }
}

/// A node with the pods on it and the sums over them. All sums are what adding the pods one by one gives.
#[derive(Debug, Clone)]
pub struct Node {
    /// What the Node object says.
    pub facts: Arc<NodeFacts>,
    /// The pods on it, assumed ones included.
    pub pods: Vec<Arc<Pod>>,
    /// What they request together.
    pub requested: Resources,
    /// The same with defaults for containers that request nothing.
    pub scored: Resources,
    /// Host ports taken.
    pub ports: Vec<HostPort>,
    /// How many of the pods have inter-pod affinity of any kind.
    pub affine: usize,
    /// How many of the pods keep others away by required anti-affinity.
    pub repelling: usize,
}

impl Node {
    /// A node without pods.
    #[must_use]
    pub fn new(facts: Arc<NodeFacts>) -> Self {
        Self {
            facts,
            pods: Vec::new(),
            requested: Resources::default(),
            scored: Resources::default(),
            ports: Vec::new(),
            affine: 0,
            repelling: 0,
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &NodeName {
        &self.facts.name
    }

    /// Puts `pod` on it.
    pub fn add(&mut self, pod: Arc<Pod>) {
        self.requested.add(&pod.requests);
        self.scored.add(&pod.scored);
        self.ports.extend_from_slice(&pod.ports);
        let affinity = pod.affinity.as_deref();
        self.affine += usize::from(affinity.is_some());
        self.repelling += usize::from(affinity.is_some_and(|a| !a.forbidden.is_empty()));
        self.pods.push(pod);
    }

    /// Takes the pod with the uid of `pod` away, and gives it back; `None` when it is not here.
    pub fn remove(&mut self, pod: &Pod) -> Option<Arc<Pod>> {
        let at = self.pods.iter().position(|p| p.is(pod))?;
        let pod = self.pods.swap_remove(at);
        self.requested.subtract(&pod.requests);
        self.scored.subtract(&pod.scored);
        for port in &pod.ports {
            if let Some(at) = self.ports.iter().position(|p| p == port) {
                self.ports.swap_remove(at);
            }
        }
        let affinity = pod.affinity.as_deref();
        self.affine -= usize::from(affinity.is_some());
        self.repelling -= usize::from(affinity.is_some_and(|a| !a.forbidden.is_empty()));
        Some(pod)
    }
}
