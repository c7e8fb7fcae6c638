//! The APIServices of what this server serves itself: one for each group version, built in or custom. Pure.
//!
//! As upstream: built-in ones are written once (`onstart`), those of custom resources follow their definitions (`true`), and what others
//! wrote under such a name is theirs.

use std::collections::BTreeSet;

use api::object::Meta as _;
use serde_json::{Value, json};

use crate::catalog::Catalog;

/// The label that says that an APIService is ours, and how it is kept.
pub const MANAGED: &str = "kube-aggregator.kubernetes.io/automanaged";
/// The group that serves the APIServices themselves and has none.
const OWN: &str = "apiregistration.k8s.io";

/// Upstream's order of the built-in groups, and of versions that are not the only one.
const PRIORITIES: &[(&str, i64)] = &[
    ("", 18_000),
    ("apps", 17_800),
    ("events.k8s.io", 17_750),
    ("authentication.k8s.io", 17_700),
    ("authorization.k8s.io", 17_600),
    ("autoscaling", 17_500),
    ("batch", 17_400),
    ("certificates.k8s.io", 17_300),
    ("networking.k8s.io", 17_200),
    ("policy", 17_100),
    ("rbac.authorization.k8s.io", 17_000),
    ("storage.k8s.io", 16_800),
    ("apiextensions.k8s.io", 16_700),
    ("admissionregistration.k8s.io", 16_700),
    ("scheduling.k8s.io", 16_600),
    ("coordination.k8s.io", 16_500),
    ("node.k8s.io", 16_300),
    ("discovery.k8s.io", 16_200),
    ("flowcontrol.apiserver.k8s.io", 16_100),
    ("resource.k8s.io", 15_900),
];
/// Of a custom group, and of its versions.
const CUSTOM: (i64, i64) = (1_000, 100);

/// The APIServices that there shall be.
#[must_use]
pub fn wanted(catalog: &Catalog) -> Vec<Value> {
    let mut seen = BTreeSet::new();
    let mut out = vec![];
    for row in catalog.rows().iter().filter(|r| r.group != OWN) {
        if !seen.insert((row.group.clone(), row.version.clone())) {
            continue;
        }
        let priority = PRIORITIES.iter().find(|(g, _)| *g == row.group).filter(|_| row.schema.is_none());
        let (group, version) = match priority {
            Some((name, group)) => (
                *group,
                if name.is_empty() {
                    1
                } else if row.version == "v2" {
                    30
                } else {
                    15
                },
            ),
            None => CUSTOM,
        };
        let mode = if row.schema.is_none() { "onstart" } else { "true" };
        let mut spec = json!({"version": row.version, "groupPriorityMinimum": group, "versionPriority": version});
        if !row.group.is_empty() {
            spec["group"] = row.group.as_ref().into();
        }
        out.push(json!({
            "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
            "metadata": {"name": format!("{}.{}", row.version, row.group), "labels": {MANAGED: mode}},
            "spec": spec,
        }));
    }
    out
}

/// What is to be done so that the APIServices that are ours are those that there shall be.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Write one that is not there.
    Create(Value),
    /// Give one its spec back.
    Replace(Value),
    /// Remove one whose group version is no longer served.
    Remove(Value),
}

/// The actions. `present` are all APIServices.
#[must_use]
pub fn plan(wanted: Vec<Value>, present: &[Value]) -> Vec<Action> {
    let managed = |o: &Value| o.labels().get(MANAGED).cloned();
    let mut actions = vec![];
    let names: BTreeSet<String> = wanted.iter().map(|w| w.name().to_owned()).collect();
    for object in wanted {
        match present.iter().find(|p| p.name() == object.name()) {
            None => actions.push(Action::Create(object)),
            Some(found) if managed(found).as_deref() == Some("true") && found["spec"] != object["spec"] => {
                actions.push(Action::Replace(object));
            }
            Some(_) => {}
        }
    }
    let gone = present.iter().filter(|p| managed(p).as_deref() == Some("true") && !names.contains(p.name()));
    actions.extend(gone.filter(|p| !p.is_deleting()).map(|p| Action::Remove(p.clone())));
    actions
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(name: &str, managed: &str, priority: i64) -> Value {
        json!({"metadata": {"name": name, "labels": {MANAGED: managed}}, "spec": {"groupPriorityMinimum": priority}})
    }

    #[test]
    fn ours_follow_and_others_stay() {
        let (new, changed, kept) = (service("v1.a", "true", 1), service("v1.b", "true", 1), service("v1.c", "onstart", 1));
        let theirs = json!({"metadata": {"name": "v1.d"}, "spec": {"service": {}}});
        let mut wanted = vec![new.clone(), changed.clone(), kept];
        wanted.push(service("v1.d", "true", 1));
        let gone = service("v1.e", "true", 1);
        let present = [service("v1.b", "true", 2), service("v1.c", "onstart", 2), theirs, gone.clone(), service("v1.f", "onstart", 1)];
        assert_eq!(plan(wanted, &present), [Action::Create(new), Action::Replace(changed), Action::Remove(gone)]);
    }
}
