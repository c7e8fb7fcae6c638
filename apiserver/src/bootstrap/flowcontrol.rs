//! The FlowSchemas and PriorityLevelConfigurations that a cluster always has, from `flowcontrol.yaml`, and their upkeep.
//!
//! As upstream: what is missing is made; the mandatory ones are put right whenever they were changed, the others as long as they say
//! `apf.kubernetes.io/autoupdate-spec: "true"`. Each schema's condition `Dangling` says whether its level is missing.

use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use api::object::Meta as _;
use api::status::Status;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{call, change, ensure, options};
use crate::resources::flowcontrol::GROUP;
use crate::server::Server;
use crate::verbs::metadata::timestamp;
use crate::verbs::update;

/// The annotation of objects whose spec is put back.
const AUTOUPDATE: &str = "apf.kubernetes.io/autoupdate-spec";
/// How long after a change everything is looked at, so that many changes are looked at once.
const SETTLES: Duration = Duration::from_millis(500);
/// How often everything is looked at though nothing changed.
const EVERY: Duration = Duration::from_secs(60);

static DATA: LazyLock<Value> =
    LazyLock::new(|| serde_saphyr::from_str(include_str!("flowcontrol.yaml")).expect("flowcontrol.yaml is a map"));

fn object(kind: &str, name: &Value, spec: Value) -> Value {
    let metadata = json!({"name": name, "annotations": {AUTOUPDATE: "true"}});
    json!({"apiVersion": format!("{GROUP}/v1"), "kind": kind, "metadata": metadata, "spec": spec})
}

fn list(of: &str) -> impl Iterator<Item = &'static Value> {
    DATA[of].as_array().into_iter().flatten()
}

/// The PriorityLevelConfigurations.
#[must_use]
pub fn levels() -> Vec<Value> {
    let spec = |l: &Value| {
        let mut shares = json!({"nominalConcurrencyShares": l["shares"], "lendablePercent": l["lendable"]});
        if l["name"] == "exempt" {
            return json!({"type": "Exempt", "exempt": shares});
        }
        shares["limitResponse"] = match l.get("queues") {
            None => json!({"type": "Reject"}),
            Some(queues) => {
                json!({"type": "Queue", "queuing": {"queues": queues, "handSize": l["hand"], "queueLengthLimit": l["length"]}})
            }
        };
        json!({"type": "Limited", "limited": shares})
    };
    list("levels").map(|l| object("PriorityLevelConfiguration", &l["name"], spec(l))).collect()
}

/// The FlowSchemas.
#[must_use]
pub fn schemas() -> Vec<Value> {
    let spec = |s: &Value| {
        let texts = |field: &str| s[field].as_array().into_iter().flatten().filter_map(Value::as_str);
        let mut rule = json!({"subjects": texts("subjects").map(subject).collect::<Vec<_>>()});
        for text in texts("rules") {
            let (field, one) = policy(text);
            match rule[field].as_array_mut() {
                Some(rules) => rules.push(one),
                None => rule[field] = json!([one]),
            }
        }
        let mut spec = json!({
            "priorityLevelConfiguration": {"name": s["level"]}, "matchingPrecedence": s["precedence"], "rules": [rule],
        });
        if let Some(by) = s.get("by") {
            spec["distinguisherMethod"] = json!({"type": by});
        }
        spec
    };
    list("schemas").map(|s| object("FlowSchema", &s["name"], spec(s))).collect()
}

/// A rule, and the field it goes into.
fn policy(text: &str) -> (&'static str, Value) {
    let split = |t: &str| -> Vec<String> { t.split(',').map(|p| if p == "core" { String::new() } else { p.to_owned() }).collect() };
    match text.split_whitespace().collect::<Vec<_>>().as_slice() {
        [verbs, paths] => ("nonResourceRules", json!({"verbs": split(verbs), "nonResourceURLs": split(paths)})),
        [verbs, groups, resources, rest @ ..] => {
            let mut rule = json!({"verbs": split(verbs), "apiGroups": split(groups), "resources": split(resources), "namespaces": ["*"]});
            if rest == ["cluster"] {
                rule["clusterScope"] = true.into();
            }
            ("resourceRules", rule)
        }
        _ => panic!("flowcontrol.yaml has the rule {text:?}"),
    }
}

/// `User:name`, `Group:name` or `ServiceAccount:namespace:name`.
fn subject(text: &str) -> Value {
    let (kind, name) = text.split_once(':').unwrap_or(("", text));
    match kind {
        "User" => json!({"kind": kind, "user": {"name": name}}),
        "Group" => json!({"kind": kind, "group": {"name": name}}),
        _ => {
            let (namespace, name) = name.split_once(':').unwrap_or(("", name));
            json!({"kind": "ServiceAccount", "serviceAccount": {"namespace": namespace, "name": name}})
        }
    }
}

/// Whether an object is one that always is as the system has it.
#[must_use]
pub fn is_mandatory(object: &Value) -> bool {
    matches!(object.name(), "exempt" | "catch-all")
}

/// A step of the upkeep.
#[derive(Debug, Clone, PartialEq)]
enum Step {
    /// The object is made.
    Create(Value),
    /// The object's spec becomes this one's.
    SetSpec(Value),
    /// The object's status becomes this one's.
    SetStatus(Value),
}

/// What is to be done about what there is. Pure.
fn plan(have: &[Value], wanted: &[Value], now: Timestamp) -> Vec<Step> {
    let same = |a: &Value, b: &Value| a["kind"] == b["kind"] && a.name() == b.name();
    let mut steps = vec![];
    for wanted in wanted {
        match have.iter().find(|h| same(h, wanted)) {
            None => steps.push(Step::Create(wanted.clone())),
            Some(found) => {
                let ours = is_mandatory(found) || found.annotations().get(AUTOUPDATE).is_some_and(|v| v == "true");
                if ours && !covers(&found["spec"], &wanted["spec"]) {
                    steps.push(Step::SetSpec(wanted.clone()));
                }
            }
        }
    }
    let levels: BTreeSet<&str> =
        have.iter().chain(wanted).filter(|o| o["kind"] == "PriorityLevelConfiguration").map(|o| o.name()).collect();
    for schema in have.iter().filter(|o| o["kind"] == "FlowSchema") {
        let level = schema.pointer("/spec/priorityLevelConfiguration/name").and_then(Value::as_str).unwrap_or("");
        let condition = dangling(level, !levels.contains(level));
        let old = schema.pointer("/status/conditions").and_then(Value::as_array).cloned().unwrap_or_default();
        let is_it = |c: &&Value| c["type"] == "Dangling";
        if old.iter().find(is_it).is_some_and(|c| c["status"] == condition["status"] && c["message"] == condition["message"]) {
            continue;
        }
        let mut new = schema.clone();
        let mut condition = condition;
        condition["lastTransitionTime"] = timestamp(now).into();
        let others = old.iter().filter(|c| !is_it(c)).cloned();
        new["status"]["conditions"] = others.chain([condition]).collect();
        steps.push(Step::SetStatus(new));
    }
    steps
}

fn dangling(level: &str, missing: bool) -> Value {
    if missing {
        let message =
            format!("This FlowSchema references the PriorityLevelConfiguration object named {level:?} but there is no such object");
        json!({"type": "Dangling", "status": "True", "reason": "NotFound", "message": message})
    } else {
        let message = format!("This FlowSchema references the PriorityLevelConfiguration object named {level:?} and it exists");
        json!({"type": "Dangling", "status": "False", "reason": "Found", "message": message})
    }
}

/// Whether everything that is wanted is there; what defaults filled in besides does not matter.
fn covers(have: &Value, wanted: &Value) -> bool {
    match (have, wanted) {
        (Value::Object(have), Value::Object(wanted)) => wanted.iter().all(|(k, w)| have.get(k).is_some_and(|h| covers(h, w))),
        (Value::Array(have), Value::Array(wanted)) => have.len() == wanted.len() && have.iter().zip(wanted).all(|(h, w)| covers(h, w)),
        (have, wanted) => have == wanted,
    }
}

/// Keeps the objects right until the server stops.
pub async fn keep(server: Arc<Server>) {
    let caches = ["flowschemas", "prioritylevelconfigurations"].map(|p| server.hub.cache(&format!("/registry/{GROUP}/{p}/")));
    loop {
        // What happens from here on is seen, also while steps are taken.
        let [mut schemas, mut levels] = caches.each_ref().map(|c| c.snapshot("", 0).2);
        if let Err(status) = once(&server).await {
            tracing::warn!(%status, "the objects of priority and fairness");
        }
        tokio::select! {
            () = schemas.moved() => tokio::time::sleep(SETTLES).await,
            () = levels.moved() => tokio::time::sleep(SETTLES).await,
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

/// Looks at everything once, and does what is to be done.
///
/// # Errors
/// A write that fails.
pub async fn once(server: &Arc<Server>) -> Result<(), Status> {
    server.hub.fresh().await?;
    let trees = |plural: &str| {
        let entries = server.hub.cache(&format!("/registry/{GROUP}/{plural}/")).snapshot("", 0).0;
        entries.iter().map(|e| e.tree().map_err(Status::internal)).collect::<Result<Vec<_>, _>>()
    };
    let have = [trees("flowschemas")?, trees("prioritylevelconfigurations")?].concat();
    let steps = plan(&have, &[levels(), schemas()].concat(), server.clock.now());
    stream::iter(steps).map(|step| take(server, step)).buffer_unordered(super::AT_ONCE).try_collect().await
}

async fn take(server: &Arc<Server>, step: Step) -> Result<(), Status> {
    match step {
        Step::Create(object) => ensure(server, object).await.map(drop),
        Step::SetSpec(object) => {
            let set = |old: &Value| {
                let mut new = old.clone();
                new["spec"] = object["spec"].clone();
                new
            };
            change(server, &object, &set).await
        }
        Step::SetStatus(object) => {
            let mut call = call(server, &object)?;
            call.info.name = object.name().to_owned();
            let set = |old: &Value| {
                let mut new = old.clone();
                new["status"] = object["status"].clone();
                Ok(new)
            };
            match update::rewrite(&call, &options(), &set).await {
                // It was removed meanwhile.
                Err(status) if status.code == 404 => Ok(()),
                done => done.map(drop),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(have: &[Value], expected: &[&str]) -> Vec<Step> {
        let steps = plan(have, &[levels(), schemas()].concat(), Timestamp::UNIX_EPOCH);
        let text = |s: &Step| match s {
            Step::Create(o) => format!("create {} {}", o["kind"].as_str().unwrap(), o.name()),
            Step::SetSpec(o) => format!("spec {}", o.name()),
            Step::SetStatus(o) => format!("status {} {}", o.name(), o["status"]["conditions"][0]["status"].as_str().unwrap()),
        };
        assert_eq!(steps.iter().map(text).collect::<Vec<_>>(), expected);
        steps
    }

    /// Everything as it is after the first rounds.
    fn settled() -> Vec<Value> {
        let mut have = [levels(), schemas()].concat();
        for step in plan(&have, &[], Timestamp::UNIX_EPOCH) {
            let Step::SetStatus(new) = step else { panic!("{step:?}") };
            let at = have.iter().position(|h| h["kind"] == new["kind"] && h.name() == new.name()).unwrap();
            have[at] = new;
        }
        have
    }

    #[test]
    fn what_is_missing_is_made_and_then_there_is_nothing_to_do() {
        assert_eq!(plan(&[], &[levels(), schemas()].concat(), Timestamp::UNIX_EPOCH).len(), levels().len() + schemas().len());
        check(&settled(), &[]);
    }

    #[test]
    fn what_is_ours_is_put_right() {
        let mut have = settled();
        for object in &mut have {
            match object.name() {
                "catch-all" if object["kind"] == "PriorityLevelConfiguration" => {
                    object["metadata"]["annotations"] = json!({});
                    object["spec"]["limited"]["nominalConcurrencyShares"] = 50.into();
                }
                "system" => object["spec"]["limited"]["nominalConcurrencyShares"] = 50.into(),
                "node-high" => {
                    object["metadata"]["annotations"][AUTOUPDATE] = "false".into();
                    object["spec"]["limited"]["nominalConcurrencyShares"] = 50.into();
                }
                _ => {}
            }
        }
        check(&have, &["spec catch-all", "spec system"]);
    }

    #[test]
    fn a_schema_without_its_level_dangles() {
        let mut have = settled();
        let mine = json!({"apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": "FlowSchema", "metadata": {"name": "mine"},
            "spec": {"priorityLevelConfiguration": {"name": "nothing"}}});
        have.push(mine);
        let steps = check(&have, &["status mine True"]);
        let Step::SetStatus(new) = &steps[0] else { panic!() };
        let at = have.len() - 1;
        have[at] = new.clone();
        check(&have, &[]);
        have[at]["spec"]["priorityLevelConfiguration"]["name"] = "system".into();
        check(&have, &["status mine False"]);
    }
}
