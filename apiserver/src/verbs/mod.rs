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

use std::sync::Arc;

use api::status::Status;
use bytes::Bytes;
use http::HeaderMap;
use jiff::Timestamp;
use serde_json::Value;

use crate::auth::User;
use crate::catalog::Served;
use crate::http::negotiate::Media;
use crate::http::query::Query;
use crate::http::render::{Include, Renderer};
use crate::http::request_info::RequestInfo;
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

    /// An entry as a tree, in the stored form.
    ///
    /// # Errors
    /// An object that cannot be read.
    pub fn tree(&self, entry: &Entry) -> Result<Value, Status> {
        entry.tree().map_err(|e| Status::internal(format!("an object in the storage is no JSON: {e}")))
    }

    /// A tree of the row's version in the stored form.
    ///
    /// # Errors
    /// What cannot be converted.
    pub fn to_stored(&self, tree: Value) -> Result<Value, Status> {
        match &self.row.conversion {
            Some(conversion) => (conversion.to_stored)(tree),
            None => Ok(tree),
        }
    }

    /// A tree of the stored form in the row's version.
    ///
    /// # Errors
    /// What cannot be converted.
    pub fn from_stored(&self, tree: Value) -> Result<Value, Status> {
        match &self.row.conversion {
            Some(conversion) => (conversion.from_stored)(tree),
            None => Ok(tree),
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
    /// An object of the row, in the stored form.
    Object(Value),
    /// A tree that is shown as it is, whatever the row.
    Tree(Value),
}
