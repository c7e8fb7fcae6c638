//! What an aggregated server says of itself, in the forms in which we pass it on. Pure.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::resources::cells::{flag, items, text};

/// The resources of a discovery document (APIResourceList) in the aggregated form (KEP-3352).
///
/// # Errors
/// What is no such document.
pub fn resources(list: &Value) -> Result<Vec<Value>, String> {
    if text(list, "/kind") != "APIResourceList" {
        return Err(format!("expected APIResourceList, got {:?}", text(list, "/kind")));
    }
    let (group, version) = api::object::split_api_version(text(list, "/groupVersion"));
    let kind = |r: &Value| {
        let own = |field: &str, usual: &str| match text(r, field) {
            "" => usual.to_owned(),
            own => own.to_owned(),
        };
        json!({"group": own("/group", group), "version": own("/version", version), "kind": text(r, "/kind")})
    };
    let mut parts: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
    for resource in items(list, "/resources") {
        if let Some((whole, part)) = text(resource, "/name").split_once('/') {
            let part = json!({"subresource": part, "responseKind": kind(resource), "verbs": resource["verbs"]});
            parts.entry(whole).or_default().push(part);
        }
    }
    let whole = items(list, "/resources").iter().filter(|r| !text(r, "/name").contains('/'));
    let one = |r: &Value| {
        let name = text(r, "/name");
        let mut out = json!({
            "resource": name, "responseKind": kind(r), "scope": if flag(r, "/namespaced") { "Namespaced" } else { "Cluster" },
            "singularResource": text(r, "/singularName"), "verbs": r["verbs"],
        });
        for field in ["shortNames", "categories"] {
            if !items(r, &format!("/{field}")).is_empty() {
                out[field] = r[field].clone();
            }
        }
        if let Some(parts) = parts.get(name) {
            out["subresources"] = json!(parts);
        }
        out
    };
    Ok(whole.map(one).collect())
}

/// The URL of a group version's OpenAPI document in a server's `/openapi/v3`.
#[must_use]
pub fn openapi(index: &Value, group: &str, version: &str) -> Option<String> {
    let entry = index.get("paths")?.get(format!("apis/{group}/{version}"))?;
    Some(text(entry, "/serverRelativeURL").to_owned()).filter(|url| url.starts_with("/openapi/v3/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_with_their_parts() {
        let list = json!({"kind": "APIResourceList", "groupVersion": "x.io/v1", "resources": [
            {"name": "foos", "singularName": "foo", "namespaced": true, "kind": "Foo", "verbs": ["get"], "shortNames": ["f"]},
            {"name": "foos/scale", "group": "autoscaling", "version": "v1", "kind": "Scale", "verbs": ["update"]},
        ]});
        assert_eq!(
            resources(&list).unwrap(),
            [json!({"resource": "foos", "responseKind": {"group": "x.io", "version": "v1", "kind": "Foo"}, "scope": "Namespaced",
                "singularResource": "foo", "verbs": ["get"], "shortNames": ["f"],
                "subresources": [{"subresource": "scale", "responseKind": {"group": "autoscaling", "version": "v1", "kind": "Scale"}, "verbs": ["update"]}]})]
        );
        assert_eq!(resources(&json!({"kind": "Status"})).unwrap_err(), r#"expected APIResourceList, got "Status""#);
    }

    #[test]
    fn only_its_own_document_is_passed_on() {
        let index = json!({"paths": {"apis/x.io/v1": {"serverRelativeURL": "/openapi/v3/apis/x.io/v1?hash=1"}, "apis/y.io/v1": {"serverRelativeURL": "http://elsewhere"}}});
        assert_eq!(openapi(&index, "x.io", "v1").as_deref(), Some("/openapi/v3/apis/x.io/v1?hash=1"));
        assert_eq!(openapi(&index, "y.io", "v1"), None);
        assert_eq!(openapi(&json!({}), "x.io", "v1"), None);
    }
}
