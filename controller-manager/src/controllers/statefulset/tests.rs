use expect_test::{Expect, expect};
use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use serde_json::{Value, json};

use super::StatefulSets;
use crate::history::HASH;
use crate::kind::{Key, Object as _};
use crate::pod_state;
use crate::world::{World, kubelet};

fn key() -> Key {
    Key::new("default", "db")
}

fn world(more: Value) -> World {
    let mut world = World::new();
    let mut spec = json!({
        "replicas": 3, "serviceName": "db", "selector": {"matchLabels": {"app": "db"}}, "revisionHistoryLimit": 1,
        "template": {"metadata": {"labels": {"app": "db"}}, "spec": {"containers": [{"name": "c", "image": "v1"}]}}
    });
    for (k, v) in more.as_object().expect("a map") {
        spec[k] = v.clone();
    }
    world.add::<StatefulSet>(json!({"metadata": {"name": "db", "namespace": "default"}, "spec": spec}));
    world
}

fn settle(world: &mut World) {
    world.settle_with(|w| w.step(&StatefulSets, &key()) | kubelet(w));
}

fn image(world: &mut World, image: &str) {
    world.edit::<StatefulSet>(&key(), |s| {
        let spec = s.spec.as_mut().and_then(|s| s.template.spec.as_mut()).expect("a spec");
        spec.containers[0].image = Some(image.to_owned());
    });
}

fn edit(world: &mut World, change: impl FnOnce(&mut k8s_openapi::api::apps::v1::StatefulSetSpec)) {
    world.edit::<StatefulSet>(&key(), |s| change(s.spec.as_mut().expect("a spec")));
}

/// Pods with the number of their revision, and the status in short.
fn state(world: &World) -> String {
    let revisions = world.list::<ControllerRevision>();
    let number = |p: &Pod| revisions.iter().find(|r| p.label(HASH) == Some(r.name())).map_or(0, |r| r.revision);
    let pods: Vec<String> = world.list::<Pod>().iter().map(|p| format!("{}#{}", p.name(), number(p))).collect();
    let s = world.get::<StatefulSet>(&key()).and_then(|s| s.status).expect("a status");
    format!(
        "{} | ready {} current {} updated {}",
        pods.join(" "),
        s.ready_replicas.unwrap_or(0),
        s.current_replicas.unwrap_or(0),
        s.updated_replicas.unwrap_or(0)
    )
}

#[track_caller]
fn is(world: &World, expected: Expect) {
    expected.assert_eq(&state(world));
}

#[test]
fn pods_come_in_order_and_go_in_reverse() {
    let mut world = world(json!({}));
    world.step(&StatefulSets, &key());
    world.step(&StatefulSets, &key());
    assert_eq!(world.list::<Pod>().len(), 1, "the second waits for the first");
    settle(&mut world);
    is(&world, expect!["db-0#1 db-1#1 db-2#1 | ready 3 current 3 updated 3"]);
    let pod = world.get::<Pod>(&Key::new("default", "db-1")).and_then(|p| p.spec).expect("a spec");
    assert_eq!((pod.hostname.as_deref(), pod.subdomain.as_deref()), (Some("db-1"), Some("db")));
    world.told();
    edit(&mut world, |s| s.replicas = Some(1));
    settle(&mut world);
    expect![[r#"
        delete Pod db-2
        delete Pod db-1
    "#]]
    .assert_eq(&world.did());
}

#[test]
fn parallel_sets_do_not_wait() {
    let mut world = world(json!({"podManagementPolicy": "Parallel"}));
    world.step(&StatefulSets, &key());
    assert_eq!(world.list::<Pod>().len(), 3);
    settle(&mut world);
}

#[test]
fn an_update_goes_from_the_top_one_at_a_time_and_can_be_undone() {
    let mut world = world(json!({}));
    settle(&mut world);
    image(&mut world, "v2");
    world.settle_with(|w| {
        let busy = w.step(&StatefulSets, &key()) | kubelet(w);
        let ready = w.list::<Pod>().iter().filter(|p| pod_state::is_active(p) && pod_state::is_ready(p)).count();
        assert!(ready >= 2, "{ready} ready");
        busy
    });
    is(&world, expect!["db-0#2 db-1#2 db-2#2 | ready 3 current 3 updated 3"]);
    image(&mut world, "v1");
    settle(&mut world);
    is(&world, expect!["db-0#3 db-1#3 db-2#3 | ready 3 current 3 updated 3"]);
}

#[test]
fn a_partition_holds_the_lower_ones_back() {
    let mut world = world(json!({"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 2}}}));
    settle(&mut world);
    image(&mut world, "v2");
    settle(&mut world);
    is(&world, expect!["db-0#1 db-1#1 db-2#2 | ready 3 current 2 updated 1"]);
    world.edit::<Pod>(&Key::new("default", "db-0"), |p| {
        p.metadata.deletion_timestamp =
            Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time("2026-01-01T00:00:00Z".parse().expect("a time")));
    });
    settle(&mut world);
    is(&world, expect!["db-0#1 db-1#1 db-2#2 | ready 3 current 2 updated 1"]);
    edit(&mut world, |s| s.update_strategy = None);
    settle(&mut world);
    is(&world, expect!["db-0#2 db-1#2 db-2#2 | ready 3 current 3 updated 3"]);
}

#[test]
fn on_delete_waits_for_the_user() {
    let mut world = world(json!({"updateStrategy": {"type": "OnDelete"}}));
    settle(&mut world);
    image(&mut world, "v2");
    settle(&mut world);
    is(&world, expect!["db-0#1 db-1#1 db-2#1 | ready 3 current 3 updated 0"]);
}

#[test]
fn each_pod_has_its_claims_which_stay_unless_told_otherwise() {
    for (policy, left) in [(Value::Null, 3), (json!({"whenScaled": "Delete", "whenDeleted": "Retain"}), 3)] {
        let template = json!([{"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"]}}]);
        let scaled = policy["whenScaled"] == "Delete";
        let mut world = world(json!({"volumeClaimTemplates": template, "persistentVolumeClaimRetentionPolicy": policy}));
        settle(&mut world);
        edit(&mut world, |s| s.replicas = Some(1));
        settle(&mut world);
        let claims = world.list::<PersistentVolumeClaim>();
        assert_eq!(claims.len(), left);
        // The garbage collector follows these references.
        let owned: Vec<&str> = claims.iter().filter(|c| c.metadata.owner_references.is_some()).map(|c| c.name()).collect();
        assert_eq!(owned, if scaled { vec!["data-db-1", "data-db-2"] } else { vec![] });
    }
}

#[test]
fn a_failed_pod_is_replaced_under_its_name() {
    let mut world = world(json!({}));
    settle(&mut world);
    world.edit::<Pod>(&Key::new("default", "db-1"), |p| p.status.get_or_insert_default().phase = Some("Failed".into()));
    settle(&mut world);
    is(&world, expect!["db-0#1 db-1#1 db-2#1 | ready 3 current 3 updated 3"]);
}

#[test]
fn an_unhealthy_set_neither_grows_nor_shrinks() {
    let mut world = world(json!({}));
    settle(&mut world);
    let now = world.now;
    let unready = |world: &mut World, ordinals: &[i32], status: &str| {
        for ordinal in ordinals {
            world.edit::<Pod>(&Key::new("default", format!("db-{ordinal}")), |p| pod_state::set_condition(p, "Ready", status, "", "", now));
        }
    };
    unready(&mut world, &[0, 1, 2], "False");
    world.told();
    edit(&mut world, |s| s.replicas = Some(0));
    settle(&mut world);
    assert_eq!(world.did(), "", "all of them are unhealthy: the highest is not the first of them");
    unready(&mut world, &[1, 2], "True");
    settle(&mut world);
    assert_eq!(world.did(), "delete Pod db-2\ndelete Pod db-1\ndelete Pod db-0\n");
}
