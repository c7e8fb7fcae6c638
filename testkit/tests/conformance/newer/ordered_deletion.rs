//! A namespace that goes: its pods first (KEP-5080), and what its conditions say meanwhile.

use serde_json::json;

use crate::framework::{Behaviour, Framework, POD, test};

pub const BEHAVIOURS: &[Behaviour] =
    &[Behaviour::new("newer: [sig-api-machinery] OrderedNamespaceDeletion namespace deletion should delete pod first", test!(pods_first))];

const FINALIZER: &str = "e2e.example.com/finalizer";

async fn pods_first(f: Framework) -> anyhow::Result<()> {
    let own = f.in_namespace(&f.new_namespace("nsdeletetest").await?);
    let path = format!("/api/v1/namespaces/{}", own.namespace);
    let mut pod = Framework::script("held", "exec sleep 3600");
    pod["metadata"]["finalizers"] = json!([FINALIZER]);
    own.create_pod(&pod).await;
    let map = json!({"metadata": {"name": "left", "finalizers": [FINALIZER]}, "data": {"key": "value"}});
    own.wire.post(&own.core("configmaps"), &map).await.expect(201);
    own.until_ready("held").await;
    own.wire.delete(&path).await.expect(200);

    let condition = |namespace: &serde_json::Value, kind: &str, words: &str| {
        namespace["status"]["phase"] == "Terminating"
            && namespace["status"]["conditions"].as_array().is_some_and(|all| {
                all.iter().any(|c| c["type"] == kind && c["status"] == "True" && c["message"].as_str().unwrap_or("").contains(words))
            })
    };
    f.until_it(&path, "to say that the pod remains", POD, |n| condition(n, "NamespaceContentRemaining", "pods. has 1 resource instances"))
        .await;
    f.until_it(&path, "to say for what it waits", POD, |n| {
        condition(n, "NamespaceFinalizersRemaining", &format!("{FINALIZER} in 1 resource instances"))
    })
    .await;
    let pod = own.wire.get(&own.core("pods/held")).await.expect(200);
    assert!(pod["metadata"]["deletionTimestamp"].is_string(), "{pod}");
    let map = own.wire.get(&own.core("configmaps/left")).await.expect(200);
    assert_eq!(map["metadata"].get("deletionTimestamp"), None, "it is still needed");

    own.update(&own.core("pods/held"), |pod| pod["metadata"]["finalizers"] = json!([])).await;
    own.until_gone(&own.core("pods/held"), POD).await;
    own.until_it(&own.core("configmaps/left"), "to be deleted after it", POD, |map| map["metadata"]["deletionTimestamp"].is_string()).await;
    f.until_it(&path, "to say that the map remains", POD, |n| {
        condition(n, "NamespaceContentRemaining", "configmaps. has 1 resource instances")
    })
    .await;
    own.update(&own.core("configmaps/left"), |map| map["metadata"]["finalizers"] = json!([])).await;
    f.until_gone(&path, POD).await;
    Ok(())
}
