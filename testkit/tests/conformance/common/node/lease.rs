//! The API of Leases.

use serde_json::{Value, json};

use crate::framework::{Behaviour, Framework, test};

pub const BEHAVIOURS: &[Behaviour] = &[Behaviour::new("[sig-node] Lease lease API should be available", test!(available))];

async fn available(f: Framework) -> anyhow::Result<()> {
    let leases = f.group("coordination.k8s.io/v1", "leases");
    let path = format!("{leases}/lease");
    let spec = json!({
        "holderIdentity": "holder", "leaseDurationSeconds": 30, "acquireTime": "2026-01-01T00:00:00.000000Z",
        "renewTime": "2026-01-01T00:00:05.000000Z", "leaseTransitions": 0,
    });
    let lease = |name: &str, labels| json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name, "labels": labels}, "spec": spec});
    f.wire.post(&leases, &lease("lease", json!({}))).await.expect(201);
    let mut read = f.wire.get(&path).await.expect(200);
    assert_eq!(read["spec"], spec);

    let other = json!({
        "holderIdentity": "holder2", "leaseDurationSeconds": 60, "acquireTime": "2026-01-01T00:00:30.000000Z",
        "renewTime": "2026-01-01T00:01:05.123456Z", "leaseTransitions": 1,
    });
    read["spec"] = other.clone();
    f.wire.put(&path, &read).await.expect(200);
    assert_eq!(f.wire.get(&path).await.expect(200)["spec"], other);

    let patch = json!({"spec": {"holderIdentity": "holder3", "leaseDurationSeconds": 65, "leaseTransitions": 2}});
    f.wire.patch("strategic", &path, &patch).await.expect(200);
    let mut wanted = other;
    super::super::put(&mut wanted, patch["spec"].clone());
    assert_eq!(f.wire.get(&path).await.expect(200)["spec"], wanted);

    f.wire.post(&leases, &lease("lease2", json!({"deletecollection": "true"}))).await.expect(201);
    let names = async || -> Vec<Value> { f.list(&leases).await.iter().map(|l| l["metadata"]["name"].clone()).collect() };
    assert_eq!(names().await, ["lease", "lease2"]);
    f.wire.delete(&format!("{leases}?labelSelector=deletecollection%3Dtrue")).await.expect(200);
    assert_eq!(names().await, ["lease"]);
    f.wire.delete(&path).await.expect(200);
    let gone = f.wire.get(&path).await.refusal();
    assert_eq!(gone, "404 NotFound: leases.coordination.k8s.io \"lease\" not found");
    Ok(())
}
