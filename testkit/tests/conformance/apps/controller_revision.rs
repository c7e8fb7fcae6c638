//! Revisions of a DaemonSet, as objects.

use serde_json::{Value, json};

use super::{belongs_to, selected, until_status};
use crate::framework::{Behaviour, Framework, POD, test};

pub const BEHAVIOURS: &[Behaviour] =
    &[Behaviour::new("[sig-apps] ControllerRevision [Serial] should manage the lifecycle of a ControllerRevision", test!(lifecycle))];

async fn lifecycle(f: Framework) -> anyhow::Result<()> {
    let name = f.unique("e2e-ds");
    let labels = json!({"daemonset-name": name, "app": name});
    let mut set = Framework::workload("DaemonSet", &name, 0, &labels);
    set["spec"].as_object_mut().expect("a spec").remove("replicas");
    f.wire.post(&f.group("apps/v1", "daemonsets"), &set).await.expect(201);
    let path = f.group("apps/v1", &format!("daemonsets/{name}"));
    let nodes = f.list("/api/v1/nodes").await.len() as u64;
    let set = until_status(&f, &path, &[("desiredNumberScheduled", nodes), ("numberReady", nodes)]).await;

    let revisions = f.group("apps/v1", "controllerrevisions");
    let until_count = |selector: String, count: usize| {
        let f = f.clone();
        async move {
            f.until(&format!("{count} revisions with {selector}"), POD, || async {
                Some(f.list(&format!("/apis/apps/v1/controllerrevisions{selector}")).await).filter(|l| l.len() == count)
            })
            .await
        }
    };
    let all = || until_count(selected("daemonset-name", &name), 1);
    let first = all().await.remove(0);
    assert!(belongs_to(&first, &set) && first["revision"] == 1, "{first}");
    let named = |revision: &Value| format!("{revisions}/{}", super::name(revision));

    let patched = f.wire.patch("strategic", &named(&first), &json!({"metadata": {"labels": {name.as_str(): "patched"}}})).await.expect(200);
    assert_eq!(patched["metadata"]["labels"][&name], "patched");
    let second = json!({
        "apiVersion": "apps/v1", "kind": "ControllerRevision",
        "metadata": {
            "name": format!("{name}-second"), "labels": first["metadata"]["labels"], "ownerReferences": first["metadata"]["ownerReferences"],
        },
        "data": first["data"], "revision": 2,
    });
    let second = f.wire.post(&revisions, &second).await.expect(201);
    until_count(selected("daemonset-name", &name), 2).await;
    f.wire.delete(&named(&first)).await.expect(200);
    all().await;
    let updated = f.update(&named(&second), |r| r["metadata"]["labels"][&name] = json!("updated")).await;
    assert_eq!(updated["metadata"]["labels"][&name], "updated");

    let template = json!({"spec": {"template": {"spec": {"terminationGracePeriodSeconds": 1}}}});
    f.wire.patch("strategic", &path, &template).await.expect(200);
    until_count(selected("daemonset-name", &name), 2).await;
    f.wire.delete(&format!("{revisions}{}", selected(&name, "updated"))).await.expect(200);
    let left = all().await;
    assert_eq!(left[0]["revision"], 3, "{left:?}");
    assert!(belongs_to(&left[0], &set));
    Ok(())
}
