//! Reviews: questions to the server that nothing is stored for.

use api::object::Meta as _;
use api::status::Status;
use axum::extract::Request;
use axum::response::Response;
use futures::future::BoxFuture;
use serde_json::{Value, json};

use crate::admission::{Admission, Operation};
use crate::auth::rbac::Rule;
use crate::auth::{Attributes, User};
use crate::http::{decode, respond};
use crate::verbs::options::WriteOptions;
use crate::verbs::{Body, Call, Reply, write};

/// The object of a review as it was posted.
async fn posted(call: &Call, request: Request) -> Result<Value, Status> {
    let options = WriteOptions::parse(call)?;
    let body = decode::read(&call.headers, request.into_body()).await?;
    let mut object = call.decode_body(&body, &options, &mut vec![])?;
    write::identify(call, &mut object)?;
    write::default(call, &mut object)?;
    Admission::new(call, Operation::Create, "", options.dry_run).run(&mut object, &mut vec![]).await?;
    let errors = call.row.hooks.create(&mut object, call.cx()).map_err(|e| call.unfit(&e))?;
    call.valid(object.name(), &errors)?;
    Ok(object)
}

fn answer(call: &Call, object: Value) -> Result<Response, Status> {
    respond::reply(Reply { code: 201, body: Body::Object(object), warnings: vec![] }, &call.renderer()?)
}

fn shown(user: &User) -> Value {
    let mut out = json!({"username": user.name, "groups": user.groups});
    if !user.uid.is_empty() {
        out["uid"] = user.uid.as_str().into();
    }
    if !user.extra.is_empty() {
        out["extra"] = json!(user.extra);
    }
    out
}

/// `TokenReview`
pub fn token(call: Call, request: Request) -> BoxFuture<'static, Result<Response, Status>> {
    Box::pin(async move {
        let mut review = posted(&call, request).await?;
        let token = review.pointer("/spec/token").and_then(Value::as_str).unwrap_or("").to_owned();
        let audiences: Vec<String> = review
            .pointer("/spec/audiences")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(|a| a.as_str().map(str::to_owned))
            .collect();
        let verified = call.server.authenticator.token(&token, &audiences);
        review["status"] = match verified {
            Ok(verified) => json!({"authenticated": true, "user": shown(&verified.user), "audiences": verified.audiences}),
            Err(why) => json!({"user": {}, "error": format!("[invalid bearer token, {why}]")}),
        };
        answer(&call, review)
    })
}

/// `SelfSubjectReview`
pub fn whoami(call: Call, request: Request) -> BoxFuture<'static, Result<Response, Status>> {
    Box::pin(async move {
        let mut review = posted(&call, request).await?;
        review["status"] = json!({"userInfo": shown(&call.user)});
        answer(&call, review)
    })
}

/// What a review's spec asks about.
fn asked(spec: &Value) -> Attributes {
    let text = |pointer: &str| spec.pointer(pointer).and_then(Value::as_str).unwrap_or("").to_owned();
    if spec.get("nonResourceAttributes").is_some_and(Value::is_object) {
        return Attributes {
            verb: text("/nonResourceAttributes/verb"),
            path: text("/nonResourceAttributes/path"),
            ..Attributes::default()
        };
    }
    let of = |field: &str| text(&format!("/resourceAttributes/{field}"));
    Attributes {
        verb: of("verb"),
        group: of("group"),
        version: of("version"),
        resource: of("resource"),
        subresource: of("subresource"),
        namespace: of("namespace"),
        name: of("name"),
        ..Attributes::default()
    }
}

fn decide(call: &Call, user: &User, review: &mut Value) {
    let allowed = call.server.authorizer.allows(user, &asked(&review["spec"]));
    review["status"] = json!({ "allowed": allowed });
}

/// `SelfSubjectAccessReview`
pub fn own_access(call: Call, request: Request) -> BoxFuture<'static, Result<Response, Status>> {
    Box::pin(async move {
        let mut review = posted(&call, request).await?;
        decide(&call, &call.user, &mut review);
        answer(&call, review)
    })
}

/// `SubjectAccessReview` and `LocalSubjectAccessReview`
pub fn access(call: Call, request: Request) -> BoxFuture<'static, Result<Response, Status>> {
    Box::pin(async move {
        let mut review = posted(&call, request).await?;
        let spec = &review["spec"];
        let list =
            |field: &str| spec[field].as_array().into_iter().flatten().filter_map(|v| v.as_str().map(str::to_owned)).collect::<Vec<_>>();
        let user = User {
            name: spec["user"].as_str().unwrap_or("").to_owned(),
            uid: spec["uid"].as_str().unwrap_or("").to_owned(),
            groups: list("groups"),
            ..User::default()
        };
        decide(&call, &user, &mut review);
        answer(&call, review)
    })
}

/// `SelfSubjectRulesReview`
pub fn own_rules(call: Call, request: Request) -> BoxFuture<'static, Result<Response, Status>> {
    Box::pin(async move {
        let mut review = posted(&call, request).await?;
        let namespace = review.pointer("/spec/namespace").and_then(Value::as_str).unwrap_or("").to_owned();
        let policy = call.server.authorizer.policy();
        let all = Rule { verbs: vec!["*".into()], api_groups: vec!["*".into()], resources: vec!["*".into()], ..Rule::default() };
        let every_path = Rule { verbs: vec!["*".into()], non_resource_urls: vec!["*".into()], ..Rule::default() };
        let mut rules: Vec<Rule> = policy
            .grants(&call.user)
            .filter(|g| g.namespace.as_ref().is_none_or(|n| *n == namespace))
            .flat_map(|g| g.rules.iter().cloned())
            .collect();
        if call.user.groups.iter().any(|g| g == "system:masters") {
            rules.extend([all, every_path]);
        }
        let (paths, resources): (Vec<Rule>, Vec<Rule>) = rules.into_iter().partition(|r| !r.non_resource_urls.is_empty());
        review["status"] = json!({"resourceRules": resources, "nonResourceRules": paths, "incomplete": false});
        answer(&call, review)
    })
}
