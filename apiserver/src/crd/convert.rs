//! How objects of a custom kind get from one version to another: by their `apiVersion` alone, or by a webhook.
//!
//! Objects lie in the storage in whatever version they were written in. What is read is brought into the version that was asked for, pruned
//! and defaulted by that version's schema; what is written, into the version that is stored now. Where a webhook has to be asked, a list
//! asks it once for all its items, and what it said of one version of an object is remembered for a while.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use api::object::api_version;
use api::schema::{SchemaNode, check};
use api::status::Status;
use parking_lot::Mutex;
use serde_json::Value;

use super::defaults;
use super::schema::Node;
use super::webhook::{self, Webhook};
use crate::outbound::{Outbound, words};
use crate::resource::{CustomSchema, Selectable};
use crate::resources::cells::text;
use crate::storage::{Entry, codec};

/// How long a webhook may take to convert, as upstream.
const WITHIN: Duration = Duration::from_secs(30);
/// The most bytes of an answer: a list of many objects fits.
const MOST: usize = 64 << 20;
/// Converted entries that are remembered, so that many watchers of one object ask once.
const REMEMBERED: usize = 512;
/// The most bytes that remembered entries hold on to.
const REMEMBERED_BYTES: usize = 8 << 20;

/// What lies between the versions of a custom kind, seen from one of them.
pub struct Versions {
    kind: String,
    own: String,
    stored: String,
    schema: Arc<CustomSchema>,
    node: Arc<Node>,
    webhook: Option<Webhook>,
    asks: bool,
    /// The fields that this version is selected by.
    selectable: Vec<Selectable>,
    remembered: Mutex<Remembered>,
}

#[derive(Default)]
struct Remembered {
    entries: HashMap<(Box<str>, u64), Arc<Entry>>,
    order: VecDeque<(Box<str>, u64)>,
    bytes: usize,
}

impl std::fmt::Debug for Versions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} stored as {}", self.kind, self.own, self.stored)
    }
}

impl Versions {
    /// What lies between the version `own` of a definition and the one that is stored; `differs` says that objects may lie in the storage
    /// in other versions than `own`.
    #[must_use]
    pub fn new(crd: &Value, own: &str, stored: &str, differs: bool, schema: Arc<CustomSchema>, node: Arc<Node>) -> Self {
        let group = text(crd, "/spec/group");
        let webhook = (text(crd, "/spec/conversion/strategy") == "Webhook").then(|| Webhook::parse(&crd["spec"]["conversion"]["webhook"]));
        Self {
            kind: text(crd, "/spec/names/kind").to_owned(),
            own: api_version(group, own),
            stored: api_version(group, stored),
            schema,
            node,
            asks: differs && webhook.is_some(),
            webhook,
            selectable: vec![],
            remembered: Mutex::default(),
        }
    }

    /// The same, of a version that is selected by these fields.
    #[must_use]
    pub fn selected_by(self, selectable: Vec<Selectable>) -> Self {
        Self { selectable, ..self }
    }

    /// Whether somebody has to be asked, so that reads cannot be answered at once.
    #[must_use]
    pub fn asks(&self) -> bool {
        self.asks
    }

    /// An object in this row's version, by its schema as it is now: without what that does not know, with its defaults. Of an object in another
    /// version only the version is changed, which is what conversion without a webhook means.
    ///
    /// # Errors
    /// An object that does not fit the schema at all.
    pub fn settle(&self, mut object: Value) -> Result<Value, Status> {
        object["apiVersion"] = self.own.as_str().into();
        if let Some(root) = self.schema.schema.messages().first() {
            object = check::conform(object, SchemaNode::new(&self.schema.schema, &root.ty)).map_err(Status::internal)?.value;
        }
        defaults::apply(&mut object, &self.node);
        Ok(object)
    }

    /// As [`Versions::settle`], for those who cannot wait for a webhook.
    ///
    /// # Errors
    /// An object that only a webhook can convert, or that does not fit the schema at all.
    pub fn settle_now(&self, object: Value) -> Result<Value, Status> {
        if self.webhook.is_some() && text(&object, "/apiVersion") != self.own {
            return Err(Status::internal(format!("conversion webhook for {}, Kind={} is not waited for here", self.own, self.kind)));
        }
        self.settle(object)
    }

    /// Objects as they are stored, in this row's version.
    ///
    /// # Errors
    /// The webhook cannot be asked, or what it says cannot be believed.
    pub async fn read(&self, outbound: &Outbound, objects: Vec<Value>) -> Result<Vec<Value>, Status> {
        let converted = self.convert(outbound, objects, &self.own).await?;
        converted.into_iter().map(|o| self.settle(o)).collect()
    }

    /// An object in this row's version as it is to be stored.
    ///
    /// # Errors
    /// As [`Versions::read`].
    pub async fn written(&self, outbound: &Outbound, object: Value) -> Result<Value, Status> {
        only(self.convert(outbound, vec![object], &self.stored).await?)
    }

    /// Whether an object lies in the storage in the version that is stored now.
    #[must_use]
    pub fn is_current(&self, object: &Value) -> bool {
        text(object, "/apiVersion") == self.stored
    }

    /// An object in this row's version in that of another row of the kind.
    ///
    /// # Errors
    /// As [`Versions::read`].
    pub async fn to_version(&self, outbound: &Outbound, object: Value, desired: &str) -> Result<Value, Status> {
        only(self.convert(outbound, vec![object], desired).await?)
    }

    /// Entries of the storage as entries in this row's version, in the same order; they are selected by the version's own fields, in its row's order.
    ///
    /// # Errors
    /// As [`Versions::read`].
    pub async fn entries(&self, outbound: &Outbound, entries: Vec<Arc<Entry>>) -> Result<Vec<Arc<Entry>>, Status> {
        let mut out: Vec<Option<Arc<Entry>>> = entries.iter().map(|e| self.recall(e)).collect();
        let missing: Vec<usize> = (0..out.len()).filter(|i| out[*i].is_none()).collect();
        let trees = missing.iter().map(|i| entries[*i].tree()).collect::<Result<Vec<_>, _>>().map_err(Status::internal)?;
        for (i, tree) in missing.into_iter().zip(self.read(outbound, trees).await?) {
            let entry = &entries[i];
            let stored = codec::encode(&tree).ok_or_else(|| Status::internal("a converted object without metadata"))?;
            let converted = Arc::new(Entry::new(&entry.key, &stored, entry.revision, entry.kind, &self.selectable));
            self.remember(converted.clone());
            out[i] = Some(converted);
        }
        Ok(out.into_iter().flatten().collect())
    }

    fn recall(&self, entry: &Entry) -> Option<Arc<Entry>> {
        let found = self.remembered.lock().entries.get(&(entry.key.clone(), entry.revision)).cloned();
        found.filter(|f| f.kind == entry.kind)
    }

    fn remember(&self, entry: Arc<Entry>) {
        let mut all = self.remembered.lock();
        let key = (entry.key.clone(), entry.revision);
        all.bytes += entry.size();
        if let Some(before) = all.entries.insert(key.clone(), entry) {
            all.bytes -= before.size();
        } else {
            all.order.push_back(key);
        }
        while all.order.len() > REMEMBERED || all.bytes > REMEMBERED_BYTES {
            let Some(oldest) = all.order.pop_front() else { break };
            if let Some(gone) = all.entries.remove(&oldest) {
                all.bytes -= gone.size();
            }
        }
    }

    /// Objects of any version in one of them. Those that are in it already are left as they are.
    async fn convert(&self, outbound: &Outbound, mut objects: Vec<Value>, desired: &str) -> Result<Vec<Value>, Status> {
        let Some(webhook) = &self.webhook else {
            for object in &mut objects {
                object["apiVersion"] = desired.into();
            }
            return Ok(objects);
        };
        let others: Vec<usize> = (0..objects.len()).filter(|i| text(&objects[*i], "/apiVersion") != desired).collect();
        let Some(first) = others.first() else { return Ok(objects) };
        let what = format!("conversion webhook for {}, Kind={}", text(&objects[*first], "/apiVersion"), self.kind);
        let asked: Vec<&Value> = others.iter().map(|i| &objects[*i]).collect();
        let failed = |why: String| unconverted(format!("{what} failed: {why}"));
        let answer = ask(outbound, webhook, &asked, desired).await.map_err(failed)?;
        if answer.len() != others.len() {
            return Err(unconverted(format!("{what} returned {} objects, expected {}", answer.len(), others.len())));
        }
        for (i, converted) in others.into_iter().zip(answer) {
            objects[i] = webhook::believed(&what, &objects[i], converted, desired).map_err(unconverted)?;
        }
        Ok(objects)
    }
}

/// The one object that one was converted to.
///
/// # Errors
/// It was converted to none.
pub fn only(mut converted: Vec<Value>) -> Result<Value, Status> {
    converted.pop().ok_or_else(|| Status::internal("one object was converted to none"))
}

/// 500 in upstream's form: the text as it is, with no reason.
fn unconverted(message: String) -> Status {
    Status::new(500, "", message)
}

/// Asks a webhook.
async fn ask(outbound: &Outbound, webhook: &Webhook, objects: &[&Value], desired: &str) -> Result<Vec<Value>, String> {
    let (client, review) = (webhook.client.as_ref().map_err(Clone::clone)?, webhook.review.as_ref().map_err(Clone::clone)?);
    let uid = uuid::Uuid::new_v4().to_string();
    let body = webhook::question(review, &uid, objects, desired).to_string().into_bytes();
    let answer = outbound.post(client, &format!("timeout={}s", WITHIN.as_secs()), body, WITHIN, MOST).await?;
    if !(200..300).contains(&answer.code) {
        return Err(words::answered(answer.code, &String::from_utf8_lossy(&answer.body)));
    }
    let tree: Value = serde_json::from_slice(&answer.body).map_err(|e| format!("couldn't get version/kind; json parse error: {e}"))?;
    webhook::answered(review, &uid, &tree)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::entry::Kind;
    use serde_json::json;

    fn versions(strategy: &str) -> Versions {
        let openapi = Arc::new(
            json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {"a": {"type": "integer", "default": 1}}}}}),
        );
        let gvk = api::schema::Gvk { group: "x.io".into(), version: "v2".into(), kind: "Foo".into() };
        let schema = Arc::new(CustomSchema { schema: api::schema::Schema::structural(gvk, &openapi), openapi: openapi.clone() });
        let crd = json!({"spec": {"group": "x.io", "names": {"kind": "Foo"}, "conversion": {"strategy": strategy}}});
        Versions::new(&crd, "v2", "v1", true, schema, Arc::new(Node::parse(&openapi)))
    }

    #[test]
    fn without_a_webhook_the_version_alone_is_changed() {
        let versions = versions("None");
        assert!(!versions.asks());
        let stored = json!({"apiVersion": "x.io/v1", "kind": "Foo", "metadata": {"name": "a"}, "spec": {"b": 1}});
        assert!(versions.is_current(&stored));
        let read = versions.settle(stored).unwrap();
        assert_eq!(read, json!({"apiVersion": "x.io/v2", "kind": "Foo", "metadata": {"name": "a"}, "spec": {"a": 1}}));
    }

    #[test]
    fn what_was_converted_is_remembered_within_bounds() {
        let versions = versions("Webhook");
        let entry = |revision| Arc::new(Entry::new("ns/a", br#"{"metadata":{"name":"a"}}"#, revision, Kind::Modified, &[]));
        for revision in 0..=REMEMBERED as u64 {
            versions.remember(entry(revision));
        }
        assert!(versions.recall(&entry(0)).is_none(), "the oldest made room");
        assert!(versions.recall(&entry(1)).is_some());
        let removed = Entry::new("ns/a", br#"{"metadata":{"name":"a"}}"#, 1, Kind::Deleted, &[]);
        assert!(versions.recall(&removed).is_none(), "a removal is another event");
    }
}
