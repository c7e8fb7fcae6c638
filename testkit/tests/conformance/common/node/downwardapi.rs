//! What a container can know of its pod and its node, as variables.

use serde_json::{Value, json};

use super::super::pod;
use crate::framework::{Behaviour, Framework, test};

pub const BEHAVIOURS: &[Behaviour] = &[
    Behaviour::new("[sig-node] Downward API should provide pod name, namespace and IP address as env vars [NodeConformance]", test!(names)),
    Behaviour::new("[sig-node] Downward API should provide host IP as an env var [NodeConformance]", test!(host_ip)),
    Behaviour::new(
        "[sig-node] Downward API should provide container's limits.cpu/memory and requests.cpu/memory as env vars [NodeConformance]",
        test!(resources),
    ),
    Behaviour::new(
        "[sig-node] Downward API should provide default limits.cpu/memory from node allocatable [NodeConformance]",
        test!(allocatable),
    ),
    Behaviour::new("[sig-node] Downward API should provide pod UID as env vars [NodeConformance]", test!(uid)),
];

fn field(variable: &str, path: &str) -> Value {
    json!({"name": variable, "valueFrom": {"fieldRef": {"fieldPath": path}}})
}

fn resource(variable: &str, resource: &str, divisor: &str) -> Value {
    json!({"name": variable, "valueFrom": {"resourceFieldRef": {"resource": resource, "divisor": divisor}}})
}

/// Runs a pod with these variables to its end and gives it, and what `env` says there of the variables `V_…`.
async fn seen(f: &Framework, env: &[Value], resources: Value) -> (Value, String) {
    let said = f.output_of(&pod("p", "env | grep ^V_ | sort", json!({}), json!({"env": env, "resources": resources}))).await;
    (f.wire.get(&f.core("pods/p")).await.expect(200), said)
}

fn text<'a>(pod: &'a Value, pointer: &str) -> &'a str {
    pod.pointer(pointer).and_then(Value::as_str).expect("a text")
}

async fn names(f: Framework) -> anyhow::Result<()> {
    let env = [field("V_IP", "status.podIP"), field("V_NAME", "metadata.name"), field("V_NAMESPACE", "metadata.namespace")];
    let (pod, said) = seen(&f, &env, json!({})).await;
    assert_eq!(said, format!("V_IP={}\nV_NAME=p\nV_NAMESPACE={}\n", text(&pod, "/status/podIP"), f.namespace));
    Ok(())
}

async fn host_ip(f: Framework) -> anyhow::Result<()> {
    let (pod, said) = seen(&f, &[field("V_HOST", "status.hostIP"), field("V_NODE", "spec.nodeName")], json!({})).await;
    assert_eq!(said, format!("V_HOST={}\nV_NODE={}\n", text(&pod, "/status/hostIP"), text(&pod, "/spec/nodeName")));
    Ok(())
}

async fn resources(f: Framework) -> anyhow::Result<()> {
    let env = [
        resource("V_CPU_LIMIT", "limits.cpu", "1"),
        resource("V_CPU_MILLI", "limits.cpu", "1m"),
        resource("V_CPU_REQUEST", "requests.cpu", "1"),
        resource("V_MEMORY_LIMIT", "limits.memory", "1"),
        resource("V_MEMORY_MIB", "requests.memory", "1Mi"),
        resource("V_MEMORY_REQUEST", "requests.memory", "1"),
    ];
    let resources = json!({"requests": {"cpu": "250m", "memory": "32Mi"}, "limits": {"cpu": "1250m", "memory": "64Mi"}});
    let (_, said) = seen(&f, &env, resources).await;
    let memory = "V_MEMORY_LIMIT=67108864\nV_MEMORY_MIB=32\nV_MEMORY_REQUEST=33554432\n";
    assert_eq!(said, format!("V_CPU_LIMIT=2\nV_CPU_MILLI=1250\nV_CPU_REQUEST=1\n{memory}"));
    Ok(())
}

async fn allocatable(f: Framework) -> anyhow::Result<()> {
    let env = [resource("V_CPU", "limits.cpu", "1"), resource("V_MEMORY", "limits.memory", "1Ki")];
    let (pod, said) = seen(&f, &env, json!({})).await;
    let node = f.wire.get(&format!("/api/v1/nodes/{}", text(&pod, "/spec/nodeName"))).await.expect(200);
    let memory = text(&node, "/status/allocatable/memory").strip_suffix("Ki").expect("in Ki").to_owned();
    assert_eq!(said, format!("V_CPU={}\nV_MEMORY={memory}\n", text(&node, "/status/allocatable/cpu")));
    Ok(())
}

async fn uid(f: Framework) -> anyhow::Result<()> {
    let (pod, said) = seen(&f, &[field("V_UID", "metadata.uid")], json!({})).await;
    assert_eq!(said, format!("V_UID={}\n", text(&pod, "/metadata/uid")));
    Ok(())
}
