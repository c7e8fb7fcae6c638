//! Custom resources that tests define: each definition has a group or a name that no other test has.

use serde_json::{Value, json};

use super::{Framework, SOON};

pub const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

/// What a test wants to define. Start from [`Definition::new`].
pub struct Definition {
    /// The object, as it is sent, or as the server gave it last.
    pub object: Value,
}

#[allow(dead_code, reason = "for whoever needs it")]
impl Definition {
    /// One kind in a group, with these versions, the first stored, all with this schema.
    pub fn new(group: &str, word: &str, scope: &str, versions: &[&str], schema: &Value) -> Self {
        let word: String = word.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_lowercase();
        let (plural, kind) = (format!("{word}s"), format!("{}{}", word[..1].to_uppercase(), &word[1..]));
        let version =
            |(i, name): (usize, &&str)| json!({"name": name, "served": true, "storage": i == 0, "schema": {"openAPIV3Schema": schema}});
        let versions: Vec<Value> = versions.iter().enumerate().map(version).collect();
        let object = json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": format!("{plural}.{group}")},
            "spec": {
                "group": group, "scope": scope, "versions": versions,
                "names": {"plural": plural, "singular": word, "kind": kind, "listKind": format!("{kind}List")},
            },
        });
        Self { object }
    }

    /// A schema that takes anything.
    pub fn anything() -> Value {
        json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
    }

    fn text(&self, pointer: &str) -> &str {
        self.object.pointer(pointer).and_then(Value::as_str).expect("a text")
    }

    /// `<plural>.<group>`.
    pub fn name(&self) -> &str {
        self.text("/metadata/name")
    }

    pub fn group(&self) -> &str {
        self.text("/spec/group")
    }

    pub fn kind(&self) -> &str {
        self.text("/spec/names/kind")
    }

    pub fn plural(&self) -> &str {
        self.text("/spec/names/plural")
    }

    /// The first version.
    pub fn version(&self) -> &str {
        self.text("/spec/versions/0/name")
    }

    /// `apiVersion` of objects of the first version.
    pub fn api_version(&self) -> String {
        format!("{}/{}", self.group(), self.version())
    }

    /// The path of the definition itself.
    pub fn path(&self) -> String {
        format!("{DEFINITIONS}/{}", self.name())
    }

    /// The path of the collection, in the first version; of the namespace for a namespaced resource.
    pub fn objects(&self, namespace: &str) -> String {
        let namespaced = if self.text("/spec/scope") == "Namespaced" { format!("namespaces/{namespace}/") } else { String::new() };
        format!("/apis/{}/{namespaced}{}", self.api_version(), self.plural())
    }
}

#[allow(dead_code, reason = "for whoever needs it")]
impl Framework {
    /// Creates the definition and waits until it is established and its first version is served. It is removed after the test.
    pub async fn define(&self, mut definition: Definition) -> Definition {
        definition.object = self.wire.post(DEFINITIONS, &definition.object).await.expect(201);
        self.remove_later(&definition.path());
        definition.object = self
            .until_it(&definition.path(), "to be established", SOON, |crd| {
                let conditions = crd["status"]["conditions"].as_array();
                conditions.is_some_and(|all| all.iter().any(|c| c["type"] == "Established" && c["status"] == "True"))
            })
            .await;
        let discovery = format!("/apis/{}", definition.api_version());
        self.until_it(&discovery, "to name the resource", SOON, |list| {
            list["resources"].as_array().is_some_and(|all| all.iter().any(|r| r["name"] == definition.plural()))
        })
        .await;
        definition
    }

    /// Deletes the definition and waits until it is gone.
    pub async fn undefine(&self, definition: &Definition) {
        self.wire.delete(&definition.path()).await.expect(200);
        self.until_gone(&definition.path(), SOON).await;
    }
}
