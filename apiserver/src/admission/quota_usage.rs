//! What an object uses of a namespace's quotas, and which quotas count it.

use std::collections::BTreeMap;

use api::object::ObjectKey;
use api::quantity::Quantity;
use api::status::qualified;
use serde_json::Value;

use crate::resource::Resource;
use crate::resources::cells::{items, text};
use crate::resources::core::pod::qos;
use crate::resources::quantities::{is_extended, is_huge_pages};

/// Amounts by name.
pub type List = BTreeMap<String, Quantity>;

/// Core resources that quotas count by their plural alone, besides as `count/<plural>`.
const BY_PLURAL: &[&str] = &["configmaps", "persistentvolumeclaims", "replicationcontrollers", "resourcequotas", "secrets", "services"];

/// The amounts of a tree such as `resources.requests`; what is no amount is left out.
#[must_use]
pub fn amounts(tree: Option<&Value>) -> List {
    let entries = tree.and_then(Value::as_object).into_iter().flatten();
    entries.filter_map(|(k, v)| Some((k.clone(), v.as_str()?.parse().ok()?))).collect()
}

fn add(to: &mut List, more: &List) {
    for (name, amount) in more {
        *to.entry(name.clone()).or_insert(Quantity::ZERO) += *amount;
    }
}

fn raise(to: &mut List, at_least: &List) {
    for (name, amount) in at_least {
        let entry = to.entry(name.clone()).or_insert(Quantity::ZERO);
        *entry = (*entry).max(*amount);
    }
}

/// What a pod asks for or may use (`field`): its containers together, or its init containers where one needs more, and its overhead.
#[must_use]
pub fn of_pod(pod: &Value, field: &str) -> List {
    let of = |c: &Value| amounts(c.pointer(&format!("/resources/{field}")));
    let mut total = List::new();
    items(pod, "/spec/containers").iter().for_each(|c| add(&mut total, &of(c)));
    let (mut sidecars, mut peak) = (List::new(), List::new());
    for container in items(pod, "/spec/initContainers") {
        if container["restartPolicy"] == "Always" {
            add(&mut sidecars, &of(container));
            raise(&mut peak, &sidecars);
        } else {
            let mut together = of(container);
            add(&mut together, &sidecars);
            raise(&mut peak, &together);
        }
    }
    add(&mut total, &sidecars);
    raise(&mut total, &peak);
    // What is said for the pod as a whole counts instead.
    total.extend(amounts(pod.pointer(&format!("/spec/resources/{field}"))));
    let overhead = amounts(pod.pointer("/spec/overhead"));
    if field == "requests" {
        add(&mut total, &overhead);
    } else {
        // Where nothing limits the pod, its overhead does not either.
        let limited = overhead.into_iter().filter(|(name, _)| total.contains_key(name)).collect();
        add(&mut total, &limited);
    }
    total
}

/// Amounts asked for and allowed, under the names that quotas have for them.
fn compute_names(requests: &List, limits: &List) -> List {
    let mut out = List::new();
    for (name, amount) in requests {
        let plain = matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage") || is_huge_pages(name);
        if plain {
            out.insert(name.clone(), *amount);
        }
        if plain || is_extended(name) {
            out.insert(format!("requests.{name}"), *amount);
        }
    }
    for (name, amount) in limits.iter().filter(|(n, _)| matches!(n.as_str(), "cpu" | "memory" | "ephemeral-storage")) {
        out.insert(format!("limits.{name}"), *amount);
    }
    out
}

fn is_terminal(pod: &Value) -> bool {
    matches!(text(pod, "/status/phase"), "Succeeded" | "Failed")
}

/// What an object uses, under the names that quotas have for it.
#[must_use]
pub fn of(row: &Resource, obj: &Value) -> List {
    let one = Quantity::from_units(1);
    let mut out = List::from([(format!("count/{}", qualified(&row.group, &row.plural)), one)]);
    if !row.group.is_empty() {
        return out;
    }
    if BY_PLURAL.contains(&row.plural.as_ref()) {
        out.insert(row.plural.to_string(), one);
    }
    match row.plural.as_ref() {
        "pods" if !is_terminal(obj) => {
            out.insert("pods".to_owned(), one);
            out.extend(compute_names(&of_pod(obj, "requests"), &of_pod(obj, "limits")));
        }
        "services" => {
            let ports = i64::try_from(items(obj, "/spec/ports").len()).unwrap_or(i64::MAX);
            let kind = text(obj, "/spec/type");
            let has_ports = kind == "NodePort" || (kind == "LoadBalancer" && obj["spec"]["allocateLoadBalancerNodePorts"] != false);
            out.insert("services.nodeports".to_owned(), Quantity::from_units(if has_ports { ports } else { 0 }));
            out.insert("services.loadbalancers".to_owned(), Quantity::from_units(i64::from(kind == "LoadBalancer")));
        }
        "persistentvolumeclaims" => {
            let storage = amounts(obj.pointer("/spec/resources/requests")).get("storage").copied().unwrap_or(Quantity::ZERO);
            out.insert("requests.storage".to_owned(), storage);
            let class = text(obj, "/spec/storageClassName");
            if !class.is_empty() {
                out.insert(format!("{class}.storageclass.storage.k8s.io/requests.storage"), storage);
                out.insert(format!("{class}.storageclass.storage.k8s.io/persistentvolumeclaims"), one);
            }
        }
        _ => {}
    }
    out
}

/// Whether a quota counts an object: each of its scopes has to hold. Scopes are of pods, but for `VolumeAttributesClass`.
#[must_use]
pub fn is_in_scope(quota: &Value, row: &Resource, obj: &Value) -> bool {
    let is_pod = row.group.is_empty() && row.plural == "pods";
    let plain = items(quota, "/spec/scopes").iter().filter_map(Value::as_str).map(|scope| (scope, "Exists", &[][..]));
    let structured = items(quota, "/spec/scopeSelector/matchExpressions").iter();
    let structured = structured.map(|e| (text(e, "/scopeName"), text(e, "/operator"), items(e, "/values")));
    plain.chain(structured).all(|(scope, operator, values)| is_pod && holds(scope, operator, values, obj))
}

fn holds(scope: &str, operator: &str, values: &[Value], pod: &Value) -> bool {
    let terminating = pod.pointer("/spec/activeDeadlineSeconds").is_some();
    let best_effort = || {
        let spec = serde_json::from_value(pod["spec"].clone());
        spec.is_ok_and(|s| qos::class(&s) == "BestEffort")
    };
    match scope {
        "Terminating" => terminating,
        "NotTerminating" => !terminating,
        "BestEffort" => best_effort(),
        "NotBestEffort" => !best_effort(),
        "PriorityClass" => {
            let class = text(pod, "/spec/priorityClassName");
            let named = values.iter().any(|v| v == class);
            match operator {
                "In" => named,
                "NotIn" => !named,
                "DoesNotExist" => class.is_empty(),
                _ => !class.is_empty(),
            }
        }
        "CrossNamespacePodAffinity" => crosses_namespaces(pod),
        _ => false,
    }
}

/// Whether a pod's affinity looks at pods of other namespaces.
fn crosses_namespaces(pod: &Value) -> bool {
    ["podAffinity", "podAntiAffinity"].iter().any(|kind| {
        let at = |when: &str| items(pod, &format!("/spec/affinity/{kind}/{when}DuringSchedulingIgnoredDuringExecution"));
        let preferred = at("preferred").iter().filter_map(|t| t.get("podAffinityTerm"));
        at("required").iter().chain(preferred).any(|t| !items(t, "/namespaces").is_empty() || t.get("namespaceSelector").is_some())
    })
}

/// Names of compute resources that a quota limits and a container does not say, with the containers.
#[must_use]
pub fn unsaid(hard: &List, pod: &Value) -> BTreeMap<String, Vec<String>> {
    const MUST_SAY: &[&str] = &["cpu", "limits.cpu", "limits.memory", "memory", "requests.cpu", "requests.memory"];
    let mut out: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for container in items(pod, "/spec/containers").iter().chain(items(pod, "/spec/initContainers")) {
        let of = |field: &str| amounts(container.pointer(&format!("/resources/{field}")));
        let said = compute_names(&of("requests"), &of("limits"));
        for name in hard.keys().filter(|n| MUST_SAY.contains(&n.as_str()) && !said.contains_key(*n)) {
            out.entry(name.clone()).or_default().push(text(container, "/name").to_owned());
        }
    }
    out
}

/// The key of a quota.
#[must_use]
pub fn key(quota: &Value) -> ObjectKey {
    ObjectKey::namespaced(text(quota, "/metadata/namespace"), text(quota, "/metadata/name"))
}
