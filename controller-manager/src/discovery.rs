//! Which resources the apiserver serves now: asked in two requests (aggregated discovery, KEP-3352), or group by group from a
//! server that does not offer that.

use http::Request;
use kube::Client;
use serde::Deserialize;
use serde_json::Value;

use crate::kind::{Key, path};

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";

/// A resource in the version the server prefers.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Resource {
    /// Group and version.
    pub api_version: String,
    /// The kind of its objects.
    pub kind: String,
    /// The plural in paths.
    pub plural: String,
    /// Whether objects live in namespaces.
    pub namespaced: bool,
    /// What can be done with it.
    pub verbs: Vec<String>,
}

impl Resource {
    /// The group; empty for the core.
    #[must_use]
    pub fn group(&self) -> &str {
        group(&self.api_version)
    }

    /// Whether all these verbs are served.
    #[must_use]
    pub fn can(&self, verbs: &[&str]) -> bool {
        verbs.iter().all(|verb| self.verbs.iter().any(|v| v == verb))
    }

    /// The path of an object or, without a name, the collection.
    #[must_use]
    pub fn path(&self, key: &Key) -> String {
        path(&self.api_version, &self.plural, key, "")
    }

    /// Its name as upstream prints it: `deployments.apps`, and `pods.` for the core.
    #[must_use]
    pub fn qualified(&self) -> String {
        format!("{}.{}", self.plural, self.group())
    }
}

/// The group of an apiVersion; empty for the core.
#[must_use]
pub fn group(api_version: &str) -> &str {
    api_version.split_once('/').map_or("", |(group, _)| group)
}

/// What was found.
#[derive(Debug, Default)]
pub struct Discovered {
    /// The resources; each once, in the first version that serves it.
    pub resources: Vec<Resource>,
    /// The group versions that could not be asked, and why.
    pub failed: Vec<(String, String)>,
}

impl Discovered {
    fn add(&mut self, resource: Resource) {
        let known = |r: &Resource| r.plural == resource.plural && r.group() == resource.group();
        if !resource.plural.contains('/') && !self.resources.iter().any(known) {
            self.resources.push(resource);
        }
    }
}

/// Asks the apiserver.
///
/// # Errors
/// When not even the groups can be listed. A single group that fails is told in the answer.
pub async fn discover(client: &Client) -> kube::Result<Discovered> {
    let mut found = Discovered::default();
    for root in ["/api", "/apis"] {
        let answer = get(client, root, AGGREGATED).await?;
        if answer["kind"] == "APIGroupDiscoveryList" {
            let list: GroupList = serde_json::from_value(answer).map_err(kube::Error::SerdeError)?;
            list.items.into_iter().for_each(|group| group.add_to(&mut found));
        } else {
            legacy(client, root, &answer, &mut found).await;
        }
    }
    Ok(found)
}

async fn get(client: &Client, uri: &str, accept: &'static str) -> kube::Result<Value> {
    let request = Request::get(uri).header(http::header::ACCEPT, accept).body(Vec::new()).map_err(kube::Error::HttpError)?;
    client.request(request).await
}

async fn legacy(client: &Client, root: &str, answer: &Value, found: &mut Discovered) {
    let text = |v: &Value| v.as_str().map(str::to_owned);
    let mut versions: Vec<String> = answer["versions"].as_array().into_iter().flatten().filter_map(text).collect();
    for group in answer["groups"].as_array().into_iter().flatten() {
        let preferred = text(&group["preferredVersion"]["groupVersion"]);
        let others = group["versions"].as_array().into_iter().flatten().filter_map(|v| text(&v["groupVersion"]));
        versions.extend(preferred.iter().cloned().chain(others.filter(|v| Some(v) != preferred.as_ref())));
    }
    for version in versions {
        let list = match get(client, &format!("{root}/{version}"), "application/json").await {
            Ok(answer) => serde_json::from_value::<LegacyList>(answer).map_err(|e| e.to_string()),
            Err(error) => Err(crate::apply::message(&error)),
        };
        match list {
            Ok(list) => list.resources.into_iter().for_each(|r| {
                let LegacyResource { name, kind, namespaced, verbs } = r;
                found.add(Resource { api_version: version.clone(), kind, plural: name, namespaced, verbs });
            }),
            Err(error) => found.failed.push((version, error)),
        }
    }
}

#[derive(Deserialize)]
struct LegacyList {
    resources: Vec<LegacyResource>,
}

#[derive(Deserialize)]
struct LegacyResource {
    name: String,
    kind: String,
    namespaced: bool,
    #[serde(default)]
    verbs: Vec<String>,
}

#[derive(Deserialize)]
struct GroupList {
    items: Vec<GroupDiscovery>,
}

#[derive(Deserialize)]
struct GroupDiscovery {
    #[serde(default)]
    metadata: Named,
    #[serde(default)]
    versions: Vec<VersionDiscovery>,
}

#[derive(Deserialize, Default)]
struct Named {
    #[serde(default)]
    name: String,
}

#[derive(Deserialize)]
struct VersionDiscovery {
    version: String,
    #[serde(default)]
    freshness: String,
    #[serde(default)]
    resources: Vec<ResourceDiscovery>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ResourceDiscovery {
    resource: String,
    #[serde(default)]
    response_kind: Option<ResponseKind>,
    scope: String,
    #[serde(default)]
    verbs: Vec<String>,
}

#[derive(Deserialize)]
struct ResponseKind {
    kind: String,
}

impl GroupDiscovery {
    fn add_to(self, found: &mut Discovered) {
        let group = self.metadata.name;
        for version in self.versions {
            let api_version = if group.is_empty() { version.version } else { format!("{group}/{}", version.version) };
            if version.freshness == "Stale" {
                found.failed.push((api_version.clone(), "stale GroupVersion discovery".to_owned()));
            }
            for r in version.resources {
                let kind = r.response_kind.map(|k| k.kind).unwrap_or_default();
                found.add(Resource {
                    api_version: api_version.clone(),
                    kind,
                    plural: r.resource,
                    namespaced: r.scope == "Namespaced",
                    verbs: r.verbs,
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_resource_counts_once_in_the_preferred_version() {
        let resource = |name: &str| json!({"resource": name, "responseKind": {"kind": "Kind"}, "scope": "Namespaced", "verbs": ["get"]});
        let group: GroupDiscovery = serde_json::from_value(json!({
            "metadata": {"name": "g.io"},
            "versions": [
                {"version": "v1", "freshness": "Current", "resources": [resource("a")]},
                {"version": "v1beta1", "freshness": "Stale", "resources": [resource("a"), resource("b")]}
            ]
        }))
        .expect("discovery");
        let mut found = Discovered::default();
        group.add_to(&mut found);
        let names: Vec<String> = found.resources.iter().map(|r| format!("{} {}", r.api_version, r.qualified())).collect();
        assert_eq!(names, ["g.io/v1 a.g.io", "g.io/v1beta1 b.g.io"]);
        assert_eq!(found.failed.len(), 1);
    }
}
