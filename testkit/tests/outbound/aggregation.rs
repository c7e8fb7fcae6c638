//! Aggregated apiservers: another server's group version behind a Service.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use axum::{Json, Router};
use daemon::http::Peer;
use parking_lot::Mutex;
use serde_json::{Value, json};
use testkit::{ApiServer, HttpsServer, Wire, eventually};

const SOON: Duration = Duration::from_secs(30);
const SERVICES: &str = "/apis/apiregistration.k8s.io/v1/apiservices";
const NAME: &str = "v1alpha1.wardle.example.com";
const ROOT: &str = "/apis/wardle.example.com/v1alpha1";

/// What an aggregated server was asked by the front proxy: method and path, and the headers that name the user.
type Asked = Arc<Mutex<Vec<(String, Vec<String>)>>>;

async fn extension(State(asked): State<Asked>, request: Request) -> Response {
    let path = request.uri().path_and_query().map(ToString::to_string).unwrap_or_default();
    let peer = request.extensions().get::<Peer>().expect("a peer");
    if peer.certificates.is_empty() {
        return http::StatusCode::UNAUTHORIZED.into_response();
    }
    let mut names: Vec<String> = request
        .headers()
        .iter()
        .filter(|(name, _)| name.as_str().starts_with("x-remote-") || name.as_str() == "authorization")
        .map(|(name, value)| format!("{name}: {}", value.to_str().expect("text")))
        .collect();
    names.sort();
    asked.lock().push((format!("{} {path}", request.method()), names));
    match path.split('?').next().unwrap_or("") {
        ROOT => Json(json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "wardle.example.com/v1alpha1", "resources": [
            {"name": "flunders", "singularName": "flunder", "namespaced": true, "kind": "Flunder", "verbs": ["create", "get", "list"]}]}))
        .into_response(),
        "/openapi/v2" => {
            let paths = json!({"/apis/wardle.example.com/v1alpha1/": {"get": {"operationId": "getWardle"}}, "/version": {}});
            Json(json!({"swagger": "2.0", "paths": paths, "definitions": {}})).into_response()
        }
        "/openapi/v3" => {
            let url = "/openapi/v3/apis/wardle.example.com/v1alpha1?hash=1";
            Json(json!({"paths": {"apis/wardle.example.com/v1alpha1": {"serverRelativeURL": url}, "version": {"serverRelativeURL": "/x"}}}))
                .into_response()
        }
        "/openapi/v3/apis/wardle.example.com/v1alpha1" => Json(json!({"openapi": "3.0.0", "info": {"title": "wardle"}})).into_response(),
        path if path.ends_with("/flunders/none") => (http::StatusCode::NOT_FOUND, "none here").into_response(),
        _ => Json(json!({"kind": "Flunder", "apiVersion": "wardle.example.com/v1alpha1", "metadata": {"name": "f"}})).into_response(),
    }
}

struct World {
    server: ApiServer,
    wire: Wire,
    extension: HttpsServer,
    asked: Asked,
}

impl World {
    async fn start() -> Self {
        let server = ApiServer::start().await.expect("an apiserver");
        let wire = server.wire().await.expect("a client");
        let asked = Asked::default();
        let app = Router::new().fallback(extension).with_state(asked.clone());
        let proxies = server.pki.file("front-proxy-ca.crt");
        let extension = HttpsServer::start_at("127.0.0.1:0", &["api.default.svc"], Some(proxies.as_path()), app).await.expect("a server");
        Self { server, wire, extension, asked }
    }

    fn service(&self) -> Value {
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "api"},
            "spec": {"type": "ExternalName", "externalName": "localhost", "ports": [{"port": self.extension.port()}]}})
    }

    fn registration(&self) -> Value {
        json!({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": NAME}, "spec": {
            "group": "wardle.example.com", "version": "v1alpha1", "groupPriorityMinimum": 2000, "versionPriority": 200,
            "caBundle": self.extension.ca_bundle, "service": {"namespace": "default", "name": "api", "port": self.extension.port()}}})
    }

    async fn condition(&self, status: &str, reason: &str) -> Value {
        eventually(&format!("Available to be {status} for {reason}"), SOON, || async {
            let found = self.wire.get(&format!("{SERVICES}/{NAME}")).await.ok();
            let condition = found["status"]["conditions"][0].clone();
            (condition["status"] == status && condition["reason"] == reason).then_some(condition)
        })
        .await
    }

    async fn registered(&self) {
        self.wire.post("/api/v1/namespaces/default/services", &self.service()).await.expect(201);
        self.wire.post(SERVICES, &self.registration()).await.expect(201);
        self.condition("True", "Passed").await;
    }
}

#[tokio::test]
async fn requests_are_passed_on_with_the_users_identity() {
    let world = World::start().await;
    world.registered().await;
    let wire = world.wire.with("x-remote-group", "system:masters-of-somebody-else").with("accept", "application/json");
    let got = wire.get(&format!("{ROOT}/namespaces/default/flunders/f?x=1")).await.ok();
    assert_eq!(got["kind"], "Flunder");
    let line = format!("GET {ROOT}/namespaces/default/flunders/f?x=1");
    let names = world.asked.lock().iter().find(|(asked, _)| *asked == line).map(|(_, names)| names.clone()).expect("the request");
    assert_eq!(names, ["x-remote-group: system:authenticated", "x-remote-group: system:masters", "x-remote-user: kubernetes-admin"]);
    let none = wire.get(&format!("{ROOT}/namespaces/default/flunders/none")).await;
    assert_eq!((none.code, none.text().as_str()), (404, "none here"), "answers come back as they are");
    // Who may not, is not passed on.
    let stranger = world.server.wire_of("stranger", None).await.expect("a client");
    let before = world.asked.lock().len();
    stranger.get(&format!("{ROOT}/namespaces/default/flunders/f")).await.expect(403);
    assert!(!world.asked.lock()[before..].iter().any(|(line, _)| line.contains("flunders/f")));
}

#[tokio::test]
async fn discovery_and_openapi_show_what_others_serve() {
    let world = World::start().await;
    world.registered().await;
    let groups = world.wire.get("/apis").await.ok();
    let group = groups["groups"].as_array().expect("groups").iter().find(|g| g["name"] == "wardle.example.com").expect("the group").clone();
    assert_eq!(group["preferredVersion"]["groupVersion"], "wardle.example.com/v1alpha1");
    assert_eq!(world.wire.get("/apis/wardle.example.com").await.ok()["kind"], "APIGroup");
    assert_eq!(world.wire.get(ROOT).await.ok()["resources"][0]["name"], "flunders");
    let media = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    let found =
        |list: &Value| list["items"].as_array().expect("items").iter().find(|g| g["metadata"]["name"] == "wardle.example.com").cloned();
    let aggregated = found(&world.wire.with("accept", media).get("/apis").await.ok()).expect("the group");
    assert_eq!(
        (&aggregated["versions"][0]["freshness"], &aggregated["versions"][0]["resources"][0]["resource"]),
        (&json!("Current"), &json!("flunders"))
    );
    let index = world.wire.get("/openapi/v3").await.ok();
    let url = index["paths"]["apis/wardle.example.com/v1alpha1"]["serverRelativeURL"].as_str().expect("a URL").to_owned();
    assert_eq!(world.wire.get(&url).await.ok()["info"]["title"], "wardle");
    let swagger = world.wire.get("/openapi/v2").await.ok();
    assert_eq!(swagger["paths"][format!("{ROOT}/")]["get"]["operationId"], "getWardle");
    assert!(swagger["paths"].get("/api/v1/namespaces/{namespace}/pods").is_some(), "and everything else");

    world.wire.delete("/api/v1/namespaces/default/services/api").await.ok();
    let condition = world.condition("False", "ServiceNotFound").await;
    assert_eq!(condition["message"], r#"service/api in "default" is not present"#);
    let aggregated = found(&world.wire.with("accept", media).get("/apis").await.ok()).expect("the group");
    assert_eq!(
        (&aggregated["versions"][0]["freshness"], &aggregated["versions"][0]["resources"][0]["resource"]),
        (&json!("Stale"), &json!("flunders"))
    );
    let away = world.wire.get(&format!("{ROOT}/namespaces/default/flunders")).await;
    assert_eq!((away.code, away.text().as_str()), (503, "service unavailable\n"));
}

#[tokio::test]
async fn a_server_that_is_not_who_it_should_be_is_not_available() {
    let world = World::start().await;
    let stranger = HttpsServer::start(&[], Router::new()).await.expect("a server");
    world.wire.post("/api/v1/namespaces/default/services", &world.service()).await.expect(201);
    let mut registration = world.registration();
    registration["spec"]["caBundle"] = stranger.ca_bundle.clone().into();
    world.wire.post(SERVICES, &registration).await.expect(201);
    let condition = world.condition("False", "FailedDiscoveryCheck").await;
    let message = condition["message"].as_str().unwrap_or("").to_owned();
    assert!(message.contains("x509: certificate signed by unknown authority"), "{message}");
    // Unless the object says that nobody is to look.
    let skip = json!({"spec": {"caBundle": null, "insecureSkipTLSVerify": true}});
    world.wire.patch("merge", &format!("{SERVICES}/{NAME}"), &skip).await.ok();
    world.condition("True", "Passed").await;
}

#[tokio::test]
async fn what_is_served_here_has_apiservices_too() {
    let world = World::start().await;
    let local = eventually("the local APIServices", SOON, || async {
        let found = world.wire.get(&format!("{SERVICES}/v1.apps")).await;
        (found.code == 200).then(|| found.json())
    })
    .await;
    assert_eq!((&local["spec"]["groupPriorityMinimum"], local["spec"].get("service")), (&json!(17_800), None));
    assert_eq!(
        (&local["status"]["conditions"][0]["reason"], &local["status"]["conditions"][0]["status"]),
        (&json!("Local"), &json!("True"))
    );
    let crd = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "foos.x.io"},
        "spec": {"group": "x.io", "scope": "Namespaced", "names": {"plural": "foos", "kind": "Foo"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object"}}}]}});
    world.wire.post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", &crd).await.expect(201);
    eventually("the definition's APIService", SOON, || async {
        (world.wire.get(&format!("{SERVICES}/v1.x.io")).await.code == 200).then_some(())
    })
    .await;
    world.wire.delete("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/foos.x.io").await.ok();
    eventually("it to go", SOON, || async { (world.wire.get(&format!("{SERVICES}/v1.x.io")).await.code == 404).then_some(()) }).await;
}

#[tokio::test]
async fn a_proxy_speaks_for_others_and_nobody_else_does() {
    let world = World::start().await;
    let url = &world.server.url;
    let whoami = |wire: Wire| async move {
        let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
        wire.post("/apis/authentication.k8s.io/v1/selfsubjectreviews", &review).await
    };
    // The front proxy's own certificate, as a client's.
    let text = std::fs::read_to_string(&world.server.kubeconfig).expect("a kubeconfig");
    let name = world.server.kubeconfig.file_stem().and_then(|n| n.to_str()).expect("a name");
    let proxy = ["crt", "key"].iter().fold(text, |t, file| t.replace(&format!("{name}.{file}"), &format!("front-proxy-client.{file}")));
    let path = world.server.dir().join("front-proxy.conf");
    std::fs::write(&path, proxy).expect("a file");
    let wire = Wire::new(daemon::client::connect(&path, "testkit").await.expect("a client"));
    let named = wire.with("x-remote-user", "jane").with("x-remote-group", "writers").with("x-remote-extra-scopes", "all");
    let review = whoami(named).await.expect(201);
    let user = &review["status"]["userInfo"];
    assert_eq!(
        (&user["username"], &user["groups"], &user["extra"]["scopes"]),
        (&json!("jane"), &json!(["writers", "system:authenticated"]), &json!(["all"]))
    );
    // For nobody, it is nobody.
    whoami(wire).await.expect(403);
    // Others may say what they like.
    let liar =
        world.server.wire_of("liar", None).await.expect("a client").with("x-remote-user", "jane").with("x-remote-group", "system:masters");
    assert_eq!(whoami(liar).await.expect(201)["status"]["userInfo"]["username"], "liar", "at {url}");
    let published = world.wire.get("/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication").await.ok();
    assert_eq!(published["data"]["requestheader-username-headers"], r#"["X-Remote-User"]"#);
    assert!(published["data"]["requestheader-client-ca-file"].as_str().is_some_and(|ca| ca.starts_with("-----BEGIN CERTIFICATE-----")));
}
