//! The scheduler against a real apiserver and etcd, with the rights of its own user.

use std::time::Duration;

use clap::Parser as _;
use daemon::{CancellationToken, Context};
use k8s_openapi::api::core::v1::{Node, Pod, PodCondition, ServiceAccount};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::scheduling::v1::PriorityClass;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use testkit::{ApiServer, eventually};

const SOON: Duration = Duration::from_secs(20);

/// Runs a scheduler in this process until the token is cancelled.
fn run(server: &ApiServer) -> (CancellationToken, tokio::task::JoinHandle<anyhow::Result<()>>) {
    let kubeconfig = server.pki.kubeconfig("scheduler", "system:kube-scheduler", None, &server.url).expect("a kubeconfig");
    let kubeconfig = format!("--kubeconfig={}", kubeconfig.display());
    let flags = scheduler::Flags::try_parse_from(["scheduler", &kubeconfig, "--secure-port=0"]).expect("flags");
    let stop = CancellationToken::new();
    let running = tokio::spawn(scheduler::run(flags, Context::embedded("scheduler", stop.clone())));
    (stop, running)
}

/// A cluster without kubelets whose scheduler runs in this process.
struct Cluster {
    client: Client,
    stop: CancellationToken,
    scheduler: tokio::task::JoinHandle<anyhow::Result<()>>,
    server: ApiServer,
}

impl Cluster {
    async fn start() -> Self {
        let server = ApiServer::start().await.expect("an apiserver");
        let client = server.client().await.expect("a client");
        let (stop, scheduler) = run(&server);
        let account = serde_json::from_value(json!({"metadata": {"name": "default"}})).expect("a service account");
        Api::<ServiceAccount>::namespaced(client.clone(), "default")
            .create(&PostParams::default(), &account)
            .await
            .expect("a service account");
        Self { client, stop, scheduler, server }
    }

    fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), "default")
    }

    /// A node that is ready, with so much CPU.
    async fn node(&self, name: &str, cpu: &str) {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let node = json!({"metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}}});
        nodes.create(&PostParams::default(), &serde_json::from_value(node).expect("a node")).await.expect("a node");
        let status = json!({"status": {"allocatable": {"cpu": cpu, "memory": "4Gi", "pods": "110"}, "capacity": {"cpu": cpu, "memory": "4Gi", "pods": "110"}}});
        nodes.patch_status(name, &PatchParams::default(), &Patch::Strategic(status)).await.expect("a status");
        // The apiserver keeps pods off a node that nobody has called ready.
        nodes.patch(name, &PatchParams::default(), &Patch::Merge(json!({"spec": {"taints": null}}))).await.expect("no taints");
    }

    async fn pod(&self, name: &str, cpu: &str, more: Value) {
        let mut pod = json!({
            "metadata": {"name": name},
            "spec": {"terminationGracePeriodSeconds": 0, "automountServiceAccountToken": false,
                "containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": cpu}}}]}});
        if let (Some(spec), Value::Object(more)) = (pod["spec"].as_object_mut(), more) {
            spec.extend(more);
        }
        self.pods().create(&PostParams::default(), &serde_json::from_value(pod).expect("a pod")).await.expect("a pod");
    }

    async fn is_on(&self, name: &str, node: &str) {
        eventually(&format!("{name} to be on {node}"), SOON, || async {
            let pod = self.pods().get_opt(name).await.ok()??;
            (pod.spec?.node_name? == node).then_some(())
        })
        .await;
    }

    async fn condition(&self, name: &str, reason: &str) -> PodCondition {
        eventually(&format!("{name} to be {reason}"), SOON, || async {
            let status = self.pods().get_opt(name).await.ok()??.status?;
            status.conditions?.into_iter().find(|c| c.type_ == "PodScheduled" && c.reason.as_deref() == Some(reason))
        })
        .await
    }

    async fn event(&self, pod: &str, reason: &str) -> String {
        let events: Api<Event> = Api::namespaced(self.client.clone(), "default");
        eventually(&format!("an event {reason} of {pod}"), SOON, || async {
            let list = events.list(&ListParams::default()).await.ok()?;
            let about =
                |e: &&Event| e.reason.as_deref() == Some(reason) && e.regarding.as_ref().and_then(|r| r.name.as_deref()) == Some(pod);
            list.iter().find(about)?.note.clone()
        })
        .await
    }

    async fn stop(self) {
        self.stop.cancel();
        self.scheduler.await.expect("no panic").expect("a clean stop");
    }
}

const NO_ROOM: &str =
    "0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod.";

#[tokio::test(flavor = "multi_thread")]
async fn pods_get_nodes_and_those_that_do_not_are_told_why() {
    let cluster = Cluster::start().await;
    cluster.node("a", "1").await;
    cluster.pod("first", "1", json!({})).await;
    cluster.is_on("first", "a").await;
    assert_eq!(cluster.event("first", "Scheduled").await, "Successfully assigned default/first to a");

    cluster.pod("second", "1", json!({})).await;
    assert_eq!(cluster.condition("second", "Unschedulable").await.message.as_deref(), Some(NO_ROOM));
    assert_eq!(cluster.event("second", "FailedScheduling").await, NO_ROOM);

    cluster.pods().delete("first", &DeleteParams::default().grace_period(0)).await.expect("a deletion");
    cluster.is_on("second", "a").await;

    cluster.pod("gated", "1m", json!({"schedulingGates": [{"name": "example.com/wait"}]})).await;
    cluster.condition("gated", "SchedulingGated").await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_of_pods_is_spread_over_the_nodes() {
    const PODS: usize = 60;
    let cluster = Cluster::start().await;
    for node in ["a", "b", "c"] {
        cluster.node(node, "100").await;
    }
    for i in 0..PODS {
        cluster.pod(&format!("p{i}"), "100m", json!({})).await;
    }
    let nodes = eventually("all pods to be bound", SOON, || async {
        let pods = cluster.pods().list(&ListParams::default()).await.ok()?;
        let nodes: Vec<String> = pods.into_iter().filter_map(|p| p.spec?.node_name).collect();
        (nodes.len() == PODS).then_some(nodes)
    })
    .await;
    for node in ["a", "b", "c"] {
        assert_eq!(nodes.iter().filter(|n| *n == node).count(), PODS / 3, "on {node}");
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn important_pods_take_the_room_of_others() {
    let cluster = Cluster::start().await;
    cluster.node("a", "1").await;
    cluster.pod("low", "1", json!({})).await;
    cluster.is_on("low", "a").await;
    let class: PriorityClass = serde_json::from_value(json!({"metadata": {"name": "important"}, "value": 1000})).expect("a priority class");
    Api::all(cluster.client.clone()).create(&PostParams::default(), &class).await.expect("a priority class");
    cluster.pod("high", "1", json!({"priorityClassName": "important"})).await;
    cluster.is_on("high", "a").await;
    let uid = cluster.pods().get("high").await.expect("the pod").metadata.uid.expect("a uid");
    assert_eq!(cluster.event("low", "Preempted").await, format!("Preempted by pod {uid} on node a"));
    assert!(cluster.pods().get_opt("low").await.expect("an answer").is_none_or(|p| p.metadata.deletion_timestamp.is_some()));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_apiserver_that_was_away_is_picked_up_again() {
    let mut cluster = Cluster::start().await;
    cluster.node("a", "1").await;
    cluster.pod("before", "100m", json!({})).await;
    cluster.is_on("before", "a").await;
    cluster.server.restart().await.expect("a restart");
    cluster.pod("after", "100m", json!({})).await;
    cluster.is_on("after", "a").await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_schedulers_one_works_and_the_other_takes_over() {
    let mut cluster = Cluster::start().await;
    cluster.node("a", "1").await;
    cluster.pod("first", "100m", json!({})).await;
    cluster.is_on("first", "a").await;
    let (stop, running) = run(&cluster.server);
    // The one that leads lets go of the Lease when it stops.
    let (stop, running) = (std::mem::replace(&mut cluster.stop, stop), std::mem::replace(&mut cluster.scheduler, running));
    stop.cancel();
    running.await.expect("no panic").expect("a clean stop");
    cluster.pod("second", "100m", json!({})).await;
    cluster.is_on("second", "a").await;
    cluster.stop().await;
}
