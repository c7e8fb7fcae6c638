//! What is served, for clients to discover: `/api`, `/apis`, each group version, and the aggregated form (KEP-3352).

use std::collections::BTreeMap;

use axum::response::Response;
use http::{HeaderMap, HeaderValue, header};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::respond::with_type;
use crate::aggregation::Other;
use crate::catalog::{Catalog, Served};
use crate::resource::{Resource, Scope, Subresource};

/// The media type of the aggregated form.
const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
const AGGREGATED_BETA: &str = "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList";

/// The answer to a discovery path, if it is one.
#[must_use]
pub fn discovery(catalog: &Catalog, others: &[Other], path: &str, headers: &HeaderMap) -> Option<Response> {
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let accept = headers.get(header::ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or("");
    let body = match parts.as_slice() {
        ["api" | "apis"] if aggregated_type(accept).is_some() => {
            return Some(aggregated(catalog, others, parts[0] == "api", accept, headers));
        }
        ["api"] => json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}),
        ["apis"] => {
            let groups: Vec<Value> =
                groups(catalog, others).into_iter().filter(|(g, _)| !g.is_empty()).map(|(g, v)| group(&g, &v)).collect();
            json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
        }
        ["apis", name] => {
            let (name, versions) = groups(catalog, others).into_iter().find(|(g, _)| g == name)?;
            let mut group = group(&name, &versions);
            group["kind"] = "APIGroup".into();
            group["apiVersion"] = "v1".into();
            group
        }
        ["api", version] => resources(catalog, "", version)?,
        ["apis", group, version] => resources(catalog, group, version)?,
        _ => return None,
    };
    Some(with_type(200, "application/json", body.to_string()))
}

/// Groups with their versions, in the rows' order; those that others serve come last.
fn groups(catalog: &Catalog, others: &[Other]) -> Vec<(String, Vec<String>)> {
    let mut out: Vec<(String, Vec<String>)> = vec![];
    let own = catalog.rows().iter().map(|r| (r.group.as_ref(), r.version.as_ref()));
    for (group, version) in own.chain(others.iter().map(|o| (o.group.as_str(), o.version.as_str()))) {
        match out.iter_mut().find(|(g, _)| *g == group) {
            Some((_, versions)) if versions.iter().any(|v| *v == version) => {}
            Some((_, versions)) => versions.push(version.to_owned()),
            None => out.push((group.to_owned(), vec![version.to_owned()])),
        }
    }
    for (_, versions) in &mut out {
        versions.sort_by_key(|v| std::cmp::Reverse(priority(v)));
    }
    out
}

/// Kubernetes' order of versions: stable before beta before alpha, higher before lower.
fn priority(version: &str) -> (u8, u32, u32) {
    let rest = version.strip_prefix('v').unwrap_or("");
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let Ok(major) = rest[..digits].parse::<u32>() else { return (0, 0, 0) };
    let number = |t: &str| t.parse().unwrap_or(0);
    match &rest[digits..] {
        "" => (3, major, 0),
        r if r.starts_with("beta") => (2, major, number(&r[4..])),
        r if r.starts_with("alpha") => (1, major, number(&r[5..])),
        _ => (0, 0, 0),
    }
}

fn group(name: &str, versions: &[String]) -> Value {
    let one = |v: &String| json!({"groupVersion": format!("{name}/{v}"), "version": v});
    json!({"name": name, "versions": versions.iter().map(one).collect::<Vec<_>>(), "preferredVersion": versions.first().map(one)})
}

fn resources(catalog: &Catalog, group: &str, version: &str) -> Option<Value> {
    let rows: Vec<_> = catalog.rows().iter().filter(|r| r.group == group && r.version == version).collect();
    let group_version = rows.first()?.api_version();
    let mut list = vec![];
    for row in rows {
        let verbs: Vec<&str> = row.verbs.iter().map(|v| v.name()).collect();
        let mut entry =
            json!({"name": row.plural, "singularName": row.singular, "namespaced": row.is_namespaced(), "kind": row.kind, "verbs": verbs});
        if !row.short_names.is_empty() {
            entry["shortNames"] = json!(row.short_names);
        }
        if !row.categories.is_empty() {
            entry["categories"] = json!(row.categories);
        }
        if !row.virtual_kind {
            entry["storageVersionHash"] = storage_hash(row).into();
        }
        list.push(entry);
        for sub in &row.subresources {
            let (group, version, kind, verbs) = part(row, sub);
            let mut entry = json!({"name": format!("{}/{}", row.plural, sub.name()), "singularName": "", "namespaced": row.is_namespaced(), "kind": kind, "verbs": verbs});
            if group != row.group || version != row.version {
                entry["group"] = group.into();
                entry["version"] = version.into();
            }
            list.push(entry);
        }
    }
    Some(json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": list}))
}

/// Group, version, kind and verbs of a subresource.
#[must_use]
pub fn part<'a>(row: &'a Resource, sub: &'a Subresource) -> (&'a str, &'a str, &'a str, Vec<&'static str>) {
    match sub {
        Subresource::Part { replaced_only: true, .. } => (&row.group, &row.version, &row.kind, vec!["update"]),
        Subresource::Status | Subresource::Part { .. } => (&row.group, &row.version, &row.kind, vec!["get", "patch", "update"]),
        Subresource::Scale { .. } => ("autoscaling", "v1", "Scale", vec!["get", "patch", "update"]),
        Subresource::Custom { kind: (group, version, kind), verbs, .. } => (group, version, kind, verbs.to_vec()),
    }
}

fn storage_hash(row: &Resource) -> String {
    let digest = Sha256::digest(format!("{}/{}/{}", row.stored_as.0, row.version, row.kind));
    base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &digest[..8])
}

fn aggregated_type(accept: &str) -> Option<&'static str> {
    accept.split(',').map(|c| c.replace(' ', "")).find_map(|clause| {
        let has = |part: &str| clause.split(';').any(|p| p == part);
        if !has("g=apidiscovery.k8s.io") || !has("as=APIGroupDiscoveryList") || !clause.starts_with("application/json") {
            return None;
        }
        if has("v=v2") {
            Some(AGGREGATED)
        } else if has("v=v2beta1") {
            Some(AGGREGATED_BETA)
        } else {
            None
        }
    })
}

fn aggregated(catalog: &Catalog, others: &[Other], core: bool, accept: &str, headers: &HeaderMap) -> Response {
    let kind = aggregated_type(accept).unwrap_or(AGGREGATED);
    let version = if kind == AGGREGATED { "v2" } else { "v2beta1" };
    let mut by_version: BTreeMap<(String, String), Vec<Value>> = BTreeMap::new();
    for row in catalog.rows() {
        by_version.entry((row.group.to_string(), row.version.to_string())).or_default().push(discovered(row));
    }
    let stale = |group: &str, version: &str| others.iter().any(|o| o.group == group && o.version == version && o.known.stale);
    for other in others {
        by_version.insert((other.group.clone(), other.version.clone()), other.known.resources.clone());
    }
    let items: Vec<Value> = groups(catalog, others)
        .into_iter()
        .filter(|(g, _)| g.is_empty() == core)
        .map(|(group, versions)| {
            let versions: Vec<Value> = versions
                .into_iter()
                .map(|v| {
                    let freshness = if stale(&group, &v) { "Stale" } else { "Current" };
                    let resources = by_version.get(&(group.clone(), v.clone()));
                    json!({"version": v, "resources": resources, "freshness": freshness})
                })
                .collect();
            json!({"metadata": {"name": group, "creationTimestamp": null}, "versions": versions})
        })
        .collect();
    let body =
        json!({"kind": "APIGroupDiscoveryList", "apiVersion": format!("apidiscovery.k8s.io/{version}"), "metadata": {}, "items": items})
            .to_string();
    let etag = format!("\"{:X}\"", Sha256::digest(&body).iter().fold(0_u128, |n, b| n.rotate_left(8) ^ u128::from(*b)));
    let unchanged = headers.get(header::IF_NONE_MATCH).and_then(|v| v.to_str().ok()) == Some(etag.as_str());
    let mut response = if unchanged { with_type(304, kind, "") } else { with_type(200, kind, body) };
    let out = response.headers_mut();
    if let Ok(etag) = HeaderValue::from_str(&etag) {
        out.insert(header::ETAG, etag);
    }
    out.insert(header::CACHE_CONTROL, HeaderValue::from_static("public"));
    out.insert(header::VARY, HeaderValue::from_static("Accept"));
    response
}

fn discovered(row: &Served) -> Value {
    let gvk = |group: &str, version: &str, kind: &str| json!({"group": group, "version": version, "kind": kind});
    let verbs: Vec<&str> = row.verbs.iter().map(|v| v.name()).collect();
    let mut out = json!({
        "resource": row.plural, "responseKind": gvk(&row.group, &row.version, &row.kind),
        "scope": if row.scope == Scope::Namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": row.singular, "verbs": verbs,
    });
    if !row.short_names.is_empty() {
        out["shortNames"] = json!(row.short_names);
    }
    if !row.categories.is_empty() {
        out["categories"] = json!(row.categories);
    }
    if !row.subresources.is_empty() {
        let one = |s: &Subresource| {
            let (group, version, kind, verbs) = part(row, s);
            json!({"subresource": s.name(), "responseKind": gvk(group, version, kind), "verbs": verbs})
        };
        out["subresources"] = row.subresources.iter().map(one).collect();
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_in_kubernetes_order() {
        let mut versions = ["v1beta1", "v2", "v1alpha1", "v10", "v1", "v1beta2", "x"];
        versions.sort_by_key(|v| std::cmp::Reverse(priority(v)));
        assert_eq!(versions, ["v10", "v2", "v1", "v1beta2", "v1beta1", "v1alpha1", "x"]);
    }

    #[test]
    fn the_aggregated_form_is_for_those_who_ask() {
        let kubectl = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json";
        assert_eq!(aggregated_type(kubectl), Some(AGGREGATED));
        assert_eq!(aggregated_type("application/json"), None);
    }
}
