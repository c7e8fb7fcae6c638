//! Which names a definition gets, and what its conditions say: planned for all definitions at once, since they compete for names.
//!
//! It keeps true: within a group, a plural, singular or short name and a kind or list kind belong to one definition; who has a name keeps it;
//! a definition that was established stays so.

use std::collections::BTreeSet;

use api::object::Meta as _;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::resources::cells::{items, text};
use crate::verbs::metadata::timestamp;

/// Holds a definition until its objects are gone.
pub const FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";

/// Whether a condition of a definition is true.
#[must_use]
pub fn is_true(crd: &Value, condition: &str) -> bool {
    items(crd, "/status/conditions").iter().any(|c| text(c, "/type") == condition && text(c, "/status") == "True")
}

/// Whether a definition waits for its objects to go.
#[must_use]
pub fn is_finalizing(crd: &Value) -> bool {
    crd.is_deleting() && crd.finalizers().contains(&FINALIZER)
}

/// The definitions with the status they should have, in the order they came.
#[must_use]
pub fn plan(crds: &[Value], now: Timestamp) -> Vec<Value> {
    let mut planned = crds.to_vec();
    let mut order: Vec<usize> = (0..crds.len()).collect();
    order.sort_by_key(|i| (crds[*i].meta_str("creationTimestamp").to_owned(), crds[*i].name().to_owned()));
    for i in order {
        let crd = &planned[i];
        let status = if is_finalizing(crd) {
            let terminating = ("Terminating", true, "InstanceDeletionInProgress", "CustomResource deletion is in progress".to_owned());
            with_conditions(crd, vec![terminating], now)
        } else if crd.is_deleting() {
            continue;
        } else {
            let others: Vec<&Value> =
                planned.iter().enumerate().filter(|(j, o)| *j != i && o["spec"]["group"] == crd["spec"]["group"]).map(|(_, o)| o).collect();
            accepted(crd, &others, now)
        };
        planned[i]["status"] = status;
    }
    planned
}

type Condition = (&'static str, bool, &'static str, String);

fn accepted(crd: &Value, others: &[&Value], now: Timestamp) -> Value {
    let taken = |fields: &[&str]| -> BTreeSet<String> {
        let names = others.iter().map(|o| &o["status"]["acceptedNames"]);
        let values = names.flat_map(|n| {
            let single = fields.iter().map(|f| text(n, f).to_owned());
            let short = if fields.contains(&"/plural") { items(n, "/shortNames") } else { &[] };
            single.chain(short.iter().filter_map(Value::as_str).map(str::to_owned)).collect::<Vec<_>>()
        });
        values.filter(|v| !v.is_empty()).collect()
    };
    let (resources, kinds) = (taken(&["/plural", "/singular"]), taken(&["/kind", "/listKind"]));
    let wanted = &crd["spec"]["names"];
    let have = crd.pointer("/status/acceptedNames").cloned().unwrap_or_else(|| json!({}));
    let mut names = have.clone();
    let mut conflict: Option<(&'static str, String)> = None;
    let in_use = |name: &str| format!("{name:?} is already in use");
    for (field, reason, taken) in [("plural", "PluralConflict", &resources), ("singular", "SingularConflict", &resources)] {
        single(wanted, &have, &mut names, field, reason, taken, &mut conflict);
    }
    let short: Vec<&str> = items(wanted, "/shortNames").iter().filter_map(Value::as_str).collect();
    let clashes: Vec<String> = short
        .iter()
        .filter(|s| !items(&have, "/shortNames").iter().any(|h| h == **s) && resources.contains(**s))
        .map(|s| in_use(s))
        .collect();
    match clashes.as_slice() {
        [] if short.is_empty() => drop(names.as_object_mut().map(|n| n.remove("shortNames"))),
        [] => names["shortNames"] = json!(short),
        [one] => conflict = Some(("ShortNamesConflict", one.clone())),
        many => conflict = Some(("ShortNamesConflict", format!("[{}]", many.join(", ")))),
    }
    for (field, reason) in [("kind", "KindConflict"), ("listKind", "ListKindConflict")] {
        single(wanted, &have, &mut names, field, reason, &kinds, &mut conflict);
    }
    match wanted.get("categories").filter(|c| c.as_array().is_some_and(|l| !l.is_empty())) {
        Some(categories) => names["categories"] = categories.clone(),
        None => drop(names.as_object_mut().map(|n| n.remove("categories"))),
    }
    let mut conditions: Vec<Condition> = vec![match &conflict {
        None => ("NamesAccepted", true, "NoConflicts", "no conflicts found".to_owned()),
        Some((reason, message)) => ("NamesAccepted", false, *reason, message.clone()),
    }];
    if !is_true(crd, "Established") {
        conditions.push(match conflict {
            None => ("Established", true, "InitialNamesAccepted", "the initial names have been accepted".to_owned()),
            Some(_) => ("Established", false, "NotAccepted", "not all names are accepted".to_owned()),
        });
    }
    let mut status = with_conditions(crd, conditions, now);
    status["acceptedNames"] = names;
    status
}

fn single(
    wanted: &Value,
    have: &Value,
    names: &mut Value,
    field: &'static str,
    reason: &'static str,
    taken: &BTreeSet<String>,
    conflict: &mut Option<(&'static str, String)>,
) {
    let name = wanted[field].as_str().unwrap_or("");
    if have[field] != name && taken.contains(name) {
        *conflict = Some((reason, format!("{name:?} is already in use")));
    } else {
        names[field] = name.into();
    }
}

/// A status with conditions set; the time of a transition changes with the status alone.
fn with_conditions(crd: &Value, conditions: Vec<Condition>, now: Timestamp) -> Value {
    let mut status = crd.get("status").filter(|s| s.is_object()).cloned().unwrap_or_else(|| json!({}));
    let mut list = items(&status, "/conditions").to_vec();
    for (kind, holds, reason, message) in conditions {
        let word = if holds { "True" } else { "False" };
        let found = list.iter().position(|c| text(c, "/type") == kind);
        let since = found.map(|i| &list[i]).filter(|c| text(c, "/status") == word).map(|c| c["lastTransitionTime"].clone());
        let condition = json!({"type": kind, "status": word, "reason": reason, "message": message,
            "lastTransitionTime": since.unwrap_or_else(|| timestamp(now).into())});
        match found {
            Some(i) => list[i] = condition,
            None => list.push(condition),
        }
    }
    status["conditions"] = list.into();
    status
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn crd(name: &str, names: Value, created: i64) -> Value {
        let created = Timestamp::from_second(created).unwrap().to_string();
        json!({"metadata": {"name": name, "creationTimestamp": created}, "spec": {"group": "x.io", "names": names}})
    }

    fn names(plural: &str, kind: &str) -> Value {
        json!({"plural": plural, "singular": kind.to_lowercase(), "kind": kind, "listKind": format!("{kind}List")})
    }

    fn check(crds: &[Value], expect: Expect) {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let planned = plan(crds, now);
        assert_eq!(plan(&planned, "2026-01-02T00:00:00Z".parse().unwrap()), planned, "the plan is a fixed point");
        let show = |c: &Value| {
            let conditions = items(c, "/status/conditions").iter();
            let conditions: Vec<String> = conditions
                .map(|c| format!("{}={} {}: {}", text(c, "/type"), text(c, "/status"), text(c, "/reason"), text(c, "/message")))
                .collect();
            format!("{} {}\n  {}", c.name(), c["status"]["acceptedNames"], conditions.join("\n  "))
        };
        expect.assert_eq(&planned.iter().map(show).collect::<Vec<_>>().join("\n"));
    }

    #[test]
    fn a_definition_alone_is_established() {
        check(
            &[crd("foos.x.io", names("foos", "Foo"), 1)],
            expect![[r#"
                foos.x.io {"kind":"Foo","listKind":"FooList","plural":"foos","singular":"foo"}
                  NamesAccepted=True NoConflicts: no conflicts found
                  Established=True InitialNamesAccepted: the initial names have been accepted"#]],
        );
    }

    #[test]
    fn the_elder_has_the_name() {
        let mut elder = names("foos", "Foo");
        elder["shortNames"] = json!(["f"]);
        let mut younger = names("bars", "Foo");
        younger["shortNames"] = json!(["f", "b"]);
        check(
            &[crd("bars.x.io", younger, 2), crd("foos.x.io", elder, 1)],
            expect![[r#"
                bars.x.io {"plural":"bars"}
                  NamesAccepted=False ListKindConflict: "FooList" is already in use
                  Established=False NotAccepted: not all names are accepted
                foos.x.io {"kind":"Foo","listKind":"FooList","plural":"foos","shortNames":["f"],"singular":"foo"}
                  NamesAccepted=True NoConflicts: no conflicts found
                  Established=True InitialNamesAccepted: the initial names have been accepted"#]],
        );
    }

    #[test]
    fn a_definition_that_goes_says_so() {
        let mut going = crd("foos.x.io", names("foos", "Foo"), 1);
        going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        going["metadata"]["finalizers"] = json!([FINALIZER]);
        check(
            &[going],
            expect![[r#"
                foos.x.io null
                  Terminating=True InstanceDeletionInProgress: CustomResource deletion is in progress"#]],
        );
    }
}
