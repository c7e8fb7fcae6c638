//! Hooks of a container's life: a server on the same node is asked by the kubelet, or by a command inside the container.

use serde_json::{Value, json};

use super::super::{pod, put};
use crate::framework::{Behaviour, Framework, POD, SOON};

pub const BEHAVIOURS: &[Behaviour] = &[
    Behaviour::new(
        "[sig-node] Container Lifecycle Hook when create a pod with lifecycle hook should execute poststart exec hook properly [NodeConformance]",
        |f| Box::pin(hook(f, "postStart", command)),
    ),
    Behaviour::new(
        "[sig-node] Container Lifecycle Hook when create a pod with lifecycle hook should execute poststart http hook properly [NodeConformance]",
        |f| Box::pin(hook(f, "postStart", request)),
    ),
    Behaviour::new(
        "[sig-node] Container Lifecycle Hook when create a pod with lifecycle hook should execute prestop exec hook properly [NodeConformance]",
        |f| Box::pin(hook(f, "preStop", command)),
    ),
    Behaviour::new(
        "[sig-node] Container Lifecycle Hook when create a pod with lifecycle hook should execute prestop http hook properly [NodeConformance]",
        |f| Box::pin(hook(f, "preStop", request)),
    ),
];

fn command(ip: &str) -> Value {
    json!({"exec": {"command": ["sh", "-c", format!("wget -q -O /asked http://{ip}:8080/hook")]}})
}

fn request(ip: &str) -> Value {
    json!({"httpGet": {"path": "/hook", "host": ip, "port": 8080}})
}

/// Ends when it is told to, and tells that it got so far.
const ENDS: &str = "trap 'exit 0' TERM; while :; do sleep 0.1; done";

async fn hook(f: Framework, when: &str, action: fn(&str) -> Value) -> anyhow::Result<()> {
    f.create_pod(&Framework::script("server", "mkdir /www; cd /www; echo ok > hook; exec httpd -f -vv -p 8080")).await;
    let server = f.until_ready("server").await;
    let ip = server["status"]["podIP"].as_str().expect("an address");
    let node = &server["spec"]["nodeName"];

    let lifecycle = json!({"lifecycle": {when: action(ip)}});
    let mut hooked = pod("hooked", ENDS, json!({"terminationGracePeriodSeconds": 15}), lifecycle);
    put(&mut hooked["spec"], json!({"nodeName": node, "restartPolicy": "Always"}));
    f.create_pod(&hooked).await;
    f.until_ready("hooked").await;
    let asked = async || f.logs("server", "main").await.matches("url:/hook").count();
    if when == "preStop" {
        assert_eq!(asked().await, 0, "not before the pod is deleted");
        f.wire.delete(&f.core("pods/hooked")).await.expect(200);
        f.until_gone(&f.core("pods/hooked"), POD).await;
    }
    f.until("the server to be asked", SOON, || async { (asked().await == 1).then_some(()) }).await;
    Ok(())
}
