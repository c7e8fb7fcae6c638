//! Asking a webhook: the object in the version it wants to see, the call, and what a failure means.

use std::sync::OnceLock;
use std::time::Instant;

use api::object::{Meta as _, api_version};
use api::schema::{Schema, SchemaNode, check};
use api::status::Status;
use serde_json::Value;

use super::configuration::{Hook, Review};
use super::metrics::Ended;
use super::review::{self, Answer, Question, Wrong};
use crate::admission::matching::{self, Request, Seen};
use crate::admission::pass::Admission;
use crate::catalog::Served;
use crate::cel::conditions::Matched;
use crate::cel::request::Facts;
use crate::crd::convert::only;
use crate::outbound::words;
use crate::resource::Conversion;

/// The most bytes of an answer: a patch may be as large as an object.
const MOST: usize = 8 << 20;

/// A request on its way through webhooks.
pub struct Asking<'a> {
    /// The pass that it is part of.
    pub admission: &'a Admission<'a>,
    /// The request, as webhooks match it.
    pub request: Request,
    /// The object's name.
    pub name: String,
    options: Value,
    equivalents: OnceLock<Vec<Seen>>,
}

/// Why a webhook let no request through.
#[derive(Debug)]
enum Failure {
    /// It could not be asked, which the failure policy decides about; with upstream's words.
    Unasked(String),
    /// The request fails.
    Refused(Status),
}

impl<'a> Asking<'a> {
    /// The request of a pass over `obj`; nothing for what no webhook could name.
    #[must_use]
    pub fn new(admission: &'a Admission<'a>, obj: &Value) -> Option<Self> {
        let call = admission.call;
        let seen = Seen::of(&call.row, admission.part)?;
        let name = admission.name(obj);
        let namespaces = call.row.group.is_empty() && call.row.plural == "namespaces";
        let namespace = if namespaces { name.clone() } else { call.info.namespace.clone() };
        let request = Request { seen, part: admission.part.to_owned(), operation: admission.operation, namespace, name: name.clone() };
        let options = review::options(admission.operation, &call.query, admission.deletion);
        Some(Self { admission, request, name, options, equivalents: OnceLock::new() })
    }

    /// How a webhook wants to see the request; nothing when it is not concerned.
    ///
    /// # Errors
    /// A selector that cannot be read, a namespace that is not there.
    pub async fn concerns(&self, hook: &Hook, obj: &Value) -> Result<Option<Seen>, Status> {
        let call = self.admission.call;
        let equivalents = || {
            let found = || Seen::equivalents(&call.server.catalog.load(), &call.row, self.admission.part);
            self.equivalents.get_or_init(found).clone()
        };
        let Some(seen) = matching::wanted(&hook.rules, hook.equivalent, &self.request, equivalents) else { return Ok(None) };
        let objects = hook.objects.as_ref().map_err(Status::internal)?;
        if !matching::selects(objects, obj, self.admission.old) || !self.selects_namespace(hook, obj).await? {
            return Ok(None);
        }
        if !hook.conditions.is_empty() && !self.holds(hook, &seen, obj).await? {
            return Ok(None);
        }
        Ok(Some(seen))
    }

    /// Whether a webhook's match conditions hold.
    async fn holds(&self, hook: &Hook, seen: &Seen, obj: &Value) -> Result<bool, Status> {
        let shown = self.shown(seen, obj).await?;
        let old = self.shown(seen, self.admission.old.unwrap_or(&Value::Null)).await?;
        let described = self.question(hook.review.unwrap_or(Review::V1), "", seen, &shown, &old).described().map_err(Status::internal)?;
        let call = self.admission.call;
        let facts = Facts {
            request: &described,
            object: Some(&shown).filter(|o| !o.is_null()),
            old: Some(&old).filter(|o| !o.is_null()),
            user: &call.user,
            judge: &call.server.authorizer,
            namespace: None,
            params: None,
        };
        match hook.conditions.evaluate(&facts) {
            Matched::Yes => Ok(true),
            Matched::No(_) => Ok(false),
            Matched::Failed(why) if hook.fails => Err(Status::forbidden(&call.row.group, &call.row.plural, &self.name, &why)),
            Matched::Failed(why) => {
                tracing::warn!(webhook = hook.id, why, "the match conditions of a webhook");
                Ok(false)
            }
        }
    }

    fn question<'q>(&'q self, review: Review, uid: &'q str, seen: &'q Seen, object: &'q Value, old: &'q Value) -> Question<'q> {
        Question {
            review,
            uid,
            request: &self.request,
            seen,
            name: &self.name,
            user: &self.admission.call.user,
            object,
            old,
            dry_run: self.admission.dry_run,
            options: &self.options,
        }
    }

    async fn selects_namespace(&self, hook: &Hook, obj: &Value) -> Result<bool, Status> {
        let selector = hook.namespaces.as_ref().map_err(Status::internal)?;
        if selector.is_everything() || !self.request.is_in_namespace() {
            return Ok(true);
        }
        if self.request.writes_namespace() {
            return Ok(matching::selects(selector, obj, None));
        }
        let name = &self.request.namespace;
        let namespace = self.admission.namespace(name).await?.ok_or_else(|| Status::not_found("", "namespaces", name))?;
        Ok(selector.matches_with(|key| namespace.label(key)))
    }

    /// The row that a way to see the request belongs to, and whether objects have another form there.
    fn row(&self, seen: &Seen) -> Result<Option<std::sync::Arc<Served>>, Status> {
        let row = &self.admission.call.row;
        if *seen == self.request.seen {
            return Ok(matches!(row.conversion, Some(Conversion::Fixed { .. })).then(|| row.clone()));
        }
        let found = self.admission.call.server.catalog.load().find(&seen.group, &seen.version, &seen.resource).cloned();
        let unknown = || {
            Status::internal(format!(
                "unable to convert to {}, Resource={}: unknown kind",
                api_version(&seen.group, &seen.version),
                seen.resource
            ))
        };
        found.map(Some).ok_or_else(unknown)
    }

    /// Whether the object is what the URL names, and not something of a subresource's own.
    fn is_whole(&self) -> bool {
        let row = &self.admission.call.row;
        self.request.seen.kind.2 == row.kind && self.request.seen.kind.0 == row.group
    }

    /// An object, in the worked form, as a webhook wants to see it.
    ///
    /// # Errors
    /// What cannot be converted.
    pub async fn shown(&self, seen: &Seen, object: &Value) -> Result<Value, Status> {
        if object.is_null() || !self.is_whole() {
            return Ok(object.clone());
        }
        let outbound = &self.admission.call.server.outbound;
        match self.row(seen)? {
            None => Ok(object.clone()),
            Some(row) => match &row.conversion {
                Some(Conversion::Fixed { from_stored, .. }) => from_stored(object.clone()),
                Some(Conversion::Versions(versions)) => only(versions.read(outbound, vec![object.clone()]).await?),
                None => match self.admission.call.row.versions() {
                    Some(own) => own.to_version(outbound, object.clone(), &row.api_version()).await,
                    None => Ok(object.clone()),
                },
            },
        }
    }

    /// What a webhook made of the object, in the worked form again: without fields that the kind does not have, with its defaults.
    ///
    /// # Errors
    /// What is no object of the kind any more, or cannot be converted.
    pub async fn taken(&self, seen: &Seen, object: Value) -> Result<Value, Status> {
        let call = self.admission.call;
        if !self.is_whole() {
            let (group, version, kind) = &seen.kind;
            return match Schema::builtin().node_of(group, version, kind) {
                Some(node) => conformed(object, node),
                None => Ok(object),
            };
        }
        let other = self.row(seen)?;
        let row = other.as_ref().unwrap_or(&call.row);
        let schema = row.schema.as_ref().map_or(Schema::builtin(), |custom| &custom.schema);
        let mut object = match schema.node_of(&row.group, &row.version, &row.kind) {
            Some(node) => conformed(object, node)?,
            None => object,
        };
        object = match (&row.conversion, &other) {
            (Some(Conversion::Fixed { to_stored, .. }), Some(_)) => to_stored(object)?,
            (_, Some(_)) if row.schema.is_some() => {
                row.hooks.default(&mut object).map_err(Status::internal)?;
                match (call.row.versions(), row.versions()) {
                    (Some(own), _) => only(own.read(&call.server.outbound, vec![object]).await?)?,
                    // The row of the stored version lacks nothing as long as all is stored in it.
                    (None, Some(other)) => other.written(&call.server.outbound, object).await?,
                    (None, None) => object,
                }
            }
            _ => object,
        };
        call.row.hooks.default(&mut object).map_err(Status::internal)?;
        Ok(object)
    }

    /// Asks a webhook; the inner nothing is a failure that its policy says to ignore.
    ///
    /// # Errors
    /// Why the request must not go through.
    pub async fn ask(&self, hook: &Hook, seen: &Seen, object: &Value, old: &Value, mutating: bool) -> Result<Option<Answer>, Status> {
        let started = Instant::now();
        let outcome = self.exchange(hook, seen, object, old, mutating).await;
        let unasked = matches!(outcome, Err(Failure::Unasked(_)));
        let outcome = match outcome {
            Ok(answer) => Ok(Some(answer)),
            Err(Failure::Refused(status)) => Err(status),
            Err(Failure::Unasked(why)) => {
                let why = format!("failed calling webhook {:?}: {why}", hook.name);
                tracing::warn!(webhook = hook.id, why, fails = hook.fails, "a webhook could not be asked");
                if hook.fails { Err(Status::internal(why)) } else { Ok(None) }
            }
        };
        let refused = match &outcome {
            Ok(answer) => answer.as_ref().and_then(|a| a.denied.as_ref()).map(|s| s.code),
            Err(status) => Some(status.code),
        };
        let operation = matching::operation(self.request.operation);
        let ended = Ended { name: &hook.name, mutating, operation, took: started.elapsed(), refused, unasked };
        self.admission.call.server.webhooks.metrics.ended(ended);
        outcome
    }

    async fn exchange(&self, hook: &Hook, seen: &Seen, object: &Value, old: &Value, mutating: bool) -> Result<Answer, Failure> {
        let call = self.admission.call;
        if self.admission.dry_run && !hook.dry_run {
            return Err(Failure::Refused(Status::bad_request(format!("admission webhook {:?} does not support dry run", hook.name))));
        }
        let unasked = |what: &str, why: &dyn std::fmt::Display| Failure::Unasked(format!("{what}: {why}"));
        let review = hook.review.ok_or_else(|| {
            unasked("could not create admission objects", &"webhook does not accept known AdmissionReview versions (v1, v1beta1)")
        })?;
        let client = hook.client.as_ref().map_err(|e| unasked("could not get REST client", e))?;
        let uid = uuid::Uuid::new_v4().to_string();
        let question = self.question(review, &uid, seen, object, old);
        let body = question.body().map_err(|e| unasked("could not create admission objects", &e))?;
        let query = format!("timeout={}s", hook.timeout.as_secs());
        let answer = call.server.outbound.post(client, &query, body, hook.timeout, MOST).await;
        let answer = answer.map_err(|why| unasked("failed to call webhook", &why))?;
        if !(200..300).contains(&answer.code) {
            return Err(unasked("failed to call webhook", &words::answered(answer.code, &String::from_utf8_lossy(&answer.body))));
        }
        let tree: Value = serde_json::from_slice(&answer.body)
            .map_err(|e| unasked("failed to call webhook", &format_args!("couldn't get version/kind; json parse error: {e}")))?;
        review::answered(&hook.name, review, &uid, mutating, &tree).map_err(|wrong| match wrong {
            Wrong::Invalid(why) => unasked("received invalid webhook response", &why),
            Wrong::Broken(status) => Failure::Refused(status),
        })
    }

    /// Takes note of what an answer says besides yes and no.
    pub fn note(&self, hook: &Hook, answer: &mut Answer, warnings: &mut Vec<String>) {
        warnings.append(&mut answer.warnings);
        for (key, value) in answer.audit.drain(..) {
            tracing::debug!(webhook = hook.id, user = self.admission.call.user.name, name = self.name, key, value, "audit annotation");
        }
    }
}

/// An object without the fields that its kind does not have.
fn conformed(object: Value, node: SchemaNode<'_>) -> Result<Value, Status> {
    check::conform(object, node).map(|decoded| decoded.value).map_err(Status::internal)
}

/// 400 when a webhook moved the object to another namespace than the request's.
///
/// # Errors
/// As said.
pub fn stays(admission: &Admission<'_>, obj: &Value) -> Result<(), Status> {
    let call = admission.call;
    if call.row.is_namespaced() && obj.namespace() != call.info.namespace {
        return Err(Status::bad_request("the namespace of the provided object does not match the namespace sent on the request"));
    }
    Ok(())
}
