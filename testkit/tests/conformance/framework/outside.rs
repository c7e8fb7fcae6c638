//! Servers in the test's own process that the cluster calls: behind a Service without selector, whose EndpointSlice names this machine.

use std::path::Path;

use anyhow::Context as _;
use axum::Router;
use serde_json::{Value, json};
use testkit::{HttpsServer, Reviewer};

use super::Framework;

impl Framework {
    /// The address of the machine that the control plane runs on, as pods and the apiserver reach it.
    pub async fn host(&self) -> anyhow::Result<String> {
        let nodes = self.wire.get("/api/v1/nodes").await.expect(200);
        let addresses =
            nodes["items"].as_array().into_iter().flatten().flat_map(|n| n["status"]["addresses"].as_array().into_iter().flatten());
        let internal = addresses.filter(|a| a["type"] == "InternalIP").filter_map(|a| a["address"].as_str());
        // Of the nodes' addresses, one is this machine's: the only one that can be listened on.
        let mut own = internal.filter(|a| std::net::TcpListener::bind((*a, 0)).is_ok());
        own.next().map(str::to_owned).context("a node on this machine")
    }

    async fn behind_a_service(&self, name: &str, address: std::net::SocketAddr) {
        let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
            "spec": {"ports": [{"protocol": "TCP", "port": 8443, "targetPort": address.port()}]}});
        self.wire.post(&self.core("services"), &service).await.expect(201);
        let slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": name, "labels": {"kubernetes.io/service-name": name}}, "addressType": "IPv4",
            "endpoints": [{"addresses": [address.ip().to_string()], "conditions": {"ready": true}}],
            "ports": [{"name": "", "port": address.port(), "protocol": "TCP"}]});
        self.wire.post(&self.group("discovery.k8s.io/v1", "endpointslices"), &slice).await.expect(201);
    }

    /// A webhook server behind the Service `name` of the namespace, at port 8443.
    pub async fn reviewer(&self, name: &str, answer: impl Fn(&str, &Value) -> Value + Send + Sync + 'static) -> anyhow::Result<Reviewer> {
        let host = format!("{name}.{}.svc", self.namespace);
        let reviewer = Reviewer::start_at(&format!("{}:0", self.host().await?), &[&host], answer).await?;
        self.behind_a_service(name, reviewer.server.address).await;
        Ok(reviewer)
    }

    /// Any HTTPS server behind the Service `name` of the namespace, at port 8443; certificates of `clients` are asked for.
    pub async fn server(&self, name: &str, clients: &Path, app: Router) -> anyhow::Result<HttpsServer> {
        let host = format!("{name}.{}.svc", self.namespace);
        let server = HttpsServer::start_at(&format!("{}:0", self.host().await?), &[&host], Some(clients), app).await?;
        self.behind_a_service(name, server.address).await;
        Ok(server)
    }

    /// A `clientConfig` that names the Service.
    pub fn client_config(&self, name: &str, path: &str, ca_bundle: &str) -> Value {
        json!({"service": {"namespace": self.namespace, "name": name, "path": path, "port": 8443}, "caBundle": ca_bundle})
    }
}
