//! A namespace uses no more than its quotas allow: what a request adds is charged before it is stored.

use api::object::Meta as _;
use api::quantity::Quantity;
use api::status::Status;
use serde_json::Value;

use super::quota_usage::{self, List};
use super::{Attributes, Charge, Notes, Operation, Step, View};

/// Upstream's `ResourceQuota`.
pub struct ResourceQuota;

impl Step for ResourceQuota {
    fn name(&self) -> &'static str {
        "ResourceQuota"
    }

    fn validate(&self, at: &Attributes<'_>, obj: &Value, view: &dyn View, notes: &mut Notes) -> Result<(), Status> {
        if at.namespace.is_empty() || at.row.virtual_kind || !is_counted(at) {
            return Ok(());
        }
        let quotas = view.list("", "resourcequotas", Some(at.namespace));
        if quotas.is_empty() {
            return Ok(());
        }
        let added = added(at, obj);
        for quota in quotas.iter().filter(|q| quota_usage::is_in_scope(q, at.row, obj)) {
            if let Some(charge) = charge(at, obj, quota, &added)? {
                notes.charges.push(charge);
            }
        }
        Ok(())
    }
}

/// What changes use of quotas: new objects, and changes of those whose use is more than their number.
fn is_counted(at: &Attributes<'_>) -> bool {
    let core = at.row.group.is_empty();
    match (at.operation, at.subresource) {
        (Operation::Create, "") => true,
        (Operation::Update, "") => core && matches!(at.row.plural.as_ref(), "services" | "persistentvolumeclaims"),
        (Operation::Update, "resize") => core && at.row.plural == "pods",
        _ => false,
    }
}

/// What the request adds.
fn added(at: &Attributes<'_>, obj: &Value) -> List {
    let mut now = quota_usage::of(at.row, obj);
    if let Some(old) = at.old {
        for (name, before) in quota_usage::of(at.row, old) {
            *now.entry(name).or_insert(Quantity::ZERO) -= before;
        }
    }
    now.retain(|_, amount| !amount.is_zero());
    now
}

fn charge(at: &Attributes<'_>, obj: &Value, quota: &Value, added: &List) -> Result<Option<Charge>, Status> {
    let hard = quota_usage::amounts(quota.pointer("/status/hard"));
    let used = quota_usage::amounts(quota.pointer("/status/used"));
    let name = quota.name();
    if at.creates("", "pods") {
        let unsaid = quota_usage::unsaid(&hard, obj);
        if !unsaid.is_empty() {
            let list: Vec<String> = unsaid.iter().map(|(resource, of)| format!("{resource} for: {}", of.join(","))).collect();
            return Err(at.forbidden(&format!("failed quota: {name}: must specify {}", list.join("; "))));
        }
    }
    let asked: List = added.iter().filter(|(n, _)| hard.contains_key(*n)).map(|(n, q)| (n.clone(), *q)).collect();
    if asked.is_empty() {
        return Ok(None);
    }
    let unknown: Vec<&str> = asked.keys().filter(|n| !used.contains_key(*n)).map(String::as_str).collect();
    if !unknown.is_empty() {
        return Err(at.forbidden(&format!("status unknown for quota: {name}, resources: {}", unknown.join(","))));
    }
    let mut after = used.clone();
    for (resource, amount) in &asked {
        *after.entry(resource.clone()).or_insert(Quantity::ZERO) += *amount;
    }
    let exceeded: Vec<&String> = asked.iter().filter(|(n, q)| !q.is_negative() && after.get(*n) > hard.get(*n)).map(|(n, _)| n).collect();
    if !exceeded.is_empty() {
        let shown = |of: &List| exceeded.iter().filter_map(|n| Some(format!("{n}={}", of.get(*n)?))).collect::<Vec<_>>().join(",");
        let why = format!("exceeded quota: {name}, requested: {}, used: {}, limited: {}", shown(&asked), shown(&used), shown(&hard));
        return Err(at.forbidden(&why));
    }
    let used = after.into_iter().map(|(n, q)| (n, q.to_string())).collect();
    Ok(Some(Charge { quota: quota_usage::key(quota), resource_version: quota.resource_version().to_owned(), used }))
}

#[cfg(test)]
mod tests {
    use super::super::world_in_tests::{Request, World, run};
    use super::ResourceQuota;
    use crate::resources::core::{configmaps, pod};
    use expect_test::{Expect, expect};

    #[track_caller]
    fn check(quota: &str, request: Request<'_>, expected: Expect) {
        let quota = format!("{{metadata: {{name: q, namespace: x, resourceVersion: '7'}}, {quota}}}");
        let world = World::of(&[("", "resourcequotas", &quota)]);
        let shown = run(&ResourceQuota, &world, &request).map_or_else(|e| e, |(_, notes)| format!("{:?}", notes.charges));
        expected.assert_eq(&shown);
    }

    const POD: &str = "{metadata: {name: a, namespace: x}, spec: {containers: [{name: c, resources: {requests: {cpu: 600m}}}]}}";

    #[test]
    fn pods_are_charged_what_they_ask_for() {
        let quota = |used: &str| format!("status: {{hard: {{requests.cpu: '1', pods: '5'}}, used: {{requests.cpu: {used}, pods: '1'}}}}");
        check(
            &quota("300m"),
            Request::create(pod::row(), POD),
            expect![[
                r#"[Charge { quota: ObjectKey { namespace: Some("x"), name: "q" }, resource_version: "7", used: {"pods": "2", "requests.cpu": "900m"} }]"#
            ]],
        );
        check(
            &quota("500m"),
            Request::create(pod::row(), POD),
            expect![[
                r#"pods "a" is forbidden: exceeded quota: q, requested: requests.cpu=600m, used: requests.cpu=500m, limited: requests.cpu=1"#
            ]],
        );
        check(
            "status: {hard: {limits.cpu: '1'}, used: {}}",
            Request::create(pod::row(), POD),
            expect![[r#"pods "a" is forbidden: failed quota: q: must specify limits.cpu for: c"#]],
        );
        check(
            "status: {hard: {pods: '1'}}",
            Request::create(pod::row(), POD),
            expect![[r#"pods "a" is forbidden: status unknown for quota: q, resources: pods"#]],
        );
    }

    #[test]
    fn scopes_and_counts() {
        check(
            "spec: {scopes: [BestEffort]}, status: {hard: {pods: '0'}, used: {pods: '0'}}",
            Request::create(pod::row(), POD),
            expect!["[]"],
        );
        let full = "status: {hard: {count/configmaps: '1'}, used: {count/configmaps: '1'}}";
        let map = "{metadata: {name: m, namespace: x}}";
        check(
            full,
            Request::create(configmaps::row(), map),
            expect![[
                r#"configmaps "m" is forbidden: exceeded quota: q, requested: count/configmaps=1, used: count/configmaps=1, limited: count/configmaps=1"#
            ]],
        );
    }
}
