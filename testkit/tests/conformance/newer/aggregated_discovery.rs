//! Discovery in one document (KEP-3352).

use anyhow::Context as _;
use serde_json::Value;

use crate::framework::{Behaviour, Definition, Framework, SOON, test};

pub const BEHAVIOURS: &[Behaviour] = &[
    Behaviour::new(
        "newer: [sig-api-machinery] AggregatedDiscovery should support raw aggregated discovery endpoint Accept headers",
        test!(accept),
    ),
    Behaviour::new(
        "newer: [sig-api-machinery] AggregatedDiscovery should support raw aggregated discovery request for CRDs",
        test!(custom),
    ),
    Behaviour::new("newer: [sig-api-machinery] AggregatedDiscovery should support aggregated discovery interface", test!(built_in)),
    Behaviour::new(
        "newer: [sig-api-machinery] AggregatedDiscovery should support aggregated discovery interface for CRDs",
        test!(by_kubectl),
    ),
];

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// The document at `path`, with its content type.
async fn document(f: &Framework, path: &str, accept: &str) -> (Value, String) {
    let answer = f.wire.with("accept", accept).get(path).await;
    (answer.expect(200), answer.header("content-type").to_owned())
}

/// The resource of a group and version, where the document has it.
fn find<'a>(document: &'a Value, group: &str, version: &str, resource: &str) -> Option<&'a Value> {
    let groups = document["items"].as_array()?;
    let group = groups.iter().find(|g| g["metadata"]["name"].as_str().unwrap_or("") == group)?;
    let version = group["versions"].as_array()?.iter().find(|v| v["version"] == version)?;
    version["resources"].as_array()?.iter().find(|r| r["resource"] == resource)
}

async fn accept(f: Framework) -> anyhow::Result<()> {
    for path in ["/api", "/apis"] {
        for accept in [AGGREGATED, &format!("{AGGREGATED},application/json")] {
            let (list, kind) = document(&f, path, accept).await;
            assert_eq!((&list["kind"], &list["apiVersion"]), (&"APIGroupDiscoveryList".into(), &"apidiscovery.k8s.io/v2".into()), "{path}");
            assert_eq!(kind, AGGREGATED);
        }
        // Who does not ask for it gets what everybody got before.
        let (plain, kind) = document(&f, path, "application/json").await;
        assert_eq!(
            (plain["kind"].as_str(), &*kind),
            (Some(if path == "/api" { "APIVersions" } else { "APIGroupList" }), "application/json")
        );
    }
    Ok(())
}

async fn custom(f: Framework) -> anyhow::Result<()> {
    let word = f.unique("foo");
    let definition = Definition::new(&format!("{word}.example.com"), &word, "Namespaced", &["v1"], &Definition::anything());
    let definition = f.define(definition).await;
    f.until("the document to have the resource", SOON, || async {
        let (list, _) = document(&f, "/apis", AGGREGATED).await;
        find(&list, definition.group(), "v1", definition.plural()).map(|r| assert_eq!(r["scope"], "Namespaced"))
    })
    .await;
    f.undefine(&definition).await;
    f.until("the document to have it no more", SOON, || async {
        let (list, _) = document(&f, "/apis", AGGREGATED).await;
        find(&list, definition.group(), "v1", definition.plural()).is_none().then_some(())
    })
    .await;
    Ok(())
}

async fn built_in(f: Framework) -> anyhow::Result<()> {
    let (core, _) = document(&f, "/api", AGGREGATED).await;
    let (named, _) = document(&f, "/apis", AGGREGATED).await;
    for (group, resource, kind, scope) in [
        ("", "namespaces", "Namespace", "Cluster"),
        ("", "pods", "Pod", "Namespaced"),
        ("", "services", "Service", "Namespaced"),
        ("apps", "deployments", "Deployment", "Namespaced"),
        ("apps", "statefulsets", "StatefulSet", "Namespaced"),
        ("batch", "jobs", "Job", "Namespaced"),
        ("networking.k8s.io", "ingresses", "Ingress", "Namespaced"),
        ("rbac.authorization.k8s.io", "clusterroles", "ClusterRole", "Cluster"),
        ("apiextensions.k8s.io", "customresourcedefinitions", "CustomResourceDefinition", "Cluster"),
        ("apiregistration.k8s.io", "apiservices", "APIService", "Cluster"),
        ("admissionregistration.k8s.io", "validatingwebhookconfigurations", "ValidatingWebhookConfiguration", "Cluster"),
    ] {
        let document = if group.is_empty() { &core } else { &named };
        let found = find(document, group, "v1", resource).with_context(|| format!("{group}/{resource}"))?;
        assert_eq!((&found["responseKind"]["kind"], &found["scope"]), (&kind.into(), &scope.into()), "{found}");
        assert!(found["verbs"].as_array().is_some_and(|verbs| verbs.contains(&"watch".into())), "{found}");
    }
    Ok(())
}

async fn by_kubectl(f: Framework) -> anyhow::Result<()> {
    let word = f.unique("bar");
    let definition = Definition::new(&format!("{word}.example.com"), &word, "Cluster", &["v1"], &Definition::anything());
    let definition = f.define(definition).await;
    // kubectl keeps what it discovered for a while; asked for one group it looks again.
    let directory = tempfile::tempdir()?;
    let cache = directory.path().to_str().context("a path of text")?;
    let wanted = ["--cache-dir", cache, "api-resources", "--api-group", definition.group(), "--no-headers"];
    let said = f.kubectl().ok(&wanted).await?;
    assert!(said.contains(definition.plural()) && said.contains(definition.kind()), "{said}");
    Ok(())
}
