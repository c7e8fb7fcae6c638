//! Upstream's `test/e2e/common/node/pod_resize.go` and `test/e2e/node/pod_resize.go`: resizes that the apiserver refuses.

use serde_json::{Value, json};

use super::container_resources::{pod, resize, resize_patch, resources, sleeper, until_resized};
use crate::framework::{Behaviour, Framework, SOON, test};

pub const BEHAVIOURS: &[Behaviour] = &[
    Behaviour::new("newer: [sig-node] Pod InPlace Resize Container apply invalid resize patch requests", test!(invalid)),
    Behaviour::new("newer: [sig-node] Pod InPlace Resize Container pod-resize-limit-ranger-test", test!(limit_range)),
    Behaviour::new("newer: [sig-node] Pod InPlace Resize Container pod-resize-resource-quota-test", test!(quota)),
];

const QOS: &str = "Pod QOS Class may not change as a result of resizing";
const MOVED: &str = "spec.containers[0].name: Forbidden: containers may not be renamed or reordered on resize, spec.containers[1].name: Forbidden: containers may not be renamed or reordered on resize";

/// Asserts that a pod of these containers is not resized to those, and that nothing of it changes.
async fn refused(f: &Framework, name: &str, before: &[(&str, &str)], after: &[(&str, &str)], why: &str) {
    f.create_pod(&pod(name, &before.iter().map(|(name, words)| sleeper(name, words)).collect::<Vec<_>>())).await;
    f.until_ready(name).await;
    let mut read = f.wire.get(&f.core(&format!("pods/{name}"))).await.expect(200);
    read["spec"]["containers"] = after.iter().map(|(name, words)| sleeper(name, words)).collect();
    read["metadata"]["resourceVersion"] = Value::Null;
    let answer = f.wire.put(&f.core(&format!("pods/{name}/resize")), &read).await;
    assert!(answer.code == 422 && answer.refusal().contains(why), "{name}: {}", answer.text());
    until_resized(f, name, before, 0).await;
    f.wire.delete(&f.core(&format!("pods/{name}"))).await.expect(200);
}

/// Containers with what they ask for.
type Containers = &'static [(&'static str, &'static str)];

async fn invalid(f: Framework) -> anyhow::Result<()> {
    let cases: &[(&str, Containers, Containers, &str)] = &[
        ("best-effort-memory", &[("c1", "")], &[("c1", "memory=35Mi:")], QOS),
        ("best-effort-cpu", &[("c1", "")], &[("c1", "cpu=20m:")], QOS),
        (
            "guaranteed-no-limits",
            &[("c1", "cpu=20m:20m memory=35Mi:35Mi")],
            &[("c1", "cpu=20m: memory=35Mi:")],
            "resource limits cannot be removed",
        ),
        ("no-memory-request", &[("c1", "memory=35Mi:")], &[("c1", "")], "resource requests cannot be removed"),
        ("reordered", &[("c1", "cpu=20m:"), ("c2", "cpu=20m:")], &[("c2", "cpu=20m:"), ("c1", "cpu=20m:")], MOVED),
        ("renamed", &[("c1", "cpu=20m:"), ("c2", "cpu=20m:")], &[("d1", "cpu=20m:"), ("d2", "cpu=20m:")], MOVED),
        ("to-guaranteed", &[("c1", "cpu=20m:35m memory=35Mi:50Mi")], &[("c1", "cpu=35m:35m memory=50Mi:50Mi")], QOS),
        (
            "ephemeral-storage",
            &[("c1", "cpu=20m: ephemeral-storage=1:")],
            &[("c1", "cpu=20m: ephemeral-storage=3:")],
            "only cpu and memory resources are mutable",
        ),
    ];
    for (name, before, after, why) in cases {
        refused(&f, name, before, after, why).await;
    }
    // An init container that is no sidecar keeps what it has.
    let mut p = pod("init", &[sleeper("c1", "")]);
    p["spec"]["initContainers"] = json!([sleeper("i1", "cpu=20m: memory=35Mi:")]);
    f.create_pod(&p).await;
    let patch = json!({"spec": {"initContainers": [{"name": "i1", "resources": resources("cpu=25m: memory=40Mi:")}]}});
    let answer = f.wire.patch("strategic", &f.core("pods/init/resize"), &patch).await;
    assert!(
        answer.code == 422 && answer.refusal().contains("resources for non-sidecar init containers are immutable"),
        "{}",
        answer.text()
    );
    Ok(())
}

async fn limit_range(f: Framework) -> anyhow::Result<()> {
    let limits = json!([{"type": "Container", "min": {"cpu": "50m"}, "max": {"cpu": "500m", "memory": "200Mi"}}]);
    let range = json!({"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "l"}, "spec": {"limits": limits}});
    f.wire.post(&f.core("limitranges"), &range).await.expect(201);
    f.create_pod(&pod("p", &[sleeper("c1", "cpu=100m:100m memory=50Mi:50Mi")])).await;
    f.until_ready("p").await;
    let after = [("c1", "cpu=200m:200m memory=100Mi:100Mi")];
    resize(&f, "p", &after).await;
    until_resized(&f, "p", &after, 0).await;
    for (words, why) in [
        ("cpu=600m:600m memory=100Mi:100Mi", "maximum cpu usage per Container is 500m, but limit is 600m"),
        ("cpu=10m:10m memory=100Mi:100Mi", "minimum cpu usage per Container is 50m, but request is 10m"),
    ] {
        let answer = f.wire.patch("strategic", &f.core("pods/p/resize"), &resize_patch(&[("c1", words)])).await;
        assert!(answer.code == 403 && answer.refusal().contains(why), "{}", answer.text());
    }
    until_resized(&f, "p", &after, 0).await;
    Ok(())
}

async fn quota(f: Framework) -> anyhow::Result<()> {
    let hard = json!({"requests.cpu": "300m", "requests.memory": "200Mi"});
    let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q"}, "spec": {"hard": hard}});
    f.wire.post(&f.core("resourcequotas"), &quota).await.expect(201);
    let path = f.core("resourcequotas/q");
    f.until_it(&path, "to be counted", SOON, |q| q["status"]["used"]["requests.cpu"] == "0").await;
    for name in ["p", "other"] {
        f.create_pod(&pod(name, &[sleeper("c1", "cpu=100m:100m memory=50Mi:50Mi")])).await;
        f.until_ready(name).await;
    }
    let after = [("c1", "cpu=200m:200m memory=100Mi:100Mi")];
    resize(&f, "p", &after).await;
    until_resized(&f, "p", &after, 0).await;
    f.until_it(&path, "to count the resize", SOON, |q| {
        q["status"]["used"]["requests.cpu"] == "300m" && q["status"]["used"]["requests.memory"] == "150Mi"
    })
    .await;
    let answer = f.wire.patch("strategic", &f.core("pods/p/resize"), &resize_patch(&[("c1", "cpu=250m:250m memory=100Mi:100Mi")])).await;
    let why = "exceeded quota: q, requested: requests.cpu=50m, used: requests.cpu=300m, limited: requests.cpu=300m";
    assert!(answer.code == 403 && answer.refusal().contains(why), "{}", answer.text());
    until_resized(&f, "p", &after, 0).await;
    Ok(())
}
