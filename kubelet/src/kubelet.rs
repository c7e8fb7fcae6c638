//! The handles that the kubelet's rooms share. Holds no logic: who decides takes what it needs as arguments.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use arc_swap::ArcSwap;
use daemon::clock::Clock;
use k8s_openapi::api::core::v1::{Node, Service};
use kube::Client;
use parking_lot::{Mutex, RwLock};
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::allocations::Allocations;
use crate::cgroups::Cgroups;
use crate::env::NodeFacts;
use crate::events::Events;
use crate::eviction::Pressure;
use crate::flags::Flags;
use crate::images::Images;
use crate::node::machine::Machine;
use crate::objects::Objects;
use crate::pods::Pods;
use crate::probes::Prober;
use crate::runtime::Runtime;
use crate::spec::NodeSettings;
use crate::statuses::Statuses;
use crate::volumes::VolumeHost;

/// Sandboxes made at a time: CNI plugins and runc contend, so that more only makes each slower.
pub const SANDBOXES_AT_ONCE: usize = 4;

/// One kubelet.
pub struct Kubelet {
    /// How it was started.
    pub flags: Flags,
    /// The node's name.
    pub node_name: String,
    /// The wall clock.
    pub clock: Clock,
    /// The apiserver.
    pub client: Client,
    /// The runtime.
    pub runtime: Arc<dyn Runtime>,
    /// Where events go.
    pub events: Events,
    /// The API objects pods refer to.
    pub objects: Arc<dyn Objects>,
    /// Image pulls.
    pub images: Images,
    /// The pods of this node.
    pub pods: Arc<Pods>,
    /// Probes.
    pub prober: Prober,
    /// Volumes.
    pub volumes: VolumeHost,
    /// Pods' cgroups.
    pub cgroups: Cgroups,
    /// DNS and security settings.
    pub settings: NodeSettings,
    /// The node's addresses and allocatable.
    pub facts: NodeFacts,
    /// Memory of the node in bytes.
    pub memory: i64,
    /// This machine.
    pub machine: Machine,
    /// The Node object as last seen, without images.
    pub node: ArcSwap<Node>,
    /// Makes the node's status be worked out now.
    pub node_bell: Notify,
    /// What the node is short of.
    pub pressure: ArcSwap<Pressure>,
    /// Whether the runtime tells when a container ends.
    pub hears_exits: Arc<AtomicBool>,
    /// `kubelet_running_pods`: pods with a sandbox that runs.
    pub running_pods: Gauge,
    /// `kubelet_running_containers`: containers that run.
    pub running_containers: Gauge,
    /// Cancelled when the kubelet stops.
    pub shutdown: CancellationToken,
    /// Statuses on their way to the apiserver.
    pub statuses: Arc<Statuses>,
    /// Slots for making sandboxes.
    pub sandbox_slots: Semaphore,
    /// What pods have of the node.
    pub allocations: Allocations,
    /// Rung when a pod has given something of the node back: a resize that waits may be possible now.
    pub room: Notify,
    /// Why the pod network is not ready, when it is not.
    pub network: ArcSwap<Option<String>>,
    /// Wakes workers by uid.
    pub wakers: Arc<Wakers>,
    /// Services by namespace, as last seen: for when the apiserver is away.
    pub services: Mutex<HashMap<String, Vec<Service>>>,
}

impl Kubelet {
    /// The directory of a pod's files.
    #[must_use]
    pub fn pod_dir(&self, uid: &str) -> PathBuf {
        self.flags.root_dir.join("pods").join(uid)
    }
}

/// The bells of the workers, by pod uid.
#[derive(Debug, Default)]
pub struct Wakers(RwLock<HashMap<String, Arc<Notify>>>);

impl Wakers {
    /// Wakes the worker of a pod, if it has one.
    pub fn wake(&self, uid: &str) {
        if let Some(bell) = self.0.read().get(uid) {
            bell.notify_one();
        }
    }

    /// Adds a worker's bell.
    pub fn add(&self, uid: &str) -> Arc<Notify> {
        self.0.write().entry(uid.to_owned()).or_default().clone()
    }

    /// The pods that have one.
    #[must_use]
    pub fn alive(&self) -> BTreeSet<String> {
        self.0.read().keys().cloned().collect()
    }

    /// Takes it away.
    pub fn remove(&self, uid: &str) {
        self.0.write().remove(uid);
    }
}
