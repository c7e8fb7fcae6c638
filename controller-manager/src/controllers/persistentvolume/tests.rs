use expect_test::{Expect, expect};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::StorageClass;
use serde_json::{Value, json};

use super::PersistentVolumes;
use crate::kind::{Key, Object as _};
use crate::world::World;

fn merge(mut into: Value, more: Value) -> Value {
    fn walk(into: &mut Value, more: Value) {
        match (into, more) {
            (Value::Object(into), Value::Object(more)) => {
                more.into_iter().for_each(|(k, v)| walk(into.entry(k).or_insert(Value::Null), v));
            }
            (into, more) => *into = more,
        }
    }
    walk(&mut into, more);
    into
}

fn volume(world: &mut World, name: &str, size: &str, more: Value) {
    let spec = json!({"capacity": {"storage": size}, "accessModes": ["ReadWriteOnce"], "persistentVolumeReclaimPolicy": "Retain",
                      "hostPath": {"path": "/x"}});
    world.add::<PersistentVolume>(merge(json!({"metadata": {"name": name}, "spec": spec, "status": {"phase": "Pending"}}), more));
}

fn claim(world: &mut World, name: &str, size: &str, more: Value) {
    let spec = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}, "storageClassName": ""});
    let claim = json!({"metadata": {"name": name, "namespace": "default"}, "spec": spec, "status": {"phase": "Pending"}});
    world.add::<PersistentVolumeClaim>(merge(claim, more));
}

fn class(world: &mut World, name: &str, provisioner: &str, mode: &str) {
    world.add::<StorageClass>(json!({"metadata": {"name": name}, "provisioner": provisioner, "volumeBindingMode": mode}));
}

fn settle(world: &mut World) {
    world.settle_with(|world| {
        let volumes: Vec<Key> = world.list::<PersistentVolume>().iter().map(|v| v.key()).collect();
        let claims: Vec<Key> = world.list::<PersistentVolumeClaim>().iter().map(|c| c.key()).collect();
        volumes.iter().chain(&claims).fold(false, |busy, key| world.step(&PersistentVolumes, key) | busy)
    });
}

/// Phases and pointers of all volumes and claims.
fn state(world: &World) -> String {
    let mut out = String::new();
    for v in world.list::<PersistentVolume>() {
        let to = super::claim_index(&v).unwrap_or_default();
        out += &format!("{} {} {to}\n", v.name(), super::phase(&v));
    }
    for c in world.list::<PersistentVolumeClaim>() {
        let phase = c.status.as_ref().and_then(|s| s.phase.clone()).unwrap_or_default();
        out += &format!("{} {phase} {}\n", c.name(), super::volume_name(&c));
    }
    out
}

#[track_caller]
fn check(world: &World, expected: Expect) {
    expected.assert_eq(&state(world));
}

fn events(world: &mut World) -> String {
    let mut lines: Vec<String> = world.told().lines().filter(|l| l.starts_with("event")).map(|l| format!("{l}\n")).collect();
    lines.sort();
    lines.dedup();
    lines.concat()
}

#[test]
fn the_smallest_that_fits_is_bound_in_three_steps() {
    let mut world = World::new();
    volume(&mut world, "large", "10Gi", json!({}));
    volume(&mut world, "small", "1Gi", json!({}));
    volume(&mut world, "medium", "5Gi", json!({}));
    settle(&mut world);
    world.told();
    claim(&mut world, "c", "2Gi", json!({}));
    settle(&mut world);
    check(
        &world,
        expect![[r#"
            large Available 
            medium Bound default/c
            small Available 
            c Bound medium
        "#]],
    );
    expect![[r#"
        patch PersistentVolume medium {"metadata":{"annotations":{"pv.kubernetes.io/bound-by-controller":"yes"}},"spec":{"claimRef":{"apiVersion":"v1","kind":"PersistentVolumeClaim","name":"c","namespace":"default","uid":"uid-7"}}}
        patch PersistentVolumeClaim c {"metadata":{"annotations":{"pv.kubernetes.io/bind-completed":"yes","pv.kubernetes.io/bound-by-controller":"yes"}},"spec":{"volumeName":"medium"}}
        patch PersistentVolume medium/status {"status":{"phase":"Bound"}}
        patch PersistentVolumeClaim c/status {"status":{"accessModes":["ReadWriteOnce"],"capacity":{"storage":"5Gi"},"phase":"Bound"}}
    "#]]
    .assert_eq(&world.told());
}

#[test]
fn two_claims_never_get_one_volume() {
    let mut world = World::new();
    volume(&mut world, "v", "1Gi", json!({}));
    claim(&mut world, "a", "1Gi", json!({}));
    claim(&mut world, "b", "1Gi", json!({}));
    settle(&mut world);
    check(
        &world,
        expect![[r#"
            v Bound default/a
            a Bound v
            b Pending 
        "#]],
    );
    expect![[r#"
        event Normal FailedBinding no persistent volumes available for this claim and no storage class is set
    "#]]
    .assert_eq(&events(&mut world));
}

#[test]
fn classes_modes_and_selectors_count() {
    let mut world = World::new();
    volume(&mut world, "block", "1Gi", json!({"spec": {"volumeMode": "Block"}}));
    volume(&mut world, "fast", "1Gi", json!({"spec": {"storageClassName": "fast"}}));
    volume(&mut world, "labelled", "1Gi", json!({"metadata": {"labels": {"a": "b"}}}));
    volume(&mut world, "many", "1Gi", json!({"spec": {"accessModes": ["ReadWriteOnce", "ReadWriteMany"]}}));
    class(&mut world, "fast", "example.com/p", "Immediate");
    claim(&mut world, "block", "1Gi", json!({"spec": {"volumeMode": "Block"}}));
    claim(&mut world, "fast", "1Gi", json!({"spec": {"storageClassName": "fast"}}));
    claim(&mut world, "labelled", "1Gi", json!({"spec": {"selector": {"matchLabels": {"a": "b"}}}}));
    claim(&mut world, "many", "1Gi", json!({"spec": {"accessModes": ["ReadWriteMany"]}}));
    settle(&mut world);
    check(
        &world,
        expect![[r#"
            block Bound default/block
            fast Bound default/fast
            labelled Bound default/labelled
            many Bound default/many
            block Bound block
            fast Bound fast
            labelled Bound labelled
            many Bound many
        "#]],
    );
}

#[test]
fn a_claim_may_name_its_volume_and_a_volume_its_claim() {
    let mut world = World::new();
    volume(&mut world, "named", "1Gi", json!({}));
    volume(&mut world, "kept", "1Gi", json!({"spec": {"claimRef": {"namespace": "default", "name": "waiting"}}}));
    claim(&mut world, "a", "1Gi", json!({"spec": {"volumeName": "named"}}));
    claim(&mut world, "b", "1Gi", json!({"spec": {"volumeName": "named"}}));
    claim(&mut world, "c", "2Gi", json!({"spec": {"volumeName": "kept"}}));
    claim(&mut world, "waiting", "1Gi", json!({}));
    settle(&mut world);
    check(
        &world,
        expect![[r#"
            kept Bound default/waiting
            named Bound default/a
            a Bound named
            b Pending named
            c Pending kept
            waiting Bound kept
        "#]],
    );
    expect![[r#"
        event Warning FailedBinding volume "kept" already bound to a different claim.
        event Warning FailedBinding volume "named" already bound to a different claim.
    "#]]
    .assert_eq(&events(&mut world));
    let kept = world.get::<PersistentVolume>(&Key::cluster("kept")).expect("it");
    assert_eq!(kept.annotation(super::BOUND_BY_CONTROLLER), None, "a person pointed it at the claim");
}

#[test]
fn a_volume_that_was_named_but_is_too_small_is_not_taken() {
    let mut world = World::new();
    volume(&mut world, "v", "1Gi", json!({}));
    claim(&mut world, "c", "2Gi", json!({"spec": {"volumeName": "v"}}));
    settle(&mut world);
    expect![[r#"
        event Warning VolumeMismatch Cannot bind to requested volume "v": requested PV is too small
    "#]]
    .assert_eq(&events(&mut world));
}

#[test]
fn what_is_left_is_kept_or_fails_to_be_deleted() {
    for (policy, provisioned, expected) in [
        ("Retain", json!({}), "Released"),
        ("Delete", json!({"pv.kubernetes.io/provisioned-by": "example.com/p"}), "Released"),
        ("Delete", json!({}), "Failed"),
        ("Recycle", json!({}), "Failed"),
    ] {
        let mut world = World::new();
        volume(
            &mut world,
            "v",
            "1Gi",
            json!({"metadata": {"annotations": provisioned}, "spec": {"persistentVolumeReclaimPolicy": policy}}),
        );
        claim(&mut world, "c", "1Gi", json!({}));
        settle(&mut world);
        world.remove::<PersistentVolumeClaim>(&Key::new("default", "c"));
        settle(&mut world);
        assert_eq!(state(&world), format!("v {expected} default/c\n"), "{policy}");
        // A claim of the same name is another claim.
        claim(&mut world, "c", "1Gi", json!({}));
        settle(&mut world);
        assert_eq!(state(&world), format!("v {expected} default/c\nc Pending \n"), "{policy}");
    }
}

#[test]
fn a_claim_whose_volume_is_gone_is_lost() {
    let mut world = World::new();
    volume(&mut world, "v", "1Gi", json!({}));
    claim(&mut world, "c", "1Gi", json!({}));
    settle(&mut world);
    world.told();
    world.remove::<PersistentVolume>(&Key::cluster("v"));
    settle(&mut world);
    check(
        &world,
        expect![[r#"
            c Lost v
        "#]],
    );
    expect![[r#"
        event Warning ClaimLost Bound claim has lost its PersistentVolume. Data on the volume is lost!
    "#]]
    .assert_eq(&events(&mut world));
}

#[test]
fn a_class_says_who_provisions_and_when() {
    let mut world = World::new();
    class(&mut world, "now", "example.com/p", "Immediate");
    class(&mut world, "later", "example.com/p", "WaitForFirstConsumer");
    class(&mut world, "local", "kubernetes.io/no-provisioner", "Immediate");
    volume(&mut world, "v", "1Gi", json!({"spec": {"storageClassName": "later"}}));
    for (name, class) in [("a", "now"), ("b", "later"), ("c", "local"), ("d", "none")] {
        claim(&mut world, name, "1Gi", json!({"spec": {"storageClassName": class}}));
    }
    settle(&mut world);
    check(
        &world,
        expect![[r#"
            v Available 
            a Pending 
            b Pending 
            c Pending 
            d Pending 
        "#]],
    );
    expect![[r#"
        event Normal ExternalProvisioning Waiting for a volume to be created either by the external provisioner 'example.com/p' or manually by the system administrator. If volume creation is delayed, please verify that the provisioner is running and correctly registered.
        event Normal WaitForFirstConsumer waiting for first consumer to be created before binding
        event Warning ProvisioningFailed no volume plugin matched name: kubernetes.io/no-provisioner
        event Warning ProvisioningFailed storageclass.storage.k8s.io "none" not found
    "#]]
    .assert_eq(&events(&mut world));
    world.add::<Pod>(json!({"metadata": {"name": "p", "namespace": "default"},
        "spec": {"containers": [], "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "b"}}]}}));
    world.step(&PersistentVolumes, &Key::new("default", "b"));
    expect![[r#"
        event Normal WaitForPodScheduled waiting for pod p to be scheduled
    "#]]
    .assert_eq(&events(&mut world));
    // The scheduler points the volume at the claim; the rest is done here.
    world.edit::<PersistentVolume>(&Key::cluster("v"), |v| {
        let to = json!({"namespace": "default", "name": "b"});
        v.spec.get_or_insert_default().claim_ref = serde_json::from_value(to).expect("a reference");
    });
    settle(&mut world);
    assert!(state(&world).contains("v Bound default/b\n") && state(&world).contains("b Bound v\n"), "{}", state(&world));
}

#[test]
fn a_claim_without_class_gets_the_default_one() {
    let mut world = World::new();
    claim(&mut world, "c", "1Gi", json!({"spec": {"storageClassName": null}}));
    settle(&mut world);
    class(&mut world, "std", "example.com/p", "Immediate");
    world.edit::<StorageClass>(&Key::cluster("std"), |c| super::annotate(c, super::DEFAULT_CLASS[0], "true"));
    settle(&mut world);
    let claim = world.get::<PersistentVolumeClaim>(&Key::new("default", "c")).expect("it");
    assert_eq!(super::claim_class(&claim), Some("std"));
    assert_eq!(claim.annotation(super::PROVISIONER[0]), Some("example.com/p"));
}

#[test]
fn a_volume_whose_claim_took_another_is_free_again() {
    let mut world = World::new();
    volume(&mut world, "v", "1Gi", json!({}));
    volume(&mut world, "w", "1Gi", json!({}));
    claim(&mut world, "c", "1Gi", json!({}));
    settle(&mut world);
    let uid = world.get::<PersistentVolumeClaim>(&Key::new("default", "c")).expect("it").uid().to_owned();
    world.edit::<PersistentVolume>(&Key::cluster("w"), |v| {
        let to = json!({"namespace": "default", "name": "c", "uid": uid});
        v.spec.get_or_insert_default().claim_ref = serde_json::from_value(to).expect("a reference");
        super::annotate(v, super::BOUND_BY_CONTROLLER, "yes");
    });
    settle(&mut world);
    check(
        &world,
        expect![[r#"
            v Bound default/c
            w Available 
            c Bound v
        "#]],
    );
}
