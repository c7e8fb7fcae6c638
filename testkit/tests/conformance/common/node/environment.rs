//! ConfigMaps and Secrets alike: in a container's environment, with a key that is none, and from their making to their end.

use serde_json::{Value, json};

use super::super::pod;
use super::super::source::Source;
use crate::framework::Framework;

/// One value of the object is one variable.
pub async fn one_variable(f: Framework, source: Source) -> anyhow::Result<()> {
    source.create(&f, "test", &json!({"data-1": "value-1"})).await;
    let reference = json!({format!("{}KeyRef", source.field()): {"name": "test", "key": "data-1"}});
    let env = json!({"env": [{"name": "DATA", "valueFrom": reference}]});
    assert!(f.output_of(&pod("reads", "env", json!({}), env)).await.lines().any(|l| l == "DATA=value-1"));
    Ok(())
}

/// All values of the object are variables, with and without a prefix.
pub async fn all_variables(f: Framework, source: Source) -> anyhow::Result<()> {
    source.create(&f, "test", &json!({"data-1": "value-1", "data_2": "value-2", "data_3": "value-3"})).await;
    let reference = |prefix: &str| json!({"prefix": prefix, format!("{}Ref", source.field()): {"name": "test"}});
    // Not in a shell, which keeps no variable of such a name.
    let container = json!({"command": ["env"], "envFrom": [reference(""), reference("p-")]});
    let said = f.output_of(&pod("reads", "", json!({}), container)).await;
    for wanted in ["data-1=value-1", "data_2=value-2", "data_3=value-3", "p-data-1=value-1", "p-data_2=value-2", "p-data_3=value-3"] {
        assert!(said.lines().any(|l| l == wanted), "{wanted} in {said}");
    }
    Ok(())
}

pub async fn empty_key(f: Framework, source: Source) -> anyhow::Result<()> {
    let refused = f.wire.post(&f.core(source.resource()), &source.object("test", &json!({"": "value-1"}))).await.refusal();
    assert!(refused.starts_with(&format!("422 Invalid: {} \"test\" is invalid: data[]: Invalid value: \"\":", source.kind())), "{refused}");
    Ok(())
}

/// Made, seen, patched, found by its label, deleted with the others of its label.
pub async fn life(f: Framework, source: Source) -> anyhow::Result<()> {
    let mark = f.unique("mark");
    let selector = format!("labelSelector=test-static%3D{mark}");
    let here = f.core(&format!("{}?{selector}", source.resource()));
    let everywhere = format!("/api/v1/{}?{selector}", source.resource());
    assert_eq!(f.list(&everywhere).await, Vec::<Value>::new());
    let mut watch = f.wire.watch(&format!("{here}&watch=true")).await;
    let mut object = source.object("test", &json!({"valueName": "value"}));
    object["metadata"]["labels"] = json!({"test-static": mark});
    f.wire.post(&f.core(source.resource()), &object).await.expect(201);
    assert_eq!(watch.short().await, "ADDED test");

    let value = match source {
        Source::ConfigMap => "value1",
        Source::Secret => "dmFsdWUx",
    };
    let patch = json!({"metadata": {"labels": {"test": "patched"}}, "data": {"valueName": value}});
    f.wire.patch("strategic", &source.path(&f, "test"), &patch).await.expect(200);
    assert_eq!(watch.short().await, "MODIFIED test");
    let read = f.wire.get(&source.path(&f, "test")).await.expect(200);
    assert_eq!((&read["metadata"]["labels"]["test"], &read["data"]["valueName"]), (&json!("patched"), &json!(value)));
    let found = f.list(&everywhere).await;
    let labels = json!({"test-static": mark, "test": "patched"});
    let seen: Vec<_> = found.iter().map(|o| (&o["metadata"]["name"], &o["metadata"]["labels"], &o["data"]["valueName"])).collect();
    assert_eq!(seen, [(&json!("test"), &labels, &json!(value))]);

    f.wire.delete(&here).await.expect(200);
    assert_eq!(watch.short().await, "DELETED test");
    assert_eq!(f.list(&everywhere).await, Vec::<Value>::new());
    Ok(())
}
