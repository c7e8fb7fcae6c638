//! The API of PodTemplates.

use serde_json::{Value, json};

use crate::framework::{Behaviour, Framework, PAUSE, SOON, test};

pub const BEHAVIOURS: &[Behaviour] = &[
    Behaviour::new("[sig-node] PodTemplates should run the lifecycle of PodTemplates", test!(lifecycle)),
    Behaviour::new("[sig-node] PodTemplates should delete a collection of pod templates", test!(collection)),
    Behaviour::new("[sig-node] PodTemplates should replace a pod template", test!(replaced)),
];

fn template(name: &str, labels: &Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": name, "labels": labels},
        "template": {"spec": {"containers": [{"name": "nginx", "image": PAUSE}]}},
    })
}

async fn lifecycle(f: Framework) -> anyhow::Result<()> {
    let mark = f.unique("mark");
    let selected = format!("/api/v1/podtemplates?labelSelector=podtemplate-static%3D{mark}");
    assert_eq!(f.list(&selected).await, Vec::<Value>::new());
    let made = f.wire.post(&f.core("podtemplates"), &template("pt", &json!({"podtemplate-static": mark}))).await.expect(201);
    assert_eq!(made["template"]["spec"]["containers"][0]["name"], "nginx");
    let path = f.core("podtemplates/pt");
    f.wire.patch("strategic", &path, &json!({"metadata": {"labels": {"podtemplate": "patched"}}})).await.expect(200);
    assert_eq!(f.wire.get(&path).await.expect(200)["metadata"]["labels"]["podtemplate"], "patched");
    let names: Vec<Value> = f.list(&selected).await.iter().map(|t| t["metadata"]["name"].clone()).collect();
    assert_eq!(names, ["pt"]);
    f.wire.delete(&path).await.expect(200);
    assert_eq!(f.list(&selected).await, Vec::<Value>::new());
    Ok(())
}

async fn collection(f: Framework) -> anyhow::Result<()> {
    for name in ["test-podtemplate-1", "test-podtemplate-2", "test-podtemplate-3"] {
        f.wire.post(&f.core("podtemplates"), &template(name, &json!({"podtemplate-set": "true"}))).await.expect(201);
    }
    let set = f.core("podtemplates?labelSelector=podtemplate-set%3Dtrue");
    assert_eq!(f.list(&set).await.len(), 3);
    f.wire.delete(&set).await.expect(200);
    assert_eq!(f.list(&set).await, Vec::<Value>::new());
    Ok(())
}

async fn replaced(f: Framework) -> anyhow::Result<()> {
    f.wire.post(&f.core("podtemplates"), &template("pt", &json!({}))).await.expect(201);
    let path = f.core("podtemplates/pt");
    let updated = f
        .until("an update without a conflict", SOON, || async {
            let mut read = f.wire.get(&path).await.expect(200);
            read["metadata"]["annotations"] = json!({"updated": "true"});
            let answer = f.wire.put(&path, &read).await;
            (answer.code != 409).then(|| answer.expect(200))
        })
        .await;
    assert_eq!(updated["metadata"]["annotations"]["updated"], "true");
    assert_eq!(f.wire.get(&path).await.expect(200)["metadata"]["annotations"]["updated"], "true");
    Ok(())
}
