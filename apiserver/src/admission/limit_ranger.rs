//! What containers, pods and claims of a namespace ask for stays within its LimitRanges; what they leave out is filled in.

use api::object::Meta as _;
use api::quantity::Quantity;
use api::status::Status;
use serde_json::{Value, json};

use super::quota_usage::{self, List};
use super::{Attributes, Notes, Operation, Step, View};
use crate::resources::cells::{items, text};

const ANNOTATION: &str = "kubernetes.io/limit-ranger";

/// Upstream's `LimitRanger`.
pub struct LimitRanger;

impl Step for LimitRanger {
    fn name(&self) -> &'static str {
        "LimitRanger"
    }

    fn admit(&self, at: &Attributes<'_>, obj: &mut Value, view: &dyn View) -> Result<(), Status> {
        if !at.creates("", "pods") {
            return Ok(());
        }
        for range in view.list("", "limitranges", Some(at.namespace)) {
            fill(obj, &range);
        }
        Ok(())
    }

    fn validate(&self, at: &Attributes<'_>, obj: &Value, view: &dyn View, _: &mut Notes) -> Result<(), Status> {
        let pod = at.row.group.is_empty() && at.row.plural == "pods";
        let claim = at.row.group.is_empty() && at.row.plural == "persistentvolumeclaims";
        let asks = match at.operation {
            Operation::Create => (pod || claim) && at.subresource.is_empty(),
            Operation::Update => (pod && at.subresource == "resize") || (claim && at.subresource.is_empty()),
            _ => false,
        };
        if !asks {
            return Ok(());
        }
        for range in view.list("", "limitranges", Some(at.namespace)) {
            let wrong = if pod { pod_errors(obj, &range) } else { claim_errors(obj, &range) };
            match wrong.as_slice() {
                [] => {}
                [one] => return Err(at.forbidden(one)),
                many => return Err(at.forbidden(&format!("[{}]", many.join(", ")))),
            }
        }
        Ok(())
    }
}

/// Fills in defaults, and says in an annotation what was filled in.
fn fill(pod: &mut Value, range: &Value) {
    let defaults: Vec<&Value> = items(range, "/spec/limits").iter().filter(|l| l["type"] == "Container").collect();
    let mut filled = Vec::new();
    for (list, kind) in [("containers", "container"), ("initContainers", "init container")] {
        for container in pod["spec"].get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            let name = text(container, "/name").to_owned();
            for (field, default) in [("requests", "defaultRequest"), ("limits", "default")] {
                let mut set: Vec<&str> = Vec::new();
                for (resource, amount) in defaults.iter().filter_map(|l| l[default].as_object()).flatten() {
                    let has = container.pointer(&format!("/resources/{field}")).is_some_and(|l| l.get(resource).is_some());
                    if !has {
                        if !container["resources"].is_object() {
                            container["resources"] = json!({});
                        }
                        if !container["resources"][field].is_object() {
                            container["resources"][field] = json!({});
                        }
                        container["resources"][field][resource] = amount.clone();
                        set.push(resource);
                    }
                }
                if !set.is_empty() {
                    set.sort_unstable();
                    filled.push(format!("{} {} for {kind} {name}", set.join(", "), field.trim_end_matches('s')));
                }
            }
        }
    }
    if !filled.is_empty() {
        let mut annotations = pod.annotations();
        annotations.insert(ANNOTATION.to_owned(), format!("LimitRanger plugin set: {}", filled.join("; ")));
        pod.set_meta("annotations", json!(annotations));
    }
}

fn pod_errors(pod: &Value, range: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    let amounts = |c: &Value, field: &str| quota_usage::amounts(c.pointer(&format!("/resources/{field}")));
    for limit in items(range, "/spec/limits") {
        match text(limit, "/type") {
            kind @ "Container" => {
                for container in items(pod, "/spec/containers").iter().chain(items(pod, "/spec/initContainers")) {
                    check(limit, kind, &amounts(container, "requests"), &amounts(container, "limits"), &mut wrong);
                }
            }
            kind @ "Pod" => check(limit, kind, &quota_usage::of_pod(pod, "requests"), &quota_usage::of_pod(pod, "limits"), &mut wrong),
            _ => {}
        }
    }
    wrong
}

fn claim_errors(claim: &Value, range: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    let requests = quota_usage::amounts(claim.pointer("/spec/resources/requests"));
    for limit in items(range, "/spec/limits").iter().filter(|l| l["type"] == "PersistentVolumeClaim") {
        // A claim has no limit: the bounds are of what it asks for.
        let of = |bound: &str| quota_usage::amounts(limit.get(bound));
        for (name, bound) in of("min") {
            if requests.get(&name).is_none_or(|asked| *asked < bound) {
                wrong.push(format!(
                    "minimum {name} usage per PersistentVolumeClaim is {bound}, but request is {}",
                    shown(requests.get(&name))
                ));
            }
        }
        for (name, bound) in of("max") {
            if requests.get(&name).is_some_and(|asked| *asked > bound) {
                wrong.push(format!(
                    "maximum {name} usage per PersistentVolumeClaim is {bound}, but request is {}",
                    shown(requests.get(&name))
                ));
            }
        }
    }
    wrong
}

fn shown(q: Option<&Quantity>) -> String {
    q.map_or_else(|| "0".to_owned(), ToString::to_string)
}

fn check(limit: &Value, kind: &str, requests: &List, limits: &List, wrong: &mut Vec<String>) {
    for (name, bound) in quota_usage::amounts(limit.get("min")) {
        match (requests.get(&name), limits.get(&name)) {
            (None, _) => wrong.push(format!("minimum {name} usage per {kind} is {bound}.  No request is specified")),
            (Some(asked), _) if *asked < bound => {
                wrong.push(format!("minimum {name} usage per {kind} is {bound}, but request is {asked}"));
            }
            (_, Some(most)) if *most < bound => wrong.push(format!("minimum {name} usage per {kind} is {bound}, but limit is {most}")),
            _ => {}
        }
    }
    for (name, bound) in quota_usage::amounts(limit.get("max")) {
        match (limits.get(&name), requests.get(&name)) {
            (None, _) => wrong.push(format!("maximum {name} usage per {kind} is {bound}.  No limit is specified")),
            (Some(most), _) if *most > bound => wrong.push(format!("maximum {name} usage per {kind} is {bound}, but limit is {most}")),
            (_, Some(asked)) if *asked > bound => wrong.push(format!("maximum {name} usage per {kind} is {bound}, but request is {asked}")),
            _ => {}
        }
    }
    for (name, ratio) in quota_usage::amounts(limit.get("maxLimitRequestRatio")) {
        let what = format!("{name} max limit to request ratio per {kind} is {ratio}");
        match (requests.get(&name).filter(|q| !q.is_zero()), limits.get(&name).filter(|q| !q.is_zero())) {
            (Some(asked), Some(most)) => {
                let thousandths = most.milli_value() * 1000 / asked.milli_value().max(1);
                if thousandths > ratio.milli_value() {
                    let provided = format!("{}.{:03}000", thousandths / 1000, thousandths % 1000);
                    wrong.push(format!("{what}, but provided ratio is {provided}"));
                }
            }
            _ => wrong.push(format!("{what}, but no request is specified or request is 0")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::world_in_tests::{Request, World, left, verdict};
    use super::LimitRanger;
    use crate::resources::core::pod;
    use expect_test::expect;

    fn world() -> World {
        World::of(&[(
            "",
            "limitranges",
            "{metadata: {name: l, namespace: x}, spec: {limits: [{type: Container, default: {cpu: 500m}, defaultRequest: {cpu: 100m},
              min: {cpu: 50m}, max: {cpu: '1'}, maxLimitRequestRatio: {cpu: '10'}}, {type: Pod, max: {cpu: '1'}}]}}",
        )])
    }

    #[test]
    fn defaults_are_filled_in() {
        let pod = "{metadata: {name: a, namespace: x}, spec: {containers: [{name: c}]}}";
        let request = Request::create(pod::row(), pod);
        assert_eq!(
            left(&LimitRanger, &world(), &request, "/spec/containers/0/resources"),
            r#"{"limits":{"cpu":"500m"},"requests":{"cpu":"100m"}}"#
        );
        assert_eq!(
            left(&LimitRanger, &world(), &request, "/metadata/annotations"),
            r#"{"kubernetes.io/limit-ranger":"LimitRanger plugin set: cpu request for container c; cpu limit for container c"}"#
        );
    }

    #[test]
    fn bounds() {
        let ask = |resources: &str| {
            let pod = format!("{{metadata: {{name: a, namespace: x}}, spec: {{containers: [{{name: c, resources: {resources}}}]}}}}");
            verdict(&LimitRanger, &world(), &Request::create(pod::row(), &pod))
        };
        expect![[r#"pods "a" is forbidden: minimum cpu usage per Container is 50m, but request is 10m"#]]
            .assert_eq(&ask("{requests: {cpu: 10m}, limits: {cpu: 100m}}"));
        expect![[r#"pods "a" is forbidden: [maximum cpu usage per Container is 1, but limit is 2, maximum cpu usage per Pod is 1, but limit is 2]"#]]
            .assert_eq(&ask("{requests: {cpu: '1'}, limits: {cpu: '2'}}"));
        expect![[r#"pods "a" is forbidden: cpu max limit to request ratio per Container is 10, but provided ratio is 20.000000"#]]
            .assert_eq(&ask("{requests: {cpu: 50m}, limits: {cpu: '1'}}"));
    }
}
