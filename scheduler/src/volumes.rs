//! Volumes, claims and classes as the scheduler sees them, and which volumes a pod's claims would get on a node.
//!
//! A claim that is bound says where its pod can run. One that waits for its first consumer is given a volume, or a provisioner is
//! asked for one, when its pod gets a node: [`Volumes::choose`] says what would be done there. What was chosen for a pod whose
//! binding is under way is *given*: nobody else gets it meanwhile.

use std::collections::{BTreeMap, HashMap};
use std::str::FromStr as _;
use std::sync::Arc;

use api::labels::Selector;
use api::quantity::Quantity;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::storage::v1 as storage;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::identity::{Labels, NodeName, Uid};
use crate::node::NodeFacts;
use crate::node_selector::Term;
use crate::observation::{Change, Key};
use crate::pod::Pod;
use crate::pod_terms::selector;

/// On a claim: volume and claim point to each other.
const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
/// On a claim: the node for which a volume is to be provisioned.
pub const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
/// The class, from before `storageClassName`.
const CLASS: &str = "volume.beta.kubernetes.io/storage-class";
/// A class of this provisioner is for volumes made by hand.
const NO_PROVISIONER: &str = "kubernetes.io/no-provisioner";

/// No volume is there for a claim, nor can one be made.
pub const NOTHING_TO_BIND: &str = "node(s) didn't find available persistent volumes to bind";
/// A bound volume is somewhere else.
pub const ELSEWHERE: &str = "node(s) didn't match PersistentVolume's node affinity";
/// A bound claim's volume is gone.
pub const NO_VOLUME: &str = "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)";
/// Nobody has bound a claim that does not wait for a pod.
pub const IMMEDIATE: &str = "pod has unbound immediate PersistentVolumeClaims";

/// A claim that a pod uses.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PodClaim {
    /// Its name; it is in the pod's namespace.
    pub name: Arc<str>,
    /// Whether it is made for this pod alone.
    pub ephemeral: bool,
}

/// The claims of a pod.
#[must_use]
pub fn claims_of(pod: &str, spec: &core::PodSpec) -> Vec<PodClaim> {
    let of = |v: &core::Volume| match (&v.persistent_volume_claim, &v.ephemeral) {
        (Some(claim), _) => Some(PodClaim { name: claim.claim_name.as_str().into(), ephemeral: false }),
        (None, Some(_)) => Some(PodClaim { name: format!("{pod}-{}", v.name).into(), ephemeral: true }),
        (None, None) => None,
    };
    spec.volumes.iter().flatten().filter_map(of).collect()
}

/// A PersistentVolume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Name.
    pub name: Arc<str>,
    /// Labels.
    pub labels: Labels,
    /// For a patch that must not overwrite another's.
    pub resource_version: String,
    /// The nodes that can reach it; `None` for all.
    pub nodes: Option<Vec<Term>>,
    /// What it points to: a claim's key, and its uid if it is meant and not only its name.
    pub claim: Option<(Key, Option<Uid>)>,
    /// CSI driver and handle, if it is of that kind.
    pub csi: Option<(String, String)>,
    free: bool,
    class: String,
    mode: String,
    access_modes: Vec<String>,
    capacity: Quantity,
}

/// A PersistentVolumeClaim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Namespace and name.
    pub key: Key,
    /// Uid.
    pub uid: Option<Uid>,
    /// For a patch that must not overwrite another's.
    pub resource_version: String,
    /// The volume it points to; empty for none.
    pub volume: String,
    /// Whether volume and claim point to each other.
    pub bound: bool,
    /// The node for which a volume is to be provisioned.
    pub selected_node: Option<NodeName>,
    /// Whether only one pod may use it.
    pub for_one_pod: bool,
    /// The pod that it was made for.
    pub owner: Option<Uid>,
    /// The class it names; empty for none.
    pub class: String,
    lost: bool,
    deleting: bool,
    mode: String,
    access_modes: Vec<String>,
    requested: Quantity,
    selector: Option<Selector>,
}

/// A StorageClass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Class {
    /// Who makes volumes of it.
    pub provisioner: String,
    waits: bool,
    /// Where volumes of it can be made; empty for everywhere.
    topologies: Vec<Vec<(String, Vec<String>)>>,
}

fn annotation<'a>(meta: &'a ObjectMeta, key: &str) -> Option<&'a String> {
    meta.annotations.as_ref()?.get(key)
}

fn class_of(meta: &ObjectMeta, field: Option<&String>) -> String {
    annotation(meta, CLASS).or(field).cloned().unwrap_or_default()
}

fn amount(list: Option<&BTreeMap<String, k8s_openapi::apimachinery::pkg::api::resource::Quantity>>) -> Quantity {
    list.and_then(|l| Quantity::from_str(&l.get("storage")?.0).ok()).unwrap_or(Quantity::ZERO)
}

fn mode(field: Option<&String>) -> String {
    field.cloned().unwrap_or_else(|| "Filesystem".to_owned())
}

impl Volume {
    /// Parses what the apiserver sent.
    ///
    /// # Errors
    /// Node affinity that cannot be understood.
    pub fn parse(volume: &core::PersistentVolume) -> Result<Self, String> {
        let (meta, none) = (&volume.metadata, core::PersistentVolumeSpec::default());
        let spec = volume.spec.as_ref().unwrap_or(&none);
        let required = spec.node_affinity.as_ref().and_then(|a| a.required.as_ref());
        let reference = |r: &core::ObjectReference| {
            let key = (r.namespace.clone().unwrap_or_default(), r.name.clone().unwrap_or_default());
            (key, r.uid.as_deref().filter(|u| !u.is_empty()).map(Uid::from))
        };
        Ok(Self {
            name: meta.name.as_deref().unwrap_or_default().into(),
            labels: meta.labels.clone().unwrap_or_default(),
            resource_version: meta.resource_version.clone().unwrap_or_default(),
            nodes: required.map(|r| r.node_selector_terms.iter().map(Term::parse).collect()).transpose()?,
            claim: spec.claim_ref.as_ref().map(reference),
            csi: spec.csi.as_ref().map(|c| (c.driver.clone(), c.volume_handle.clone())),
            free: volume.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Available") && meta.deletion_timestamp.is_none(),
            class: class_of(meta, spec.storage_class_name.as_ref()),
            mode: mode(spec.volume_mode.as_ref()),
            access_modes: spec.access_modes.clone().unwrap_or_default(),
            capacity: amount(spec.capacity.as_ref()),
        })
    }

    /// Whether the node can reach it.
    #[must_use]
    pub fn reaches(&self, node: &NodeFacts) -> bool {
        self.nodes.as_ref().is_none_or(|terms| terms.iter().any(|t| t.matches(node)))
    }

    fn points_to(&self, claim: &Claim) -> bool {
        self.claim.as_ref().is_some_and(|(key, uid)| *key == claim.key && uid.as_ref().is_none_or(|uid| Some(uid) == claim.uid.as_ref()))
    }

    fn fits(&self, claim: &Claim) -> bool {
        claim.requested <= self.capacity && claim.mode == self.mode
    }

    fn is_free_for(&self, claim: &Claim) -> bool {
        self.free
            && self.claim.is_none()
            && self.class == claim.class
            && claim.access_modes.iter().all(|m| self.access_modes.contains(m))
            && claim.selector.as_ref().is_none_or(|s| s.matches(&self.labels))
    }
}

impl Claim {
    /// Parses what the apiserver sent.
    ///
    /// # Errors
    /// A selector that cannot be understood.
    pub fn parse(claim: &core::PersistentVolumeClaim) -> Result<Self, String> {
        let (meta, none) = (&claim.metadata, core::PersistentVolumeClaimSpec::default());
        let spec = claim.spec.as_ref().unwrap_or(&none);
        let volume = spec.volume_name.clone().unwrap_or_default();
        let access_modes = spec.access_modes.clone().unwrap_or_default();
        let controller = meta.owner_references.iter().flatten().find(|o| o.controller == Some(true));
        Ok(Self {
            key: (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default()),
            uid: meta.uid.as_deref().map(Uid::from),
            resource_version: meta.resource_version.clone().unwrap_or_default(),
            bound: !volume.is_empty() && annotation(meta, BIND_COMPLETED).is_some(),
            volume,
            selected_node: annotation(meta, SELECTED_NODE).filter(|n| !n.is_empty()).map(|n| NodeName::from(n.as_str())),
            for_one_pod: access_modes.iter().any(|m| m == "ReadWriteOncePod"),
            owner: controller.map(|o| Uid::from(o.uid.as_str())),
            class: class_of(meta, spec.storage_class_name.as_ref()),
            lost: claim.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Lost"),
            deleting: meta.deletion_timestamp.is_some(),
            mode: mode(spec.volume_mode.as_ref()),
            access_modes,
            requested: amount(spec.resources.as_ref().and_then(|r| r.requests.as_ref())),
            selector: spec.selector.as_ref().map(|s| selector(Some(s))).transpose()?,
        })
    }
}

impl Class {
    /// Parses what the apiserver sent.
    #[must_use]
    pub fn parse(class: &storage::StorageClass) -> Self {
        let terms = class.allowed_topologies.iter().flatten();
        let term = |t: &core::TopologySelectorTerm| {
            t.match_label_expressions.iter().flatten().map(|e| (e.key.clone(), e.values.clone())).collect()
        };
        Self {
            provisioner: class.provisioner.clone(),
            waits: class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer"),
            topologies: terms.map(term).collect(),
        }
    }

    /// Whether a volume for `node` can be made.
    fn provisions_for(&self, node: &NodeFacts) -> bool {
        let here = |term: &Vec<(String, Vec<String>)>| {
            term.iter().all(|(key, values)| node.labels.get(key).is_some_and(|have| values.contains(have)))
        };
        !matches!(self.provisioner.as_str(), "" | NO_PROVISIONER) && (self.topologies.is_empty() || self.topologies.iter().any(here))
    }
}

/// How many volumes of each CSI driver a node can have.
#[must_use]
pub fn limits(node: &storage::CSINode) -> BTreeMap<String, i64> {
    let drivers = node.spec.drivers.iter();
    drivers.filter_map(|d| Some((d.name.clone(), i64::from(d.allocatable.as_ref()?.count?)))).collect()
}

/// What is to be done for a pod's claims before it is bound.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VolumePlan {
    /// Volumes to be pointed at claims.
    pub take: Vec<(Arc<Volume>, Arc<Claim>)>,
    /// Claims for which a provisioner is to be told the node.
    pub provision: Vec<Arc<Claim>>,
}

impl VolumePlan {
    /// Whether nothing is to be done.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.take.is_empty() && self.provision.is_empty()
    }
}

/// Everything about storage that matters for placing pods.
#[derive(Debug, Clone, Default)]
pub struct Volumes {
    volumes: BTreeMap<Arc<str>, Arc<Volume>>,
    claims: HashMap<Key, Arc<Claim>>,
    classes: HashMap<String, Arc<Class>>,
    limits: HashMap<NodeName, BTreeMap<String, i64>>,
    /// Volumes that are about to be pointed at a claim, and the pod for which.
    given: HashMap<Arc<str>, (Key, Uid)>,
}

impl Volumes {
    /// Takes in a change of a volume.
    pub fn on_volume(&mut self, change: Change<String, Arc<Volume>>) {
        match change {
            Change::Put(_, volume) => _ = self.volumes.insert(volume.name.clone(), volume),
            Change::Gone(name) => _ = self.volumes.remove(name.as_str()),
            Change::Listed(names) => self.volumes.retain(|name, _| names.contains(&**name)),
        }
    }

    /// Takes in a change of a claim.
    pub fn on_claim(&mut self, change: Change<Key, Arc<Claim>>) {
        match change {
            Change::Put(key, claim) => _ = self.claims.insert(key, claim),
            Change::Gone(key) => _ = self.claims.remove(&key),
            Change::Listed(keys) => self.claims.retain(|key, _| keys.contains(key)),
        }
    }

    /// Takes in a change of a class.
    pub fn on_class(&mut self, change: Change<String, Arc<Class>>) {
        match change {
            Change::Put(name, class) => _ = self.classes.insert(name, class),
            Change::Gone(name) => _ = self.classes.remove(&name),
            Change::Listed(names) => self.classes.retain(|name, _| names.contains(name)),
        }
    }

    /// Takes in a change of what a node's CSI drivers can do.
    pub fn on_limits(&mut self, change: Change<NodeName, BTreeMap<String, i64>>) {
        match change {
            Change::Put(name, limits) => _ = self.limits.insert(name, limits),
            Change::Gone(name) => _ = self.limits.remove(&name),
            Change::Listed(names) => self.limits.retain(|name, _| names.contains(name)),
        }
    }

    /// Nobody else gets these volumes until [`Volumes::take_back`].
    pub fn give(&mut self, plan: &VolumePlan, pod: &Uid) {
        self.given.extend(plan.take.iter().map(|(volume, claim)| (volume.name.clone(), (claim.key.clone(), pod.clone()))));
    }

    /// The pod's binding has ended, well or badly: what the watches say of its volumes counts again.
    pub fn take_back(&mut self, pod: &Uid) {
        self.given.retain(|_, (_, given_for)| given_for != pod);
    }

    /// The claim of this name in the pod's namespace.
    #[must_use]
    pub fn claim(&self, pod: &Pod, name: &str) -> Option<&Arc<Claim>> {
        self.claims.get(&(pod.namespace.to_string(), name.to_owned()))
    }

    /// The claim of this key.
    #[must_use]
    pub fn claim_of(&self, key: &Key) -> Option<&Arc<Claim>> {
        self.claims.get(key)
    }

    /// The volume of this name.
    #[must_use]
    pub fn volume(&self, name: &str) -> Option<&Arc<Volume>> {
        self.volumes.get(name)
    }

    /// The class of this name.
    #[must_use]
    pub fn class(&self, name: &str) -> Option<&Arc<Class>> {
        self.classes.get(name)
    }

    /// How many volumes of each CSI driver the node can have; `None` when nothing is known of it.
    #[must_use]
    pub fn limits_of(&self, node: &NodeName) -> Option<&BTreeMap<String, i64>> {
        self.limits.get(node)
    }

    /// Whether the claim waits for a pod to get a node.
    #[must_use]
    pub fn waits(&self, claim: &Claim) -> bool {
        claim.volume.is_empty() && self.classes.get(&claim.class).is_some_and(|c| c.waits)
    }

    /// Whether the pod's claims let it be scheduled at all.
    ///
    /// # Errors
    /// Why not, in upstream's words.
    pub fn check(&self, pod: &Pod) -> Result<(), String> {
        for wanted in &pod.claims {
            let name = &*wanted.name;
            let Some(claim) = self.claim(pod, name) else {
                return Err(match wanted.ephemeral {
                    true => format!("waiting for ephemeral volume controller to create the persistentvolumeclaim {name:?}"),
                    false => format!("persistentvolumeclaim {name:?} not found"),
                });
            };
            if claim.lost {
                return Err(format!("persistentvolumeclaim {name:?} bound to non-existent persistentvolume {:?}", claim.volume));
            }
            if claim.deleting {
                return Err(format!("persistentvolumeclaim {name:?} is being deleted"));
            }
            if wanted.ephemeral && claim.owner != pod.uid {
                let (namespace, pod) = (&pod.namespace, &pod.name);
                return Err(format!("PVC {namespace}/{name} was not created for pod {namespace}/{pod} (pod is not owner)"));
            }
        }
        let immediate = |claim: &Arc<Claim>| !claim.bound && !self.waits(claim);
        if self.claims_of(pod).any(immediate) { Err(IMMEDIATE.to_owned()) } else { Ok(()) }
    }

    /// The pod's claims that there are.
    pub fn claims_of<'a>(&'a self, pod: &'a Pod) -> impl Iterator<Item = &'a Arc<Claim>> {
        pod.claims.iter().filter_map(|c| self.claim(pod, &c.name))
    }

    /// What would be done for the pod's claims on `node`.
    ///
    /// # Errors
    /// Why the pod cannot run there.
    pub fn choose(&self, pod: &Pod, node: &NodeFacts) -> Result<VolumePlan, Vec<&'static str>> {
        let mut reasons = Vec::new();
        for claim in self.claims_of(pod).filter(|c| c.bound) {
            match self.volumes.get(claim.volume.as_str()) {
                None => reasons.push(NO_VOLUME),
                Some(volume) if !volume.reaches(node) => reasons.push(ELSEWHERE),
                Some(_) => {}
            }
        }
        let mut plan = VolumePlan::default();
        // The smallest claim first, so that it does not take what a larger one needs.
        let mut waiting: Vec<&Arc<Claim>> = self.claims_of(pod).filter(|c| !c.bound).collect();
        waiting.sort_by(|a, b| (a.requested, &a.key).cmp(&(b.requested, &b.key)));
        waiting.dedup_by(|a, b| a.key == b.key);
        for claim in waiting {
            let elsewhere = claim.selected_node.as_ref().is_some_and(|n| n.as_str() != node.name.as_str());
            let volume = if claim.selected_node.is_none() { self.volume_for(claim, node, &plan) } else { None };
            match volume {
                Some(volume) => plan.take.push((volume.clone(), claim.clone())),
                None if !elsewhere && self.classes.get(&claim.class).is_some_and(|c| c.provisions_for(node)) => {
                    plan.provision.push(claim.clone());
                }
                None => reasons.push(NOTHING_TO_BIND),
            }
        }
        reasons.sort_unstable();
        reasons.dedup();
        if reasons.is_empty() { Ok(plan) } else { Err(reasons) }
    }

    fn volume_for(&self, claim: &Claim, node: &NodeFacts, plan: &VolumePlan) -> Option<&Arc<Volume>> {
        let mine = |v: &Volume| self.given.get(&v.name).is_none_or(|(key, _)| *key == claim.key);
        let fits = |v: &&Arc<Volume>| v.fits(claim) && mine(v) && !plan.take.iter().any(|(taken, _)| taken.name == v.name);
        if let Some(kept) = self.volumes.values().filter(fits).find(|v| v.points_to(claim)) {
            return kept.reaches(node).then_some(kept);
        }
        let free = |v: &&Arc<Volume>| v.is_free_for(claim) && v.reaches(node);
        self.volumes.values().filter(fits).filter(free).min_by_key(|v| v.capacity)
    }
}
