//! Carries out plans. Nothing is decided here.
//!
//! Creations go out in batches of 1, 2, 4, ... so that a quota or a webhook that refuses everything is asked once rather than
//! five hundred times; deletions go out some at a time; patches one after the other. The answers go into the caches at once.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures::StreamExt as _;
use http::Request;
use http::request::Builder;
use kube::Client;
use serde_json::{Value, json};

use crate::caches::Caches;
use crate::events::Recorder;
use crate::kind::{Key, Object, path};
use crate::plan::{Action, Failure, Op, Plan, Propagation, Target, guarded};
use crate::watch::AnyObject;

/// Requests of one plan at a time.
const AT_ONCE: usize = 16;

/// Carries out plans for one controller.
#[derive(Clone)]
pub struct Executor {
    client: Client,
    caches: Arc<Caches>,
    events: Recorder,
}

/// What came of a plan.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The first real failure.
    pub failure: Option<Failure>,
    /// Something was not as planned on: plan again soon. Not a failure.
    pub stale: bool,
}

impl Outcome {
    fn note(&mut self, action: &Action, error: &kube::Error) {
        match code(error) {
            // The object changed or went since it was seen, or is there already: the cache is about to say so.
            Some(409) => self.stale = true,
            Some(404) if !matches!(action.op, Op::Create { .. }) => {}
            _ => {
                let reason = action.failed.as_ref().map_or("", |f| f.0);
                self.failure.get_or_insert(Failure { reason, message: message(error) });
            }
        }
    }
}

/// The HTTP code of an error from the apiserver.
#[must_use]
pub fn code(error: &kube::Error) -> Option<u16> {
    match error {
        kube::Error::Api(status) => Some(status.code),
        _ => None,
    }
}

/// The apiserver's own words where there are some.
#[must_use]
pub fn message(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}

/// A creation refused because its namespace is going: it will be looked at again never, and need not be.
fn namespace_terminating(error: &kube::Error) -> bool {
    let kube::Error::Api(status) = error else { return false };
    status.details.as_ref().is_some_and(|d| d.causes.iter().any(|c| c.reason == "NamespaceTerminating"))
}

impl Executor {
    /// Writes with `client`, tells `caches` the answers, and records events.
    #[must_use]
    pub fn new(client: Client, caches: Arc<Caches>, events: Recorder) -> Self {
        Self { client, caches, events }
    }

    /// The client.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The recorder of events.
    #[must_use]
    pub fn events(&self) -> &Recorder {
        &self.events
    }

    /// Carries out a plan.
    pub async fn apply(&self, plan: Plan) -> Outcome {
        let mut outcome = Outcome::default();
        // Versions our own patches gave to objects that this plan patches again.
        let mut patched: HashMap<(&'static str, Key), (String, String)> = HashMap::new();
        // Objects that this plan wanted to patch and that had changed.
        let mut unpatched: HashSet<(&'static str, Key)> = HashSet::new();
        let mut actions = plan.actions.into_iter().peekable();
        while let Some(action) = actions.next() {
            let same = |other: &Action| std::mem::discriminant(&other.op) == std::mem::discriminant(&action.op);
            match action.op {
                Op::Create { .. } => {
                    let mut group = Vec::new();
                    while let Some(next) = actions.next_if(|a| same(a)) {
                        group.push(next);
                    }
                    group.insert(0, action);
                    self.create_all(group, &mut outcome).await;
                }
                Op::Delete { .. } => {
                    let mut group = Vec::new();
                    while let Some(next) = actions.next_if(|a| same(a)) {
                        group.push(next);
                    }
                    group.insert(0, action);
                    // What was to be written into an object before it goes is not there (a Job's pod would go with its finalizer, and be counted
                    // as failed): the plan is made anew.
                    group.retain(|a| !a.target().is_some_and(|t| unpatched.contains(&(t.kind.kind, t.key.clone()))));
                    self.at_once(group, &mut outcome).await;
                }
                Op::Patch { .. } => {
                    let id = action.target().map(|t| (t.kind.kind, t.key.clone()));
                    if !self.patch(action, &mut patched, &mut outcome).await {
                        unpatched.extend(id);
                    }
                }
                Op::Tell { warning, reason, ref message } => {
                    if let Some(about) = &action.about {
                        self.events.record(about, warning, reason, message);
                    }
                }
            }
        }
        outcome
    }

    async fn create_all(&self, actions: Vec<Action>, outcome: &mut Outcome) {
        let (mut rest, mut batch) = (actions, 1);
        while !rest.is_empty() {
            let next = rest.split_off(batch.min(rest.len()));
            if !self.at_once(rest, outcome).await {
                return;
            }
            (rest, batch) = (next, batch * 2);
        }
    }

    /// Whether all worked.
    async fn at_once(&self, actions: Vec<Action>, outcome: &mut Outcome) -> bool {
        let requests = futures::stream::iter(actions.into_iter().map(|action| async move {
            let result = self.request(&action).await;
            self.tell(&action, &result);
            (action, result)
        }));
        let mut all = true;
        let mut results = std::pin::pin!(requests.buffer_unordered(AT_ONCE));
        while let Some((action, result)) = results.next().await {
            if let Err(error) = &result {
                all = false;
                if !namespace_terminating(error) {
                    outcome.note(&action, error);
                }
            }
        }
        all
    }

    /// Whether the object was as the plan had seen it.
    async fn patch(&self, mut action: Action, patched: &mut HashMap<(&'static str, Key), (String, String)>, outcome: &mut Outcome) -> bool {
        let Op::Patch { target, .. } = &mut action.op else { return true };
        let id = (target.kind.kind, target.key.clone());
        let planned_on = target.resource_version.clone();
        if let Some((before, after)) = patched.get(&id)
            && *before == planned_on
        {
            target.resource_version.clone_from(after);
        }
        let result = self.request(&action).await;
        self.tell(&action, &result);
        match result {
            Ok(answer) => {
                let version = answer["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned();
                patched.insert(id, (planned_on, version));
                true
            }
            Err(error) => {
                outcome.note(&action, &error);
                code(&error) != Some(409)
            }
        }
    }

    async fn request(&self, action: &Action) -> kube::Result<Value> {
        if let Some(owner) = &action.while_alive {
            self.check_alive(owner).await?;
        }
        let request = match &action.op {
            Op::Create { kind, namespace, object } => {
                json_request(Request::post(path(kind.api_version, kind.plural, &Key::new(namespace, ""), "")), "application/json", object)?
            }
            Op::Patch { target, subresource, patch } => json_request(
                Request::patch(target.kind.path(&target.key, subresource)),
                "application/merge-patch+json",
                &guarded(patch, &target.uid, &target.resource_version),
            )?,
            Op::Delete { target, propagation, grace } => json_request(
                Request::delete(target.kind.path(&target.key, "")),
                "application/json",
                &delete_options(&target.uid, *propagation, *grace),
            )?,
            Op::Tell { .. } => return Ok(Value::Null),
        };
        let text = self.client.request_text(request).await?;
        match &action.op {
            Op::Delete { target, .. } => self.deleted(target, &text),
            Op::Create { kind, .. } | Op::Patch { target: Target { kind, .. }, .. } => self.written(kind.api_version, kind.kind, &text),
            Op::Tell { .. } => {}
        }
        serde_json::from_str(&text).map_err(kube::Error::SerdeError)
    }

    /// Tells the kind's cache of an answer to a write.
    pub fn written(&self, api_version: &str, kind: &str, json: &str) {
        let Some(cache) = self.caches.of(api_version, kind).filter(|c| c.is_synced()) else { return };
        if let Err(error) = cache.answer_json(json) {
            tracing::error!(kind, %error, "the answer to a write cannot be read");
        }
    }

    /// A DELETE answers with the object while it lingers, and with a Status, or the object without a deletion time, when it is gone.
    fn deleted(&self, target: &Target, text: &str) {
        let Some(cache) = self.caches.of(target.kind.api_version, target.kind.kind).filter(|c| c.is_synced()) else { return };
        let lingers = serde_json::from_str::<AnyObject>(text).is_ok_and(|o| {
            let meta = &o.metadata;
            let at_once = meta.deletion_grace_period_seconds.unwrap_or(0) == 0 && meta.finalizers.is_empty();
            meta.uid == target.uid && meta.deletion_timestamp.is_some() && !at_once
        });
        if !lingers {
            cache.remove_key(&target.key, &target.uid, None);
        } else if let Err(error) = cache.answer_json(text) {
            tracing::error!(kind = target.kind.kind, %error, "the answer to a deletion cannot be read");
        }
    }

    async fn check_alive(&self, owner: &Target) -> kube::Result<()> {
        let gone = |why: &str| {
            let status = kube::core::Status::failure(&format!("{} {} {why}", owner.kind.kind, owner.key), "Conflict").with_code(409);
            kube::Error::Api(status.boxed())
        };
        let request = Request::get(owner.kind.path(&owner.key, "")).body(Vec::new()).map_err(kube::Error::HttpError)?;
        let live: AnyObject = self.client.request(request).await?;
        match live.metadata {
            meta if meta.uid != owner.uid => Err(gone("was replaced")),
            meta if meta.deletion_timestamp.is_some() => Err(gone("has just been deleted")),
            _ => Ok(()),
        }
    }

    fn tell(&self, action: &Action, result: &kube::Result<Value>) {
        match (result, &action.done, &action.failed, &action.about) {
            (Ok(answer), Some((reason, message)), _, Some(about)) => {
                let name = match &action.op {
                    Op::Delete { target, .. } | Op::Patch { target, .. } => target.key.name.as_str(),
                    _ => answer["metadata"]["name"].as_str().unwrap_or_default(),
                };
                self.events.record(about, false, reason, &message.replace("{}", name));
            }
            (Err(error), _, Some((reason, message)), Some(about))
                if !matches!(code(error), Some(404 | 409)) && !namespace_terminating(error) =>
            {
                self.events.record(about, true, reason, &message.replace("{}", &crate::apply::message(error)));
            }
            _ => {}
        }
    }
}

/// Options of a DELETE.
#[must_use]
pub fn delete_options(uid: &str, propagation: Propagation, grace: Option<i64>) -> Value {
    let mut options = json!({ "apiVersion": "v1", "kind": "DeleteOptions", "preconditions": { "uid": uid } });
    match propagation {
        Propagation::Default => {}
        Propagation::Background => options["propagationPolicy"] = "Background".into(),
        Propagation::Foreground => options["propagationPolicy"] = "Foreground".into(),
        Propagation::Orphan => options["propagationPolicy"] = "Orphan".into(),
    }
    if let Some(grace) = grace {
        options["gracePeriodSeconds"] = grace.into();
    }
    options
}

/// A request with a JSON body.
///
/// # Errors
/// A path that is no URI.
pub fn json_request(builder: Builder, content_type: &'static str, body: &Value) -> kube::Result<Request<Vec<u8>>> {
    builder.header(http::header::CONTENT_TYPE, content_type).body(body.to_string().into_bytes()).map_err(kube::Error::HttpError)
}

impl Executor {
    /// Reads an object freshly from the apiserver; nothing when there is none.
    ///
    /// # Errors
    /// Any answer but the object or 404.
    pub async fn get<K: Object>(&self, key: &Key) -> kube::Result<Option<K>> {
        let request = Request::get(K::KIND.path(key, "")).body(Vec::new()).map_err(kube::Error::HttpError)?;
        match self.client.request(request).await {
            Ok(object) => Ok(Some(object)),
            Err(error) if code(&error) == Some(404) => Ok(None),
            Err(error) => Err(error),
        }
    }
}
