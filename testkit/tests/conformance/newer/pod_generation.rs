//! Upstream's `test/e2e/node/pods.go` on generations (KEP-5067).

use serde_json::{Value, json};

use super::container_resources::{pod, sleeper};
use crate::framework::{BUSYBOX, Behaviour, Framework, NGINX, PAUSE, POD, SOON, test};

pub const BEHAVIOURS: &[Behaviour] = &[
    Behaviour::new(
        "newer: [sig-node] Pods Extended (pod generation) Pod Generation pod generation should start at 1 and increment per update [MinimumKubeletVersion:1.34]",
        test!(updates),
    ),
    Behaviour::new(
        "newer: [sig-node] Pods Extended (pod generation) Pod Generation custom-set generation on new pods and graceful delete",
        test!(deletion),
    ),
    Behaviour::new(
        "newer: [sig-node] Pods Extended (pod generation) Pod Generation issue 500 podspec updates and verify generation and observedGeneration eventually converge [MinimumKubeletVersion:1.34]",
        test!(many),
    ),
    Behaviour::new(
        "newer: [sig-node] Pods Extended (pod generation) Pod Generation pod observedGeneration field set in pod conditions",
        test!(conditions),
    ),
];

/// Reads the pod, changes it, writes it back, until nobody else was faster.
async fn change(f: &Framework, change: impl Fn(&mut Value)) -> Value {
    f.until("an update without a conflict", SOON, || async {
        let mut read = f.wire.get(&f.core("pods/p")).await.expect(200);
        change(&mut read);
        let answer = f.wire.put(&f.core("pods/p"), &read).await;
        (answer.code != 409).then(|| answer.expect(200))
    })
    .await
}

async fn observed(f: &Framework, generation: i64) {
    f.until_it(&f.core("pods/p"), &format!("to be observed in generation {generation}"), POD, |p| {
        p["metadata"]["generation"] == generation && p["status"]["observedGeneration"] == generation
    })
    .await;
}

/// What is changed, how, and the generation afterwards.
type Change = (&'static str, fn(&mut Value), i64);

const CHANGES: &[Change] = &[
    ("nothing", |_| {}, 1),
    ("a toleration", tolerate, 2),
    ("a deadline", |p| p["spec"]["activeDeadlineSeconds"] = json!(5000), 3),
    ("an image", |p| p["spec"]["containers"][0]["image"] = json!(NGINX), 4),
    ("an init container's image", |p| p["spec"]["initContainers"][0]["image"] = json!(PAUSE), 5),
    ("metadata", |p| p["metadata"]["annotations"] = json!({"key": "value"}), 5),
    ("a generation of the client's", |p| p["metadata"]["generation"] = json!(1), 5),
];

fn tolerate(pod: &mut Value) {
    let added = json!({"key": "foo", "operator": "Equal", "value": "bar", "effect": "NoSchedule"});
    pod["spec"]["tolerations"].as_array_mut().expect("the defaults").push(added);
}

async fn updates(f: Framework) -> anyhow::Result<()> {
    let mut p = pod("p", &[json!({"name": "main", "image": PAUSE, "imagePullPolicy": "IfNotPresent"})]);
    p["spec"]["initContainers"] = json!([{"name": "init", "image": BUSYBOX, "imagePullPolicy": "IfNotPresent", "command": ["true"]}]);
    assert_eq!(f.create_pod(&p).await["metadata"]["generation"], 1);
    assert_eq!(f.until_ready("p").await["metadata"]["generation"], 1, "a binding is no change");
    observed(&f, 1).await;
    for (what, how, generation) in CHANGES {
        assert_eq!(change(&f, how).await["metadata"]["generation"], *generation, "{what}");
        observed(&f, *generation).await;
    }
    Ok(())
}

async fn deletion(f: Framework) -> anyhow::Result<()> {
    let mut p = pod("p", &[sleeper("main", "")]);
    p["metadata"]["generation"] = json!(100);
    assert_eq!(f.create_pod(&p).await["metadata"]["generation"], 1);
    f.until_ready("p").await;
    let deleted = f.wire.delete(&f.core("pods/p?gracePeriodSeconds=60")).await.expect(200);
    assert_eq!((&deleted["metadata"]["generation"], &deleted["metadata"]["deletionGracePeriodSeconds"]), (&json!(2), &json!(60)));
    Ok(())
}

async fn many(f: Framework) -> anyhow::Result<()> {
    let mut p = pod("p", &[sleeper("main", "")]);
    p["spec"]["activeDeadlineSeconds"] = json!(5000);
    f.create_pod(&p).await;
    f.until_ready("p").await;
    for _ in 0..499 {
        change(&f, |p| p["spec"]["activeDeadlineSeconds"] = json!(p["spec"]["activeDeadlineSeconds"].as_i64().expect("a number") - 1))
            .await;
    }
    observed(&f, 500).await;
    Ok(())
}

async fn conditions(f: Framework) -> anyhow::Result<()> {
    let mut p = pod("p", &[sleeper("main", "")]);
    p["spec"]["containers"][0]["image"] = json!("localhost/some-image-that-doesnt-exist");
    f.create_pod(&p).await;
    let told = |pod: &Value, generation: i64| {
        ["Initialized", "Ready", "ContainersReady", "PodScheduled"].iter().all(|kind| {
            let all = pod["status"]["conditions"].as_array().into_iter().flatten();
            all.clone().any(|c| c["type"] == *kind && c["observedGeneration"] == generation)
        })
    };
    f.until_it(&f.core("pods/p"), "to have conditions of generation 1", POD, |p| told(p, 1)).await;
    f.until_it(&f.core("pods/p"), "to have no image", POD, |p| {
        let reason = p["status"]["containerStatuses"][0]["state"]["waiting"]["reason"].as_str();
        matches!(reason, Some("ErrImagePull" | "ImagePullBackOff"))
    })
    .await;
    change(&f, |p| p["spec"]["containers"][0]["image"] = json!(BUSYBOX)).await;
    f.until_it(&f.core("pods/p"), "to have conditions of generation 2", POD, |p| told(p, 2)).await;
    Ok(())
}
