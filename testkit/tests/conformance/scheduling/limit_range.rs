//! LimitRanges: what pods get that do not say what they need, and what they may not ask for.

use serde_json::{Value, json};

use crate::framework::{Behaviour, Framework, PAUSE, SOON, test};

pub const BEHAVIOURS: &[Behaviour] = &[
    Behaviour::new(
        "[sig-scheduling] LimitRange should create a LimitRange with defaults and ensure pod has those defaults applied.",
        test!(defaults),
    ),
    Behaviour::new("[sig-scheduling] LimitRange should list, patch and delete a LimitRange by collection", test!(collection)),
];

fn amounts(cpu: &str, memory: &str, storage: &str) -> Value {
    json!({"cpu": cpu, "memory": memory, "ephemeral-storage": storage})
}

fn range(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": name},
        "spec": {"limits": [{
            "type": "Container", "min": amounts("50m", "100Mi", "100Gi"), "max": amounts("500m", "500Mi", "500Gi"),
            "default": amounts("500m", "500Mi", "500Gi"), "defaultRequest": amounts("100m", "200Mi", "200Gi"), "maxLimitRequestRatio": {},
        }]},
    })
}

/// A pod that would run nowhere: it is only looked at.
fn pod(name: &str, requests: Value, limits: Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {
            "nodeSelector": {"e2e": "nowhere"},
            "containers": [{"name": "pause", "image": PAUSE, "imagePullPolicy": "IfNotPresent", "resources": {"requests": requests, "limits": limits}}],
        },
    })
}

async fn defaults(f: Framework) -> anyhow::Result<()> {
    let mut watch = f.watch_from_now(&f.core("limitranges")).await;
    let made = f.wire.post(&f.core("limitranges"), &range("limit-range")).await.expect(201);
    assert_eq!(watch.next().await.expect("an event")["object"], made);
    let path = f.core("limitranges/limit-range");
    assert_eq!(f.wire.get(&path).await.expect(200)["spec"]["limits"][0]["defaultRequest"], amounts("100m", "200Mi", "200Gi"));

    let resources = |made: &Value| made["spec"]["containers"][0]["resources"].clone();
    let made = f.create_pod(&pod("pod-no-resources", json!({}), json!({}))).await;
    assert_eq!(resources(&made), json!({"requests": amounts("100m", "200Mi", "200Gi"), "limits": amounts("500m", "500Mi", "500Gi")}));
    let some = pod("pod-partial-resources", json!({"memory": "150Mi", "ephemeral-storage": "150Gi"}), json!({"cpu": "300m"}));
    let made = f.create_pod(&some).await;
    // A request that is not said is the limit that is.
    assert_eq!(resources(&made), json!({"requests": amounts("300m", "150Mi", "150Gi"), "limits": amounts("300m", "500Mi", "500Gi")}));

    let refused = async |name: &str, requests: Value, limits: Value, words: &str| {
        let said = f.wire.post(&f.core("pods"), &pod(name, requests, limits)).await.refusal();
        assert!(said.starts_with("403 Forbidden: ") && said.contains(words), "{said}");
    };
    let little = amounts("10m", "50Mi", "50Gi");
    refused("too-little", little.clone(), json!({}), "minimum cpu usage per Container is 50m, but request is 10m").await;
    let much = amounts("600m", "600Mi", "600Gi");
    refused("too-much", much.clone(), much.clone(), "maximum cpu usage per Container is 500m, but limit is 600m").await;

    f.update(&path, |range| range["spec"]["limits"][0]["min"] = amounts("9m", "49Mi", "49Gi")).await;
    f.until("the new minimum to hold", SOON, || async {
        (f.wire.post(&f.core("pods"), &pod("little", little.clone(), json!({}))).await.code == 201).then_some(())
    })
    .await;
    refused("still-too-much", much.clone(), much.clone(), "maximum cpu usage").await;
    f.wire.delete(&path).await.expect(200);
    f.until_gone(&path, SOON).await;
    f.until("no limit to hold", SOON, || async {
        (f.wire.post(&f.core("pods"), &pod("much", much.clone(), much.clone())).await.code == 201).then_some(())
    })
    .await;
    Ok(())
}

async fn collection(f: Framework) -> anyhow::Result<()> {
    let label = f.unique("lr");
    let other = f.in_namespace(&f.new_namespace("e2e-limitrange").await?);
    for (place, name) in [(&f, "e2e-limitrange-a"), (&other, "e2e-limitrange-b")] {
        let mut range = range(name);
        range["metadata"]["labels"] = json!({"e2e-test": label});
        f.wire.post(&place.core("limitranges"), &range).await.expect(201);
    }
    let everywhere = format!("/api/v1/limitranges?labelSelector=e2e-test%3D{label}");
    assert_eq!(f.list(&everywhere).await.len(), 2);
    let limits = json!([{"type": "Container", "min": {"cpu": "60m"}, "max": {"cpu": "500m"}}]);
    let patch = json!({"metadata": {"labels": {"e2e-patched": label}}, "spec": {"limits": limits}});
    let patched = f.wire.patch("strategic", &f.core("limitranges/e2e-limitrange-a"), &patch).await.expect(200);
    assert_eq!(
        (&patched["metadata"]["labels"]["e2e-patched"], &patched["spec"]["limits"][0]["min"]["cpu"]),
        (&json!(label), &json!("60m"))
    );
    f.delete_collection(&f.core(&format!("limitranges?labelSelector=e2e-patched%3D{label}"))).await;
    let left = f.list(&everywhere).await;
    assert_eq!(left.iter().map(|r| &r["metadata"]["name"]).collect::<Vec<_>>(), ["e2e-limitrange-b"]);
    Ok(())
}
