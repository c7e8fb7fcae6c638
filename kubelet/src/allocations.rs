//! What the node has set aside for the containers of its pods, and what they were given (KEP-1287).
//!
//! A pod's spec says what somebody wants; the node runs what it has allocated. Both that and what running containers were given are
//! written to the pod's directory before they count, so that a kubelet that starts knows them. The agent allocates, workers actuate.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use api::quantity::Quantity;
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, ResourceRequirements};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::pod::identity;
use crate::pod::resize::{is_resizable, resizable};

/// The file in a pod's directory.
const FILE: &str = "allocation.json";
/// The largest such file that is read: a pod's spec is no larger.
const MAX_BYTES: u64 = 3 << 20;

/// Resources by container.
pub type ByContainer = BTreeMap<String, ResourceRequirements>;

/// What one pod has.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Allocation {
    /// What the node has set aside.
    pub allocated: ByContainer,
    /// What containers were given when they started or were resized last.
    pub actuated: ByContainer,
    /// The generation of the pod whose resize is being carried out.
    pub under_way: Option<i64>,
}

impl Allocation {
    /// The pod with the resources that are allocated to it in place of those that are wanted.
    #[must_use]
    pub fn apply(&self, pod: &Arc<Pod>) -> Arc<Pod> {
        if !self.differs(pod) {
            return pod.clone();
        }
        with_resources(pod, |c| self.allocated.get(&c.name).cloned())
    }

    /// Whether other resources are wanted than are allocated.
    #[must_use]
    pub fn differs(&self, pod: &Pod) -> bool {
        let Some(spec) = pod.spec.as_ref() else { return false };
        resizable(spec).any(|c| self.allocated.get(&c.name).is_some_and(|has| !same(Some(has), c.resources.as_ref())))
    }

    /// The pod as it counts against the node: until a container has shrunk, what it still has is taken.
    #[must_use]
    pub fn counted(&self, pod: &Arc<Pod>) -> Arc<Pod> {
        let larger = |c: &Container| {
            let mut most = self.allocated.get(&c.name).or(c.resources.as_ref()).cloned().unwrap_or_default();
            let given = self.actuated.get(&c.name).and_then(|r| r.requests.as_ref());
            for (name, amount) in given.into_iter().flatten() {
                let requests = most.requests.get_or_insert_default();
                let parse = |text: &str| text.parse::<Quantity>().ok();
                if requests.get(name).is_none_or(|has| parse(&has.0) < parse(&amount.0)) {
                    requests.insert(name.clone(), amount.clone());
                }
            }
            Some(most)
        };
        let settled = !self.differs(pod) && self.actuated.iter().all(|(name, r)| self.allocated.get(name) == Some(r));
        if settled { pod.clone() } else { with_resources(pod, larger) }
    }
}

/// Whether the requests and limits are the same amounts, however they are written.
fn same(a: Option<&ResourceRequirements>, b: Option<&ResourceRequirements>) -> bool {
    let amounts = |r: Option<&ResourceRequirements>| {
        let lists = [r.and_then(|r| r.requests.as_ref()), r.and_then(|r| r.limits.as_ref())];
        lists.map(|list| list.into_iter().flatten().map(|(n, q)| (n.clone(), q.0.parse::<Quantity>().ok())).collect::<BTreeMap<_, _>>())
    };
    a == b || amounts(a) == amounts(b)
}

fn with_resources(pod: &Arc<Pod>, of: impl Fn(&Container) -> Option<ResourceRequirements>) -> Arc<Pod> {
    let mut pod = Pod::clone(pod);
    if let Some(spec) = &mut pod.spec {
        let init = spec.init_containers.iter_mut().flatten().filter(|c| is_resizable(c, true));
        for container in init.chain(&mut spec.containers) {
            if let Some(resources) = of(container) {
                container.resources = Some(resources);
            }
        }
    }
    Arc::new(pod)
}

fn wanted(spec: &PodSpec) -> ByContainer {
    resizable(spec).map(|c| (c.name.clone(), c.resources.clone().unwrap_or_default())).collect()
}

/// The allocations of the node's pods, by uid.
#[derive(Debug)]
pub struct Allocations {
    pods: PathBuf,
    known: Mutex<HashMap<String, Allocation>>,
}

impl Allocations {
    /// Allocations in the directories of pods below `root` (`--root-dir`).
    #[must_use]
    pub fn new(root: &Path) -> Self {
        Self { pods: root.join("pods"), known: Mutex::default() }
    }

    /// What this pod has, when it was admitted.
    #[must_use]
    pub fn get(&self, uid: &str) -> Option<Allocation> {
        self.known.lock().get(uid).cloned()
    }

    /// The pod with what was written down of it, which is what it is to be judged by when a kubelet starts.
    #[must_use]
    pub fn remembered(&self, pod: &Arc<Pod>) -> Arc<Pod> {
        // What cannot be read is told of when the pod is taken in.
        let read = self.read(identity(pod).2).ok().flatten();
        read.map_or_else(|| pod.clone(), |a| a.apply(pod))
    }

    /// Takes a pod in: with what was written down of it, or else with what it wants.
    ///
    /// # Errors
    /// It could not be read or written down. It counts all the same, until the kubelet ends.
    pub fn admit(&self, pod: &Pod) -> anyhow::Result<()> {
        let uid = identity(pod).2;
        let read = self.read(uid);
        let wanted = pod.spec.as_ref().map(wanted).unwrap_or_default();
        // A kubelet that wrote nothing down has given its pods what they asked for.
        let given = if pod.status.as_ref().is_some_and(|s| s.start_time.is_some()) { wanted.clone() } else { ByContainer::new() };
        let unknown = || Allocation { actuated: given, ..Allocation::default() };
        let mut allocation = read.as_ref().ok().cloned().flatten().unwrap_or_else(unknown);
        for (name, resources) in wanted {
            allocation.allocated.entry(name).or_insert(resources);
        }
        self.known.lock().insert(uid.to_owned(), allocation);
        let known = read?;
        if known.is_some() { Ok(()) } else { self.change(uid, |_| ()) }
    }

    /// Sets aside what the pod wants now.
    ///
    /// # Errors
    /// It could not be written down, and was not done.
    pub fn allocate(&self, pod: &Pod) -> anyhow::Result<()> {
        let allocated = pod.spec.as_ref().map(wanted).unwrap_or_default();
        self.change(identity(pod).2, |a| {
            a.allocated = allocated;
            a.under_way = Some(pod.metadata.generation.unwrap_or(0));
        })
    }

    /// A container is given these resources.
    ///
    /// # Errors
    /// It could not be written down, and does not count.
    pub fn actuate(&self, uid: &str, container: &str, resources: &ResourceRequirements) -> anyhow::Result<()> {
        // Of containers that are never resized nothing is written down.
        let changes = |a: &Allocation| a.allocated.contains_key(container) && a.actuated.get(container) != Some(resources);
        if !self.known.lock().get(uid).is_some_and(changes) {
            return Ok(());
        }
        self.change(uid, |a| drop(a.actuated.insert(container.to_owned(), resources.clone())))
    }

    /// The resize of this generation has been carried out.
    ///
    /// # Errors
    /// It could not be written down.
    pub fn complete(&self, uid: &str, generation: i64) -> anyhow::Result<()> {
        self.change(uid, |a| a.under_way = a.under_way.filter(|g| *g != generation))
    }

    /// Forgets a pod that is gone. Its directory goes with the rest of it.
    pub fn forget(&self, uid: &str) {
        self.known.lock().remove(uid);
    }

    /// Changes what is known of a pod once it is written down. A pod that was not admitted is left alone.
    fn change(&self, uid: &str, change: impl FnOnce(&mut Allocation)) -> anyhow::Result<()> {
        let mut known = self.known.lock();
        let Some(allocation) = known.get_mut(uid) else { return Ok(()) };
        let mut next = allocation.clone();
        change(&mut next);
        self.write(uid, &next)?;
        *allocation = next;
        Ok(())
    }

    fn write(&self, uid: &str, allocation: &Allocation) -> anyhow::Result<()> {
        let dir = self.pods.join(uid);
        let (file, new) = (dir.join(FILE), dir.join(format!("{FILE}.new")));
        let text = serde_json::to_vec(allocation).context("serialising an allocation")?;
        // Under another name first: a kubelet that ends here leaves the old file whole.
        std::fs::create_dir_all(&dir)
            .and_then(|()| std::fs::write(&new, text))
            .and_then(|()| std::fs::rename(&new, &file))
            .with_context(|| format!("writing {}", file.display()))
    }

    fn read(&self, uid: &str) -> anyhow::Result<Option<Allocation>> {
        let file = self.pods.join(uid).join(FILE);
        let text = match std::fs::metadata(&file)
            .and_then(|m| if m.len() > MAX_BYTES { Err(io::ErrorKind::FileTooLarge.into()) } else { std::fs::read(&file) })
        {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("reading {}", file.display())),
        };
        serde_json::from_slice(&text).with_context(|| format!("reading {}", file.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(cpu: &str) -> Arc<Pod> {
        let spec = json!({"containers": [{"name": "a", "resources": {"requests": {"cpu": cpu}}}]});
        Arc::new(serde_json::from_value(json!({"metadata": {"uid": "u", "generation": 2}, "spec": spec})).expect("a pod"))
    }

    fn cpu(pod: &Pod) -> String {
        let spec = pod.spec.as_ref().expect("a spec");
        let resources = spec.containers[0].resources.clone().expect("resources");
        resources.requests.expect("requests")["cpu"].0.clone()
    }

    #[test]
    fn what_was_allocated_outlives_the_kubelet() {
        let dir = tempfile::tempdir().expect("a directory");
        let first = Allocations::new(dir.path());
        first.admit(&pod("1")).expect("written");
        let wanted = pod("2");
        let has = first.get("u").expect("admitted");
        assert!(has.differs(&wanted) && !has.differs(&pod("1000m")));
        assert_eq!(cpu(&has.apply(&wanted)), "1");

        let second = Allocations::new(dir.path());
        second.admit(&wanted).expect("read");
        assert_eq!(second.get("u"), Some(has));
        second.allocate(&wanted).expect("written");
        let has = second.get("u").expect("admitted");
        assert_eq!((has.under_way, cpu(&has.apply(&pod("1")))), (Some(2), "2".to_owned()));
        second.complete("u", 1).expect("written");
        assert_eq!(second.get("u").expect("admitted").under_way, Some(2), "another resize than that was carried out");
        second.complete("u", 2).expect("written");
        assert_eq!(second.get("u").expect("admitted").under_way, None);
    }

    #[test]
    fn a_pod_counts_with_what_it_still_has() {
        let dir = tempfile::tempdir().expect("a directory");
        let allocations = Allocations::new(dir.path());
        let (large, small) = (pod("3"), pod("1"));
        allocations.admit(&large).expect("written");
        allocations.actuate("u", "a", &large.spec.as_ref().expect("set").containers[0].resources.clone().expect("set")).expect("written");
        allocations.allocate(&small).expect("written");
        assert_eq!(cpu(&allocations.get("u").expect("admitted").counted(&small)), "3");
        allocations.actuate("u", "a", &small.spec.as_ref().expect("set").containers[0].resources.clone().expect("set")).expect("written");
        assert_eq!(cpu(&allocations.get("u").expect("admitted").counted(&small)), "1");
    }

    #[test]
    fn what_cannot_be_written_down_is_not_done() {
        let dir = tempfile::tempdir().expect("a directory");
        let allocations = Allocations::new(dir.path());
        allocations.admit(&pod("1")).expect("written");
        std::fs::remove_dir_all(dir.path().join("pods/u")).expect("removed");
        std::fs::write(dir.path().join("pods/u"), "in the way").expect("written");
        assert!(allocations.allocate(&pod("2")).is_err());
        assert!(allocations.get("u").expect("admitted").differs(&pod("2")));
        allocations.allocate(&Pod::default()).expect("a pod that was not admitted is left alone");
    }

    #[test]
    fn what_ran_before_anything_was_written_down_has_what_it_asked_for() {
        let dir = tempfile::tempdir().expect("a directory");
        let allocations = Allocations::new(dir.path());
        let mut running = Pod::clone(&pod("1"));
        running.status = Some(serde_json::from_value(json!({"startTime": "2026-01-01T00:00:00Z"})).expect("a status"));
        allocations.admit(&running).expect("written");
        let has = allocations.get("u").expect("admitted");
        assert_eq!(has.actuated, has.allocated);
    }

    #[test]
    fn a_broken_file_is_an_error_and_the_pod_counts_as_it_asks() {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::create_dir_all(dir.path().join("pods/u")).expect("made");
        std::fs::write(dir.path().join("pods/u").join(FILE), "{").expect("written");
        let allocations = Allocations::new(dir.path());
        assert!(allocations.admit(&pod("1")).is_err());
        assert!(!allocations.get("u").expect("admitted").differs(&pod("1")));
    }
}
