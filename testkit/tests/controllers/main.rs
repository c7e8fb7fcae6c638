//! The controllers against a real apiserver on real etcd. A hollow kubelet binds pods, makes them ready and ends them.

mod autoscaling;
mod certificates;
mod handover;
mod stale_plans;
mod storage;
mod tokens;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use clap::Parser as _;
use daemon::{CancellationToken, Context};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Node, Pod, Service, ServiceAccount};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, PropagationPolicy};
use kube::{Client, ResourceExt as _};
use serde_json::{Value, json};
use testkit::{ApiServer, eventually};
use tokio::task::JoinHandle;

/// Long enough for a busy machine; a test that passes takes a few seconds.
const SOON: Duration = Duration::from_secs(60);

struct Cluster {
    client: Client,
    stop: CancellationToken,
    _tasks: Vec<JoinHandle<()>>,
    server: ApiServer,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Cluster {
    async fn start() -> Self {
        Self::start_with(&["--leader-elect=false"], Some("n1")).await
    }

    /// With further flags for the controllers. The hollow kubelet binds pods to this node, or leaves that to a scheduler.
    async fn start_with(flags: &[&str], node: Option<&'static str>) -> Self {
        let mut cluster = Self::without_controllers(node).await;
        cluster.controllers(flags, cluster.stop.child_token());
        for name in ["default", "kube-system"] {
            cluster.namespace(name).await;
        }
        cluster
    }

    async fn without_controllers(node: Option<&'static str>) -> Self {
        let server = ApiServer::start_with(&["--enable-bootstrap-token-auth"]).await.expect("an apiserver");
        let client = server.client().await.expect("a client");
        let stop = CancellationToken::new();
        let mut cluster = Self { client, stop, _tasks: Vec::new(), server };
        cluster._tasks.push(tokio::spawn(kubelet(cluster.client.clone(), cluster.stop.clone(), node)));
        cluster
    }

    fn controllers(&mut self, more: &[&str], stop: CancellationToken) {
        // With the rights that its role gives, not an administrator's.
        let (pki, url) = (&self.server.pki, &self.server.url);
        let kubeconfig = pki.kubeconfig("controller-manager", "system:kube-controller-manager", None, url).expect("a kubeconfig");
        self.controllers_by(&kubeconfig, more, stop);
    }

    /// Controllers that reach the apiserver by this kubeconfig.
    fn controllers_by(&mut self, kubeconfig: &Path, more: &[&str], stop: CancellationToken) {
        let flag = |name: &str, path: &Path| format!("--{name}={}", path.display());
        let pki = &self.server.pki;
        let arguments = [
            "controller-manager".to_owned(),
            flag("kubeconfig", kubeconfig),
            flag("root-ca-file", &self.server.pki.file("ca.crt")),
            flag("service-account-private-key-file", &pki.file("sa.key")),
            flag("cluster-signing-cert-file", &pki.file("ca.crt")),
            flag("cluster-signing-key-file", &pki.file("ca.key")),
            "--allocate-node-cidrs=true".to_owned(),
            "--cluster-cidr=10.244.0.0/16".to_owned(),
        ];
        let flags = controller_manager::Flags::parse_from(arguments.into_iter().chain(more.iter().map(|f| (*f).to_owned())));
        let context = Context::embedded("controller-manager", stop);
        self._tasks.push(tokio::spawn(async move { controller_manager::run(flags, context).await.expect("the controllers run") }));
    }

    /// Creates a namespace, unless the server made it itself.
    async fn namespace(&self, name: &str) {
        let namespace: Namespace = serde_json::from_value(json!({"metadata": {"name": name}})).expect("a namespace");
        match Api::all(self.client.clone()).create(&PostParams::default(), &namespace).await {
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            other => drop(other.expect("the namespace is created")),
        }
    }

    fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), "default")
    }

    async fn deployment(&self, replicas: i32) {
        let deployment: Deployment = serde_json::from_value(json!({
            "metadata": {"name": "web"},
            "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}},
                     "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "v1"}]}}}
        }))
        .expect("a deployment");
        self.api().create(&PostParams::default(), &deployment).await.expect("the deployment is created");
        self.rolled_out(replicas).await;
    }

    async fn rolled_out(&self, replicas: i32) {
        let api = self.api::<Deployment>();
        eventually("the rollout", SOON, || async {
            let d = api.get("web").await.ok()?;
            let s = d.status?;
            let done =
                s.observed_generation >= d.metadata.generation && s.updated_replicas == Some(replicas) && s.replicas == Some(replicas);
            (done && s.available_replicas == Some(replicas)).then_some(())
        })
        .await;
    }

    async fn image(&self, image: &str) {
        let patch = json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": image}]}}}});
        self.api::<Deployment>().patch("web", &PatchParams::default(), &Patch::Strategic(patch)).await.expect("the patch");
    }

    async fn count<K>(&self) -> usize
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope> + Clone + std::fmt::Debug + serde::de::DeserializeOwned,
        K::DynamicType: Default,
    {
        self.api::<K>().list(&ListParams::default().labels("app=web")).await.map_or(usize::MAX, |l| l.items.len())
    }

    async fn counts(&self, replica_sets: usize, pods: usize) {
        eventually("the numbers of ReplicaSets and pods", SOON, || async {
            (self.count::<ReplicaSet>().await == replica_sets && self.count::<Pod>().await == pods).then_some(())
        })
        .await;
    }
}

/// Binds pods to `node`, if there is one, readies and ends them.
async fn kubelet(client: Client, stop: CancellationToken, node: Option<&str>) {
    let mut number = 0;
    while !stop.is_cancelled() {
        let pods = Api::<Pod>::all(client.clone()).list(&ListParams::default()).await.map(|l| l.items).unwrap_or_default();
        for pod in pods {
            let api = Api::<Pod>::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
            let name = pod.name_any();
            let phase = pod.status.as_ref().and_then(|s| s.phase.clone()).unwrap_or_default();
            // A conflict or a pod that went is seen again in the next round.
            if pod.metadata.deletion_timestamp.is_some() {
                api.delete(&name, &DeleteParams::default().grace_period(0)).await.map(drop).ok();
            } else if pod.spec.as_ref().is_some_and(|s| s.node_name.is_none()) {
                let Some(node) = node else { continue };
                let target = json!({"kind": "Node", "name": node});
                let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name}, "target": target});
                api.create_subresource::<Value, Value>("binding", &name, &PostParams::default(), &binding).await.map(drop).ok();
            } else if phase != "Running" {
                number += 1;
                let ip = format!("10.244.0.{number}");
                let ready = json!({"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"});
                let status = json!({"status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}], "conditions": [ready]}});
                api.patch_status(&name, &PatchParams::default(), &Patch::Merge(status)).await.map(drop).ok();
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_rolls_forward_and_back() {
    let cluster = Cluster::start().await;
    cluster.deployment(3).await;
    cluster.image("v2").await;
    cluster.rolled_out(3).await;
    cluster.counts(2, 3).await;
    cluster.image("v1").await;
    cluster.rolled_out(3).await;
    let deployment = cluster.api::<Deployment>().get("web").await.expect("the deployment");
    assert_eq!(deployment.annotations().get("deployment.kubernetes.io/revision").map(String::as_str), Some("3"));
    cluster.counts(2, 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_owns_is_collected_and_what_is_orphaned_stays() {
    let cluster = Cluster::start().await;
    for policy in [PropagationPolicy::Background, PropagationPolicy::Foreground] {
        cluster.deployment(2).await;
        let params = DeleteParams { propagation_policy: Some(policy), ..DeleteParams::default() };
        cluster.api::<Deployment>().delete("web", &params).await.expect("the deletion");
        cluster.counts(0, 0).await;
        eventually("the deployment to go", SOON, || async {
            cluster.api::<Deployment>().get_opt("web").await.ok()?.is_none().then_some(())
        })
        .await;
    }
    cluster.deployment(2).await;
    cluster.api::<Deployment>().delete("web", &DeleteParams::orphan()).await.expect("the deletion");
    eventually("the orphaned ReplicaSet", SOON, || async {
        let gone = cluster.api::<Deployment>().get_opt("web").await.ok()?.is_none();
        let sets = cluster.api::<ReplicaSet>().list(&ListParams::default()).await.ok()?.items;
        (gone && sets.len() == 1 && sets[0].owner_references().is_empty()).then_some(())
    })
    .await;
    cluster.counts(1, 2).await;
    // And a new Deployment of the same template takes it over.
    cluster.deployment(2).await;
    cluster.counts(1, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_is_furnished_and_emptied() {
    let cluster = Cluster::start().await;
    cluster.namespace("t").await;
    let accounts: Api<ServiceAccount> = Api::namespaced(cluster.client.clone(), "t");
    let maps: Api<ConfigMap> = Api::namespaced(cluster.client.clone(), "t");
    eventually("the default account and the root CA", SOON, || async {
        let account = accounts.get_opt("default").await.ok()??;
        let map = maps.get_opt("kube-root-ca.crt").await.ok()??;
        (account.name_any() == "default" && map.data?.contains_key("ca.crt")).then_some(())
    })
    .await;
    let mut map = ConfigMap { data: Some(BTreeMap::new()), ..ConfigMap::default() };
    map.metadata.name = Some("mine".to_owned());
    maps.create(&PostParams::default(), &map).await.expect("the map is created");
    let namespaces: Api<Namespace> = Api::all(cluster.client.clone());
    namespaces.delete("t", &DeleteParams::default()).await.expect("the deletion");
    eventually("the namespace to go", SOON, || async { namespaces.get_opt("t").await.ok()?.is_none().then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slices_follow_readiness() {
    let cluster = Cluster::start().await;
    let service: Service =
        serde_json::from_value(json!({"metadata": {"name": "web"}, "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]}}))
            .expect("a service");
    cluster.api().create(&PostParams::default(), &service).await.expect("the service is created");
    cluster.deployment(2).await;
    let ready = |wanted: usize| {
        let api = cluster.api::<EndpointSlice>();
        async move {
            eventually("the number of ready endpoints", SOON, || async {
                let slices = api.list(&ListParams::default().labels("kubernetes.io/service-name=web")).await.ok()?.items;
                let all = slices.iter().flat_map(|s| &s.endpoints);
                (all.filter(|e| e.conditions.as_ref().and_then(|c| c.ready) == Some(true)).count() == wanted).then_some(())
            })
            .await;
        }
    };
    ready(2).await;
    let pod = cluster.api::<Pod>().list(&ListParams::default().labels("app=web")).await.expect("pods").items[0].name_any();
    let unready = json!({"status": {"conditions": [{"type": "Ready", "status": "False"}]}});
    cluster.api::<Pod>().patch_status(&pod, &PatchParams::default(), &Patch::Merge(unready)).await.expect("the patch");
    ready(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_get_ranges_and_controllers_survive_a_restart_of_the_apiserver() {
    let mut cluster = Cluster::start().await;
    cluster.deployment(1).await;
    cluster.server.restart().await.expect("the apiserver comes back");
    cluster.image("v2").await;
    cluster.rolled_out(1).await;
    let nodes: Api<Node> = Api::all(cluster.client.clone());
    for name in ["a", "b"] {
        let node: Node = serde_json::from_value(json!({"metadata": {"name": name}})).expect("a node");
        nodes.create(&PostParams::default(), &node).await.expect("the node is created");
    }
    eventually("ranges for both nodes", SOON, || async {
        let all = nodes.list(&ListParams::default()).await.ok()?.items;
        let ranges: std::collections::BTreeSet<String> = all.into_iter().filter_map(|n| n.spec?.pod_cidr).collect();
        (ranges.len() == 2).then_some(())
    })
    .await;
}
