//! Bodies: size limits, media types, and the fields that a kind does not have.

use api::schema::check::{self, Decoded};
use api::schema::go;
use api::status::Status;
use bytes::Bytes;
use http::{HeaderMap, header};
use http_body_util::{BodyExt as _, Limited};
use serde_json::Value;

use crate::verbs::Call;
use crate::verbs::options::{Validation, WriteOptions};
use crate::yaml::Document;

/// The most bytes of a request's body, as upstream.
pub const MAX_BODY: usize = 3 << 20;
/// The media types in the words of a 415.
const ACCEPTED: [&str; 3] = ["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];

/// Reads a whole body.
///
/// # Errors
/// 413 when it is too large, 400 when it breaks off.
pub async fn read(headers: &HeaderMap, body: axum::body::Body) -> Result<Bytes, Status> {
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|n| n > MAX_BODY) {
        return Err(Status::body_too_large(MAX_BODY));
    }
    match Limited::new(body, MAX_BODY).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => Err(Status::body_too_large(MAX_BODY)),
        Err(error) => Err(Status::bad_request(format!("reading the body: {error}"))),
    }
}

/// The format of a body.
fn content_type(headers: &HeaderMap) -> &str {
    let value = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("");
    value.split(';').next().unwrap_or("").trim()
}

/// Decodes any body into a tree, beside no schema.
///
/// # Errors
/// 415 for an unknown format, 400 for what cannot be parsed.
pub fn tree(headers: &HeaderMap, body: &Bytes) -> Result<Value, Status> {
    match content_type(headers) {
        "application/json" | "" => api::json::parse_strict(body).map(|(value, _)| value).map_err(Status::bad_request),
        "application/yaml" | "application/apply-patch+yaml" => yaml(body).map(|document| document.value),
        "application/vnd.kubernetes.protobuf" => protobuf(body),
        _ => Err(Status::unsupported_media_type(&ACCEPTED)),
    }
}

fn yaml(body: &Bytes) -> Result<Document, Status> {
    crate::yaml::parse(body).map_err(|e| Status::bad_request(format!("error converting YAML to JSON: {e}")))
}

fn protobuf(body: &Bytes) -> Result<Value, Status> {
    crate::protobuf::decode(body).map_err(Status::bad_request)
}

impl Call {
    /// An object of the call's kind from a body; unknown and duplicate fields are treated as the options say.
    ///
    /// # Errors
    /// 400 for what does not fit the kind, or for unknown fields when validation is strict.
    pub fn decode_body(&self, body: &Bytes, options: &WriteOptions, warnings: &mut Vec<String>) -> Result<Value, Status> {
        if body.is_empty() {
            return Err(Status::bad_request("the body of the request is empty"));
        }
        let decoded = match content_type(&self.headers) {
            "application/json" | "" => check::decode(body, self.schema()).map_err(|e| self.unreadable(&e, body))?,
            "application/yaml" => {
                let document = yaml(body)?;
                let duplicates = document.strict_error();
                let mut decoded = self.conform(document.value, body)?;
                decoded.strict.splice(0..0, duplicates);
                decoded
            }
            _ => self.conform(tree(&self.headers, body)?, body)?,
        };
        self.strictly(decoded, options, warnings)
    }

    /// Brings a tree that came by a patch into shape.
    ///
    /// # Errors
    /// As [`Call::decode_body`].
    pub fn check_fields(&self, tree: Value, options: &WriteOptions, warnings: &mut Vec<String>) -> Result<Value, Status> {
        let decoded = self.conform(tree, &Bytes::new())?;
        self.strictly(decoded, options, warnings)
    }

    fn conform(&self, tree: Value, body: &Bytes) -> Result<Decoded, Status> {
        match self.schema() {
            Some(node) => check::conform(tree, node).map_err(|e| self.unreadable(&e, body)),
            None => Ok(Decoded { value: tree, strict: vec![] }),
        }
    }

    fn unreadable(&self, error: &str, body: &Bytes) -> Status {
        let given: Option<Value> = serde_json::from_slice(body).ok();
        let text = |f: &str| given.as_ref().and_then(|g| g.get(f)).and_then(Value::as_str);
        let version = api::object::split_api_version(text("apiVersion").unwrap_or("")).1.to_owned();
        let named = text("kind").map(|kind| (kind, version.as_str())).or(body.is_empty().then_some((&*self.row.kind, &*self.row.version)));
        Status::bad_request(go::decode_message(named, &self.row.kind, error, body))
    }

    fn strictly(&self, decoded: Decoded, options: &WriteOptions, warnings: &mut Vec<String>) -> Result<Value, Status> {
        match (options.validation, decoded.strict_error()) {
            (Validation::Strict, Some(error)) => {
                let (kind, version) = (&self.row.kind, &self.row.version);
                Err(Status::bad_request(format!("{kind} in version {version:?} cannot be handled as a {kind}: {error}")))
            }
            (Validation::Warn, _) => {
                warnings.extend(decoded.strict);
                Ok(decoded.value)
            }
            _ => Ok(decoded.value),
        }
    }
}
