//! `serviceaccounts/token`: tokens for an account, bound to what the request names (TokenRequest).

use api::object::Meta as _;
use api::status::Status;
use axum::extract::Request;
use axum::response::Response;
use futures::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::admission::{Admission, Operation};
use crate::auth::tokens::{Bound, Reference};
use crate::http::{decode, render, respond};
use crate::verbs::options::WriteOptions;
use crate::verbs::{Call, metadata};

/// The shortest life that may be asked for, in seconds.
const SHORTEST: i64 = 600;
/// The life of a token when the request does not say.
const USUAL: i64 = 3_600;
/// A request for exactly this long is a kubelet's: its token lives on for a year in case the client reads the file only once (KEP-1205).
const PROJECTED: i64 = 3_607;
const EXTENDED: i64 = 365 * 24 * 3_600;

/// Issues a token.
pub fn request(call: Call, request: Request) -> BoxFuture<'static, Result<Response, Status>> {
    Box::pin(async move {
        if call.info.verb != "create" {
            return Err(Status::method_not_supported(&call.row.group, &call.row.plural, &call.info.verb));
        }
        let body = decode::read(&call.headers, request.into_body()).await?;
        let mut review = decode::tree(&call.headers, &body)?;
        let dry_run = WriteOptions::parse(&call)?.dry_run;
        Admission::new(&call, Operation::Create, "token", dry_run).run(&mut review, &mut vec![]).await?;
        call.server.hub.fresh().await?;
        let entry = call.row.cache.get(&call.row.rest(&call.info.namespace, &call.info.name)).ok_or_else(|| call.not_found())?;
        let account = call.tree(&entry)?;
        let seconds = review.pointer("/spec/expirationSeconds").and_then(Value::as_i64).unwrap_or(USUAL);
        if seconds < SHORTEST {
            let mut errors = api::field::Errors::new();
            errors.invalid(
                &api::field::Path::new("spec").child("expirationSeconds"),
                seconds,
                "may not specify a duration less than 10 minutes",
            );
            return Err(Status::invalid("authentication.k8s.io", "TokenRequest", &call.info.name, &errors));
        }
        let audiences: Vec<String> = review
            .pointer("/spec/audiences")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(|a| a.as_str().map(str::to_owned))
            .collect();
        let mut bound = bound(&call, &review, &account)?;
        let lives = if seconds == PROJECTED && audiences.is_empty() { EXTENDED } else { seconds };
        bound.warnafter = (lives != seconds).then(|| call.now.as_second() + seconds);
        let id = uuid::Uuid::new_v4().to_string();
        let tokens = &call.server.authenticator.tokens;
        let shown = if audiences.is_empty() { vec![tokens.issuer().to_owned()] } else { audiences.clone() };
        let token = tokens.issue(bound, audiences, lives, call.now, id).map_err(Status::internal)?;
        let expires: Timestamp = call.now.saturating_add(SignedDuration::from_secs(seconds)).unwrap_or(call.now);
        review["kind"] = "TokenRequest".into();
        review["apiVersion"] = "authentication.k8s.io/v1".into();
        review["metadata"] =
            json!({"name": account.name(), "namespace": account.namespace(), "creationTimestamp": metadata::timestamp(call.now)});
        review["spec"]["audiences"] = json!(shown);
        review["spec"]["expirationSeconds"] = seconds.into();
        review["status"] = json!({"token": token, "expirationTimestamp": metadata::timestamp(expires)});
        let format = call.media.format;
        Ok(respond::with_type(201, format.content_type(), render::bytes(&review, format)?))
    })
}

/// What the token is bound to, checked against what there is.
fn bound(call: &Call, review: &Value, account: &Value) -> Result<Bound, Status> {
    let of = |o: &Value| Reference { name: o.name().to_owned(), uid: o.uid().to_owned() };
    let mut bound = Bound {
        namespace: account.namespace().to_owned(),
        serviceaccount: of(account),
        pod: None,
        secret: None,
        node: None,
        warnafter: None,
    };
    let Some(wanted) = review.pointer("/spec/boundObjectRef").filter(|r| r.is_object()) else { return Ok(bound) };
    let text = |f: &str| wanted.get(f).and_then(Value::as_str).unwrap_or("");
    let (kind, name, uid) = (text("kind"), text("name"), text("uid"));
    let find = |plural: &str, key: String| -> Result<Value, Status> {
        let entry = call.server.hub.cache(&format!("/registry/{plural}/")).get(&key).ok_or_else(|| Status::not_found("", plural, name))?;
        let found = call.tree(&entry)?;
        if !uid.is_empty() && uid != found.uid() {
            let why = format!(
                "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
            );
            return Err(Status::conflict("", plural, name, &why));
        }
        Ok(found)
    };
    let namespaced = format!("{}/{name}", account.namespace());
    match kind {
        "Pod" => {
            let pod = find("pods", namespaced)?;
            if pod.pointer("/spec/serviceAccountName").and_then(Value::as_str) != Some(account.name()) {
                return Err(Status::bad_request(format!(
                    "cannot bind token for serviceaccount {:?} to pod running with different serviceaccount name.",
                    account.name()
                )));
            }
            if let Some(node) = pod.pointer("/spec/nodeName").and_then(Value::as_str) {
                let node = call.server.hub.cache("/registry/nodes/").get(node);
                bound.node = node.map(|n| call.tree(&n)).transpose()?.map(|n| of(&n));
            }
            bound.pod = Some(of(&pod));
        }
        "Secret" => bound.secret = Some(of(&find("secrets", namespaced)?)),
        "Node" => bound.node = Some(of(&find("nodes", name.to_owned())?)),
        other => return Err(Status::bad_request(format!("cannot bind token for type {other:?}"))),
    }
    Ok(bound)
}
