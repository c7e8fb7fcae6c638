use expect_test::{Expect, expect};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::{Value, json};

use super::Deployments;
use super::revision::{REVISION, encoded_hash};
use crate::controllers::replicaset::ReplicaSets;
use crate::kind::{Key, Object as _};
use crate::pod_state;
use crate::world::{World, kubelet};

fn key() -> Key {
    Key::new("default", "web")
}

fn world(replicas: i32, strategy: Value) -> World {
    let mut world = World::new();
    world.add::<Deployment>(json!({
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "strategy": strategy,
                 "progressDeadlineSeconds": 600, "revisionHistoryLimit": 2,
                 "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "v1"}]}}}
    }));
    world
}

fn image(world: &mut World, image: &str) {
    world.edit::<Deployment>(&key(), |d| {
        let spec = d.spec.as_mut().and_then(|s| s.template.spec.as_mut()).expect("a spec");
        spec.containers[0].image = Some(image.to_owned());
    });
}

/// One round of both controllers; whether they did something.
fn controllers(world: &mut World) -> bool {
    let mut busy = world.step(&Deployments, &key());
    for rs in world.list::<ReplicaSet>() {
        busy |= world.step(&ReplicaSets, &rs.key());
    }
    busy
}

fn settle(world: &mut World) {
    world.settle_with(|w| controllers(w) | kubelet(w));
}

/// Image and size of each ReplicaSet, oldest first.
fn sizes(world: &World) -> String {
    let mut all = world.list::<ReplicaSet>();
    all.sort_by(super::revision::by_creation);
    let image = |rs: &ReplicaSet| rs.spec.as_ref()?.template.as_ref()?.spec.as_ref()?.containers[0].image.clone();
    let one = |rs: &ReplicaSet| format!("{}#{}={}", image(rs).unwrap_or_default(), rs.annotation(REVISION).unwrap_or("-"), super::size(rs));
    let mut lines: Vec<String> = all.iter().map(one).collect();
    lines.sort();
    lines.join(" ")
}

fn conditions(world: &World) -> String {
    let status = world.get::<Deployment>(&key()).and_then(|d| d.status).expect("a status");
    let mut lines: Vec<String> = status
        .conditions
        .iter()
        .flatten()
        .map(|c| {
            format!("{}={} {}: {}", c.type_, c.status, c.reason.as_deref().unwrap_or_default(), c.message.as_deref().unwrap_or_default())
        })
        .collect();
    lines.sort();
    lines.join("\n")
}

fn events(world: &mut World) -> String {
    world
        .told()
        .lines()
        .filter(|l| l.contains("ScalingReplicaSet"))
        .map(|l| format!("{}\n", l.trim_start_matches("event Normal ")))
        .collect()
}

#[track_caller]
fn is(actual: String, expected: Expect) {
    expected.assert_eq(&actual);
}

#[test]
fn a_new_deployment_gets_its_pods_and_arrives() {
    let mut world = world(3, Value::Null);
    settle(&mut world);
    is(sizes(&world), expect!["v1#1=3"]);
    is(
        events(&mut world),
        expect![[r#"
        ScalingReplicaSet Scaled up replica set web-548df6b887 from 0 to 3
    "#]],
    );
    is(
        conditions(&world),
        expect![[r#"
        Available=True MinimumReplicasAvailable: Deployment has minimum availability.
        Progressing=True NewReplicaSetAvailable: ReplicaSet "web-548df6b887" has successfully progressed."#]],
    );
    assert_eq!(world.get::<Deployment>(&key()).expect("it").annotation(REVISION), Some("1"));
}

#[test]
fn a_rolling_update_never_asks_for_too_many_nor_leaves_too_few() {
    for (surge, unavailable) in [("25%", "25%"), ("0", "1"), ("1", "0"), ("100%", "0"), ("0", "100%"), ("0", "0")] {
        for replicas in [1, 2, 5, 10] {
            let parse = |s: &str| s.parse::<i32>().map_or_else(|_| IntOrString::String(s.into()), IntOrString::Int);
            let (surge, unavailable) = (parse(surge), parse(unavailable));
            let mut world =
                world(replicas, json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}}));
            settle(&mut world);
            image(&mut world, "v2");
            let most = replicas + super::rollout::resolve(Some(&surge), "", replicas, true);
            let down = super::rollout::resolve(Some(&unavailable), "", replicas, false);
            let least = replicas - if most == replicas { down.max(1) } else { down };
            world.settle_with(|w| {
                let busy = controllers(w) | kubelet(w);
                let pods = w.list::<Pod>();
                let active = pods.iter().filter(|p| pod_state::is_active(p)).count();
                let ready = pods.iter().filter(|p| pod_state::is_active(p) && pod_state::is_ready(p)).count();
                assert!(active <= usize::try_from(most).expect("small"), "{active} pods, at most {most} allowed");
                assert!(ready >= usize::try_from(least).expect("small"), "{ready} ready, at least {least} needed");
                busy
            });
            assert_eq!(sizes(&world), format!("v1#1=0 v2#2={replicas}"));
        }
    }
}

#[test]
fn recreate_starts_the_new_when_nothing_old_runs() {
    let mut world = world(2, json!({"type": "Recreate"}));
    settle(&mut world);
    image(&mut world, "v2");
    world.settle_with(|w| {
        let busy = controllers(w) | kubelet(w);
        let images: std::collections::BTreeSet<_> =
            w.list::<Pod>().iter().map(|p| p.spec.as_ref().and_then(|s| s.containers[0].image.clone())).collect();
        assert!(images.len() <= 1, "old and new pods together: {images:?}");
        busy
    });
    is(sizes(&world), expect!["v1#1=0 v2#2=2"]);
}

#[test]
fn going_back_gives_the_old_replica_set_a_new_revision() {
    let mut world = world(1, Value::Null);
    for v in ["v1", "v2", "v1"] {
        image(&mut world, v);
        settle(&mut world);
    }
    is(sizes(&world), expect!["v1#3=1 v2#2=0"]);
    assert_eq!(world.get::<Deployment>(&key()).expect("it").annotation(REVISION), Some("3"));
}

#[test]
fn old_replica_sets_beyond_the_limit_go() {
    let mut world = world(1, Value::Null);
    for v in ["v1", "v2", "v3", "v4", "v5"] {
        image(&mut world, v);
        settle(&mut world);
    }
    is(sizes(&world), expect!["v3#3=0 v4#4=0 v5#5=1"]);
}

#[test]
fn a_paused_deployment_scales_but_does_not_roll_out() {
    let mut world = world(2, Value::Null);
    settle(&mut world);
    world.edit::<Deployment>(&key(), |d| {
        let spec = d.spec.get_or_insert_default();
        (spec.paused, spec.replicas) = (Some(true), Some(4));
    });
    image(&mut world, "v2");
    settle(&mut world);
    is(sizes(&world), expect!["v1#1=4"]);
    is(
        conditions(&world),
        expect![[r#"
        Available=True MinimumReplicasAvailable: Deployment has minimum availability.
        Progressing=Unknown DeploymentPaused: Deployment is paused"#]],
    );
    world.edit::<Deployment>(&key(), |d| d.spec.get_or_insert_default().paused = None);
    settle(&mut world);
    is(sizes(&world), expect!["v1#1=0 v2#2=4"]);
}

#[test]
fn resizing_in_the_middle_of_a_rollout_gives_each_its_share() {
    let mut world = world(10, json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 3, "maxUnavailable": 2}}));
    settle(&mut world);
    image(&mut world, "bad");
    world.settle_with(controllers); // no kubelet: the new pods never become ready
    is(sizes(&world), expect!["bad#2=5 v1#1=8"]);
    world.edit::<Deployment>(&key(), |d| d.spec.get_or_insert_default().replicas = Some(30));
    world.settle_with(controllers);
    is(sizes(&world), expect!["bad#2=13 v1#1=20"]);
}

#[test]
fn a_rollout_that_is_stuck_says_so_after_its_deadline() {
    let mut world = world(1, Value::Null);
    settle(&mut world);
    image(&mut world, "bad");
    world.settle_with(controllers);
    is(
        conditions(&world),
        expect![[r#"
        Available=True MinimumReplicasAvailable: Deployment has minimum availability.
        Progressing=True ReplicaSetUpdated: ReplicaSet "web-7789ffd457" is progressing."#]],
    );
    world.pass(602);
    world.settle_with(controllers);
    is(
        conditions(&world),
        expect![[r#"
        Available=True MinimumReplicasAvailable: Deployment has minimum availability.
        Progressing=False ProgressDeadlineExceeded: ReplicaSet "web-7789ffd457" has timed out progressing."#]],
    );
}

#[test]
fn a_failure_to_create_pods_is_shown() {
    let mut world = world(1, Value::Null);
    world.step(&Deployments, &key());
    let rs = world.list::<ReplicaSet>()[0].key();
    world.refuse = Some(("Pod", "exceeded quota"));
    world.step(&ReplicaSets, &rs);
    world.step(&ReplicaSets, &rs);
    world.failure = None;
    world.step(&Deployments, &key());
    is(
        conditions(&world),
        expect![[r#"
        Available=False MinimumReplicasUnavailable: Deployment does not have minimum availability.
        Progressing=True NewReplicaSetCreated: Created new replica set "web-548df6b887"
        ReplicaFailure=True FailedCreate: exceeded quota"#]],
    );
}

#[test]
fn another_template_with_the_same_hash_gets_another_name() {
    let mut world = world(1, Value::Null);
    let name = super::revision::name(&world.get::<Deployment>(&key()).expect("it"));
    world.add::<ReplicaSet>(json!({"metadata": {"name": name, "namespace": "default"}, "spec": {"selector": {"matchLabels": {"x": "y"}}}}));
    settle(&mut world);
    let deployment = world.get::<Deployment>(&key()).expect("it");
    assert_eq!(deployment.status.and_then(|s| s.collision_count), Some(1));
    is(sizes(&world), expect!["#-=1 v1#1=1"]);
}

#[test]
fn hashes_are_upstream_s_encoding_of_fnv_1a() {
    // FNV-1a of "a" is 0xe40c292c = 3826002220.
    assert_eq!(encoded_hash(b"a", None), "7d6b446664");
    assert_ne!(encoded_hash(b"a", None), encoded_hash(b"a", Some(1)));
}
