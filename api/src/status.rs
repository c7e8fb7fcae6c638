//! `Status`, the API's error: reason, code, message and causes in the words of Kubernetes' apimachinery.

use serde_json::{Value, json};

use crate::field;

/// What an error response says. Rendered in one place, as a `meta/v1` Status.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct Status {
    /// HTTP status code.
    pub code: u16,
    /// Machine-readable reason, such as `NotFound`.
    pub reason: &'static str,
    /// What a person reads.
    pub message: String,
    /// What it is about.
    pub details: Option<Box<Details>>,
    /// `metadata.continue`: where an expired list may go on.
    pub continue_token: Option<String>,
}

/// The `details` of a Status.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Details {
    /// The object's name.
    pub name: String,
    /// The group of its kind.
    pub group: String,
    /// The kind, or resource, as upstream fills it.
    pub kind: String,
    /// The object's uid.
    pub uid: String,
    /// The single mistakes.
    pub causes: Vec<Cause>,
    /// Seconds after which to try again; 0 says nothing.
    pub retry_after_seconds: u32,
}

/// One cause of a Status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// Machine-readable reason.
    pub reason: String,
    /// What a person reads.
    pub message: String,
    /// The path of the field.
    pub field: String,
}

/// `deployments.apps` or `pods`: how messages name a resource.
#[must_use]
pub fn qualified(group: &str, resource: &str) -> String {
    if group.is_empty() { resource.to_owned() } else { format!("{resource}.{group}") }
}

impl Status {
    /// An error with no details.
    #[must_use]
    pub fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), details: None, continue_token: None }
    }

    fn about(mut self, group: &str, kind: &str, name: &str) -> Self {
        let details = Details { name: name.to_owned(), group: group.to_owned(), kind: kind.to_owned(), ..Details::default() };
        self.details = Some(Box::new(details));
        self
    }

    /// Adds causes to the details.
    #[must_use]
    pub fn with_causes(mut self, causes: Vec<Cause>) -> Self {
        self.details.get_or_insert_default().causes = causes;
        self
    }

    /// 404 for an object.
    #[must_use]
    pub fn not_found(group: &str, resource: &str, name: &str) -> Self {
        Self::new(404, "NotFound", format!("{} {name:?} not found", qualified(group, resource))).about(group, resource, name)
    }

    /// 404 for a path that is not served.
    #[must_use]
    pub fn no_such_resource() -> Self {
        Self::new(404, "NotFound", "the server could not find the requested resource").with_causes(vec![])
    }

    /// 409 for a name that is taken.
    #[must_use]
    pub fn already_exists(group: &str, resource: &str, name: &str) -> Self {
        Self::new(409, "AlreadyExists", format!("{} {name:?} already exists", qualified(group, resource))).about(group, resource, name)
    }

    /// 409 for a write that lost against another.
    #[must_use]
    pub fn conflict(group: &str, resource: &str, name: &str, why: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {} {name:?}: {why}", qualified(group, resource));
        Self::new(409, "Conflict", message).about(group, resource, name)
    }

    /// 409 for a stale resourceVersion.
    #[must_use]
    pub fn modified(group: &str, resource: &str, name: &str) -> Self {
        Self::conflict(group, resource, name, "the object has been modified; please apply your changes to the latest version and try again")
    }

    /// 422 for an object that breaks rules.
    #[must_use]
    pub fn invalid(group: &str, kind: &str, name: &str, errors: &field::Errors) -> Self {
        let texts: Vec<String> = errors.0.iter().map(ToString::to_string).collect();
        let list = if let [one] = texts.as_slice() { one.clone() } else { format!("[{}]", texts.join(", ")) };
        let causes = errors.0.iter();
        let causes = causes.map(|e| Cause { reason: e.kind.reason().to_owned(), message: e.body.clone(), field: e.path.to_string() });
        let mut status =
            Self::new(422, "Invalid", format!("{} {name:?} is invalid: {list}", qualified(group, kind))).about(group, kind, name);
        status.details.get_or_insert_default().causes = causes.collect();
        status
    }

    /// 403 in the words of an authorizer or admission step.
    #[must_use]
    pub fn forbidden(group: &str, resource: &str, name: &str, why: &str) -> Self {
        let what = qualified(group, resource);
        let message = match (resource.is_empty(), name.is_empty()) {
            (true, _) => format!("forbidden: {why}"),
            (_, true) => format!("{what} is forbidden: {why}"),
            _ => format!("{what} {name:?} is forbidden: {why}"),
        };
        Self::new(403, "Forbidden", message).about(group, resource, name)
    }

    /// 400 with a message.
    #[must_use]
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    /// 401.
    #[must_use]
    pub fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized")
    }

    /// 405 for a verb that the resource does not have.
    #[must_use]
    pub fn method_not_supported(group: &str, resource: &str, verb: &str) -> Self {
        let message = format!("{verb} is not supported on resources of kind {:?}", qualified(group, resource));
        Self::new(405, "MethodNotAllowed", message).about(group, resource, "")
    }

    /// 405 for a method that nothing serves at a path.
    #[must_use]
    pub fn method_not_allowed() -> Self {
        Self::new(405, "MethodNotAllowed", "the server does not allow this method on the requested resource").with_causes(vec![])
    }

    /// 406.
    #[must_use]
    pub fn not_acceptable(accepted: &[&str]) -> Self {
        let list = accepted.join(", ");
        Self::new(406, "NotAcceptable", format!("only the following media types are accepted: {list}"))
    }

    /// 415.
    #[must_use]
    pub fn unsupported_media_type(accepted: &[&str]) -> Self {
        let list = accepted.join(", ");
        Self::new(
            415,
            "UnsupportedMediaType",
            format!("the body of the request was in an unknown format - accepted media types include: {list}"),
        )
    }

    /// 413 for a body over the limit, in bytes.
    #[must_use]
    pub fn body_too_large(limit: usize) -> Self {
        Self::new(413, "RequestEntityTooLarge", format!("Request entity too large: limit is {limit}"))
    }

    /// 410 for a resourceVersion that is no longer kept.
    #[must_use]
    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message)
    }

    /// 504 for a resourceVersion that this server has not reached yet.
    #[must_use]
    pub fn too_large_resource_version(requested: u64, current: u64) -> Self {
        let mut status = Self::new(504, "Timeout", format!("Timeout: Too large resource version: {requested}, current: {current}"));
        let message = "Too large resource version".to_owned();
        let cause = Cause { reason: "ResourceVersionTooLarge".to_owned(), message, field: String::new() };
        status.details = Some(Box::new(Details { causes: vec![cause], retry_after_seconds: 1, ..Details::default() }));
        status
    }

    /// 429 with a time to come back.
    #[must_use]
    pub fn too_many_requests(message: impl Into<String>, retry_after_seconds: u32) -> Self {
        let mut status = Self::new(429, "TooManyRequests", message);
        status.details = Some(Box::new(Details { retry_after_seconds, ..Details::default() }));
        status
    }

    /// 500 for what is our own or the storage's failure.
    #[must_use]
    pub fn internal(what: impl std::fmt::Display) -> Self {
        let what = what.to_string();
        let message = format!("Internal error occurred: {what}");
        let cause = Cause { reason: String::new(), message: what, field: String::new() };
        Self::new(500, "InternalError", message).with_causes(vec![cause])
    }

    /// 503 for a part that is away.
    #[must_use]
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(503, "ServiceUnavailable", message)
    }

    /// 504 for an operation that took too long.
    #[must_use]
    pub fn timeout(message: impl Into<String>) -> Self {
        Self::new(504, "Timeout", format!("Timeout: {}", message.into()))
    }

    /// The object on the wire.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut out = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "reason": self.reason, "code": self.code,
        });
        if let Some(token) = &self.continue_token {
            out["metadata"]["continue"] = token.as_str().into();
        }
        if self.reason.is_empty() {
            out.as_object_mut().map(|o| o.remove("reason"));
        }
        if let Some(details) = &self.details {
            let mut d = serde_json::Map::new();
            for (key, text) in [("name", &details.name), ("group", &details.group), ("kind", &details.kind), ("uid", &details.uid)] {
                if !text.is_empty() {
                    d.insert(key.to_owned(), text.as_str().into());
                }
            }
            if !details.causes.is_empty() {
                d.insert("causes".to_owned(), details.causes.iter().map(Cause::to_json).collect());
            }
            if details.retry_after_seconds > 0 {
                d.insert("retryAfterSeconds".to_owned(), details.retry_after_seconds.into());
            }
            out["details"] = d.into();
        }
        out
    }
}

impl Cause {
    fn to_json(&self) -> Value {
        let mut out = serde_json::Map::new();
        for (key, text) in [("reason", &self.reason), ("message", &self.message), ("field", &self.field)] {
            if !text.is_empty() {
                out.insert(key.to_owned(), text.as_str().into());
            }
        }
        out.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_the_ones_people_know() {
        let text = |s: Status| s.message;
        assert_eq!(text(Status::not_found("", "pods", "a")), "pods \"a\" not found");
        assert_eq!(text(Status::already_exists("apps", "deployments", "a")), "deployments.apps \"a\" already exists");
        let mut errors = field::Errors::new();
        errors.required(&field::Path::new("spec"), "");
        assert_eq!(text(Status::invalid("apps", "Deployment", "a", &errors)), "Deployment.apps \"a\" is invalid: spec: Required value");
        errors.required(&field::Path::new("kind"), "");
        assert_eq!(text(Status::invalid("", "Pod", "a", &errors)), "Pod \"a\" is invalid: [spec: Required value, kind: Required value]");
    }
}
