//! Priority and fairness as objects.

use serde_json::json;

use crate::framework::{Behaviour, Framework, Resource, test};

pub const BEHAVIOURS: &[Behaviour] = &[
    Behaviour::new("newer: [sig-api-machinery] API priority and fairness should support FlowSchema API operations", test!(schemas)),
    Behaviour::new(
        "newer: [sig-api-machinery] API priority and fairness should support PriorityLevelConfiguration API operations",
        test!(levels),
    ),
];

const GROUP: &str = "flowcontrol.apiserver.k8s.io/v1";

async fn schemas(f: Framework) -> anyhow::Result<()> {
    let schema = json!({
        "apiVersion": GROUP, "kind": "FlowSchema", "metadata": {"name": f.unique("e2e-schema")},
        "spec": {
            "matchingPrecedence": 10000, "priorityLevelConfiguration": {"name": "global-default"}, "distinguisherMethod": {"type": "ByUser"},
            "rules": [{
                "subjects": [{"kind": "User", "user": {"name": f.unique("example-e2e-non-existent-user")}}],
                "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
            }],
        },
    });
    operated(&f, "flowschemas", schema).await;
    Ok(())
}

async fn levels(f: Framework) -> anyhow::Result<()> {
    let level = json!({
        "apiVersion": GROUP, "kind": "PriorityLevelConfiguration", "metadata": {"name": f.unique("e2e-level")},
        "spec": {"type": "Limited", "limited": {"nominalConcurrencyShares": 2, "limitResponse": {"type": "Reject"}}},
    });
    operated(&f, "prioritylevelconfigurations", level).await;
    Ok(())
}

async fn operated(f: &Framework, name: &str, mut object: serde_json::Value) {
    f.discovered(GROUP, &[name, &format!("{name}/status")]).await;
    let path = format!("/apis/{GROUP}/{name}");
    let own = f.wire.post(&path, &object).await.expect(201);
    let own = format!("{path}/{}", own["metadata"]["name"].as_str().expect("a name"));
    f.remove_later(&own);
    f.status_conditions(&own).await;
    object["metadata"] = json!({});
    f.operations(&Resource { group_version: GROUP, name, namespaced: false, object, status: None }).await;
}
