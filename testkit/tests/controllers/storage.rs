//! Volumes, claims and pods that use them: controllers and scheduler together.

use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod, PodCondition};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::storage::v1::StorageClass;

use super::*;
use jiff::Timestamp;

impl Cluster {
    fn scheduler(&mut self) {
        let pki = &self.server.pki;
        let kubeconfig = pki.kubeconfig("scheduler", "system:kube-scheduler", None, &self.server.url).expect("a kubeconfig");
        let kubeconfig = format!("--kubeconfig={}", kubeconfig.display());
        let flags = scheduler::Flags::parse_from(["scheduler", &kubeconfig, "--secure-port=0", "--leader-elect=false"]);
        let context = Context::embedded("scheduler", self.stop.child_token());
        self._tasks.push(tokio::spawn(async move { scheduler::run(flags, context).await.expect("the scheduler runs") }));
    }

    async fn ready_node(&self, name: &str) {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let node = json!({"metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}}});
        nodes.create(&PostParams::default(), &serde_json::from_value(node).expect("a node")).await.expect("a node");
        let ready =
            json!([{"type": "Ready", "status": "True", "lastHeartbeatTime": Timestamp::now(), "lastTransitionTime": Timestamp::now()}]);
        let status = json!({"status": {"allocatable": {"cpu": "4", "memory": "4Gi", "pods": "110"}, "conditions": ready}});
        nodes.patch_status(name, &PatchParams::default(), &Patch::Strategic(status)).await.expect("a status");
    }

    async fn make<K>(&self, api: Api<K>, object: Value)
    where
        K: kube::Resource + Clone + std::fmt::Debug + serde::de::DeserializeOwned + serde::Serialize,
    {
        let object: K = serde_json::from_value(object).expect("an object");
        api.create(&PostParams::default(), &object).await.expect("the object is created");
    }

    fn claim(name: &str, class: &str) -> Value {
        json!({"metadata": {"name": name}, "spec": {"storageClassName": class, "accessModes": ["ReadWriteOnce"],
               "resources": {"requests": {"storage": "1Gi"}}}})
    }

    fn pod(name: &str, volume: Value) -> Value {
        json!({"metadata": {"name": name}, "spec": {"automountServiceAccountToken": false,
               "containers": [{"name": "c", "image": "i"}], "volumes": [volume]}})
    }

    async fn phase(&self, claim: &str, wanted: &str) {
        let api = self.api::<PersistentVolumeClaim>();
        eventually(&format!("{claim} to be {wanted}"), SOON, || async {
            (api.get_opt(claim).await.ok()??.status?.phase? == wanted).then_some(())
        })
        .await;
    }

    async fn volume_phase(&self, volume: &str, wanted: &str) {
        let api = Api::<PersistentVolume>::all(self.client.clone());
        eventually(&format!("{volume} to be {wanted}"), SOON, || async {
            (api.get_opt(volume).await.ok()??.status?.phase? == wanted).then_some(())
        })
        .await;
    }

    /// Waits for an event with this in its text.
    async fn said(&self, about: &str, reason: &str, text: &str) {
        let api = self.api::<Event>();
        eventually(&format!("{reason} of {about}: {text}"), SOON, || async {
            let events = api.list(&ListParams::default()).await.ok()?.items;
            let of = |e: &Event| e.regarding.as_ref().and_then(|r| r.name.as_deref()) == Some(about) && e.reason.as_deref() == Some(reason);
            events.iter().any(|e| of(e) && e.note.as_deref().is_some_and(|n| n.contains(text))).then_some(())
        })
        .await;
    }

    /// Waits until the pod's condition says why it has no node. Its event may still tell an earlier reason: repetitions are counted there.
    async fn waits(&self, pod: &str, why: &str) {
        let api = self.api::<Pod>();
        eventually(&format!("{pod} to wait: {why}"), SOON, || async {
            let conditions = api.get_opt(pod).await.ok()??.status?.conditions?;
            let of = |c: &PodCondition| c.type_ == "PodScheduled" && c.status == "False";
            conditions.iter().any(|c| of(c) && c.message.as_deref().is_some_and(|m| m.contains(why))).then_some(())
        })
        .await;
    }

    /// Waits until pods can be created.
    async fn account(&self) {
        let api = self.api::<ServiceAccount>();
        eventually("the default account", SOON, || async { api.get_opt("default").await.ok()?.map(drop) }).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_waits_for_its_pod_and_both_go_where_the_volume_is() {
    let mut cluster = Cluster::start_with(&["--leader-elect=false"], None).await;
    cluster.scheduler();
    for name in ["a", "b"] {
        cluster.ready_node(name).await;
    }
    let (classes, volumes) = (Api::<StorageClass>::all(cluster.client.clone()), Api::<PersistentVolume>::all(cluster.client.clone()));
    let class =
        json!({"metadata": {"name": "local"}, "provisioner": "kubernetes.io/no-provisioner", "volumeBindingMode": "WaitForFirstConsumer"});
    cluster.make(classes, class).await;
    let on_b = json!({"required": {"nodeSelectorTerms": [{"matchExpressions": [
        {"key": "kubernetes.io/hostname", "operator": "In", "values": ["b"]}]}]}});
    let volume = json!({"metadata": {"name": "v"}, "spec": {"storageClassName": "local", "capacity": {"storage": "2Gi"},
        "accessModes": ["ReadWriteOnce"], "local": {"path": "/x"}, "nodeAffinity": on_b}});
    cluster.make(volumes.clone(), volume).await;
    cluster.make(cluster.api::<PersistentVolumeClaim>(), Cluster::claim("c", "local")).await;
    cluster.said("c", "WaitForFirstConsumer", "waiting for first consumer to be created before binding").await;
    cluster.account().await;
    let volume = json!({"name": "data", "persistentVolumeClaim": {"claimName": "c"}});
    cluster.make(cluster.api::<Pod>(), Cluster::pod("p", volume)).await;
    cluster.phase("c", "Bound").await;
    cluster.volume_phase("v", "Bound").await;
    let pods = cluster.api::<Pod>();
    let node = eventually("a node for the pod", SOON, || async { pods.get("p").await.ok()?.spec?.node_name }).await;
    assert_eq!(node, "b");
    // The claim stays until its pod is gone, and the volume keeps the data.
    let claims = cluster.api::<PersistentVolumeClaim>();
    claims.delete("c", &DeleteParams::default()).await.expect("the deletion");
    let claim = claims.get("c").await.expect("it is still there");
    assert_eq!(claim.metadata.finalizers.as_deref(), Some(&["kubernetes.io/pvc-protection".to_owned()][..]));
    pods.delete("p", &DeleteParams::default()).await.expect("the deletion");
    eventually("the claim to go", SOON, || async { claims.get_opt("c").await.ok()?.is_none().then_some(()) }).await;
    cluster.volume_phase("v", "Released").await;
    volumes.delete("v", &DeleteParams::default()).await.expect("the deletion");
    eventually("the volume to go", SOON, || async { volumes.get_opt("v").await.ok()?.is_none().then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_s_own_claim_comes_and_goes_with_it() {
    let mut cluster = Cluster::start_with(&["--leader-elect=false"], None).await;
    cluster.scheduler();
    cluster.ready_node("a").await;
    cluster.account().await;
    let template =
        json!({"spec": {"storageClassName": "", "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
    cluster.make(cluster.api::<Pod>(), Cluster::pod("p", json!({"name": "own", "ephemeral": {"volumeClaimTemplate": template}}))).await;
    cluster.said("p-own", "FailedBinding", "no persistent volumes available for this claim and no storage class is set").await;
    cluster.waits("p", "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims").await;
    // A volume comes: claim and pod find it.
    let volume = json!({"metadata": {"name": "v"}, "spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"],
        "hostPath": {"path": "/x"}}});
    cluster.make(Api::<PersistentVolume>::all(cluster.client.clone()), volume).await;
    cluster.phase("p-own", "Bound").await;
    let pods = cluster.api::<Pod>();
    eventually("a node for the pod", SOON, || async { pods.get("p").await.ok()?.spec?.node_name }).await;
    pods.delete("p", &DeleteParams::default()).await.expect("the deletion");
    let claims = cluster.api::<PersistentVolumeClaim>();
    eventually("the claim to go", SOON, || async { claims.get_opt("p-own").await.ok()?.is_none().then_some(()) }).await;
}
