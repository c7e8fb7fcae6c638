//! Custom resources whose versions a webhook converts into each other.

use serde_json::{Value, json};
use testkit::Reviewer;

use crate::framework::{Behaviour, Definition, Framework, SOON, test};

pub const BEHAVIOURS: &[Behaviour] = &[
    Behaviour::new(
        "[sig-api-machinery] CustomResourceConversionWebhook [Privileged:ClusterAdmin] should be able to convert a non homogeneous list of CRs",
        test!(a_mixed_list),
    ),
    Behaviour::new(
        "[sig-api-machinery] CustomResourceConversionWebhook [Privileged:ClusterAdmin] should be able to convert from CR v1 to CR v2",
        test!(from_v1_to_v2),
    ),
];

const SERVICE: &str = "e2e-test-crd-conversion-webhook";

/// v1 has `hostPort`, v2 has `host` and `port`; as upstream's test image converts them.
fn convert(_: &str, request: &Value) -> Value {
    let desired = request["desiredAPIVersion"].as_str().expect("a version");
    let one = |object: &Value| {
        let mut out = object.clone();
        out["apiVersion"] = desired.into();
        let map = out.as_object_mut().expect("a map");
        if desired.ends_with("/v2") {
            if let Some((host, port)) = map.remove("hostPort").as_ref().and_then(Value::as_str).and_then(|h| h.split_once(':')) {
                map.insert("host".to_owned(), host.into());
                map.insert("port".to_owned(), port.into());
            }
        } else if let (Some(host), Some(port)) = (map.remove("host"), map.remove("port")) {
            let joined = format!("{}:{}", host.as_str().unwrap_or(""), port.as_str().unwrap_or(""));
            map.insert("hostPort".to_owned(), joined.into());
        }
        out
    };
    let objects: Vec<Value> = request["objects"].as_array().expect("objects").iter().map(one).collect();
    json!({"result": {"status": "Success"}, "convertedObjects": objects})
}

async fn defined(f: &Framework) -> anyhow::Result<(Reviewer, Definition, String)> {
    let reviewer = f.reviewer(SERVICE, convert).await?;
    let word = f.unique("converted");
    let mut definition = Definition::new(&format!("{word}.example.com"), &word, "Namespaced", &["v1", "v2"], &Definition::anything());
    definition.object["spec"]["conversion"] = json!({"strategy": "Webhook", "webhook": {
        "conversionReviewVersions": ["v1", "v1beta1"],
        "clientConfig": f.client_config(SERVICE, "/crdconvert", &reviewer.server.ca_bundle)}});
    let definition = f.define(definition).await;
    let v2 = definition.objects(&f.namespace).replace("/v1/", "/v2/");
    Ok((reviewer, definition, v2))
}

fn v1(definition: &Definition, name: &str) -> Value {
    json!({"apiVersion": definition.api_version(), "kind": definition.kind(), "metadata": {"name": name}, "hostPort": "localhost:8080"})
}

fn is_v2(object: &Value) {
    assert!(object["apiVersion"].as_str().is_some_and(|v| v.ends_with("/v2")), "{object}");
    assert_eq!((&object["host"], &object["port"], object.get("hostPort")), (&json!("localhost"), &json!("8080"), None));
}

async fn from_v1_to_v2(f: Framework) -> anyhow::Result<()> {
    let (_reviewer, definition, v2_objects) = defined(&f).await?;
    f.wire.post(&definition.objects(&f.namespace), &v1(&definition, "cr-instance-1")).await.expect(201);
    is_v2(&f.wire.get(&format!("{v2_objects}/cr-instance-1")).await.expect(200));
    Ok(())
}

async fn a_mixed_list(f: Framework) -> anyhow::Result<()> {
    let (_reviewer, definition, v2_objects) = defined(&f).await?;
    let v1_objects = definition.objects(&f.namespace);
    f.wire.post(&v1_objects, &v1(&definition, "cr-instance-1")).await.expect(201);
    let stored = json!([{"op": "replace", "path": "/spec/versions/0/storage", "value": false}, {"op": "replace", "path": "/spec/versions/1/storage", "value": true}]);
    f.wire.patch("json", &definition.path(), &stored).await.expect(200);
    let mut number = 1;
    // The new storage version is in force when an object that is made in it is listed beside the old one.
    let list = f
        .until("objects of both stored versions", SOON, || {
            number += 1;
            let (name, wire) = (format!("cr-instance-{number}"), f.wire.clone());
            let (object, v1_objects, v2_objects) = (v1(&definition, &name), v1_objects.clone(), v2_objects.clone());
            async move {
                wire.post(&v1_objects, &object).await.expect(201);
                let list = wire.get(&v2_objects).await;
                (list.code == 200).then(|| list.json())
            }
        })
        .await;
    let items = list["items"].as_array().expect("items");
    assert!(items.len() >= 2, "{list}");
    items.iter().for_each(is_v2);
    Ok(())
}
