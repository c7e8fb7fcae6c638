use expect_test::{Expect, expect};
use proptest::prelude::*;
use serde_json::json;

use super::*;

const AT: &str = "2026-11-21T08:00:00Z";

fn options(manager: &str) -> ApplyOptions<'_> {
    ApplyOptions { manager, force: false, subresource: "", api_version: "apps/v1", now: AT.parse().unwrap(), reset_fields: &[&["status"]] }
}

fn node() -> SchemaNode<'static> {
    Schema::builtin().node_of("apps", "v1", "Deployment").unwrap()
}

fn deployment(spec: Value) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d", "namespace": "n"}, "spec": spec})
}

/// A configuration that sets nothing.
fn nothing() -> Value {
    let mut config = deployment(json!({}));
    config.as_object_mut().unwrap().remove("spec");
    config
}

fn containers(containers: Value) -> Value {
    deployment(json!({"template": {"spec": {"containers": containers}}}))
}

/// The entries, one a line.
fn owners(object: &Value) -> String {
    let entries = object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    let lines = entries.iter().map(|entry| {
        let set = Set::parse(&entry["fieldsV1"]).unwrap();
        let paths: Vec<_> = set.paths().iter().map(|p| path::show(p)).collect();
        let word = |key: &str| entry[key].as_str().unwrap_or_default().to_owned();
        let sub = word("subresource");
        let sub = if sub.is_empty() { sub } else { format!("/{sub}") };
        format!("{} {}{sub}: {}\n", word("manager"), word("operation"), paths.join(" "))
    });
    lines.collect()
}

#[track_caller]
fn check(object: &Value, expect: Expect) {
    let mut bare = object.clone();
    managers::take(&mut bare);
    expect.assert_eq(&format!("{}\n{}", bare.get("spec").unwrap_or(&bare), owners(object)));
}

fn applied(live: Option<&Value>, manager: &str, config: Value) -> Value {
    apply(live, &config, &options(manager), node()).unwrap()
}

#[test]
fn an_applier_owns_what_it_applies_and_removes_what_it_no_longer_applies() {
    let first = applied(None, "a", deployment(json!({"replicas": 1, "paused": true, "selector": {"matchLabels": {"x": "y"}}})));
    check(
        &first,
        expect![[r#"
            {"paused":true,"replicas":1,"selector":{"matchLabels":{"x":"y"}}}
            a Apply: .spec.paused .spec.replicas .spec.selector
        "#]],
    );
    let second = applied(Some(&first), "a", deployment(json!({"replicas": 2})));
    check(
        &second,
        expect![[r#"
            {"replicas":2}
            a Apply: .spec.replicas
        "#]],
    );
}

#[test]
fn shared_fields_stay_until_nobody_applies_them() {
    let one = applied(None, "a", deployment(json!({"replicas": 1, "paused": true})));
    let both = applied(Some(&one), "b", deployment(json!({"replicas": 1})));
    check(
        &both,
        expect![[r#"
            {"paused":true,"replicas":1}
            a Apply: .spec.paused .spec.replicas
            b Apply: .spec.replicas
        "#]],
    );
    let left = applied(Some(&both), "a", nothing());
    check(
        &left,
        expect![[r#"
            {"replicas":1}
            b Apply: .spec.replicas
        "#]],
    );
}

#[test]
fn conflicts_are_said_as_upstream_says_them() {
    let live = applied(None, "a", deployment(json!({"replicas": 1, "paused": true})));
    let error = apply(Some(&live), &deployment(json!({"replicas": 2})), &options("b"), node()).unwrap_err();
    assert_eq!(error.to_string(), r#"Apply failed with 1 conflict: conflict with "a": .spec.replicas"#);
    let status = Status::from(error);
    assert_eq!((status.code, status.reason), (409, "Conflict"));
    let cause = &status.details.unwrap().causes[0];
    assert_eq!((&*cause.reason, &*cause.message, &*cause.field), ("FieldManagerConflict", r#"conflict with "a""#, ".spec.replicas"));
    let error = apply(Some(&live), &deployment(json!({"replicas": 2, "paused": false})), &options("b"), node()).unwrap_err();
    assert_eq!(error.to_string(), "Apply failed with 2 conflicts: conflicts with \"a\":\n- .spec.paused\n- .spec.replicas");
    let forced = ApplyOptions { force: true, ..options("b") };
    let object = apply(Some(&live), &deployment(json!({"replicas": 2})), &forced, node()).unwrap();
    check(
        &object,
        expect![[r#"
            {"paused":true,"replicas":2}
            a Apply: .spec.paused
            b Apply: .spec.replicas
        "#]],
    );
}

#[test]
fn updates_are_tracked_and_conflict_with_appliers() {
    let created = update(None, deployment(json!({"replicas": 1, "strategy": {"rollingUpdate": {"maxSurge": 1}}})), &options("c"), node());
    check(
        &created,
        expect![[r#"
            {"replicas":1,"strategy":{"rollingUpdate":{"maxSurge":1}}}
            c Update: .spec.replicas .spec.strategy.rollingUpdate .spec.strategy.rollingUpdate.maxSurge
        "#]],
    );
    let error = apply(Some(&created), &deployment(json!({"replicas": 3})), &options("a"), node()).unwrap_err();
    assert_eq!(error.to_string(), r#"Apply failed with 1 conflict: conflict with "c" using apps/v1: .spec.replicas"#);
    let mut scaled = created.clone();
    scaled["spec"]["replicas"] = json!(5);
    check(
        &update(Some(&created), scaled.clone(), &options("scaler"), node()),
        expect![[r#"
            {"replicas":5,"strategy":{"rollingUpdate":{"maxSurge":1}}}
            c Update: .spec.strategy.rollingUpdate .spec.strategy.rollingUpdate.maxSurge
            scaler Update: .spec.replicas
        "#]],
    );
}

#[test]
fn structs_that_are_always_there_are_not_added() {
    let created =
        update(None, containers(json!([{"name": "x", "ports": [{"containerPort": 80, "protocol": "TCP"}]}])), &options("c"), node());
    let fields = &created["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"];
    let item = json!({".": {}, "f:name": {}, "f:ports": {".": {}, "k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}, "f:protocol": {}}}});
    assert_eq!(*fields, json!({"f:template": {"f:spec": {"f:containers": {"k:{\"name\":\"x\"}": item}}}}));
}

#[test]
fn a_subresource_has_entries_of_its_own() {
    let created = update(None, deployment(json!({"replicas": 1})), &options("c"), node());
    let mut new = created.clone();
    new["status"] = json!({"replicas": 1, "conditions": [{"type": "Available", "status": "True"}]});
    let status = ApplyOptions { subresource: "status", reset_fields: &[&["spec"]], ..options("controller") };
    let updated = update(Some(&created), new.clone(), &status, node());
    expect![[r#"
        c Update: .spec.replicas
        controller Update/status: .status.conditions .status.conditions[type="Available"] .status.conditions[type="Available"].status .status.conditions[type="Available"].type .status.replicas
    "#]]
    .assert_eq(&owners(&updated));
}

#[test]
fn list_items_have_owners_and_default_keys() {
    let a = applied(None, "a", containers(json!([{"name": "x", "image": "1", "ports": [{"containerPort": 80}]}])));
    let b = applied(Some(&a), "b", containers(json!([{"name": "y", "image": "2"}])));
    check(
        &b,
        expect![[r#"
            {"template":{"spec":{"containers":[{"image":"1","name":"x","ports":[{"containerPort":80}]},{"image":"2","name":"y"}]}}}
            a Apply: .spec.template.spec.containers[name="x"] .spec.template.spec.containers[name="x"].image .spec.template.spec.containers[name="x"].name .spec.template.spec.containers[name="x"].ports[containerPort=80,protocol="TCP"] .spec.template.spec.containers[name="x"].ports[containerPort=80,protocol="TCP"].containerPort
            b Apply: .spec.template.spec.containers[name="y"] .spec.template.spec.containers[name="y"].image .spec.template.spec.containers[name="y"].name
        "#]],
    );
    let without = applied(Some(&b), "a", containers(json!([])));
    check(
        &without,
        expect![[r#"
            {"template":{"spec":{"containers":[{"image":"2","name":"y"}]}}}
            b Apply: .spec.template.spec.containers[name="y"] .spec.template.spec.containers[name="y"].image .spec.template.spec.containers[name="y"].name
        "#]],
    );
}

#[test]
fn what_others_put_into_an_item_goes_with_it_unless_they_apply_it() {
    let a = applied(None, "a", containers(json!([{"name": "x", "image": "1"}])));
    let mut changed = a.clone();
    changed["spec"]["template"]["spec"]["containers"][0]["tty"] = json!(true);
    let u = update(Some(&a), changed.clone(), &options("u"), node());
    let gone = applied(Some(&u), "a", containers(json!([])));
    assert_eq!(gone["spec"]["template"]["spec"]["containers"], json!([]));
    let b = applied(Some(&a), "b", containers(json!([{"name": "x", "tty": true}])));
    let kept = applied(Some(&b), "a", containers(json!([])));
    assert_eq!(kept["spec"]["template"]["spec"]["containers"], json!([{"name": "x", "tty": true}]));
}

#[test]
fn the_applied_order_wins_and_others_keep_their_place() {
    let live = applied(None, "a", containers(json!([{"name": "1"}, {"name": "2"}, {"name": "3"}])));
    let order = |config: Value| -> String {
        let object = applied(Some(&live), "b", containers(config));
        let items = object["spec"]["template"]["spec"]["containers"].as_array().unwrap();
        items.iter().map(|c| c["name"].as_str().unwrap()).collect()
    };
    assert_eq!(order(json!([{"name": "3"}, {"name": "1"}])), "231");
    assert_eq!(order(json!([{"name": "0"}, {"name": "1"}])), "0123");
    assert_eq!(order(json!([{"name": "1"}, {"name": "9"}])), "1239");
    assert_eq!(order(json!([{"name": "2"}, {"name": "9"}, {"name": "3"}])), "1293");
}

#[test]
fn configurations_are_checked() {
    let wrong = |config: Value| apply(None, &config, &options("a"), node()).unwrap_err().to_string();
    let head = "failed to create typed patch object (n/d; apps/v1, Kind=Deployment): ";
    assert_eq!(wrong(deployment(json!({"foo": 1}))), format!("{head}.spec.foo: field not declared in schema"));
    assert_eq!(
        wrong(deployment(json!({"replicas": "1", "paused": 2}))),
        format!(
            "{head}errors:\n  .spec.paused: expected boolean, got int64\n  .spec.replicas: expected numeric (int or float), got string"
        )
    );
    assert_eq!(
        wrong(containers(json!([{"name": "x"}, {"name": "x"}]))),
        format!("{head}.spec.template.spec.containers: duplicate entries for key [name=\"x\"]")
    );
    let mut other = deployment(json!({}));
    other["apiVersion"] = json!("apps/v2");
    assert_eq!(wrong(other), "Incorrect version specified in apply patch. Specified patch version: apps/v2, expected: apps/v1");
    let mut managed = deployment(json!({}));
    managed["metadata"]["managedFields"] = json!([]);
    assert_eq!(wrong(managed), "metadata.managedFields must be nil");
}

#[test]
fn times_stay_when_nothing_else_changes() {
    let first = applied(None, "a", deployment(json!({"replicas": 1})));
    let later = ApplyOptions { now: "2027-01-01T00:00:00Z".parse().unwrap(), ..options("a") };
    assert_eq!(apply(Some(&first), &deployment(json!({"replicas": 1})), &later, node()).unwrap(), first);
    assert_eq!(update(Some(&first), first.clone(), &later, node()), first);
    let changed = apply(Some(&first), &deployment(json!({"replicas": 2})), &later, node()).unwrap();
    assert_eq!(changed["metadata"]["managedFields"][0]["time"], "2027-01-01T00:00:00Z");
}

#[test]
fn what_was_there_before_the_first_apply_has_an_owner() {
    let live = deployment(json!({"replicas": 1, "paused": true}));
    check(
        &applied(Some(&live), "a", deployment(json!({"replicas": 1}))),
        expect![[r#"
            {"paused":true,"replicas":1}
            a Apply: .spec.replicas
            before-first-apply Update: .spec.paused .spec.replicas
        "#]],
    );
    assert!(update(Some(&live), deployment(json!({})), &options("u"), node())["metadata"].get("managedFields").is_none());
}

#[test]
fn ownership_moves_from_client_side_apply_to_kubectl() {
    let config = deployment(json!({"replicas": 1}));
    let mut created = config.clone();
    created["metadata"]["annotations"] = json!({LAST_APPLIED: config.to_string()});
    let live = update(None, created.clone(), &options("kubectl-client-side-apply"), node());
    let changed = deployment(json!({"replicas": 2}));
    assert!(apply(Some(&live), &changed, &options("other"), node()).is_err());
    let object = applied(Some(&live), "kubectl", changed.clone());
    assert_eq!(object["spec"]["replicas"], 2);
    assert_eq!(object["metadata"]["annotations"][LAST_APPLIED], format!("{changed}\n"));
}

#[test]
fn another_way_to_write_a_value_is_no_conflict() {
    let with = |cpu: Value| containers(json!([{"name": "x", "resources": {"requests": {"cpu": cpu}}}]));
    let live = update(None, with(json!("500m")), &options("c"), node());
    let object = applied(Some(&live), "a", with(json!(0.5)));
    assert_eq!(object["spec"]["template"]["spec"]["containers"][0]["resources"]["requests"]["cpu"], "500m");
}

#[test]
fn update_managers_are_capped() {
    let mut live = update(None, deployment(json!({"replicas": 1})), &options("m00"), node());
    for i in 1..14 {
        let mut new = live.clone();
        new["metadata"]["labels"][format!("l{i:02}")] = json!("x");
        let (manager, at) = (format!("m{i:02}"), format!("2026-11-21T08:{i:02}:00Z"));
        live = update(Some(&live), new.clone(), &ApplyOptions { now: at.parse().unwrap(), ..options(&manager) }, node());
    }
    let names: Vec<_> = live["metadata"]["managedFields"].as_array().unwrap().iter().map(|e| e["manager"].as_str().unwrap()).collect();
    assert_eq!(names, ["ancient-changes", "m05", "m06", "m07", "m08", "m09", "m10", "m11", "m12", "m13"]);
    assert!(owners(&live).starts_with("ancient-changes Update: .metadata.labels .metadata.labels.l01"), "{}", owners(&live));
}

#[test]
fn an_update_can_reset_the_entries() {
    let live = applied(None, "a", deployment(json!({"replicas": 1})));
    let mut reset = live.clone();
    reset["metadata"]["managedFields"] = json!([{}]);
    assert!(update(Some(&live), reset.clone(), &options("u"), node())["metadata"].get("managedFields").is_none());
    let mut left_out = live.clone();
    left_out["metadata"].as_object_mut().unwrap().remove("managedFields");
    assert_eq!(owners(&update(Some(&live), left_out.clone(), &options("u"), node())), "a Apply: .spec.replicas\n");
}

#[test]
fn names_come_from_the_user_agent() {
    assert_eq!(manager_name("", "kubectl/v1.32 (linux)"), "kubectl");
    assert_eq!(manager_name("me", "kubectl/v1.32"), "me");
    assert_eq!(manager_name("", &"x".repeat(300)).len(), 128);
}

fn config() -> impl Strategy<Value = Value> {
    let container = (prop::option::of("[12]"), prop::option::of(any::<bool>()));
    (prop::option::of(0..3i32), prop::collection::btree_map("[abc]", container, 0..3), prop::collection::btree_map("[xy]", "[12]", 0..3))
        .prop_map(|(replicas, containers, labels)| {
            let containers: Vec<_> = containers
                .into_iter()
                .map(|(name, (image, tty))| {
                    let mut item = json!({"name": name});
                    item.as_object_mut().unwrap().extend(image.map(|i| ("image".to_owned(), json!(i))));
                    item.as_object_mut().unwrap().extend(tty.map(|t| ("tty".to_owned(), json!(t))));
                    item
                })
                .collect();
            let mut spec = json!({"template": {"metadata": {"labels": labels}}});
            if !containers.is_empty() {
                spec["template"]["spec"] = json!({"containers": containers});
            }
            if let Some(replicas) = replicas {
                spec["replicas"] = json!(replicas);
            }
            deployment(spec)
        })
}

proptest! {
    #[test]
    fn applying_is_idempotent_and_complete(steps in prop::collection::vec((config(), "[pq]"), 1..6)) {
        let mut live: Option<Value> = None;
        for (config, manager) in &steps {
            let forced = ApplyOptions { force: true, ..options(manager) };
            let object = apply(live.as_ref(), config, &forced, node()).unwrap();
            prop_assert_eq!(&apply(Some(&object), config, &forced, node()).unwrap(), &object);
            let missing = typed::to_set(config, Some(node())).difference(&typed::to_set(&object, Some(node())));
            prop_assert!(missing.paths().iter().all(|p| p.len() > 3), "lost {:?}", missing.paths());
            live = Some(object);
        }
        // Both give everything up: nothing that was applied is left.
        for manager in ["p", "q"] {
            live = Some(apply(live.as_ref(), &nothing(), &ApplyOptions { force: true, ..options(manager) }, node()).unwrap());
        }
        let left = live.unwrap();
        prop_assert_eq!(left.get("spec").filter(|s| **s != json!({})), None);
        prop_assert_eq!(owners(&left), "");
    }

    #[test]
    fn an_update_owns_what_it_changed(old in config(), new in config()) {
        let live = update(None, old.clone(), &options("a"), node());
        let object = update(Some(&live), new.clone(), &options("b"), node());
        let changed = typed::compare(Some(&old), Some(&new), Some(node()), true);
        let entries = managers::read(&object["metadata"]["managedFields"]).unwrap();
        let set = |name: &str| entries.iter().find(|(m, _)| m.name == name).map(|(_, owned)| owned.set.clone()).unwrap_or_default();
        let gained = changed.modified.clone().union(&changed.added).difference(&Set::of(NOBODYS.iter().copied()));
        prop_assert_eq!(set("b"), gained.clone());
        prop_assert!(set("a").intersection(&gained).is_empty());
        prop_assert!(set("a").intersection(&changed.removed).is_empty());
    }
}
