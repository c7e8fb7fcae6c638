//! Groups, versions and resources as clients find them.

use serde_json::Value;

use crate::framework::{Behaviour, Framework, test};

pub const BEHAVIOURS: &[Behaviour] = &[
    Behaviour::new("[sig-api-machinery] Discovery should validate PreferredVersion for each APIGroup", test!(preferred_versions)),
    Behaviour::new(
        "[sig-api-machinery] Discovery should locate the groupVersion and a resource within each APIGroup",
        test!(a_resource_of_each_group),
    ),
];

fn list<'a>(object: &'a Value, field: &str) -> &'a Vec<Value> {
    object[field].as_array().unwrap_or_else(|| panic!("{field} is no list in {object}"))
}

async fn preferred_versions(f: Framework) -> anyhow::Result<()> {
    let groups = f.wire.get("/apis").await.expect(200);
    anyhow::ensure!(!list(&groups, "groups").is_empty(), "no groups");
    for listed in list(&groups, "groups") {
        let name = listed["name"].as_str().expect("a name");
        // Groups of other tests come and go.
        if name.ends_with(".example.com") {
            continue;
        }
        let group = f.wire.get(&format!("/apis/{name}")).await.expect(200);
        let preferred = &group["preferredVersion"]["groupVersion"];
        assert_eq!(preferred, &listed["preferredVersion"]["groupVersion"], "{name}: as in the list of groups");
        anyhow::ensure!(list(&group, "versions").iter().any(|v| v["groupVersion"] == *preferred), "{preferred} is not served: {group}");
    }
    Ok(())
}

/// Group, version, and a resource that it has.
const RESOURCES: &[(&str, &str, &str)] = &[
    ("admissionregistration.k8s.io", "v1", "validatingwebhookconfigurations"),
    ("apiextensions.k8s.io", "v1", "customresourcedefinitions"),
    ("apiregistration.k8s.io", "v1", "apiservices"),
    ("apps", "v1", "deployments"),
    ("authentication.k8s.io", "v1", "tokenreviews"),
    ("authorization.k8s.io", "v1", "selfsubjectaccessreviews"),
    ("autoscaling", "v1", "horizontalpodautoscalers"),
    ("autoscaling", "v2", "horizontalpodautoscalers"),
    ("batch", "v1", "jobs"),
    ("certificates.k8s.io", "v1", "certificatesigningrequests"),
    ("coordination.k8s.io", "v1", "leases"),
    ("discovery.k8s.io", "v1", "endpointslices"),
    ("events.k8s.io", "v1", "events"),
    ("networking.k8s.io", "v1", "ingresses"),
    ("node.k8s.io", "v1", "runtimeclasses"),
    ("policy", "v1", "poddisruptionbudgets"),
    ("rbac.authorization.k8s.io", "v1", "clusterroles"),
    ("scheduling.k8s.io", "v1", "priorityclasses"),
    ("storage.k8s.io", "v1", "csinodes"),
];

async fn a_resource_of_each_group(f: Framework) -> anyhow::Result<()> {
    let groups = f.wire.get("/apis").await.expect(200);
    for (name, version, resource) in RESOURCES {
        let group_version = format!("{name}/{version}");
        let listed = list(&groups, "groups").iter().find(|g| g["name"] == *name).unwrap_or_else(|| panic!("no group {name}"));
        assert!(list(listed, "versions").iter().any(|v| v["groupVersion"] == group_version), "{group_version} is not in {listed}");
        let group = f.wire.get(&format!("/apis/{name}")).await.expect(200);
        assert!(list(&group, "versions").iter().any(|v| v["groupVersion"] == group_version), "{group_version} is not in {group}");
        let resources = f.wire.get(&format!("/apis/{group_version}")).await.expect(200);
        assert_eq!((&resources["kind"], &resources["groupVersion"]), (&"APIResourceList".into(), &group_version.as_str().into()));
        let found = list(&resources, "resources").iter().find(|r| r["name"] == *resource);
        let found = found.unwrap_or_else(|| panic!("{resource} is not in {resources}"));
        assert!(found["kind"].is_string() && found["namespaced"].is_boolean() && !list(found, "verbs").is_empty(), "{found}");
    }
    Ok(())
}
