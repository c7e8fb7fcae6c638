//! Custom resources against a real apiserver on real etcd, as kubectl and controllers use them.

use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Client;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use serde_json::{Value, json};
use testkit::{ApiServer, eventually};

/// Long enough for a busy machine; a test that passes takes a few seconds.
const SOON: Duration = Duration::from_secs(60);
const NAME: &str = "crontabs.stable.example.com";
const TABS: &str = "/apis/stable.example.com/v1/namespaces/default/crontabs";

/// As in Kubernetes' documentation, with all that a version may have.
const DEFINITION: &str = r#"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: crontabs.stable.example.com
spec:
  group: stable.example.com
  scope: Namespaced
  names: {plural: crontabs, singular: crontab, kind: CronTab, shortNames: [ct], categories: [all]}
  versions:
  - name: v1beta1
    served: true
    storage: false
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
  - name: v1
    served: true
    storage: true
    schema:
      openAPIV3Schema:
        description: Runs something now and then.
        type: object
        required: [spec]
        properties:
          spec:
            type: object
            required: [cronSpec]
            properties:
              cronSpec: {type: string, pattern: '^(\d+|\*)(/\d+)?(\s+(\d+|\*)(/\d+)?){4}$', description: When it runs.}
              image: {type: string}
              replicas: {type: integer, minimum: 1, maximum: 10, default: 1}
              steps:
                type: array
                x-kubernetes-list-type: map
                x-kubernetes-list-map-keys: [name]
                items: {type: object, required: [name], properties: {name: {type: string}, command: {type: string}}}
          status:
            type: object
            properties: {replicas: {type: integer}, labelSelector: {type: string}}
    subresources:
      status: {}
      scale: {specReplicasPath: .spec.replicas, statusReplicasPath: .status.replicas, labelSelectorPath: .status.labelSelector}
    selectableFields: [{jsonPath: .spec.image}]
    additionalPrinterColumns:
    - {name: Spec, type: string, jsonPath: .spec.cronSpec}
    - {name: Replicas, type: integer, jsonPath: .spec.replicas}
"#;

struct Cluster {
    client: Client,
    _server: ApiServer,
}

impl Cluster {
    async fn start() -> Self {
        let server = ApiServer::start().await.expect("an apiserver");
        let client = server.client().await.expect("a client");
        let cluster = Self { client, _server: server };
        eventually("the namespace default", SOON, || async { cluster.get("/api/v1/namespaces/default").await.ok() }).await;
        cluster
    }

    fn definitions(&self) -> Api<CustomResourceDefinition> {
        Api::all(self.client.clone())
    }

    /// Creates the definition from its YAML, as kubectl does, and waits until it is established.
    async fn define(&self) {
        let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
        self.send("POST", path, "application/yaml", DEFINITION.to_owned()).await.expect("the definition is created");
        eventually("the definition to be established", SOON, || async {
            let crd = self.definitions().get(NAME).await.ok()?;
            let conditions = crd.status?.conditions?;
            conditions.iter().any(|c| c.type_ == "Established" && c.status == "True").then_some(())
        })
        .await;
    }

    async fn send(&self, method: &str, path: &str, content_type: &str, body: String) -> Result<Value, String> {
        let request = http::Request::builder().method(method).uri(path).header("content-type", content_type);
        let request = request.body(body.into_bytes()).expect("a request");
        match self.client.request::<Value>(request).await {
            Ok(value) => Ok(value),
            Err(kube::Error::Api(status)) => Err(format!("{} {}: {}", status.code, status.reason, status.message)),
            Err(error) => panic!("{method} {path}: {error}"),
        }
    }

    async fn get(&self, path: &str) -> Result<Value, String> {
        self.send("GET", path, "application/json", String::new()).await
    }

    async fn create(&self, tab: Value) -> Result<Value, String> {
        self.send("POST", TABS, "application/json", tab.to_string()).await
    }

    async fn table(&self) -> Value {
        let request = http::Request::get(TABS).header("accept", "application/json;as=Table;v=v1;g=meta.k8s.io");
        self.client.request(request.body(vec![]).expect("a request")).await.expect("a table")
    }
}

fn tab(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "stable.example.com/v1", "kind": "CronTab", "metadata": {"name": name}, "spec": spec})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_definition_is_served_until_it_is_deleted_with_its_objects() {
    let cluster = Cluster::start().await;
    assert!(cluster.get(TABS).await.expect_err("nothing is served yet").starts_with("404"));
    cluster.define().await;

    // Discovery and OpenAPI know it as soon as it is established.
    let group = cluster.get("/apis/stable.example.com").await.expect("the group");
    assert_eq!(group["preferredVersion"]["version"], "v1");
    let resources = cluster.get("/apis/stable.example.com/v1").await.expect("its resources");
    let names: Vec<&str> = resources["resources"].as_array().expect("a list").iter().filter_map(|r| r["name"].as_str()).collect();
    assert_eq!(names, ["crontabs", "crontabs/status", "crontabs/scale"]);
    assert_eq!(resources["resources"][0]["shortNames"], json!(["ct"]));
    let openapi = cluster.get("/openapi/v3/apis/stable.example.com/v1").await.expect("its document");
    let schema = &openapi["components"]["schemas"]["com.example.stable.v1.CronTab"];
    assert_eq!(schema["description"], "Runs something now and then.");
    assert_eq!(schema["properties"]["spec"]["properties"]["cronSpec"]["description"], "When it runs.");
    assert_eq!(schema["x-kubernetes-group-version-kind"][0]["kind"], "CronTab");

    // Defaults, pruning, generation.
    let made = cluster.create(tab("a", json!({"cronSpec": "* * * * */5", "image": "x", "unknown": 1}))).await.expect("an object");
    assert_eq!(made["spec"], json!({"cronSpec": "* * * * */5", "image": "x", "replicas": 1}));
    assert_eq!(made["metadata"]["generation"], 1);
    let strict = format!("{TABS}?fieldValidation=Strict");
    let refused =
        cluster.send("POST", &strict, "application/json", tab("b", json!({"cronSpec": "* * * * *", "unknown": 1})).to_string()).await;
    assert!(refused.expect_err("an unknown field").contains(r#"strict decoding error: unknown field "spec.unknown""#));
    assert_eq!(cluster.table().await["rows"][0]["cells"], json!(["a", "* * * * */5", 1]));
    let selected = cluster.get(&format!("{TABS}?fieldSelector=spec.image%3Dx")).await.expect("a selection");
    assert_eq!(selected["items"].as_array().map(Vec::len), Some(1));
    let other = cluster.get("/apis/stable.example.com/v1beta1/namespaces/default/crontabs/a").await.expect("the other version");
    assert_eq!((&other["apiVersion"], &other["spec"]["replicas"]), (&json!("stable.example.com/v1beta1"), &json!(1)));

    // Deleting the definition deletes the objects, and then there is no such route.
    cluster.definitions().delete(NAME, &DeleteParams::default()).await.expect("the definition goes");
    eventually("the route to go", SOON, || async { cluster.get(TABS).await.err().filter(|e| e.starts_with("404")) }).await;
    eventually("the definition to go", SOON, || async { cluster.definitions().get_opt(NAME).await.ok()?.is_none().then_some(()) }).await;
    cluster.define().await;
    let list = cluster.get(TABS).await.expect("a new list");
    assert_eq!(list["items"], json!([]), "nothing came back");
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_objects_are_refused_in_upstreams_words() {
    let cluster = Cluster::start().await;
    cluster.define().await;
    let refused = cluster.create(tab("a", json!({"cronSpec": "never", "replicas": 11}))).await.expect_err("two mistakes");
    assert_eq!(
        refused,
        r#"422 Invalid: CronTab.stable.example.com "a" is invalid: [spec.cronSpec: Invalid value: "never": spec.cronSpec in body should match '^(\d+|\*)(/\d+)?(\s+(\d+|\*)(/\d+)?){4}$', spec.replicas: Invalid value: 11: spec.replicas in body should be less than or equal to 10]"#
    );
    let refused = cluster.create(tab("a", json!({"replicas": "x"}))).await.expect_err("a wrong type");
    assert!(
        refused.contains(r#"spec.replicas: Invalid value: "string": spec.replicas in body must be of type integer: "string""#),
        "{refused}"
    );
    assert!(refused.contains("spec.cronSpec: Required value"), "{refused}");

    let broken = DEFINITION.replace("description: Runs something now and then.\n        type: object", "description: Nothing.");
    let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let refused = cluster.send("POST", path, "application/yaml", broken.replace("crontabs", "tabs")).await.expect_err("no structure");
    assert!(refused.contains("openAPIV3Schema.type: Required value: must not be empty at the root"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn names_belong_to_one_definition() {
    let cluster = Cluster::start().await;
    cluster.define().await;
    let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let other = DEFINITION.replace("crontabs", "tabs").replace("singular: crontab,", "singular: tab,");
    cluster.send("POST", path, "application/yaml", other).await.expect("a definition");
    let conditions = eventually("its names to be looked at", SOON, || async {
        let crd = cluster.definitions().get("tabs.stable.example.com").await.ok()?;
        crd.status?.conditions.filter(|c| !c.is_empty())
    })
    .await;
    let shown: Vec<_> = conditions.iter().map(|c| format!("{}={} {}", c.type_, c.status, c.reason.as_deref().unwrap_or(""))).collect();
    assert_eq!(shown, ["NamesAccepted=False ListKindConflict", "Established=False NotAccepted"]);
    assert!(cluster.get("/apis/stable.example.com/v1/tabs").await.expect_err("it is not served").starts_with("404"));
}

#[tokio::test(flavor = "multi_thread")]
async fn patches_apply_status_and_scale() {
    let cluster = Cluster::start().await;
    cluster.define().await;
    let gvk = kube::core::GroupVersionKind::gvk("stable.example.com", "v1", "CronTab");
    let tabs: Api<kube::core::DynamicObject> =
        Api::default_namespaced_with(cluster.client.clone(), &kube::core::ApiResource::from_gvk(&gvk));

    let apply = |manager: &str, force: bool| PatchParams { force, ..PatchParams::apply(manager) };
    let steps = |name: &str| tab("a", json!({"cronSpec": "* * * * *", "steps": [{"name": name, "command": "run"}]}));
    tabs.patch("a", &apply("one", false), &Patch::Apply(steps("first"))).await.expect("an apply creates");
    let both = tabs.patch("a", &apply("two", false), &Patch::Apply(steps("second"))).await.expect("another manager's item");
    let names: Vec<&Value> = both.data["spec"]["steps"].as_array().expect("a list").iter().map(|s| &s["name"]).collect();
    assert_eq!(names, ["first", "second"], "a list of type map merges");
    let mut events = tabs.watch(&WatchParams::default(), "0").await.expect("a watch").boxed();
    let event = tokio::time::timeout(SOON, events.next()).await.expect("an event in time");
    assert!(matches!(event, Some(Ok(WatchEvent::Added(seen))) if seen.metadata.name.as_deref() == Some("a")));
    let clash = tab("a", json!({"cronSpec": "1 * * * *"}));
    let refused = tabs.patch("a", &apply("two", false), &Patch::Apply(&clash)).await.expect_err("the other manager's field");
    assert!(refused.to_string().contains("conflict"), "{refused}");
    tabs.patch("a", &apply("two", true), &Patch::Apply(&clash)).await.expect("force");

    let merged = tabs.patch("a", &PatchParams::default(), &Patch::Merge(json!({"spec": {"image": "y"}}))).await.expect("a merge patch");
    assert_eq!(merged.data["spec"]["image"], "y");
    let path = format!("{TABS}/a");
    let refused = cluster.send("PATCH", &path, "application/strategic-merge-patch+json", "{}".to_owned()).await;
    assert!(refused.expect_err("no strategic patch").starts_with("415"));

    let generation = merged.metadata.generation;
    let status = json!({"spec": {"image": "z"}, "status": {"replicas": 2, "labelSelector": "a=b"}});
    let updated = tabs.patch_status("a", &PatchParams::default(), &Patch::Merge(&status)).await.expect("a status patch");
    assert_eq!((&updated.data["spec"]["image"], &updated.data["status"]["replicas"]), (&json!("y"), &json!(2)));
    assert_eq!(updated.metadata.generation, generation, "a status is no new generation");

    let scale = tabs.get_scale("a").await.expect("a scale");
    assert_eq!(scale.status.map(|s| (s.replicas, s.selector)), Some((2, Some("a=b".to_owned()))));
    let scaled =
        tabs.patch_scale("a", &PatchParams::default(), &Patch::Merge(json!({"spec": {"replicas": 5}}))).await.expect("a scale patch");
    assert_eq!(scaled.spec.and_then(|s| s.replicas), Some(5));
    assert_eq!(tabs.get("a").await.expect("the object").data["spec"]["replicas"], 5);
    let refused = tabs.patch_scale("a", &PatchParams::default(), &Patch::Merge(json!({"spec": {"replicas": 50}}))).await;
    assert!(refused.expect_err("too many").to_string().contains("less than or equal to 10"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_default_reaches_what_is_stored() {
    let cluster = Cluster::start().await;
    cluster.define().await;
    cluster.create(tab("a", json!({"cronSpec": "* * * * *"}))).await.expect("an object");
    let mut crd = cluster.definitions().get(NAME).await.expect("the definition");
    let version = crd.spec.versions.iter_mut().find(|v| v.storage).expect("a stored version");
    let schema = version.schema.as_mut().and_then(|s| s.open_api_v3_schema.as_mut()).expect("a schema");
    let spec = schema.properties.as_mut().and_then(|p| p.get_mut("spec")).expect("a spec");
    let image = spec.properties.as_mut().and_then(|p| p.get_mut("image")).expect("an image");
    image.default = Some(k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::JSON(json!("made-up")));
    cluster.definitions().replace(NAME, &PostParams::default(), &crd).await.expect("the definition changes");
    eventually("the default to be seen", SOON, || async {
        let tab = cluster.get(&format!("{TABS}/a")).await.ok()?;
        (tab["spec"]["image"] == "made-up").then_some(())
    })
    .await;
}
