//! Admission webhooks: what upstream's test image answers is answered here, by a server of the test's own.

use serde_json::{Value, json};
use testkit::Reviewer;

use super::webhook_answers::answer;
use crate::framework::{Behaviour, DEFINITIONS, Definition, Framework, SOON, test};

pub const BEHAVIOURS: &[Behaviour] = &[
    Behaviour::new(
        "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] listing mutating webhooks should work",
        test!(mutating_ones_listed),
    ),
    Behaviour::new(
        "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] listing validating webhooks should work",
        test!(validating_ones_listed),
    ),
    Behaviour::new(
        "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] patching/updating a mutating webhook should work",
        test!(a_mutating_one_changed),
    ),
    Behaviour::new(
        "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] patching/updating a validating webhook should work",
        test!(a_validating_one_changed),
    ),
    Behaviour::new(
        "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should be able to deny attaching pod",
        test!(attaching_denied),
    ),
    Behaviour::new(
        "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should be able to deny custom resource creation, update and deletion",
        test!(custom_resources_denied),
    ),
    Behaviour::new(
        "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should be able to deny pod and configmap creation",
        test!(pods_and_configmaps_denied),
    ),
    Behaviour::new("[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should deny crd creation", test!(definitions_denied)),
    Behaviour::new("[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should honor timeout", test!(timeouts)),
    Behaviour::new(
        "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should include webhook resources in discovery documents",
        test!(discovered),
    ),
    Behaviour::new("[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should mutate configmap", test!(configmap_mutated)),
    Behaviour::new(
        "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should mutate custom resource",
        test!(custom_resource_mutated),
    ),
    Behaviour::new(
        "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should mutate custom resource with different stored version",
        test!(other_stored_version),
    ),
    Behaviour::new(
        "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should mutate custom resource with pruning",
        test!(custom_resource_pruned),
    ),
    Behaviour::new(
        "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should mutate pod and apply defaults after mutation",
        test!(pod_defaulted),
    ),
    Behaviour::new(
        "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should not be able to mutate or prevent deletion of webhook configuration objects",
        test!(configurations_exempt),
    ),
    Behaviour::new(
        "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should unconditionally reject operations on fail closed webhook",
        test!(fails_closed),
    ),
];

const GROUP: &str = "/apis/admissionregistration.k8s.io/v1";
const SERVICE: &str = "e2e-test-webhook";
const MUTATING: &str = "mutatingwebhookconfigurations";
const VALIDATING: &str = "validatingwebhookconfigurations";

/// A test's webhook server, and the namespace whose requests say whether a configuration is in force.
struct Hooks {
    f: Framework,
    reviewer: Reviewer,
    marker: String,
}

impl Hooks {
    async fn new(f: &Framework) -> anyhow::Result<Self> {
        let reviewer = f.reviewer(SERVICE, answer).await?;
        let marker = f.new_namespace("markers").await?;
        let hooks = Self { f: f.clone(), reviewer, marker };
        for namespace in [&f.namespace, &hooks.marker] {
            hooks.label(namespace, &f.namespace).await;
        }
        Ok(hooks)
    }

    async fn label(&self, namespace: &str, value: &str) {
        let labels = json!({"metadata": {"labels": {"webhook-e2e": value, "webhook-marker": (namespace == self.marker).to_string()}}});
        self.f.wire.patch("merge", &format!("/api/v1/namespaces/{namespace}"), &labels).await.expect(200);
    }

    /// A webhook of this test's namespaces at a path of the server.
    fn hook(&self, path: &str, operations: &[&str], group: &str, resource: &str) -> Value {
        json!({
            "name": format!("{}.webhook.k8s.io", path.trim_start_matches('/').replace('/', "-")),
            "clientConfig": self.f.client_config(SERVICE, path, &self.reviewer.server.ca_bundle),
            "rules": [{"operations": operations, "apiGroups": [group], "apiVersions": ["*"], "resources": [resource]}],
            "sideEffects": "None", "admissionReviewVersions": ["v1", "v1beta1"],
            "namespaceSelector": {"matchLabels": {"webhook-e2e": self.f.namespace, "webhook-marker": "false"}},
        })
    }

    /// A configuration with these webhooks, and one more that denies what is made among the markers.
    fn configuration(&self, plural: &str, mut hooks: Vec<Value>) -> Value {
        let mut marker = self.hook("/always-deny", &["CREATE"], "", "configmaps");
        marker["name"] = "marker.webhook.k8s.io".into();
        marker["namespaceSelector"] = json!({"matchLabels": {"webhook-e2e": self.f.namespace, "webhook-marker": "true"}});
        hooks.push(marker);
        let kind = if plural == MUTATING { "MutatingWebhookConfiguration" } else { "ValidatingWebhookConfiguration" };
        let name = self.f.unique("e2e-webhook");
        let labels = json!({"e2e-list-test-uuid": self.f.namespace});
        json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": {"name": name, "labels": labels}, "webhooks": hooks})
    }

    /// Registers webhooks and waits until they are in force; gives the configuration's path.
    async fn register(&self, plural: &str, hooks: Vec<Value>) -> String {
        let configuration = self.configuration(plural, hooks);
        self.f.wire.post(&format!("{GROUP}/{plural}"), &configuration).await.expect(201);
        let path = format!("{GROUP}/{plural}/{}", configuration["metadata"]["name"].as_str().expect("a name"));
        self.f.remove_later(&path);
        self.in_force().await;
        path
    }

    async fn in_force(&self) {
        let markers = self.f.in_namespace(&self.marker);
        let marker = configmap(&self.f.unique("marker"), json!({}));
        self.f
            .until("the webhooks to be in force", SOON, || async {
                let made = markers.wire.post(&format!("{}?dryRun=All", markers.core("configmaps")), &marker).await;
                (made.code >= 400 && made.text().contains("denied the request")).then_some(())
            })
            .await;
    }

    async fn make(&self, data: Value) -> testkit::Answer {
        self.f.wire.post(&self.f.core("configmaps"), &configmap(&self.f.unique("map"), data)).await
    }
}

fn configmap(name: &str, data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})
}

fn bad() -> Value {
    json!({"webhook-e2e-test": "webhook-disallow"})
}

fn denied(answer: &testkit::Answer, why: &str) {
    assert!(answer.code >= 400, "{} was let through", answer.asked);
    let refusal = answer.refusal();
    assert!(refusal.contains(why), "{refusal:?} says {why:?}");
}

const UNWANTED: &str = "the configmap contains unwanted key and value";

async fn listed(f: &Framework, plural: &str, path: &str) -> anyhow::Result<(Hooks, String)> {
    let hooks = Hooks::new(f).await?;
    for i in 0..10 {
        let mut hook = hooks.hook(path, &["CREATE"], "", "configmaps");
        hook["name"] = format!("test-{i}.webhook.k8s.io").into();
        hooks.register(plural, vec![hook]).await;
    }
    let selected = format!("{GROUP}/{plural}?labelSelector=e2e-list-test-uuid%3D{}", f.namespace);
    let list = f.wire.get(&selected).await.expect(200);
    assert_eq!(list["items"].as_array().map(Vec::len), Some(10));
    Ok((hooks, selected))
}

async fn mutating_ones_listed(f: Framework) -> anyhow::Result<()> {
    let (hooks, selected) = listed(&f, MUTATING, "/mutating-configmaps").await?;
    let start = || json!({"mutation-start": "yes"});
    let made = hooks.make(start()).await.expect(201);
    assert_eq!(made["data"], json!({"mutation-start": "yes", "mutation-stage-1": "yes", "mutation-stage-2": "yes"}));
    f.wire.delete(&selected).await.expect(200);
    f.until("configmaps to be left alone", SOON, || async { (hooks.make(start()).await.expect(201)["data"] == start()).then_some(()) })
        .await;
    Ok(())
}

async fn validating_ones_listed(f: Framework) -> anyhow::Result<()> {
    let (hooks, selected) = listed(&f, VALIDATING, "/configmaps").await?;
    denied(&hooks.make(bad()).await, UNWANTED);
    f.wire.delete(&selected).await.expect(200);
    f.until("configmaps to be let through", SOON, || async { (hooks.make(bad()).await.code == 201).then_some(()) }).await;
    Ok(())
}

/// Changes what operations a configuration's first webhook is asked about: by an update, then by a patch.
async fn changed(f: &Framework, path: &str, operations: &[&str]) {
    if operations == ["CREATE"] {
        let patch = json!([{"op": "replace", "path": "/webhooks/0/rules/0/operations", "value": operations}]);
        f.wire.patch("json", path, &patch).await.expect(200);
        return;
    }
    let mut configuration = f.wire.get(path).await.expect(200);
    configuration["webhooks"][0]["rules"][0]["operations"] = json!(operations);
    f.wire.put(path, &configuration).await.expect(200);
}

async fn a_mutating_one_changed(f: Framework) -> anyhow::Result<()> {
    let hooks = Hooks::new(&f).await?;
    let path = hooks.register(MUTATING, vec![hooks.hook("/mutating-configmaps", &["CREATE"], "", "configmaps")]).await;
    let mutated = || async { hooks.make(json!({"mutation-start": "yes"})).await.expect(201)["data"]["mutation-stage-1"] == "yes" };
    changed(&f, &path, &["UPDATE"]).await;
    f.until("creations not to be mutated", SOON, || async { (!mutated().await).then_some(()) }).await;
    changed(&f, &path, &["CREATE"]).await;
    f.until("creations to be mutated", SOON, || async { mutated().await.then_some(()) }).await;
    Ok(())
}

async fn a_validating_one_changed(f: Framework) -> anyhow::Result<()> {
    let hooks = Hooks::new(&f).await?;
    let path = hooks.register(VALIDATING, vec![hooks.hook("/configmaps", &["CREATE"], "", "configmaps")]).await;
    denied(&hooks.make(bad()).await, UNWANTED);
    changed(&f, &path, &["UPDATE"]).await;
    f.until("creations to be let through", SOON, || async { (hooks.make(bad()).await.code == 201).then_some(()) }).await;
    changed(&f, &path, &["CREATE"]).await;
    f.until("creations to be denied", SOON, || async { (hooks.make(bad()).await.code >= 400).then_some(()) }).await;
    Ok(())
}

async fn attaching_denied(f: Framework) -> anyhow::Result<()> {
    let hooks = Hooks::new(&f).await?;
    hooks.register(VALIDATING, vec![hooks.hook("/pods/attach", &["CONNECT"], "", "pods/attach")]).await;
    f.create_pod(&Framework::script("to-be-attached-pod", "sleep 600")).await;
    f.until_ready("to-be-attached-pod").await;
    let said = f.kubectl().fails(&["attach", "to-be-attached-pod", "-i", "-c=main"]).await?;
    assert!(said.contains("attaching to pod 'to-be-attached-pod' is not allowed"), "{said}");
    Ok(())
}

fn custom(f: &Framework, versions: &[&str], schema: &Value) -> Definition {
    let word = f.unique("hooked");
    Definition::new(&format!("{word}.example.com"), &word, "Namespaced", versions, schema)
}

fn instance(definition: &Definition, name: &str, data: Value) -> Value {
    json!({"apiVersion": definition.api_version(), "kind": definition.kind(), "metadata": {"name": name}, "data": data})
}

async fn custom_resources_denied(f: Framework) -> anyhow::Result<()> {
    let definition = f.define(custom(&f, &["v1"], &Definition::anything())).await;
    let hooks = Hooks::new(&f).await?;
    let hook = hooks.hook("/custom-resource", &["CREATE", "UPDATE", "DELETE"], definition.group(), definition.plural());
    hooks.register(VALIDATING, vec![hook]).await;
    let (objects, why) = (definition.objects(&f.namespace), "the custom resource contains unwanted data");
    denied(&f.wire.post(&objects, &instance(&definition, "cr-instance-1", bad())).await, why);
    let made = f
        .wire
        .post(&objects, &instance(&definition, "cr-instance-2", json!({"webhook-e2e-test": "webhook-nondeletable"})))
        .await
        .expect(201);
    let path = format!("{objects}/cr-instance-2");
    let mut changed = made.clone();
    changed["data"] = bad();
    denied(&f.wire.put(&path, &changed).await, why);
    denied(&f.wire.delete(&path).await, why);
    f.wire.patch("merge", &path, &json!({"data": {"webhook-e2e-test": "webhook-deletable"}})).await.expect(200);
    f.wire.delete(&path).await.expect(200);
    Ok(())
}

async fn pods_and_configmaps_denied(f: Framework) -> anyhow::Result<()> {
    let hooks = Hooks::new(&f).await?;
    let pods = hooks.hook("/pods", &["CREATE"], "", "pods");
    let configmaps = hooks.hook("/configmaps", &["CREATE", "UPDATE", "DELETE"], "", "configmaps");
    hooks.register(VALIDATING, vec![pods, configmaps]).await;
    let pod = |label: &str| {
        let mut pod = Framework::script(&f.unique("pod"), "true");
        pod["metadata"]["labels"] = json!({"webhook-e2e-test": label});
        pod
    };
    let mut unwanted = pod("webhook-disallow");
    unwanted["spec"]["containers"][0]["name"] = "webhook-disallow".into();
    let refused = f.wire.post(&f.core("pods"), &unwanted).await;
    denied(&refused, "the pod contains unwanted container name");
    denied(&refused, "the pod contains unwanted label");
    let hanging = f.wire.post(&f.core("pods"), &pod("wait-forever")).await;
    denied(&hanging, "context deadline exceeded");
    denied(&hooks.make(bad()).await, UNWANTED);
    let made = hooks.make(json!({"admit": "this"})).await.expect(201);
    let path = f.core(&format!("configmaps/{}", made["metadata"]["name"].as_str().expect("a name")));
    let mut changed = made.clone();
    changed["data"] = bad();
    denied(&f.wire.put(&path, &changed).await, UNWANTED);
    denied(&f.wire.patch("merge", &path, &json!({"data": bad()})).await, UNWANTED);
    // A namespace that the selector leaves out.
    let other = f.in_namespace(&f.new_namespace("exempted").await?);
    f.wire.post(&other.core("configmaps"), &configmap("bad", bad())).await.expect(201);
    Ok(())
}

async fn definitions_denied(f: Framework) -> anyhow::Result<()> {
    let hooks = Hooks::new(&f).await?;
    let mut hook = hooks.hook("/crd", &["CREATE"], "apiextensions.k8s.io", "customresourcedefinitions");
    hook["namespaceSelector"] = json!({});
    hook["objectSelector"] = json!({"matchLabels": {"webhook-e2e": f.namespace}});
    hooks.register(VALIDATING, vec![hook]).await;
    let mut definition = custom(&f, &["v1"], &Definition::anything());
    definition.object["metadata"]["labels"] = json!({"webhook-e2e": f.namespace, "webhook-e2e-test": "webhook-disallow"});
    denied(&f.wire.post(DEFINITIONS, &definition.object).await, "the crd contains unwanted label");
    f.wire.get(&definition.path()).await.expect(404);
    Ok(())
}

async fn timeouts(f: Framework) -> anyhow::Result<()> {
    let hooks = Hooks::new(&f).await?;
    // Seconds, whether failures are ignored, whether the request goes through.
    for (seconds, policy, passes) in [(Some(1), "Fail", false), (Some(1), "Ignore", true), (Some(10), "Fail", true), (None, "Fail", true)] {
        let mut hook = hooks.hook("/always-allow-delay-5s", &["CREATE"], "", "configmaps");
        hook["failurePolicy"] = policy.into();
        if let Some(seconds) = seconds {
            hook["timeoutSeconds"] = seconds.into();
        }
        let path = hooks.register(VALIDATING, vec![hook]).await;
        let made = hooks.make(json!({})).await;
        if passes {
            made.expect(201);
        } else {
            denied(&made, "context deadline exceeded");
        }
        f.wire.delete(&path).await.expect(200);
        f.until_gone(&path, SOON).await;
    }
    Ok(())
}

async fn discovered(f: Framework) -> anyhow::Result<()> {
    let groups = f.wire.get("/apis").await.expect(200);
    let group = groups["groups"].as_array().into_iter().flatten().find(|g| g["name"] == "admissionregistration.k8s.io").expect("the group");
    assert!(group["versions"].as_array().expect("versions").iter().any(|v| v["groupVersion"] == "admissionregistration.k8s.io/v1"));
    let own = f.wire.get("/apis/admissionregistration.k8s.io").await.expect(200);
    assert!(own["versions"].as_array().expect("versions").iter().any(|v| v["version"] == "v1"));
    let list = f.wire.get(GROUP).await.expect(200);
    for plural in [MUTATING, VALIDATING] {
        assert!(list["resources"].as_array().expect("resources").iter().any(|r| r["name"] == plural), "{plural}");
    }
    Ok(())
}

async fn configmap_mutated(f: Framework) -> anyhow::Result<()> {
    let hooks = Hooks::new(&f).await?;
    let hook = |name: &str| {
        let mut hook = hooks.hook("/mutating-configmaps", &["CREATE"], "", "configmaps");
        hook["name"] = format!("{name}.webhook.k8s.io").into();
        hook
    };
    hooks.register(MUTATING, vec![hook("adding-configmap-data-stage-1"), hook("adding-configmap-data-stage-2")]).await;
    let made = hooks.make(json!({"mutation-start": "yes"})).await.expect(201);
    assert_eq!(made["data"], json!({"mutation-start": "yes", "mutation-stage-1": "yes", "mutation-stage-2": "yes"}));
    Ok(())
}

fn two_stages(hooks: &Hooks, definition: &Definition, operations: &[&str]) -> Vec<Value> {
    let stage = |n: u8| {
        let mut hook = hooks.hook("/mutating-custom-resource", operations, definition.group(), definition.plural());
        hook["name"] = format!("mutate-custom-resource-data-stage-{n}.webhook.k8s.io").into();
        hook
    };
    vec![stage(1), stage(2)]
}

async fn custom_resource_mutated(f: Framework) -> anyhow::Result<()> {
    let definition = f.define(custom(&f, &["v1"], &Definition::anything())).await;
    let hooks = Hooks::new(&f).await?;
    hooks.register(MUTATING, two_stages(&hooks, &definition, &["CREATE", "UPDATE"])).await;
    let made =
        f.wire.post(&definition.objects(&f.namespace), &instance(&definition, "cr-instance-1", json!({"mutation-start": "yes"}))).await;
    assert_eq!(made.expect(201)["data"], json!({"mutation-start": "yes", "mutation-stage-1": "yes", "mutation-stage-2": "yes"}));
    Ok(())
}

async fn other_stored_version(f: Framework) -> anyhow::Result<()> {
    let definition = f.define(custom(&f, &["v1", "v2"], &Definition::anything())).await;
    let hooks = Hooks::new(&f).await?;
    let mut all = two_stages(&hooks, &definition, &["CREATE", "UPDATE"]);
    for hook in &mut all {
        hook["rules"][0]["apiVersions"] = json!(["v1"]);
        hook["matchPolicy"] = "Equivalent".into();
    }
    hooks.register(MUTATING, all).await;
    let objects = definition.objects(&f.namespace);
    let made = f.wire.post(&objects, &instance(&definition, "cr-instance-1", json!({"mutation-start": "yes"}))).await.expect(201);
    assert_eq!(made["data"]["mutation-stage-2"], "yes");
    let stored = json!([{"op": "replace", "path": "/spec/versions/0/storage", "value": false}, {"op": "replace", "path": "/spec/versions/1/storage", "value": true}]);
    let changed = f.wire.patch("json", &definition.path(), &stored).await.expect(200);
    assert_eq!(changed["status"]["storedVersions"], json!(["v1", "v2"]));
    let path = format!("{objects}/cr-instance-1");
    let patched = f.wire.patch("merge", &path, &json!({"dummy": "test"})).await.expect(200);
    assert_eq!((&patched["dummy"], &patched["data"]["mutation-stage-2"]), (&json!("test"), &json!("yes")));
    Ok(())
}

async fn custom_resource_pruned(f: Framework) -> anyhow::Result<()> {
    let data = json!({"type": "object", "properties": {"mutation-start": {"type": "string"}, "mutation-stage-1": {"type": "string"}}});
    let schema = json!({"type": "object", "properties": {"data": data}});
    let definition = f.define(custom(&f, &["v1"], &schema)).await;
    let hooks = Hooks::new(&f).await?;
    hooks.register(MUTATING, two_stages(&hooks, &definition, &["CREATE"])).await;
    let made =
        f.wire.post(&definition.objects(&f.namespace), &instance(&definition, "cr-instance-1", json!({"mutation-start": "yes"}))).await;
    assert_eq!(made.expect(201)["data"], json!({"mutation-start": "yes", "mutation-stage-1": "yes"}));
    Ok(())
}

async fn pod_defaulted(f: Framework) -> anyhow::Result<()> {
    let hooks = Hooks::new(&f).await?;
    hooks.register(MUTATING, vec![hooks.hook("/mutating-pods", &["CREATE"], "", "pods")]).await;
    let made = f.wire.post(&f.core("pods"), &Framework::script("webhook-to-be-mutated", "true")).await.expect(201);
    let added = &made["spec"]["initContainers"];
    assert_eq!(added.as_array().map(Vec::len), Some(1), "{added}");
    assert_eq!((&added[0]["name"], &added[0]["terminationMessagePolicy"]), (&json!("webhook-added-init-container"), &json!("File")));
    Ok(())
}

async fn configurations_exempt(f: Framework) -> anyhow::Result<()> {
    let hooks = Hooks::new(&f).await?;
    for (plural, path, operations) in [(VALIDATING, "/always-deny", "DELETE"), (MUTATING, "/add-label", "*")] {
        let mut all = vec![];
        for resource in [VALIDATING, MUTATING] {
            let mut hook = hooks.hook(path, &[operations], "admissionregistration.k8s.io", resource);
            hook["name"] = format!("{resource}.webhook.k8s.io").into();
            hook["namespaceSelector"] = json!({});
            all.push(hook);
        }
        hooks.register(plural, all).await;
    }
    for plural in [VALIDATING, MUTATING] {
        let mut hook = hooks.hook("/x", &["CREATE"], "", "configmaps");
        hook["objectSelector"] = json!({"matchLabels": {"no": "thing"}});
        let path = hooks.register(plural, vec![hook]).await;
        let found = f.wire.get(&path).await.expect(200);
        assert_eq!(found["metadata"]["labels"].get("added-label"), None);
        f.wire.delete(&path).await.expect(200);
        f.until_gone(&path, SOON).await;
    }
    Ok(())
}

async fn fails_closed(f: Framework) -> anyhow::Result<()> {
    let hooks = Hooks::new(&f).await?;
    let closed = f.new_namespace("fail-closed").await?;
    let label = json!({"metadata": {"labels": {"fail-closed": f.namespace}}});
    f.wire.patch("merge", &format!("/api/v1/namespaces/{closed}"), &label).await.expect(200);
    let mut hook = hooks.hook("/configmaps", &["CREATE"], "", "configmaps");
    hook["namespaceSelector"] = json!({"matchLabels": {"fail-closed": f.namespace}});
    // Nobody's authority: the server cannot be talked to.
    hook["clientConfig"].as_object_mut().expect("a map").remove("caBundle");
    hooks.register(VALIDATING, vec![hook]).await;
    let inside = f.in_namespace(&closed);
    let refused = f.wire.post(&inside.core("configmaps"), &configmap("foo", json!({}))).await;
    assert_eq!(refused.code, 500);
    denied(&refused, "failed calling webhook");
    Ok(())
}
