//! The documents at `/openapi/v3` and `/openapi/v2`, made from the rows the server serves.
//!
//! [`OpenApi`] holds the rows of one moment; when a CustomResourceDefinition changes it is replaced. A document is made when it is first
//! asked for and kept compressed; its hash is known without making it. Paths are planned in [`operations`] and written in one of two
//! dialects by [`render`]; schemas come from the facts table in [`definitions`], with descriptions found at build time; [`gnostic`]
//! encodes version 2 as protobuf, which `kubectl` up to 1.27 asks for.

mod addition;
mod definitions;
mod descriptions;
mod gnostic;
mod operations;
mod render;

pub use addition::Addition;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write};
use std::sync::Arc;

use bytes::Bytes;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use parking_lot::Mutex;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// The media type of version 2 as protobuf.
pub const V2_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
/// The media type of version 3 as protobuf is not served; JSON is.
pub const JSON: &str = "application/json";

/// What the documents say of a resource. Filled from its row.
#[derive(Debug, Clone)]
pub struct ResourceDoc {
    /// `apps`, or empty.
    pub group: Cow<'static, str>,
    /// `v1`.
    pub version: Cow<'static, str>,
    /// `Deployment`.
    pub kind: Cow<'static, str>,
    /// `deployments`.
    pub plural: Cow<'static, str>,
    /// `deployment`.
    pub singular: Cow<'static, str>,
    /// It lives in namespaces.
    pub namespaced: bool,
    /// As in discovery: `create`, `get`, ...
    pub verbs: Vec<&'static str>,
    /// A deletion answers with the object.
    pub returns_deleted: bool,
    /// Its subresources.
    pub subresources: Vec<SubresourceDoc>,
    /// Its schema.
    pub schema: SchemaDoc,
}

/// What the documents say of a subresource.
#[derive(Debug, Clone)]
pub struct SubresourceDoc {
    /// `status`.
    pub name: Cow<'static, str>,
    /// The group of its body's kind.
    pub group: Cow<'static, str>,
    /// The version of its body's kind.
    pub version: Cow<'static, str>,
    /// Its body's kind.
    pub kind: Cow<'static, str>,
    /// As in discovery; those of a connection (`exec`) are `create` and `get`.
    pub verbs: Vec<&'static str>,
}

/// Where a resource's schema is.
#[derive(Debug, Clone)]
pub enum SchemaDoc {
    /// In the facts table, under the message's full name.
    Builtin(Cow<'static, str>),
    /// In a CustomResourceDefinition: its `openAPIV3Schema`.
    Custom(Arc<Value>),
}

impl ResourceDoc {
    /// `api/v1` or `apis/apps/v1`: the key in version 3's index.
    #[must_use]
    pub fn group_version_path(&self) -> String {
        if self.group.is_empty() { format!("api/{}", self.version) } else { format!("apis/{}/{}", self.group, self.version) }
    }
}

/// A document, kept compressed.
#[derive(Debug)]
pub struct Document {
    /// The value of the `ETag` header, quotes included.
    pub etag: String,
    /// The body with `Content-Encoding: gzip`.
    pub gzip: Bytes,
}

impl Document {
    /// The body as it is without compression.
    #[must_use]
    pub fn plain(&self) -> Vec<u8> {
        let mut plain = Vec::new();
        GzDecoder::new(&*self.gzip).read_to_end(&mut plain).expect("we compressed it ourselves");
        plain
    }
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    V3(String),
    V2Json,
    V2Protobuf,
    /// With what aggregated servers add.
    V2JsonMerged,
    V2ProtobufMerged,
}

/// The documents for the rows of one moment.
#[derive(Debug)]
pub struct OpenApi {
    rows: Vec<ResourceDoc>,
    /// One for each group version.
    hashes: BTreeMap<String, String>,
    made: Mutex<BTreeMap<Key, Arc<Document>>>,
}

impl OpenApi {
    /// Documents for these rows. Nothing is made yet.
    #[must_use]
    pub fn new(rows: Vec<ResourceDoc>) -> Self {
        let mut hashers: BTreeMap<String, Sha256> = BTreeMap::new();
        let versions: BTreeSet<String> = rows.iter().map(ResourceDoc::group_version_path).collect();
        for row in &rows {
            let hasher = hashers.entry(row.group_version_path()).or_insert_with(|| {
                // Every document lists the group versions that have DeleteOptions, and holds what this build knows.
                Sha256::new().chain_update(env!("CARGO_PKG_VERSION")).chain_update(format!("{versions:?}"))
            });
            hasher.update(format!("{row:?}"));
        }
        let hashes = hashers.into_iter().map(|(path, hasher)| (path, hex(hasher))).collect();
        Self { rows, hashes, made: Mutex::default() }
    }

    /// The body of `/openapi/v3`.
    #[must_use]
    pub fn index(&self) -> Bytes {
        let paths: BTreeMap<_, _> = self
            .hashes
            .iter()
            .map(|(path, hash)| (path, json!({"serverRelativeURL": format!("/openapi/v3/{path}?hash={hash}")})))
            .collect();
        json!({ "paths": paths }).to_string().into()
    }

    /// The hash that `?hash=` must have for the answer to be cacheable for ever; with another one the client is sent to the right one.
    #[must_use]
    pub fn hash(&self, path: &str) -> Option<&str> {
        self.hashes.get(path).map(String::as_str)
    }

    /// The document at `/openapi/v3/{path}`, where path is `api/v1` or `apis/apps/v1`.
    #[must_use]
    pub fn group_version(&self, path: &str) -> Option<Arc<Document>> {
        let hash = self.hash(path)?;
        Some(self.document(Key::V3(path.to_owned()), hash.to_owned(), |out| {
            let rows: Vec<_> = self.rows.iter().filter(|r| r.group_version_path() == path).collect();
            render::document(render::Dialect::V3, &rows, &self.group_versions(), out)
        }))
    }

    /// The document at `/openapi/v2`, as JSON or as protobuf.
    #[must_use]
    pub fn v2(&self, protobuf: bool) -> Arc<Document> {
        let hash = hex(self.hashes.values().fold(Sha256::new(), |hasher, hash| hasher.chain_update(hash)));
        let rows: Vec<_> = self.rows.iter().collect();
        let versions = self.group_versions();
        if protobuf {
            self.document(Key::V2Protobuf, hash, |out| gnostic::document(&rows, &versions, out))
        } else {
            self.document(Key::V2Json, hash, |out| render::document(render::Dialect::V2, &rows, &versions, out))
        }
    }

    /// The same with what aggregated servers add.
    #[must_use]
    pub fn v2_merged(&self, protobuf: bool, additions: &[&Addition]) -> Arc<Document> {
        let own = self.v2(protobuf);
        if additions.is_empty() {
            return own;
        }
        let hash = hex(additions.iter().fold(Sha256::new_with_prefix(&own.etag), |hasher, a| hasher.chain_update(&a.hash)));
        let key = if protobuf { Key::V2ProtobufMerged } else { Key::V2JsonMerged };
        // What was made with other additions is of no use any more.
        self.made.lock().retain(|k, document| *k != key || document.etag == format!("\"{hash}\""));
        self.document(key, hash, |out| {
            let plain = own.plain();
            if protobuf {
                out.write_all(&addition::protobuf(&plain, additions))
            } else {
                out.write_all(addition::json(&String::from_utf8_lossy(&plain), additions).as_bytes())
            }
        })
    }

    fn group_versions(&self) -> BTreeSet<(String, String)> {
        self.rows.iter().map(|r| (r.group.to_string(), r.version.to_string())).collect()
    }

    fn document(&self, key: Key, hash: String, make: impl FnOnce(&mut GzEncoder<Vec<u8>>) -> std::io::Result<()>) -> Arc<Document> {
        // Held while a document is made, so that many clients at once do not each make it.
        let mut made = self.made.lock();
        if let Some(document) = made.get(&key) {
            return document.clone();
        }
        let mut encoder = GzEncoder::new(Vec::new(), Compression::new(6));
        make(&mut encoder).expect("a Vec takes everything");
        let mut gzip = encoder.finish().expect("a Vec takes everything");
        gzip.shrink_to_fit();
        let document = Arc::new(Document { etag: format!("\"{hash}\""), gzip: gzip.into() });
        made.insert(key, document.clone());
        document
    }
}

fn hex(hasher: Sha256) -> String {
    hasher.finalize().iter().map(|b| format!("{b:02X}")).collect()
}

/// Writes `"key":value` pairs of a JSON object one by one, so that no whole document is held.
fn write_entries<W: Write>(out: &mut W, entries: impl Iterator<Item = (String, Value)>) -> std::io::Result<()> {
    out.write_all(b"{")?;
    for (i, (key, value)) in entries.enumerate() {
        if i > 0 {
            out.write_all(b",")?;
        }
        serde_json::to_writer(&mut *out, &key)?;
        out.write_all(b":")?;
        serde_json::to_writer(&mut *out, &value)?;
    }
    out.write_all(b"}")
}

#[cfg(test)]
mod tests;
