//! kubectl validates and explains by what is published.

use serde_json::{Value, json};

use super::{define, schemas, undefine};
use crate::framework::{Definition, Framework};

/// An object of the kind, with these further fields.
fn object(definition: &Definition, name: &str, fields: &Value) -> String {
    let mut object = json!({"kind": definition.kind(), "apiVersion": definition.api_version(), "metadata": {"name": name}});
    for (field, value) in fields.as_object().expect("an object") {
        object[field] = value.clone();
    }
    object.to_string()
}

/// kubectl creates the object, and applies it.
async fn accepted(f: &Framework, definition: &Definition, name: &str, fields: &Value) -> anyhow::Result<()> {
    for verb in ["create", "apply"] {
        f.kubectl().stdin(object(definition, name, fields)).ok(&[verb, "-f", "-"]).await?;
        f.kubectl().ok(&["delete", definition.plural(), name]).await?;
    }
    Ok(())
}

/// kubectl neither creates nor applies the object, and says why.
async fn rejected(f: &Framework, definition: &Definition, fields: &Value, why: &str) -> anyhow::Result<()> {
    for verb in ["create", "apply"] {
        let said = f.kubectl().stdin(object(definition, "test-foo", fields)).fails(&[verb, "-f", "-"]).await?;
        anyhow::ensure!(said.contains(why), "{verb}: no {why:?} in {said}");
    }
    Ok(())
}

/// The explanation has these texts in this order.
async fn explained(f: &Framework, what: &str, texts: &[&str]) {
    let said = f.kubectl().ok(&["explain", what]).await.expect("an explanation");
    let mut rest = said.as_str();
    for text in texts {
        let at = rest.find(text).unwrap_or_else(|| panic!("explain {what}: no further {text:?} in\n{said}"));
        rest = &rest[at + text.len()..];
    }
}

pub async fn validation_schema(f: Framework) -> anyhow::Result<()> {
    let foos = schemas::foo();
    let definition = define(&f, &foos, Some(&foos), "foo", &["v1"]).await;
    accepted(&f, &definition, "test-foo", &json!({"spec": {"bars": [{"name": "test-bar"}]}})).await?;
    let bars = |bar: Value| json!({"spec": {"bars": [bar]}});
    rejected(
        &f,
        &definition,
        &bars(json!({"name": "test-bar", "feeling": "NonExistentValue"})),
        r#"Unsupported value: "NonExistentValue""#,
    )
    .await?;
    rejected(&f, &definition, &json!({"spec": {"foo": true}}), r#"unknown field "spec.foo""#).await?;
    rejected(&f, &definition, &bars(json!({"age": "10"})), "spec.bars[0].name: Required value").await?;

    let plural = definition.plural();
    explained(
        &f,
        plural,
        &[
            "DESCRIPTION:",
            "Foo CRD for Testing",
            "FIELDS:",
            "apiVersion",
            "<string>",
            "APIVersion defines",
            "spec",
            "<Object>",
            "Specification of Foo",
        ],
    )
    .await;
    explained(
        &f,
        &format!("{plural}.metadata"),
        &["DESCRIPTION:", "Standard object's metadata", "FIELDS:", "creationTimestamp", "<string>", "CreationTimestamp is a timestamp"],
    )
    .await;
    explained(
        &f,
        &format!("{plural}.spec"),
        &["DESCRIPTION:", "Specification of Foo", "FIELDS:", "bars", "<[]Object>", "List of Bars and their specs"],
    )
    .await;
    explained(
        &f,
        &format!("{plural}.spec.bars"),
        &[
            "bars",
            "<[]Object>",
            "DESCRIPTION:",
            "List of Bars and their specs",
            "FIELDS:",
            "bazs",
            "<[]string>",
            "List of Bazs",
            "name",
            "<string>",
            "Name of Bar",
        ],
    )
    .await;
    let said = f.kubectl().fails(&["explain", &format!("{plural}.spec.bars2")]).await?;
    anyhow::ensure!(said.contains(r#"field "bars2" does not exist"#), "{said}");
    undefine(&f, &definition, &["v1"]).await;
    Ok(())
}

pub async fn no_schema(f: Framework) -> anyhow::Result<()> {
    let definition = define(&f, &Definition::anything(), Some(&json!({"type": "object"})), "empty", &["v1"]).await;
    accepted(&f, &definition, "test-cr", &json!({"a": {"b": [{"c": "d"}]}})).await?;
    explained(&f, definition.plural(), &["DESCRIPTION:", "<empty>"]).await;
    undefine(&f, &definition, &["v1"]).await;
    Ok(())
}

pub async fn unknown_at_root(f: Framework) -> anyhow::Result<()> {
    let definition = define(&f, &schemas::unknown_at_root(), None, "unknown-at-root", &["v1"]).await;
    accepted(&f, &definition, "test-cr", &json!({"a": {"b": [{"c": "d"}]}})).await?;
    explained(&f, definition.plural(), &["KIND:", definition.kind()]).await;
    undefine(&f, &definition, &["v1"]).await;
    Ok(())
}

pub async fn unknown_in_nested(f: Framework) -> anyhow::Result<()> {
    let definition = define(&f, &schemas::unknown_in_nested(), None, "unknown-in-nested", &["v1"]).await;
    accepted(&f, &definition, "test-cr", &json!({"spec": {"a": null, "b": [{"c": "d"}]}})).await?;
    explained(&f, definition.plural(), &["DESCRIPTION:", "preserve-unknown-properties in nested field for Testing"]).await;
    undefine(&f, &definition, &["v1"]).await;
    Ok(())
}
