//! Answers as tables, where there are none.

use serde_json::json;

use crate::framework::{Behaviour, Framework, test};

pub const BEHAVIOURS: &[Behaviour] = &[Behaviour::new(
    "[sig-api-machinery] Servers with support for Table transformation should return a 406 for a backend which does not implement metadata",
    test!(no_table),
)];

async fn no_table(f: Framework) -> anyhow::Result<()> {
    let review = json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {"namespace": f.namespace, "verb": "get", "resource": "pods"}},
    });
    let table = f.wire.with("accept", "application/json;as=Table;v=v1;g=meta.k8s.io");
    let answer = table.post("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", &review).await;
    anyhow::ensure!(answer.refusal().starts_with("406 NotAcceptable: "), "{}", answer.refusal());
    Ok(())
}
