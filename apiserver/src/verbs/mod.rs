//! One file a verb. Verbs know rows, never kinds.

pub mod create;
pub mod delete;
pub mod get;
pub mod list;
pub mod metadata;
pub mod options;
pub mod ownership;
pub mod patch;
pub mod projection;
pub mod select;
pub mod update;
pub mod watch;
pub mod write;

use std::borrow::Cow;
use std::sync::Arc;

use api::status::Status;
use bytes::Bytes;
use http::HeaderMap;
use jiff::Timestamp;
use serde_json::Value;

use crate::auth::User;
use crate::catalog::Served;
use crate::crd::convert;
use crate::http::negotiate::Media;
use crate::http::query::Query;
use crate::http::render::{Include, Renderer};
use crate::http::request_info::RequestInfo;
use crate::resource::Conversion;
use crate::server::Server;
use crate::storage::Entry;

/// One request about a resource, authenticated and authorised.
#[derive(Clone)]
pub struct Call {
    /// The server it came to.
    pub server: Arc<Server>,
    /// The row it is about.
    pub row: Arc<Served>,
    /// What it asks for.
    pub info: RequestInfo,
    /// Its query parameters.
    pub query: Query,
    /// Who makes it.
    pub user: User,
    /// The form of the answer.
    pub media: Media,
    /// Its headers.
    pub headers: HeaderMap,
    /// When it came.
    pub now: Timestamp,
}

impl Call {
    /// The renderer for the answer.
    ///
    /// # Errors
    /// 400 for an unknown `includeObject`.
    pub fn renderer(&self) -> Result<Renderer, Status> {
        Ok(Renderer::new(self.row.clone(), self.media, Include::parse(self.query.get("includeObject"))?, self.now))
    }

    /// 404 for the object of this call.
    #[must_use]
    pub fn not_found(&self) -> Status {
        Status::not_found(&self.row.group, &self.row.plural, &self.info.name)
    }

    /// An entry as a tree, as the storage holds it.
    ///
    /// # Errors
    /// An object that cannot be read.
    pub fn tree(&self, entry: &Entry) -> Result<Value, Status> {
        entry.tree().map_err(|e| Status::internal(format!("an object in the storage is no JSON: {e}")))
    }

    /// A tree of the row's version in the worked form (see [`Conversion`]).
    ///
    /// # Errors
    /// What cannot be converted.
    pub fn worked(&self, tree: Value) -> Result<Value, Status> {
        match &self.row.conversion {
            Some(Conversion::Fixed { to_stored, .. }) => to_stored(tree),
            _ => Ok(tree),
        }
    }

    /// As [`Call::shown`], of a tree that stays: copied only where it is converted.
    ///
    /// # Errors
    /// What cannot be converted.
    pub fn seen<'t>(&self, tree: &'t Value) -> Result<Cow<'t, Value>, Status> {
        match &self.row.conversion {
            Some(Conversion::Fixed { from_stored, .. }) => from_stored(tree.clone()).map(Cow::Owned),
            _ => Ok(Cow::Borrowed(tree)),
        }
    }

    /// A tree of the worked form in the row's version.
    ///
    /// # Errors
    /// What cannot be converted.
    pub fn shown(&self, tree: Value) -> Result<Value, Status> {
        match &self.row.conversion {
            Some(Conversion::Fixed { from_stored, .. }) => from_stored(tree),
            _ => Ok(tree),
        }
    }

    /// A tree as the storage holds it in the worked form.
    ///
    /// # Errors
    /// What cannot be converted.
    pub async fn read(&self, tree: Value) -> Result<Value, Status> {
        let Some(versions) = self.row.versions() else { return Ok(tree) };
        if !versions.asks() {
            return versions.settle(tree);
        }
        convert::only(versions.read(&self.server.outbound, vec![tree]).await?)
    }

    /// Entries of the storage as readers of the row see them, where somebody has to be asked for that; as they are everywhere else.
    /// A renderer of these is [`Renderer::settled`].
    ///
    /// # Errors
    /// What cannot be converted.
    pub async fn entries(&self, entries: Vec<Arc<Entry>>) -> Result<Vec<Arc<Entry>>, Status> {
        match self.row.versions().filter(|v| v.asks()) {
            Some(versions) => versions.entries(&self.server.outbound, entries).await,
            None => Ok(entries),
        }
    }
}

/// The answer of a verb: an object or a status.
#[derive(Debug)]
pub struct Reply {
    /// HTTP status code.
    pub code: u16,
    /// The body.
    pub body: Body,
    /// What the client should be told besides.
    pub warnings: Vec<String>,
}

/// What a reply carries.
#[derive(Debug)]
pub enum Body {
    /// Stored bytes of an object of the row.
    Stored(Bytes),
    /// An object of the row, in the worked form.
    Object(Value),
    /// An object of the row that was just written, in the stored form, and its stored bytes as they will be read.
    Written {
        /// The object.
        tree: Value,
        /// The bytes.
        wire: Bytes,
    },
    /// A tree that is shown as it is, whatever the row.
    Tree(Value),
}
