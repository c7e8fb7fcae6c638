//! The apiserver as its clients see it: over TLS, on real etcd. One file an area; each test has a server of its own.

mod access;
mod applying;
mod bad_input;
mod conditions;
mod connections;
mod kubectl;
mod kubelet;
mod limits;
mod lists;
mod model;
mod policies;
mod resize;
mod rules;
mod secrets;
mod several;
mod surface;
mod verbs_on_every_row;
mod watch;
mod words;

use serde_json::json;
use testkit::Wire;

/// A namespace that pods can be made in: with the account that a controller would make there.
async fn namespace(wire: &Wire, name: &str) {
    let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
    wire.post("/api/v1/namespaces", &object).await.ok();
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
    wire.post(&format!("/api/v1/namespaces/{name}/serviceaccounts"), &account).await.ok();
}
