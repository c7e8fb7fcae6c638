//! A small world for tests: it keeps objects as an apiserver would, carries plans out, and lets controllers settle.
//!
//! Everything is deterministic: uids and generated names count up, time stands still until a test moves it.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::caches::Caches;
use crate::kind::{Key, Kind, Object};
use crate::plan::{Action, Failure, Op, Plan, Target, to_json};
use crate::runner::{Controller, View};

pub struct World {
    pub caches: Arc<Caches>,
    pub now: Timestamp,
    objects: BTreeMap<(&'static str, Key), Value>,
    version: u64,
    names: BTreeMap<String, u32>,
    /// Creations of this kind are refused with the message.
    pub refuse: Option<(&'static str, &'static str)>,
    pub failure: Option<Failure>,
    /// What happened, one line each.
    pub log: Vec<String>,
}

impl World {
    pub fn new() -> Self {
        let now = "2026-01-01T00:00:00Z".parse().expect("a time");
        Self {
            caches: Arc::default(),
            now,
            objects: BTreeMap::new(),
            version: 0,
            names: BTreeMap::new(),
            refuse: None,
            failure: None,
            log: vec![],
        }
    }

    pub fn pass(&mut self, seconds: i64) {
        self.now += SignedDuration::from_secs(seconds);
    }

    /// Adds an object from YAML-ish JSON.
    pub fn add<K: Object>(&mut self, object: Value) -> K {
        let name = object["metadata"]["name"].as_str().expect("a name").to_owned();
        self.create(K::KIND, object["metadata"]["namespace"].as_str().unwrap_or_default().to_owned(), object);
        let namespace =
            self.objects.keys().rev().find(|(k, key)| *k == K::KIND.kind && key.name == name).expect("just made").1.namespace.clone();
        self.get::<K>(&Key::new(namespace, name)).expect("just made")
    }

    pub fn get<K: Object>(&self, key: &Key) -> Option<K> {
        self.objects.get(&(K::KIND.kind, key.clone())).map(|v| serde_json::from_value(v.clone()).expect("an object"))
    }

    pub fn list<K: Object>(&self) -> Vec<K> {
        let of_kind = self.objects.iter().filter(|((k, _), _)| *k == K::KIND.kind);
        of_kind.map(|(_, v)| serde_json::from_value(v.clone()).expect("an object")).collect()
    }

    /// Changes an object as a user or a kubelet would.
    pub fn edit<K: Object>(&mut self, key: &Key, change: impl FnOnce(&mut K)) {
        let mut object: K = self.get(key).unwrap_or_else(|| panic!("no {} {key}", K::KIND.kind));
        change(&mut object);
        self.store(K::KIND, key, to_json(&object));
    }

    /// Removes an object from the world.
    pub fn remove<K: Object>(&mut self, key: &Key) {
        self.erase(K::KIND, key);
    }

    fn erase(&mut self, kind: &'static Kind, key: &Key) {
        if let Some(old) = self.objects.remove(&(kind.kind, key.clone())) {
            let cache = self.caches.of(kind.api_version, kind.kind).expect("a cached kind");
            cache.remove_key(key, old["metadata"]["uid"].as_str().expect("a uid"), None);
        }
    }

    fn store(&mut self, kind: &'static Kind, key: &Key, mut object: Value) {
        self.version += 1;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        let old = self.objects.get(&(kind.kind, key.clone())).cloned().unwrap_or(Value::Null);
        if old["spec"] != object["spec"] && !object["spec"].is_null() {
            let generation = old["metadata"]["generation"].as_i64().unwrap_or(0) + 1;
            object["metadata"]["generation"] = generation.into();
        }
        let finalizers = object["metadata"]["finalizers"].as_array().map_or(0, Vec::len);
        let deleting = !object["metadata"]["deletionTimestamp"].is_null();
        if deleting && finalizers == 0 && object["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or(0) == 0 {
            return self.erase(kind, key);
        }
        self.caches.of(kind.api_version, kind.kind).expect("a cached kind").put_json(&object.to_string()).expect("an object");
        self.objects.insert((kind.kind, key.clone()), object);
    }

    fn create(&mut self, kind: &'static Kind, namespace: String, mut object: Value) -> Key {
        let meta = &mut object["metadata"];
        if meta["name"].is_null() {
            let prefix = meta["generateName"].as_str().expect("a name or generateName").to_owned();
            let n = self.names.entry(prefix.clone()).or_default();
            *n += 1;
            meta["name"] = format!("{prefix}{n}").into();
        }
        let namespace = if namespace.is_empty() && kind.namespaced { "default".to_owned() } else { namespace };
        if kind.namespaced {
            meta["namespace"] = namespace.clone().into();
        }
        meta["uid"] = format!("uid-{}", self.version + 1).into();
        if meta["creationTimestamp"].is_null() {
            meta["creationTimestamp"] = json!(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(self.now));
        }
        let key = Key::new(namespace, meta["name"].as_str().expect("a name"));
        assert!(!self.objects.contains_key(&(kind.kind, key.clone())), "{} {key} exists already", kind.kind);
        self.store(kind, &key, object);
        key
    }

    /// Carries a plan out; `false` when it had nothing to do.
    pub fn apply(&mut self, plan: Plan) -> bool {
        let mut moved: BTreeMap<(&'static str, Key), (String, String)> = BTreeMap::new();
        let mut busy = false;
        let failed_before = self.failure.take();
        for action in plan.actions {
            busy |= !matches!(action.op, Op::Tell { .. });
            self.one(action, &mut moved);
        }
        busy || (failed_before.is_some() && self.failure.is_none())
    }

    fn one(&mut self, action: Action, moved: &mut BTreeMap<(&'static str, Key), (String, String)>) {
        let name = match action.op {
            Op::Create { kind, namespace, object } => {
                if let Some((refused, why)) = self.refuse
                    && refused == kind.kind
                {
                    if let Some((reason, message)) = &action.failed {
                        self.log.push(format!("event Warning {reason} {}", message.replace("{}", why)));
                    }
                    let reason = action.failed.as_ref().map_or("", |f| f.0);
                    self.failure.get_or_insert(Failure { reason, message: why.to_owned() });
                    return;
                }
                let key = self.create(kind, namespace, object);
                self.log.push(format!("create {} {}", kind.kind, key.name));
                key.name
            }
            Op::Patch { target, subresource, patch } => {
                let id = (target.kind.kind, target.key.clone());
                let mut object = self.checked(&target, moved);
                let planned_on = target.resource_version.clone();
                json_merge(&mut object, &patch);
                let slash = if subresource.is_empty() { "" } else { "/" };
                self.log.push(format!("patch {} {}{slash}{subresource} {patch}", target.kind.kind, target.key.name));
                self.store(target.kind, &target.key, object);
                moved.insert(id, (planned_on, self.version.to_string()));
                target.key.name
            }
            Op::Delete { target, grace, .. } => {
                let mut object = self.checked(&target, moved);
                self.log.push(format!("delete {} {}", target.kind.kind, target.key.name));
                let graceful = target.kind.kind == "Pod" && grace != Some(0) && !object["spec"]["nodeName"].is_null();
                object["metadata"]["deletionTimestamp"] = json!(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(self.now));
                object["metadata"]["deletionGracePeriodSeconds"] = if graceful { 30.into() } else { 0.into() };
                self.store(target.kind, &target.key, object);
                target.key.name
            }
            Op::Tell { warning, reason, message } => {
                self.log.push(format!("event {} {reason} {message}", if warning { "Warning" } else { "Normal" }));
                return;
            }
        };
        if let Some((reason, message)) = action.done {
            self.log.push(format!("event Normal {reason} {}", message.replace("{}", &name)));
        }
    }

    fn checked(&self, target: &Target, moved: &BTreeMap<(&'static str, Key), (String, String)>) -> Value {
        let id = (target.kind.kind, target.key.clone());
        let object = self.objects.get(&id).unwrap_or_else(|| panic!("no {} {}", target.kind.kind, target.key)).clone();
        assert_eq!(object["metadata"]["uid"], target.uid, "uid of {} {}", target.kind.kind, target.key);
        let expected = match moved.get(&id) {
            Some((before, after)) if *before == target.resource_version => after,
            _ => &target.resource_version,
        };
        assert_eq!(object["metadata"]["resourceVersion"], **expected, "version of {} {}", target.kind.kind, target.key);
        object
    }

    /// One plan of one controller for one key.
    pub fn step(&mut self, controller: &dyn Controller, key: &Key) -> bool {
        let caches = self.caches.clone();
        let failure = self.failure.clone();
        let plan = controller.plan(&View { caches: &caches, now: self.now, failure: failure.as_ref() }, key);
        self.apply(plan)
    }

    /// Plans for every object of kind `K` until nothing is left to do.
    pub fn settle<K: Object>(&mut self, controller: &dyn Controller) {
        self.settle_with(|world| {
            let keys: Vec<Key> = world.list::<K>().iter().map(Object::key).collect();
            keys.iter().fold(false, |busy, key| world.step(controller, key) | busy)
        });
    }

    /// Repeats `round` until it does nothing.
    pub fn settle_with(&mut self, mut round: impl FnMut(&mut Self) -> bool) {
        for _ in 0..200 {
            if !round(self) {
                return;
            }
        }
        panic!("did not settle; the end of the log:\n{}", self.log[self.log.len().saturating_sub(20)..].join("\n"));
    }

    /// What happened since the last call.
    pub fn told(&mut self) -> String {
        std::mem::take(&mut self.log).iter().map(|line| format!("{line}\n")).collect()
    }

    /// As [`World::told`], without patches of status and events.
    pub fn did(&mut self) -> String {
        let lines = std::mem::take(&mut self.log);
        lines.iter().filter(|l| !l.starts_with("event") && !l.contains("/status")).map(|line| format!("{line}\n")).collect()
    }
}

fn json_merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else { return *target = patch.clone() };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, value) in patch {
        match value {
            Value::Null => {
                target.as_object_mut().expect("an object").remove(key);
            }
            value => json_merge(&mut target[key], value),
        }
    }
}

/// Stands in for scheduler and kubelet: binds pods, makes them ready, ends what is deleted. Gives back whether it did something.
pub fn kubelet(world: &mut World) -> bool {
    use k8s_openapi::api::core::v1::Pod;
    let mut busy = false;
    for pod in world.list::<Pod>() {
        let key = pod.key();
        if pod.deleting() {
            world.edit::<Pod>(&key, |p| p.metadata.deletion_grace_period_seconds = Some(0));
            busy = true;
        } else if crate::pod_state::phase(&pod) != "Running" && !crate::pod_state::is_terminal(&pod) {
            let now = world.now;
            world.edit::<Pod>(&key, |p| {
                p.spec.get_or_insert_default().node_name.get_or_insert_with(|| "n1".to_owned());
                p.status.get_or_insert_default().phase = Some("Running".to_owned());
                crate::pod_state::set_condition(p, "Ready", "True", "", "", now);
            });
            busy = true;
        }
    }
    busy
}
