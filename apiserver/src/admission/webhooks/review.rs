//! AdmissionReview: what a webhook is asked, and what its answer means. Pure; the words are upstream's.

use api::object::string_map;
use api::status::{Cause, Details, Status};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::{Value, json};

use super::configuration::Review;
use crate::admission::Operation;
use crate::admission::matching::{Request, Seen, operation};
use crate::auth::User;
use crate::http::query::Query;
use crate::resources::cells::{flag, items, text};
use crate::verbs::options::{DeleteOptions, Propagation};

/// A question to a webhook. Serialised, it is what is sent.
#[derive(Debug)]
pub struct Question<'a> {
    /// The version of the review.
    pub review: Review,
    /// What the answer has to repeat.
    pub uid: &'a str,
    /// The request.
    pub request: &'a Request,
    /// As the webhook wants to see it.
    pub seen: &'a Seen,
    /// The object's name.
    pub name: &'a str,
    /// Who makes the request.
    pub user: &'a User,
    /// The object as it would be; null when it goes.
    pub object: &'a Value,
    /// The object as it is; null when it is new.
    pub old: &'a Value,
    /// Whether nothing will be stored.
    pub dry_run: bool,
    /// The options of the request; null for a connection.
    pub options: &'a Value,
}

#[derive(Serialize)]
struct Kind<'a> {
    group: &'a str,
    version: &'a str,
    kind: &'a str,
}

#[derive(Serialize)]
struct Resource<'a> {
    group: &'a str,
    version: &'a str,
    resource: &'a str,
}

impl Seen {
    fn kind(&self) -> Kind<'_> {
        Kind { group: &self.kind.0, version: &self.kind.1, kind: &self.kind.2 }
    }
    fn resource(&self) -> Resource<'_> {
        Resource { group: &self.group, version: &self.version, resource: &self.resource }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Asked<'a> {
    uid: &'a str,
    kind: Kind<'a>,
    resource: Resource<'a>,
    #[serde(skip_serializing_if = "str::is_empty")]
    sub_resource: &'a str,
    request_kind: Kind<'a>,
    request_resource: Resource<'a>,
    #[serde(skip_serializing_if = "str::is_empty")]
    request_sub_resource: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    namespace: &'a str,
    operation: &'a str,
    user_info: Value,
    object: &'a Value,
    old_object: &'a Value,
    dry_run: bool,
    options: &'a Value,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Sent<'a> {
    kind: &'a str,
    api_version: &'a str,
    request: Asked<'a>,
}

impl Review {
    const fn api_version(self) -> &'static str {
        match self {
            Self::V1 => "admission.k8s.io/v1",
            Self::V1beta1 => "admission.k8s.io/v1beta1",
        }
    }
}

impl Question<'_> {
    /// The body of the call.
    ///
    /// # Errors
    /// What cannot be written as JSON.
    pub fn body(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(&Sent { kind: "AdmissionReview", api_version: self.review.api_version(), request: self.asked() })
    }

    /// The request without its objects, as expressions see it.
    ///
    /// # Errors
    /// What cannot be written as JSON.
    pub fn described(&self) -> Result<Value, serde_json::Error> {
        let mut described = serde_json::to_value(Asked { object: &Value::Null, old_object: &Value::Null, ..self.asked() })?;
        if let Some(fields) = described.as_object_mut() {
            fields.retain(|_, value| !value.is_null());
        }
        Ok(described)
    }

    fn asked(&self) -> Asked<'_> {
        let mut user = json!({"username": self.user.name, "groups": self.user.groups});
        if !self.user.uid.is_empty() {
            user["uid"] = self.user.uid.as_str().into();
        }
        if !self.user.extra.is_empty() {
            user["extra"] = json!(self.user.extra);
        }
        Asked {
            uid: self.uid,
            kind: self.seen.kind(),
            resource: self.seen.resource(),
            sub_resource: &self.request.part,
            request_kind: self.request.seen.kind(),
            request_resource: self.request.seen.resource(),
            request_sub_resource: &self.request.part,
            name: self.name,
            namespace: &self.request.namespace,
            operation: operation(self.request.operation),
            user_info: user,
            object: self.object,
            old_object: self.old,
            dry_run: self.dry_run,
            options: self.options,
        }
    }
}

/// The options of a request, as reviews show them.
#[must_use]
pub fn options(operation: Operation, query: &Query, deletion: Option<&DeleteOptions>) -> Value {
    let kind = match operation {
        Operation::Create => "CreateOptions",
        Operation::Update => "UpdateOptions",
        Operation::Delete => "DeleteOptions",
        Operation::Connect => return Value::Null,
    };
    let mut out = json!({"kind": kind, "apiVersion": "meta.k8s.io/v1"});
    match deletion {
        Some(options) => {
            if let Some(seconds) = options.grace {
                out["gracePeriodSeconds"] = seconds.into();
            }
            for (field, value) in [("uid", &options.uid), ("resourceVersion", &options.resource_version)] {
                if let Some(value) = value {
                    out["preconditions"][field] = value.as_str().into();
                }
            }
            if let Some(propagation) = options.propagation {
                out["propagationPolicy"] = match propagation {
                    Propagation::Orphan => "Orphan",
                    Propagation::Background => "Background",
                    Propagation::Foreground => "Foreground",
                }
                .into();
            }
            if options.dry_run {
                out["dryRun"] = json!(["All"]);
            }
        }
        None => {
            for field in ["fieldManager", "fieldValidation"] {
                if let Some(value) = query.get(field).filter(|v| !v.is_empty()) {
                    out[field] = value.into();
                }
            }
            if let Some(value) = query.get("dryRun").filter(|v| !v.is_empty()) {
                out["dryRun"] = json!([value]);
            }
        }
    }
    out
}

/// What a webhook said.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// What it refuses the request with; nothing when it allows it.
    pub denied: Option<Status>,
    /// The changes it wants, as a JSON patch.
    pub patch: Option<Value>,
    /// What the client should be told.
    pub warnings: Vec<String>,
    /// What goes into the audit log.
    pub audit: Vec<(String, String)>,
}

/// What an answer is no answer for.
#[derive(Debug, Clone, PartialEq)]
pub enum Wrong {
    /// It counts as if the webhook could not be asked.
    Invalid(String),
    /// The request fails whatever the failure policy.
    Broken(Status),
}

/// Reads an answer.
///
/// # Errors
/// What is wrong with it.
pub fn answered(name: &str, review: Review, uid: &str, mutating: bool, answer: &Value) -> Result<Answer, Wrong> {
    let invalid = |why: String| Err(Wrong::Invalid(why));
    let Some(response) = answer.get("response").filter(|r| r.is_object()) else {
        return invalid("webhook response was absent".to_owned());
    };
    let (patch, kind) = (text(response, "/patch"), response.get("patchType").and_then(Value::as_str));
    if review == Review::V1 {
        let given = text(response, "/uid");
        if given != uid {
            return invalid(format!("expected response.uid={uid:?}, got {given:?}"));
        }
        let (version, given) = (text(answer, "/apiVersion"), text(answer, "/kind"));
        if (version, given) != (Review::V1.api_version(), "AdmissionReview") {
            let version = if version.contains('/') { version.to_owned() } else { format!("/{version}") };
            return invalid(format!("expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got {version}, Kind={given}"));
        }
        match (mutating, patch.is_empty(), kind) {
            (true, false, None) => return invalid("webhook returned response.patch but not response.patchType".to_owned()),
            (true, true, Some(_)) => return invalid("webhook returned response.patchType but not response.patch".to_owned()),
            (true, _, Some(kind)) if kind != "JSONPatch" => {
                return invalid(format!("webhook returned invalid response.patchType of {kind:?}"));
            }
            (false, false, _) => return invalid("validating webhook may not return response.patch".to_owned()),
            (false, _, Some(_)) => return invalid("validating webhook may not return response.patchType".to_owned()),
            _ => {}
        }
    }
    let warnings = items(response, "/warnings").iter().filter_map(Value::as_str).map(str::to_owned).collect();
    let audit = string_map(response.get("auditAnnotations")).into_iter().map(|(k, v)| (format!("{name}/{k}"), v)).collect();
    let denied = (!flag(response, "/allowed")).then(|| denial(name, response.get("status")));
    let patch = if mutating && denied.is_none() && !patch.is_empty() { parsed(patch)? } else { None };
    Ok(Answer { denied, patch, warnings, audit })
}

/// The patch of an answer; nothing when it changes nothing.
fn parsed(patch: &str) -> Result<Option<Value>, Wrong> {
    let bytes = STANDARD.decode(patch).map_err(|e| Wrong::Invalid(format!("illegal base64 data in response.patch: {e}")))?;
    let patch: Value = serde_json::from_slice(&bytes).map_err(|e| Wrong::Broken(Status::internal(e)))?;
    match &patch {
        Value::Array(operations) if operations.is_empty() => Ok(None),
        Value::Null => Ok(None),
        _ => Ok(Some(patch)),
    }
}

/// The reasons that a Status may have. Another one, of a webhook's own making, is left to the message.
const REASONS: [&str; 19] = [
    "AlreadyExists",
    "BadRequest",
    "Conflict",
    "Expired",
    "Forbidden",
    "Gone",
    "InternalError",
    "Invalid",
    "MethodNotAllowed",
    "NotAcceptable",
    "NotFound",
    "RequestEntityTooLarge",
    "ServerTimeout",
    "ServiceUnavailable",
    "StoreReadError",
    "Timeout",
    "TooManyRequests",
    "Unauthorized",
    "UnsupportedMediaType",
];

/// The refusal of a webhook (`ToStatusErr`).
fn denial(name: &str, result: Option<&Value>) -> Status {
    let empty = json!({});
    let result = result.filter(|r| r.is_object()).unwrap_or(&empty);
    let denied = format!("admission webhook {name:?} denied the request");
    let reason = text(result, "/reason");
    let message = match text(result, "/message") {
        "" if reason.is_empty() => format!("{denied} without explanation"),
        "" => format!("{denied}: {reason}"),
        message => format!("{denied}: {message}"),
    };
    let code = result.get("code").and_then(Value::as_u64).and_then(|c| u16::try_from(c).ok()).filter(|c| (400..600).contains(c));
    let reason = REASONS.iter().find(|r| **r == reason).copied().unwrap_or("");
    let mut status = Status::new(code.unwrap_or(400), reason, message);
    if let Some(details) = result.get("details").filter(|d| d.is_object()) {
        let own = |field: &str| text(details, field).to_owned();
        let causes = items(details, "/causes").iter().map(|c| Cause {
            reason: text(c, "/reason").to_owned(),
            message: text(c, "/message").to_owned(),
            field: text(c, "/field").to_owned(),
        });
        status.details = Some(Box::new(Details {
            name: own("/name"),
            group: own("/group"),
            kind: own("/kind"),
            uid: own("/uid"),
            causes: causes.collect(),
            retry_after_seconds: details.get("retryAfterSeconds").and_then(Value::as_u64).and_then(|s| u32::try_from(s).ok()).unwrap_or(0),
        }));
    }
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reviewed(response: Value) -> Value {
        json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response})
    }

    #[track_caller]
    fn invalid(mutating: bool, answer: Value, expected: &str) {
        assert_eq!(answered("h", Review::V1, "u", mutating, &answer), Err(Wrong::Invalid(expected.to_owned())));
    }

    #[test]
    fn answers_that_are_none() {
        invalid(true, json!({}), "webhook response was absent");
        invalid(true, reviewed(json!({"uid": "x"})), r#"expected response.uid="u", got "x""#);
        invalid(
            true,
            json!({"apiVersion": "v1", "kind": "Pod", "response": {"uid": "u"}}),
            "expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got /v1, Kind=Pod",
        );
        invalid(true, reviewed(json!({"uid": "u", "patch": "W10="})), "webhook returned response.patch but not response.patchType");
        invalid(
            true,
            reviewed(json!({"uid": "u", "patchType": "JSONPatch"})),
            "webhook returned response.patchType but not response.patch",
        );
        invalid(
            true,
            reviewed(json!({"uid": "u", "patch": "W10=", "patchType": "X"})),
            r#"webhook returned invalid response.patchType of "X""#,
        );
        invalid(false, reviewed(json!({"uid": "u", "patch": "W10="})), "validating webhook may not return response.patch");
        invalid(false, reviewed(json!({"uid": "u", "patchType": "JSONPatch"})), "validating webhook may not return response.patchType");
    }

    #[test]
    fn the_older_version_need_not_repeat_the_uid() {
        let answer = answered(
            "h",
            Review::V1beta1,
            "u",
            true,
            &json!({"response": {"allowed": true, "patch": "W3sib3AiOiJyZW1vdmUiLCJwYXRoIjoiL2EifV0="}}),
        );
        assert_eq!(answer.unwrap().patch, Some(json!([{"op": "remove", "path": "/a"}])));
    }

    #[track_caller]
    fn denied(result: Value, code: u16, reason: &str, message: &str) {
        let answer = answered("h.x.y", Review::V1, "u", false, &reviewed(json!({"uid": "u", "allowed": false, "status": result}))).unwrap();
        let status = answer.denied.unwrap();
        assert_eq!((status.code, status.reason, status.message.as_str()), (code, reason, message));
    }

    #[test]
    fn denials_in_upstreams_words() {
        denied(json!(null), 400, "", r#"admission webhook "h.x.y" denied the request without explanation"#);
        denied(json!({"message": "no"}), 400, "", r#"admission webhook "h.x.y" denied the request: no"#);
        denied(json!({"reason": "Forbidden", "code": 403}), 403, "Forbidden", r#"admission webhook "h.x.y" denied the request: Forbidden"#);
        denied(json!({"reason": "my own", "code": 200}), 400, "", r#"admission webhook "h.x.y" denied the request: my own"#);
    }

    #[test]
    fn warnings_and_annotations_come_with_the_answer() {
        let response = json!({"uid": "u", "allowed": true, "warnings": ["w"], "auditAnnotations": {"k": "v"}});
        let answer = answered("h", Review::V1, "u", false, &reviewed(response)).unwrap();
        assert_eq!((answer.denied, answer.patch), (None, None));
        assert_eq!((answer.warnings, answer.audit), (vec!["w".to_owned()], vec![("h/k".to_owned(), "v".to_owned())]));
    }

    #[test]
    fn the_question_says_how_the_request_was_made_and_how_it_is_seen() {
        let seen = |version: &str| Seen {
            group: "x.io".to_owned(),
            version: version.to_owned(),
            resource: "foos".to_owned(),
            kind: ("x.io".to_owned(), version.to_owned(), "Foo".to_owned()),
        };
        let (namespace, name) = ("n".to_owned(), "x".to_owned());
        let request = Request { seen: seen("v1"), part: "status".to_owned(), operation: Operation::Update, namespace, name };
        let user = User { name: "me".to_owned(), groups: vec!["g".to_owned()], ..User::default() };
        let options = options(Operation::Update, &Query::parse("dryRun=All&fieldManager=m"), None);
        let (object, old) = (json!({"a": 1}), Value::Null);
        let question = Question {
            review: Review::V1,
            uid: "u",
            request: &request,
            seen: &seen("v2"),
            name: "a",
            user: &user,
            object: &object,
            old: &old,
            dry_run: true,
            options: &options,
        };
        let sent: Value = serde_json::from_slice(&question.body().unwrap()).unwrap();
        let kind = |v: &str| json!({"group": "x.io", "version": v, "kind": "Foo"});
        let resource = |v: &str| json!({"group": "x.io", "version": v, "resource": "foos"});
        assert_eq!(
            sent,
            json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": {
                "uid": "u", "kind": kind("v2"), "resource": resource("v2"), "subResource": "status",
                "requestKind": kind("v1"), "requestResource": resource("v1"), "requestSubResource": "status",
                "name": "a", "namespace": "n", "operation": "UPDATE", "userInfo": {"username": "me", "groups": ["g"]},
                "object": {"a": 1}, "oldObject": null, "dryRun": true,
                "options": {"kind": "UpdateOptions", "apiVersion": "meta.k8s.io/v1", "fieldManager": "m", "dryRun": ["All"]},
            }})
        );
    }

    #[test]
    fn the_options_of_a_deletion() {
        let given =
            DeleteOptions { grace: Some(0), uid: Some("u".to_owned()), propagation: Some(Propagation::Orphan), ..DeleteOptions::default() };
        assert_eq!(
            options(Operation::Delete, &Query::default(), Some(&given)),
            json!({"kind": "DeleteOptions", "apiVersion": "meta.k8s.io/v1", "gracePeriodSeconds": 0, "preconditions": {"uid": "u"}, "propagationPolicy": "Orphan"})
        );
        assert_eq!(options(Operation::Connect, &Query::default(), None), Value::Null);
    }
}
