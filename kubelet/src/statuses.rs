//! Writes pods' statuses to the apiserver, and deletes pods that are done.
//!
//! Only the newest status of a pod is ever sent, only what differs from what the apiserver last acknowledged, and never in a worker's
//! way: while the apiserver is away, statuses wait here and pods go on. What changes is sent at once; what somebody else has written
//! over it is put right after a while, so that whoever watches has seen it: a controller acts on a pod that was said to have failed.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use daemon::backoff::Backoff;
use futures::{StreamExt as _, stream};
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, Client};
use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::mirrors::{Mirrors, is_static};
use crate::pod::condition::{IN_PROGRESS, OWNED, PENDING};
use crate::pod::identity;

/// Writes at a time.
const AT_ONCE: usize = 8;
/// A write that takes longer is tried again.
const TIMEOUT: Duration = Duration::from_secs(10);
/// For so long what somebody else has written stands, as upstream's reconciliation leaves it at most.
const OTHERS_STAND: Duration = Duration::from_secs(10);

#[derive(Clone)]
struct Entry {
    pod: Arc<Pod>,
    status: Arc<PodStatus>,
    /// What the apiserver is known to have.
    stored: Arc<PodStatus>,
    /// Since when that may be what somebody else has written.
    strays: Option<Instant>,
    delete: bool,
    dirty: bool,
}

/// Statuses by pod uid.
#[derive(Default)]
pub struct Statuses {
    entries: Mutex<HashMap<String, Entry>>,
    mirrors: Mirrors,
    /// The uid of this Node, which owns mirrors.
    pub node_uid: Mutex<Option<String>>,
    bell: Notify,
}

impl Statuses {
    /// Sends this status, if it differs from what the apiserver has. `delete` also removes the pod afterwards.
    pub fn set(&self, pod: &Arc<Pod>, status: PodStatus, delete: bool) {
        let (_, _, uid) = identity(pod);
        let mut entries = self.entries.lock();
        let entry = entries.entry(uid.to_owned()).or_insert_with(|| Entry {
            pod: pod.clone(),
            status: Arc::default(),
            stored: Arc::new(pod.status.clone().unwrap_or_default()),
            strays: None,
            delete: false,
            dirty: true,
        });
        entry.pod = pod.clone();
        entry.dirty |= *entry.status != status || (delete && !entry.delete);
        entry.delete |= delete;
        entry.status = Arc::new(status);
        if entry.dirty {
            self.bell.notify_one();
        }
    }

    /// Takes note of what the apiserver has, as a watch shows it: somebody else may have written.
    pub fn stored(&self, pod: &Pod) {
        let (_, _, uid) = identity(pod);
        if let Some(entry) = self.entries.lock().get_mut(uid) {
            entry.stored = Arc::new(pod.status.clone().unwrap_or_default());
            let differs = entry.stored != entry.status;
            entry.strays = differs.then(|| entry.strays.unwrap_or_else(Instant::now));
        }
    }

    /// Has what others have written put right, where it has stood long enough.
    fn put_right(&self) {
        for entry in self.entries.lock().values_mut().filter(|e| e.strays.is_some_and(|since| since.elapsed() >= OTHERS_STAND)) {
            entry.strays = None;
            entry.dirty = true;
        }
    }

    /// Takes note of the mirror of a static pod.
    pub fn mirror_seen(&self, mirror: &Pod) {
        self.mirrors.seen(mirror);
        if mirror.metadata.deletion_timestamp.is_some() {
            self.send_mirror_again(mirror);
        }
    }

    /// The mirror of a static pod was deleted: it comes back.
    pub fn mirror_gone(&self, mirror: &Pod) {
        self.mirrors.gone(mirror);
        self.send_mirror_again(mirror);
    }

    fn send_mirror_again(&self, mirror: &Pod) {
        let name = |p: &Pod| (p.metadata.namespace.clone(), p.metadata.name.clone());
        for entry in self.entries.lock().values_mut().filter(|e| is_static(&e.pod) && name(&e.pod) == name(mirror) && !e.delete) {
            entry.stored = Arc::default();
            entry.dirty = true;
        }
        self.bell.notify_one();
    }

    /// Forgets a pod that is gone.
    pub fn forget(&self, uid: &str) {
        self.entries.lock().remove(uid);
    }

    fn dirty(&self) -> Vec<Entry> {
        let mut entries = self.entries.lock();
        let dirty = entries.values_mut().filter(|e| e.dirty);
        dirty
            .map(|e| {
                e.dirty = false;
                e.clone()
            })
            .collect()
    }
}

/// Sends statuses until `shutdown`.
pub async fn run(statuses: Arc<Statuses>, client: Client, shutdown: CancellationToken) {
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
    let mut looks = tokio::time::interval(OTHERS_STAND / 4);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let batch = statuses.dirty();
        if batch.is_empty() {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = statuses.bell.notified() => continue,
                _ = looks.tick() => {
                    statuses.put_right();
                    continue;
                }
            }
        }
        let sent: Vec<bool> = stream::iter(batch).map(|entry| send(&statuses, &client, entry)).buffer_unordered(AT_ONCE).collect().await;
        if sent.iter().all(|ok| *ok) {
            backoff.reset();
            continue;
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(backoff.next_delay()) => {}
        }
    }
}

/// Sends one status; whether it is done with.
async fn send(statuses: &Statuses, client: &Client, entry: Entry) -> bool {
    let (namespace, name, uid) = identity(&entry.pod);
    match tokio::time::timeout(TIMEOUT, write(statuses, client, &entry)).await {
        Ok(Ok(Some(stored))) => {
            if let Some(now) = statuses.entries.lock().get_mut(uid) {
                now.stored = Arc::new(stored.status.unwrap_or_default());
            }
            true
        }
        Ok(Ok(None)) => true,
        failed => {
            let error = failed.map_or_else(|e| e.to_string(), |r| r.err().map_or_else(String::new, |e| daemon::describe(&e)));
            tracing::warn!(namespace, name, error, "the pod's status could not be written; trying again");
            if let Some(now) = statuses.entries.lock().get_mut(uid) {
                now.dirty = true;
            }
            false
        }
    }
}

async fn write(statuses: &Statuses, client: &Client, entry: &Entry) -> Result<Option<Pod>, kube::Error> {
    let (namespace, name, uid) = identity(&entry.pod);
    if is_static(&entry.pod) && entry.delete {
        return statuses.mirrors.remove(client, &entry.pod).await.map(|()| None);
    }
    let uid = if is_static(&entry.pod) {
        let node = statuses.node_uid.lock().clone();
        &statuses.mirrors.ensure(client, &entry.pod, node).await?
    } else {
        uid
    };
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let mut stored = None;
    if let Some(patch) = patch(uid, &entry.stored, &entry.status) {
        match api.patch_status(name, &PatchParams::default(), &Patch::Strategic(&patch)).await {
            Ok(pod) => stored = Some(pod),
            // Gone, or another pod of this name: nothing to say about ours any more.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409 | 422) => {
                tracing::debug!(namespace, name, reason = status.reason, "the pod is not there for its status");
                if status.code == 404 {
                    return Ok(None);
                }
            }
            Err(error) => return Err(error),
        }
    }
    if entry.delete {
        let preconditions = Some(Preconditions { uid: Some(uid.to_owned()), resource_version: None });
        let now = DeleteParams { grace_period_seconds: Some(0), preconditions, ..DeleteParams::default() };
        match api.delete(name, &now).await {
            Ok(_) => tracing::info!(namespace, name, "pod deleted"),
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(stored)
}

/// The strategic merge patch from what is stored to what is; `None` when there is nothing to say. Conditions of others are not touched.
fn patch(uid: &str, stored: &PodStatus, status: &PodStatus) -> Option<Value> {
    let object = |s: &PodStatus| match serde_json::to_value(s) {
        Ok(Value::Object(map)) => map,
        _ => Map::new(), // a PodStatus always serialises to an object
    };
    let (old, new) = (object(stored), object(status));
    let mut change = Map::new();
    for (key, value) in &new {
        if key == "conditions" {
            let known = |c: &Value| old.get(key).and_then(Value::as_array).is_some_and(|list| list.contains(c));
            let owned = |c: &&Value| c["type"].as_str().is_some_and(|t| OWNED.contains(&t));
            let mut changed: Vec<Value> = value.as_array().into_iter().flatten().filter(owned).filter(|c| !known(c)).map(whole).collect();
            // Of resizes nothing is said when there is none.
            let has =
                |list: Option<&Value>, type_: &str| list.and_then(Value::as_array).is_some_and(|l| l.iter().any(|c| c["type"] == type_));
            let over = [PENDING, IN_PROGRESS].into_iter().filter(|t| has(old.get(key), t) && !has(Some(value), t));
            changed.extend(over.map(|t| json!({"type": t, "$patch": "delete"})));
            if !changed.is_empty() {
                change.insert(key.clone(), changed.into());
            }
        } else if old.get(key) != Some(value) {
            if MERGED.contains(&key.as_str()) {
                let gone = old.get(key).and_then(Value::as_array).into_iter().flatten();
                let gone = gone.filter(|ip| !value.as_array().is_some_and(|new| new.contains(ip)));
                let gone: Vec<Value> = gone.map(|ip| json!({"ip": ip["ip"], "$patch": "delete"})).collect();
                let mut list = value.as_array().cloned().unwrap_or_default();
                list.extend(gone);
                change.insert(key.clone(), list.into());
            } else {
                change.insert(key.clone(), value.clone());
            }
        }
    }
    for key in old.keys().filter(|k| !new.contains_key(*k) && *k != "conditions") {
        change.insert(key.clone(), Value::Null);
    }
    (!change.is_empty()).then(|| json!({"metadata": {"uid": uid}, "status": change}))
}

/// Lists of the status that a strategic merge patch merges by `ip` instead of replacing them.
const MERGED: [&str; 2] = ["podIPs", "hostIPs"];

/// A condition in which what it no longer has is said to be gone: the patch merges it into the old one.
fn whole(condition: &Value) -> Value {
    let mut out = json!({"reason": null, "message": null});
    if let (Value::Object(out), Value::Object(new)) = (&mut out, condition) {
        out.extend(new.clone());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    #[track_caller]
    fn check(stored: Value, status: Value, expected: Expect) {
        let parse = |v| serde_json::from_value(v).expect("a status");
        expected.assert_eq(&patch("u", &parse(stored), &parse(status)).map_or("nothing".into(), |p| p["status"].to_string()));
    }

    #[test]
    fn only_what_differs_is_sent() {
        let a = json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}, {"type": "gate", "status": "True"}]});
        check(a.clone(), a.clone(), expect!["nothing"]);
        check(
            a,
            json!({"phase": "Running", "reason": "x", "conditions": [{"type": "Ready", "status": "False"}, {"type": "gate", "status": "False"}]}),
            expect![[r#"{"conditions":[{"message":null,"reason":null,"status":"False","type":"Ready"}],"reason":"x"}"#]],
        );
    }

    #[tokio::test(start_paused = true)]
    async fn what_others_write_stands_for_a_while() {
        let phase = |phase: &str| PodStatus { phase: Some(phase.to_owned()), ..PodStatus::default() };
        let pod = |status: &str| Arc::new(Pod { status: Some(phase(status)), ..Pod::default() });
        let statuses = Statuses::default();
        let sent = || statuses.dirty().iter().map(|e| e.status.phase.clone().unwrap_or_default()).collect::<Vec<_>>();
        statuses.set(&pod("Pending"), phase("Running"), false);
        assert_eq!(sent(), ["Running"], "what is new is sent at once");
        statuses.stored(&pod("Running"));
        statuses.stored(&pod("Failed"));
        statuses.set(&pod("Failed"), phase("Running"), false);
        tokio::time::advance(OTHERS_STAND / 2).await;
        statuses.stored(&pod("Failed"));
        statuses.put_right();
        assert!(sent().is_empty(), "somebody may want to see it");
        tokio::time::advance(OTHERS_STAND / 2).await;
        statuses.put_right();
        assert_eq!(sent(), ["Running"]);
        statuses.put_right();
        assert!(sent().is_empty(), "once");
        statuses.stored(&pod("Failed"));
        statuses.set(&pod("Failed"), phase("Succeeded"), false);
        assert_eq!(sent(), ["Succeeded"], "what changes is sent at once");
    }

    #[test]
    fn conditions_of_resizes_go_when_they_are_over() {
        let ready = json!({"type": "Ready", "status": "True"});
        check(
            json!({"conditions": [ready, {"type": "PodResizeInProgress", "status": "True"}, {"type": "DisruptionTarget", "status": "True"}]}),
            json!({"conditions": [ready]}),
            expect![[r#"{"conditions":[{"$patch":"delete","type":"PodResizeInProgress"}]}"#]],
        );
    }

    #[test]
    fn what_is_no_longer_so_is_removed() {
        check(
            json!({"phase": "Running", "message": "m", "podIPs": [{"ip": "1.1.1.1"}]}),
            json!({"phase": "Running", "podIPs": [{"ip": "2.2.2.2"}]}),
            expect![[r#"{"message":null,"podIPs":[{"ip":"2.2.2.2"},{"$patch":"delete","ip":"1.1.1.1"}]}"#]],
        );
    }
}
