//! What a container may do.

use serde_json::{Value, json};

use super::super::pod;
use crate::framework::{Behaviour, Framework, NGINX, test};

pub const BEHAVIOURS: &[Behaviour] = &[
    Behaviour::new(
        "[sig-node] Security Context When creating a container with runAsUser should run the container with uid 65534 [LinuxOnly] [NodeConformance]",
        test!(user),
    ),
    Behaviour::new(
        "[sig-node] Security Context When creating a pod with privileged should run the container as unprivileged when false [LinuxOnly] [NodeConformance]",
        test!(unprivileged),
    ),
    Behaviour::new(
        "[sig-node] Security Context When creating a pod with readOnlyRootFilesystem should run the container with writable rootfs when readOnlyRootFilesystem=false [NodeConformance]",
        test!(writable),
    ),
    Behaviour::new(
        "[sig-node] Security Context when creating containers with AllowPrivilegeEscalation should not allow privilege escalation when false [LinuxOnly] [NodeConformance]",
        test!(no_escalation),
    ),
];

fn with_context(name: &str, script: &str, context: &Value) -> Value {
    pod(name, script, json!({}), json!({"securityContext": context}))
}

async fn user(f: Framework) -> anyhow::Result<()> {
    let said = f.output_of(&with_context("p", "id -u", &json!({"runAsUser": 65534}))).await;
    assert_eq!(said, "65534\n");
    Ok(())
}

async fn unprivileged(f: Framework) -> anyhow::Result<()> {
    let said = f.output_of(&with_context("p", "ip link add dummy0 type dummy 2>&1 || true", &json!({"privileged": false}))).await;
    assert!(said.contains("ip: RTNETLINK answers: Operation not permitted"), "{said}");
    Ok(())
}

async fn writable(f: Framework) -> anyhow::Result<()> {
    f.output_of(&with_context("p", "touch checkfile", &json!({"readOnlyRootFilesystem": false}))).await;
    Ok(())
}

/// As upstream's image of that purpose: a program that belongs to root, run by somebody else, tells as whom it acts.
async fn no_escalation(f: Framework) -> anyhow::Result<()> {
    for (name, allowed, expected) in [("allowed", true, "euid=0\n"), ("denied", false, "euid=1000\n")] {
        let mount = json!([{"name": "v", "mountPath": "/v"}]);
        let prepare = json!([{
            "name": "prepare", "image": NGINX, "imagePullPolicy": "IfNotPresent", "volumeMounts": mount,
            "command": ["sh", "-c", "cp /sbin/capsh /v/capsh && chmod 4755 /v/capsh"],
        }]);
        let context = json!({"runAsUser": 1000, "allowPrivilegeEscalation": allowed});
        let spec = json!({"initContainers": prepare, "volumes": [{"name": "v", "emptyDir": {}}]});
        let container = json!({"image": NGINX, "volumeMounts": mount, "securityContext": context});
        let said = f.output_of(&pod(name, "/v/capsh --print | grep -o 'euid=[0-9]*'", spec, container)).await;
        assert_eq!(said, expected, "escalation {name}");
    }
    Ok(())
}
