//! Writes a document in OpenAPI 2 or 3.

use std::collections::BTreeSet;
use std::io::{self, Write};

use serde_json::{Map, Value, json};

use super::definitions::Definitions;
use super::operations::{self, Body, Operation, PARAMETERS, PATCHES, PathPlan};
use super::{ResourceDoc, write_entries};

/// The two versions of OpenAPI.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    V2,
    V3,
}

const ANSWERS: [&str; 3] = ["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];
const WATCHES: [&str; 2] = ["application/json;stream=watch", "application/vnd.kubernetes.protobuf;stream=watch"];

impl Dialect {
    pub(super) fn reference(self, name: &str) -> Value {
        match self {
            Self::V2 => json!({"$ref": format!("#/definitions/{name}")}),
            Self::V3 => json!({"$ref": format!("#/components/schemas/{name}")}),
        }
    }
}

/// Writes the document of these rows as JSON, part by part.
pub(super) fn document(
    dialect: Dialect,
    rows: &[&ResourceDoc],
    group_versions: &BTreeSet<(String, String)>,
    out: &mut impl Write,
) -> io::Result<()> {
    let definitions = Definitions::new(dialect, rows, group_versions);
    let info = json!({"title": "Kubernetes", "version": "v1.35.0"});
    let token = json!({"description": "Bearer Token authentication", "in": "header", "name": "authorization", "type": "apiKey"});
    match dialect {
        Dialect::V2 => write!(out, r#"{{"swagger":"2.0","info":{info},"paths":"#)?,
        Dialect::V3 => write!(out, r#"{{"openapi":"3.0.0","info":{info},"paths":"#)?,
    }
    write_entries(out, paths(dialect, rows))?;
    match dialect {
        Dialect::V2 => out.write_all(br#","definitions":"#)?,
        Dialect::V3 => out.write_all(br#","components":{"schemas":"#)?,
    }
    write_entries(out, definitions.entries())?;
    match dialect {
        Dialect::V2 => write!(out, r#","securityDefinitions":{{"BearerToken":{token}}},"security":[{{"BearerToken":[]}}]}}"#),
        Dialect::V3 => write!(out, r#","securitySchemes":{{"BearerToken":{token}}}}}}}"#),
    }
}

/// Each path with its item.
pub(super) fn paths(dialect: Dialect, rows: &[&ResourceDoc]) -> impl Iterator<Item = (String, Value)> {
    rows.iter().flat_map(|row| operations::plan(row)).map(move |plan| (plan.path.clone(), path_item(dialect, &plan)))
}

fn path_item(dialect: Dialect, plan: &PathPlan) -> Value {
    let mut item = Map::new();
    for operation in &plan.operations {
        item.insert(operation.method.to_owned(), render(dialect, operation));
    }
    item.insert("parameters".into(), plan.parameters.iter().filter_map(|name| parameter(dialect, name)).collect());
    item.into()
}

fn parameter(dialect: Dialect, name: &str) -> Option<Value> {
    let (name, place, ty, description) = PARAMETERS.iter().find(|(n, ..)| *n == name)?;
    let mut out = json!({"name": operations::parameter_name(name), "in": place, "description": description});
    match dialect {
        Dialect::V2 => out["type"] = (*ty).into(),
        Dialect::V3 => out["schema"] = json!({"type": ty, "uniqueItems": true}),
    }
    if dialect == Dialect::V2 {
        out["uniqueItems"] = true.into();
    }
    if *place == "path" {
        out["required"] = true.into();
    }
    Some(out)
}

fn render(dialect: Dialect, operation: &Operation) -> Value {
    let [group, version, kind] = &operation.kind;
    let mut out = json!({
        "description": operation.description,
        "operationId": operation.id,
        "tags": [operation.tag],
        "x-kubernetes-action": operation.action,
        "x-kubernetes-group-version-kind": {"group": group, "version": version, "kind": kind},
    });
    let mut produces: Vec<&str> = ANSWERS.to_vec();
    if operation.watchable {
        produces.extend(WATCHES);
    }
    if operation.answer.is_none() {
        produces = if operation.action == "connect" { vec!["*/*"] } else { vec!["text/plain", "application/json"] };
    }
    let answer = operation.answer.as_ref().map_or_else(|| json!({"type": "string"}), |name| dialect.reference(name));
    let responses: Map<_, _> = operation
        .codes
        .iter()
        .map(|(code, description)| {
            let mut response = json!({"description": description});
            if *code < 400 {
                match dialect {
                    Dialect::V2 => response["schema"] = answer.clone(),
                    Dialect::V3 => response["content"] = content(&produces, &answer),
                }
            }
            (code.to_string(), response)
        })
        .collect();
    out["responses"] = responses.into();
    let mut parameters: Vec<Value> = operation.parameters.iter().filter_map(|name| parameter(dialect, name)).collect();
    let patch = dialect.reference("io.k8s.apimachinery.pkg.apis.meta.v1.Patch");
    let (schema, accepts, required) = match &operation.body {
        Some(Body::Object(name)) => (Some(dialect.reference(name)), &["*/*"][..], true),
        Some(Body::Optional(name)) => (Some(dialect.reference(name)), &["*/*"][..], false),
        Some(Body::Patch) => (Some(patch), &PATCHES[..], true),
        None => (None, &["*/*"][..], false),
    };
    match (dialect, schema) {
        (Dialect::V2, schema) => {
            if let Some(schema) = schema {
                let mut body = json!({"name": "body", "in": "body", "schema": schema});
                if required {
                    body["required"] = true.into();
                }
                parameters.insert(0, body);
            }
            out["consumes"] = json!(accepts);
            out["produces"] = json!(produces);
            out["schemes"] = json!(["https"]);
        }
        (Dialect::V3, Some(schema)) => {
            out["requestBody"] = json!({"content": content(accepts, &schema)});
            if required {
                out["requestBody"]["required"] = true.into();
            }
        }
        (Dialect::V3, None) => {}
    }
    if !parameters.is_empty() {
        out["parameters"] = parameters.into();
    }
    out
}

fn content(media_types: &[&str], schema: &Value) -> Value {
    media_types.iter().map(|media| ((*media).to_owned(), json!({"schema": schema}))).collect::<Map<_, _>>().into()
}
