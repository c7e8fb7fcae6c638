//! ConfigMaps and Secrets: what pods read from, by their names for both.

use serde_json::{Value, json};

use crate::framework::Framework;

/// What keeps the data.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Source {
    ConfigMap,
    Secret,
}

impl Source {
    pub fn kind(self) -> &'static str {
        match self {
            Self::ConfigMap => "ConfigMap",
            Self::Secret => "Secret",
        }
    }

    pub fn resource(self) -> &'static str {
        match self {
            Self::ConfigMap => "configmaps",
            Self::Secret => "secrets",
        }
    }

    /// The field of a volume, and of a part of a projected one.
    pub fn field(self) -> &'static str {
        match self {
            Self::ConfigMap => "configMap",
            Self::Secret => "secret",
        }
    }

    /// An object that keeps these texts.
    pub fn object(self, name: &str, data: &Value) -> Value {
        let field = match self {
            Self::ConfigMap => "data",
            Self::Secret => "stringData",
        };
        json!({"apiVersion": "v1", "kind": self.kind(), "metadata": {"name": name}, field: data})
    }

    pub async fn create(self, f: &Framework, name: &str, data: &Value) -> Value {
        f.wire.post(&f.core(self.resource()), &self.object(name, data)).await.expect(201)
    }

    /// The path of one.
    pub fn path(self, f: &Framework, name: &str) -> String {
        f.core(&format!("{}/{name}", self.resource()))
    }
}
