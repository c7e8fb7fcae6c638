//! Definitions of custom resources are published in OpenAPI, and kubectl goes by them.

mod published;
mod schemas;
mod with_kubectl;

use serde_json::{Value, json};

use crate::framework::{Behaviour, Definition, Framework, SOON, test};

pub const BEHAVIOURS: &[Behaviour] = &[
    Behaviour::new(
        "[sig-api-machinery] CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] works for CRD with validation schema",
        test!(with_kubectl::validation_schema),
    ),
    Behaviour::new(
        "[sig-api-machinery] CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] works for CRD without validation schema",
        test!(with_kubectl::no_schema),
    ),
    Behaviour::new(
        "[sig-api-machinery] CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] works for CRD preserving unknown fields at the schema root",
        test!(with_kubectl::unknown_at_root),
    ),
    Behaviour::new(
        "[sig-api-machinery] CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] works for CRD preserving unknown fields in an embedded object",
        test!(with_kubectl::unknown_in_nested),
    ),
    Behaviour::new(
        "[sig-api-machinery] CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] works for multiple CRDs of different groups",
        test!(published::different_groups),
    ),
    Behaviour::new(
        "[sig-api-machinery] CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] works for multiple CRDs of same group but different versions",
        test!(published::different_versions),
    ),
    Behaviour::new(
        "[sig-api-machinery] CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] works for multiple CRDs of same group and version but different kinds",
        test!(published::different_kinds),
    ),
    Behaviour::new(
        "[sig-api-machinery] CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] updates the published spec when one version gets renamed",
        test!(published::renamed_version),
    ),
    Behaviour::new(
        "[sig-api-machinery] CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] removes definition from spec when one version gets changed to not be served",
        test!(published::unserved_version),
    ),
];

/// Defines a kind in upstream's group of this suffix, and waits until each version is published with its schema.
async fn define(f: &Framework, schema: &Value, published: Option<&Value>, suffix: &str, versions: &[&str]) -> Definition {
    let group = format!("crd-publish-openapi-test-{suffix}.example.com");
    let definition = f.define(Definition::new(&group, &f.unique("e2e-test-openapi"), "Namespaced", versions, schema)).await;
    for version in versions {
        until_published(f, &definition, version, published).await;
    }
    definition
}

/// The name under which a version's kind is published: the parts of the group turned round.
fn published_name(definition: &Definition, version: &str) -> String {
    let group: Vec<&str> = definition.group().rsplit('.').collect();
    format!("{}.{version}.{}", group.join("."), definition.kind())
}

async fn lookup(f: &Framework, name: &str) -> Option<Value> {
    let document = f.wire.get("/openapi/v2").await.expect(200);
    document["definitions"].get(name).cloned()
}

/// Waits until the kind is published in this version, with this schema if one is given.
async fn until_published(f: &Framework, definition: &Definition, version: &str, schema: Option<&Value>) {
    let name = published_name(definition, version);
    f.until(&format!("{name} to be published with {schema:?}"), SOON, || async {
        let mut found = lookup(f, &name).await?;
        let gvk = found.as_object_mut()?.remove("x-kubernetes-group-version-kind");
        assert_eq!(gvk, Some(json!([{"group": definition.group(), "version": version, "kind": definition.kind()}])), "{name}");
        let Some(schema) = schema else { return Some(()) };
        // What every object has is added to the schema.
        if let Some(properties) = found.get_mut("properties").and_then(Value::as_object_mut) {
            for added in ["apiVersion", "kind", "metadata"] {
                properties.remove(added);
            }
            if properties.is_empty() {
                found.as_object_mut()?.remove("properties");
            }
        }
        assert_eq!(&found, schema, "{name}");
        Some(())
    })
    .await;
}

async fn until_not_published(f: &Framework, definition: &Definition, version: &str) {
    let name = published_name(definition, version);
    f.until(&format!("{name} to be published no more"), SOON, || async { lookup(f, &name).await.is_none().then_some(()) }).await;
}

/// Removes the definition, and sees that none of its versions is published any more.
async fn undefine(f: &Framework, definition: &Definition, versions: &[&str]) {
    f.undefine(definition).await;
    for version in versions {
        until_not_published(f, definition, version).await;
    }
}
