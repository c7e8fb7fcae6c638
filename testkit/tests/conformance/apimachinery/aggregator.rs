//! An aggregated apiserver: upstream runs its sample-apiserver as a pod, here one of the test's own stands in its place.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use axum::{Json, Router};
use daemon::http::Peer;
use http::{Method, StatusCode};
use http_body_util::BodyExt as _;
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::framework::{Behaviour, Framework, SOON, test};

pub const BEHAVIOURS: &[Behaviour] = &[Behaviour::serial(
    "[sig-api-machinery] Aggregator Should be able to support the 1.17 Sample API Server using the current Aggregator",
    test!(sample_apiserver),
)];

const GROUP: &str = "wardle.example.com";
const VERSION: &str = "v1alpha1";
const ROOT: &str = "/apis/wardle.example.com/v1alpha1";
const SERVICES: &str = "/apis/apiregistration.k8s.io/v1/apiservices";
const NAME: &str = "v1alpha1.wardle.example.com";

/// Flunders by namespace and name.
type Flunders = Arc<Mutex<BTreeMap<String, Value>>>;

/// The sample apiserver: it believes the front proxy alone, and serves flunders.
async fn sample(State(flunders): State<Flunders>, request: Request) -> Response {
    let trusted = request.extensions().get::<Peer>().is_some_and(|p| !p.certificates.is_empty());
    if !trusted || request.headers().get("x-remote-user").is_none() {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let body = request.into_body().collect().await.expect("a body").to_bytes();
    let rest = path.strip_prefix(ROOT).unwrap_or("?").trim_matches('/').to_owned();
    let parts: Vec<&str> = rest.split('/').collect();
    let missing = || {
        let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": "NotFound", "code": 404, "message": "not found"});
        (StatusCode::NOT_FOUND, Json(status)).into_response()
    };
    let mut all = flunders.lock();
    match (method, parts.as_slice()) {
        (Method::GET, [""]) => {
            let verbs = ["create", "delete", "get", "list"];
            let resource = json!({"name": "flunders", "singularName": "flunder", "namespaced": true, "kind": "Flunder", "verbs": verbs});
            let version = format!("{GROUP}/{VERSION}");
            Json(json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": [resource]})).into_response()
        }
        (Method::GET, ["namespaces", namespace, "flunders"]) => {
            let items: Vec<Value> = all.iter().filter(|(k, _)| k.starts_with(&format!("{namespace}/"))).map(|(_, v)| v.clone()).collect();
            Json(json!({"kind": "FlunderList", "apiVersion": format!("{GROUP}/{VERSION}"), "metadata": {"resourceVersion": "1"}, "items": items})).into_response()
        }
        (Method::POST, ["namespaces", namespace, "flunders"]) => {
            let mut object: Value = serde_json::from_slice(&body).expect("a flunder");
            object["metadata"]["namespace"] = (*namespace).into();
            object["metadata"]["uid"] = "1".into();
            let name = object["metadata"]["name"].as_str().expect("a name").to_owned();
            all.insert(format!("{namespace}/{name}"), object.clone());
            (StatusCode::CREATED, Json(object)).into_response()
        }
        (Method::GET, ["namespaces", namespace, "flunders", name]) => {
            all.get(&format!("{namespace}/{name}")).map_or_else(missing, |o| Json(o).into_response())
        }
        (Method::DELETE, ["namespaces", namespace, "flunders", name]) => {
            all.remove(&format!("{namespace}/{name}")).map_or_else(missing, |o| Json(o).into_response())
        }
        _ => missing(),
    }
}

fn available(service: &Value) -> bool {
    service["status"]["conditions"].as_array().is_some_and(|all| all.iter().any(|c| c["type"] == "Available" && c["status"] == "True"))
}

async fn sample_apiserver(f: Framework) -> anyhow::Result<()> {
    let authentication = f.wire.get("/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication").await.expect(200);
    let authority = authentication["data"]["requestheader-client-ca-file"].as_str().expect("the proxies' authority");
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), authority)?;
    let app = Router::new().fallback(sample).with_state(Flunders::default());
    let server = f.server("sample-api", file.path(), app).await?;

    let service = json!({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": NAME}, "spec": {
        "group": GROUP, "version": VERSION, "groupPriorityMinimum": 2000, "versionPriority": 200, "caBundle": server.ca_bundle,
        "service": {"namespace": f.namespace, "name": "sample-api", "port": 8443}}});
    f.wire.post(SERVICES, &service).await.expect(201);
    let path = format!("{SERVICES}/{NAME}");
    f.remove_later(&path);
    f.until_it(&path, "to be available", SOON, available).await;

    // As upstream: by kubectl's way of asking, by raw requests, and as discovery shows it.
    let flunders = format!("{ROOT}/namespaces/{}/flunders", f.namespace);
    let name = f.unique("rest-flunder");
    let flunder = json!({"apiVersion": format!("{GROUP}/{VERSION}"), "kind": "Flunder", "metadata": {"name": name, "labels": {"sample-label": "true"}}, "spec": {}});
    f.wire.post(&flunders, &flunder).await.expect(201);
    assert_eq!(f.wire.get(&flunders).await.expect(200)["items"][0]["metadata"]["name"], name.as_str());
    let shown = f.kubectl().ok(&["get", "flunders.v1alpha1.wardle.example.com", "-o", "name"]).await?;
    assert_eq!(shown.trim(), format!("flunder.wardle.example.com/{name}"));
    f.wire.delete(&format!("{flunders}/{name}")).await.expect(200);
    f.wire.get(&format!("{flunders}/{name}")).await.expect(404);
    let groups = f.wire.get("/apis").await.expect(200);
    assert!(groups["groups"].as_array().expect("groups").iter().any(|g| g["name"] == GROUP));

    // The APIService itself: its status read, updated and patched; itself replaced, listed and removed by label.
    let status = format!("{path}/status");
    f.until("a status update without a conflict", SOON, || async {
        let mut read = f.wire.get(&status).await.expect(200);
        let conditions = read["status"]["conditions"].as_array_mut().expect("conditions");
        conditions.push(json!({"type": "StatusUpdated", "status": "True", "reason": "E2E", "message": "Set from e2e test"}));
        let written = f.wire.put(&status, &read).await;
        (written.code == 200).then_some(())
    })
    .await;
    let has =
        |kind: &'static str| move |o: &Value| o["status"]["conditions"].as_array().is_some_and(|all| all.iter().any(|c| c["type"] == kind));
    f.until_it(&path, "to have the condition that was written", SOON, has("StatusUpdated")).await;
    let label = json!({"metadata": {"labels": {"e2e-apiservice": f.namespace}}});
    f.wire.patch("merge", &path, &label).await.expect(200);
    let selected = format!("{SERVICES}?labelSelector=e2e-apiservice%3D{}", f.namespace);
    assert_eq!(f.wire.get(&selected).await.expect(200)["items"].as_array().map(Vec::len), Some(1));
    f.until("a replacement without a conflict", SOON, || async {
        let mut read = f.wire.get(&path).await.expect(200);
        read["spec"]["versionPriority"] = 300.into();
        (f.wire.put(&path, &read).await.code == 200).then_some(())
    })
    .await;
    f.wire.delete(&selected).await.expect(200);
    f.until_gone(&path, SOON).await;
    assert_eq!(f.wire.get(&flunders).await.code, 404);
    Ok(())
}
