//! What all writes share: bodies, identity, storing, and the state that a write starts from.

use std::collections::BTreeSet;

use api::field::Errors;
use api::object::{Meta as _, split_api_version};
use api::status::Status;
use serde_json::Value;

use super::{Body, Call, Reply, metadata};
use crate::allocate::Extra;
use crate::resource::Cx;
use crate::storage::etcd::Stored;
use crate::storage::{Commit, Expect, Outcome, codec};

/// How often a write that lost against another starts over.
pub const MAX_TRIES: usize = 12;

impl Call {
    /// What hooks may know.
    #[must_use]
    pub fn cx(&self) -> Cx<'_> {
        Cx { now: self.now, user: &self.user }
    }

    /// The etcd key of the object with this name in the call's namespace.
    #[must_use]
    pub fn key(&self, name: &str) -> String {
        self.row.key(&self.info.namespace, name)
    }

    /// A body that does not fit the kind's type, in upstream's words.
    #[must_use]
    pub fn unfit(&self, error: &str) -> Status {
        let kind = &self.row.kind;
        Status::bad_request(format!("{kind} in version {:?} cannot be handled as a {kind}: {error}", self.row.version))
    }

    /// 422 when there are mistakes.
    ///
    /// # Errors
    /// The mistakes.
    pub fn valid(&self, name: &str, errors: &Errors) -> Result<(), Status> {
        if errors.is_empty() { Ok(()) } else { Err(Status::invalid(&self.row.group, &self.row.kind, name, errors)) }
    }

    /// A tree in the worked form, as bytes for etcd.
    ///
    /// # Errors
    /// What cannot be converted or encrypted.
    pub async fn encode(&self, key: &str, object: &Value) -> Result<Vec<u8>, Status> {
        self.seal(key, self.plain(object).await?)
    }

    /// A tree in the worked form, as the bytes that are stored when nothing is encrypted.
    ///
    /// # Errors
    /// What cannot be converted.
    pub async fn plain(&self, object: &Value) -> Result<Vec<u8>, Status> {
        match self.row.versions() {
            Some(versions) => plain(&versions.written(&self.server.outbound, object.clone()).await?),
            None => plain(object),
        }
    }

    /// What etcd gets for plain bytes.
    ///
    /// # Errors
    /// What cannot be encrypted.
    pub fn seal(&self, key: &str, plain: Vec<u8>) -> Result<Vec<u8>, Status> {
        self.server.hub.cipher().seal(key, plain).map_err(Status::internal)
    }

    /// The object of this call as it was last seen. `fresh` asks etcd; otherwise the cache answers, which may be a moment behind.
    ///
    /// # Errors
    /// etcd does not answer, or holds what cannot be read.
    pub async fn current(&self, name: &str, fresh: bool) -> Result<Option<Current>, Status> {
        if !fresh {
            let entry = self.row.cache.get(&self.row.rest(&self.info.namespace, name));
            let Some(entry) = entry else { return Ok(None) };
            return self.found(entry.revision, self.tree(&entry)?).await.map(Some);
        }
        let stored = self.server.hub.etcd().get(&self.key(name)).await?;
        self.decode(stored).await
    }

    /// What etcd holds, as a tree in the worked form.
    ///
    /// # Errors
    /// What cannot be decrypted, parsed or converted.
    pub async fn decode(&self, stored: Option<Stored>) -> Result<Option<Current>, Status> {
        let Some(stored) = stored else { return Ok(None) };
        let plain = self.server.hub.cipher().open(&stored.key, stored.value).map_err(Status::internal)?;
        let mut tree: Value = serde_json::from_slice(&plain).map_err(Status::internal)?;
        tree.set_meta("resourceVersion", stored.revision.to_string().into());
        self.found(stored.revision, tree).await.map(Some)
    }

    async fn found(&self, revision: u64, tree: Value) -> Result<Current, Status> {
        let outdated = self.row.versions().is_some_and(|v| !v.is_current(&tree));
        Ok(Current { revision, tree: self.read(tree).await?, outdated })
    }

    /// The reply with an object that was written at `revision`.
    ///
    /// # Errors
    /// What cannot be written as JSON.
    pub fn written(&self, code: u16, mut object: Value, revision: u64, warnings: Vec<String>) -> Result<Reply, Status> {
        if revision > 0 {
            object.set_meta("resourceVersion", revision.to_string().into());
        }
        Ok(Reply { code, body: Body::Object(object), warnings })
    }

    /// The reply with an object that was stored as `plain` at `revision`: most clients get these bytes.
    #[must_use]
    pub fn stored(&self, code: u16, mut tree: Value, plain: &[u8], revision: u64, warnings: Vec<String>) -> Reply {
        tree.set_meta("resourceVersion", revision.to_string().into());
        let mut wire = Vec::with_capacity(codec::wire_len(plain, revision));
        codec::write_wire(&mut wire, plain, revision);
        Reply { code, body: Body::Written { tree, wire: wire.into() }, warnings }
    }

    /// Values in use in the pools that the row takes from; nothing for most rows.
    #[must_use]
    pub fn taken(&self) -> Vec<BTreeSet<String>> {
        let pools = self.row.reserve.as_ref().map(|r| r.pools()).unwrap_or_default();
        pools.iter().map(|pool| self.server.hub.keys_under(pool)).collect()
    }

    /// Finds out anew what is taken, after `key` turned out to be: where many write at once the caches are behind.
    ///
    /// # Errors
    /// etcd does not answer.
    pub async fn look_again(&self, taken: &mut Vec<BTreeSet<String>>, key: &str) -> Result<(), Status> {
        self.server.hub.fresh().await?;
        *taken = self.taken();
        self.mark_taken(taken, key);
        Ok(())
    }

    /// Writes an object, or removes it. Reservations that clash with another writer's are the caller's to try again.
    ///
    /// # Errors
    /// etcd does not answer.
    pub async fn commit(&self, key: &str, expect: Expect, value: Option<Vec<u8>>, extras: &[Extra]) -> Result<Outcome, Status> {
        let etcd = self.server.hub.etcd();
        let lease = match (self.row.ttl_seconds, &value) {
            (Some(ttl), Some(_)) => etcd.lease(ttl).await?,
            _ => 0,
        };
        Ok(etcd.commit(Commit { key, expect, value, extras, lease }).await?)
    }
}

/// A tree in the stored form, as the bytes that are stored when nothing is encrypted.
///
/// # Errors
/// An object that is none.
pub fn plain(object: &Value) -> Result<Vec<u8>, Status> {
    codec::encode(object).ok_or_else(|| Status::internal("an object without metadata cannot be stored"))
}

/// An object as a write finds it.
#[derive(Debug, Clone)]
pub struct Current {
    /// The revision of its last change.
    pub revision: u64,
    /// The object in the worked form.
    pub tree: Value,
    /// Whether it lies in the storage in another version than is stored now, so that even a write that changes nothing is one.
    pub outdated: bool,
}

/// Checks that a body, in the row's version, is about what the URL is about, and fills in what it leaves to the URL.
///
/// # Errors
/// 400 for another kind, namespace or name.
pub fn identify(call: &Call, obj: &mut Value) -> Result<(), Status> {
    let row = &call.row;
    if !obj.is_object() {
        return Err(call.unfit("the body is no JSON object"));
    }
    let text = |f: &str| obj.get(f).and_then(Value::as_str).unwrap_or("").to_owned();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    let (group, version) = split_api_version(&api_version);
    if !api_version.is_empty() && (group != row.group || version != row.version) {
        return Err(Status::bad_request(format!(
            "the API version in the data ({api_version}) does not match the expected API version ({})",
            row.api_version()
        )));
    }
    if !kind.is_empty() && kind != row.kind {
        return Err(Status::bad_request(format!(
            "{kind} in version {:?} cannot be handled as a {}: no kind {kind:?} is registered for version {api_version:?}",
            row.version, row.kind
        )));
    }
    obj["apiVersion"] = row.api_version().into();
    obj["kind"] = row.kind.as_ref().into();
    if obj.get("metadata").is_some_and(|m| !m.is_object() && !m.is_null()) {
        return Err(call.unfit("json: cannot unmarshal into Go struct field .metadata of type v1.ObjectMeta"));
    }
    if row.is_namespaced() {
        let given = obj.namespace().to_owned();
        if given.is_empty() {
            obj.set_meta("namespace", call.info.namespace.as_str().into());
        } else if given != call.info.namespace {
            return Err(Status::bad_request("the namespace of the provided object does not match the namespace sent on the request"));
        }
    } else {
        obj.set_meta("namespace", Value::Null);
    }
    let name = obj.name().to_owned();
    if !call.info.name.is_empty() {
        if name.is_empty() {
            obj.set_meta("name", call.info.name.as_str().into());
        } else if name != call.info.name {
            return Err(Status::bad_request(format!(
                "the name of the object ({name}) does not match the name on the URL ({})",
                call.info.name
            )));
        }
    }
    // Null fields of metadata mean absent ones.
    if let Some(meta) = obj.meta_mut() {
        meta.retain(|_, v| !v.is_null());
    }
    Ok(())
}

/// Fills in defaults, as the row knows them.
///
/// # Errors
/// 400 for a body that does not fit the kind.
pub fn default(call: &Call, obj: &mut Value) -> Result<(), Status> {
    date_conditions(call, obj);
    call.row.hooks.default(obj).map_err(|e| call.unfit(&e))
}

/// Has a condition that does not say since when it holds do so from now on. Clients in Go send `null` there when they set none; upstream stores
/// that, though its own document calls the field required, and clients that go by the document cannot read it.
fn date_conditions(call: &Call, obj: &mut Value) {
    const CONDITION: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Condition";
    let undated = |c: &&mut Value| c.is_object() && c.get("lastTransitionTime").is_none_or(Value::is_null);
    let Some(list) = obj.pointer_mut("/status/conditions").and_then(Value::as_array_mut) else { return };
    let item = call.schema().and_then(|node| node.child("status")?.child("conditions")?.item());
    if item.and_then(|item| item.message()).is_some_and(|message| message.name == CONDITION) {
        let now = metadata::timestamp(call.now);
        list.iter_mut().filter(undated).for_each(|condition| condition["lastTransitionTime"] = now.clone().into());
    }
}

/// Checks the metadata together with what the row's rules found.
///
/// # Errors
/// 422 with every mistake.
pub fn check(call: &Call, obj: &Value, rules: Errors) -> Result<(), Status> {
    let mut errors = Errors::new();
    metadata::validate(obj, &call.row, &mut errors);
    errors.0.extend(rules.0);
    call.valid(obj.name(), &errors)
}
