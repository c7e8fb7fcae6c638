//! Watches on custom resources.

use serde_json::json;

use crate::framework::{Behaviour, Definition, Framework, test};

pub const BEHAVIOURS: &[Behaviour] = &[Behaviour::new(
    "[sig-api-machinery] CustomResourceDefinition Watch [Privileged:ClusterAdmin] CustomResourceDefinition Watch watch on custom resource definition objects",
    test!(watched),
)];

async fn watched(f: Framework) -> anyhow::Result<()> {
    let wanted = Definition::new("mygroup.example.com", &f.unique("noxu"), "Cluster", &["v1beta1"], &Definition::anything());
    let definition = f.define(wanted).await;
    let path = definition.objects("");
    let object = |name: &str| json!({"apiVersion": definition.api_version(), "kind": definition.kind(), "metadata": {"name": name}, "content": {"key": "value"}, "num": {"num1": 1, "num2": 1000000}});

    // One watch for each object, as upstream's, and each sees its own object alone.
    let mut a = f.wire.watch(&format!("{path}?watch=true&fieldSelector=metadata.name%3Dname1")).await;
    let mut b = f.wire.watch(&format!("{path}?watch=true&fieldSelector=metadata.name%3Dname2")).await;
    for (name, watch) in [("name1", &mut a), ("name2", &mut b)] {
        let made = f.wire.post(&path, &object(name)).await.expect(201);
        let event = watch.next().await.expect("an event");
        assert_eq!((&event["type"], &event["object"]), (&json!("ADDED"), &made));
    }
    for (name, watch) in [("name1", &mut a), ("name2", &mut b)] {
        let path = format!("{path}/{name}");
        let changed = f.wire.patch("merge", &path, &json!({"dummy": "test"})).await.expect(200);
        let event = watch.next().await.expect("an event");
        assert_eq!((&event["type"], &event["object"]), (&json!("MODIFIED"), &changed));
        assert_eq!((&changed["dummy"], &changed["content"]["key"]), (&json!("test"), &json!("value")));
    }
    for (name, watch) in [("name1", &mut a), ("name2", &mut b)] {
        f.wire.delete(&format!("{path}/{name}")).await.expect(200);
        let event = watch.next().await.expect("an event");
        assert_eq!((&event["type"], &event["object"]["metadata"]["name"]), (&json!("DELETED"), &json!(name)));
    }
    f.undefine(&definition).await;
    Ok(())
}
