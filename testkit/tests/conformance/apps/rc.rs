//! ReplicationControllers.

use serde_json::{Value, json};

use super::{belongs_to, name, until_status};
use crate::framework::{Behaviour, Framework, PAUSE, POD, has_condition, test, until_event};
use crate::network::serving::server;

pub const BEHAVIOURS: &[Behaviour] = &[
    Behaviour::new("[sig-apps] ReplicationController should serve a basic image on each replica with a public image", test!(serves)),
    Behaviour::new(
        "[sig-apps] ReplicationController should surface a failure condition on a common issue like exceeded quota",
        test!(says_why_not),
    ),
    Behaviour::new("[sig-apps] ReplicationController should adopt matching pods on creation", test!(adopts)),
    Behaviour::new("[sig-apps] ReplicationController should release no longer matching pods", test!(releases)),
    Behaviour::new("[sig-apps] ReplicationController should test the lifecycle of a ReplicationController", test!(lifecycle)),
    Behaviour::new("[sig-apps] ReplicationController should get and update a ReplicationController scale", test!(scale)),
];

/// The controllers that keep a number of pods: upstream's tests of both are the same.
#[derive(Clone, Copy)]
pub struct Kind {
    pub group: Option<&'static str>,
    pub plural: &'static str,
    pub object: fn(&str, usize, &Value) -> Value,
}

const RC: Kind = Kind { group: None, plural: "replicationcontrollers", object: Framework::replication_controller };

impl Kind {
    pub fn path(&self, f: &Framework, rest: &str) -> String {
        let rest = format!("{}{rest}", self.plural);
        self.group.map_or_else(|| f.core(&rest), |group| f.group(group, &rest))
    }

    pub async fn create(&self, f: &Framework, name: &str, replicas: usize) -> Value {
        let object = (self.object)(name, replicas, &json!({"name": name}));
        f.wire.post(&self.path(f, ""), &object).await.expect(201)
    }

    /// Each replica answers, with its own name.
    pub async fn serves(&self, f: &Framework) -> anyhow::Result<()> {
        const NAME: &str = "my-hostname-basic";
        let mut object = (self.object)(NAME, 1, &json!({"name": NAME}));
        object["spec"]["template"]["spec"]["containers"][0] = server("main", 9376);
        f.wire.post(&self.path(f, ""), &object).await.expect(201);
        for pod in f.until_pods(&format!("name={NAME}"), 1).await {
            let pod = name(&pod);
            f.until_ready(pod).await;
            let path = f.core(&format!("pods/{pod}:9376/proxy/hostname"));
            f.until(&format!("{pod} to answer"), POD, || async {
                let answer = f.wire.get(&path).await;
                (answer.code == 200 && answer.text().trim() == pod).then_some(())
            })
            .await;
        }
        Ok(())
    }

    /// A quota of two pods lets two be made; the condition says so until no more are wanted.
    pub async fn says_why_not(&self, f: &Framework) -> anyhow::Result<()> {
        let quota =
            json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "condition-test"}, "spec": {"hard": {"pods": "2"}}});
        f.wire.post(&f.core("resourcequotas"), &quota).await.expect(201);
        f.until_it(&f.core("resourcequotas/condition-test"), "to count", POD, |q| q["status"]["hard"]["pods"] == "2").await;
        self.create(f, "condition-test", 3).await;
        let path = self.path(f, "/condition-test");
        let failed = f.until_it(&path, "to say that it fails", POD, |o| has_condition(o, "ReplicaFailure")).await;
        let condition = &failed["status"]["conditions"][0];
        assert!(condition["status"] == "True" && condition["reason"] == "FailedCreate", "{condition}");
        assert!(condition["message"].as_str().is_some_and(|m| m.contains("exceeded quota")), "{condition}");
        f.update(&path, |object| object["spec"]["replicas"] = json!(2)).await;
        f.until_it(&path, "to fail no more", POD, |o| !has_condition(o, "ReplicaFailure") && o["status"]["replicas"] == 2).await;
        Ok(())
    }

    /// A pod that fits is adopted. Gives it and its owner.
    pub async fn adopts(&self, f: &Framework, pod_name: &str) -> (Value, Value) {
        let mut pod = Framework::idle_template(&json!({"name": pod_name}));
        (pod["apiVersion"], pod["kind"], pod["metadata"]["name"]) = (json!("v1"), json!("Pod"), json!(pod_name));
        f.create_pod(&pod).await;
        f.until_ready(pod_name).await;
        let owner = self.create(f, pod_name, 1).await;
        let adopted = f.until_it(&f.core(&format!("pods/{pod_name}")), "to be adopted", POD, |pod| belongs_to(pod, &owner)).await;
        until_status(f, &self.path(f, &format!("/{pod_name}")), &[("replicas", 1)]).await;
        (adopted, owner)
    }

    /// A pod that does not fit any more is released, and replaced.
    pub async fn releases(&self, f: &Framework, pod: &str, owner: &Value) {
        let path = f.core(&format!("pods/{pod}"));
        f.wire.patch("strategic", &path, &json!({"metadata": {"labels": {"name": "not-matching-name"}}})).await.expect(200);
        let released = f.until_it(&path, "to be released", POD, |pod| !belongs_to(pod, owner)).await;
        assert!(released["metadata"].get("deletionTimestamp").is_none(), "it is left alone");
        let others = f.until_pods(&format!("name={}", name(owner)), 1).await;
        assert!(belongs_to(&others[0], owner), "{others:?}");
    }
}

async fn serves(f: Framework) -> anyhow::Result<()> {
    RC.serves(&f).await
}

async fn says_why_not(f: Framework) -> anyhow::Result<()> {
    RC.says_why_not(&f).await
}

async fn adopts(f: Framework) -> anyhow::Result<()> {
    RC.adopts(&f, "pod-adoption").await;
    Ok(())
}

async fn releases(f: Framework) -> anyhow::Result<()> {
    let owner = RC.create(&f, "pod-release", 1).await;
    let pods = f.until_pods("name=pod-release", 1).await;
    RC.releases(&f, name(&pods[0]), &owner).await;
    Ok(())
}

async fn scale(f: Framework) -> anyhow::Result<()> {
    RC.create(&f, "e2e-rc", 1).await;
    let path = RC.path(&f, "/e2e-rc");
    until_status(&f, &path, &[("replicas", 1)]).await;
    f.scaled(&path, 1, 2, 1).await;
    Ok(())
}

async fn lifecycle(f: Framework) -> anyhow::Result<()> {
    let label = f.unique("rc");
    let everywhere = format!("/api/v1/replicationcontrollers?labelSelector=test-rc-static%3D{label}");
    let mut watch = f.watch_from_now(&everywhere).await;
    let mut object = Framework::replication_controller("rc-test", 1, &json!({"test-rc-static": label}));
    object["metadata"]["labels"] = json!({"test-rc-static": label});
    let made = f.wire.post(&f.core("replicationcontrollers"), &object).await.expect(201);
    let path = f.core("replicationcontrollers/rc-test");
    assert_eq!(watch.next().await.expect("an event")["object"], made);
    until_event(&mut watch, "MODIFIED", |rc| rc["status"]["availableReplicas"] == 1 && rc["status"]["readyReplicas"] == 1).await;

    f.wire.patch("strategic", &path, &json!({"metadata": {"labels": {"test-rc": "patched"}}})).await.expect(200);
    until_event(&mut watch, "MODIFIED", |rc| rc["metadata"]["labels"]["test-rc"] == "patched").await;
    let status = format!("{path}/status");
    f.wire.patch("strategic", &status, &json!({"status": {"readyReplicas": 0, "availableReplicas": 0}})).await.expect(200);
    until_event(&mut watch, "MODIFIED", |rc| rc["status"]["readyReplicas"].as_u64().unwrap_or(0) == 0).await;
    // What it writes there is what is so.
    until_event(&mut watch, "MODIFIED", |rc| rc["status"]["readyReplicas"] == 1).await;
    assert_eq!(f.wire.get(&status).await.expect(200)["metadata"]["uid"], made["metadata"]["uid"]);

    f.wire.patch("merge", &format!("{path}/scale"), &json!({"spec": {"replicas": 2}})).await.expect(200);
    until_event(&mut watch, "MODIFIED", |rc| rc["status"]["readyReplicas"] == 2).await;
    let updated = f.update(&path, |rc| rc["spec"]["template"]["spec"]["containers"][0]["image"] = json!(PAUSE)).await;
    assert_eq!(updated["metadata"]["labels"]["test-rc"], "patched");
    assert_eq!(f.list(&everywhere).await.len(), 1);
    f.wire.delete(&f.core(&format!("replicationcontrollers?labelSelector=test-rc-static%3D{label}"))).await.expect(200);
    until_event(&mut watch, "DELETED", |rc| rc["metadata"]["uid"] == made["metadata"]["uid"]).await;
    Ok(())
}
