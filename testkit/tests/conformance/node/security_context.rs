//! Whom a container runs as.

use serde_json::{Value, json};

use crate::framework::{Behaviour, Framework, test};

pub const BEHAVIOURS: &[Behaviour] = &[
    Behaviour::new(
        "[sig-node] Security Context should support pod.Spec.SecurityContext.RunAsUser And pod.Spec.SecurityContext.RunAsGroup [LinuxOnly]",
        test!(of_the_pod),
    ),
    Behaviour::new(
        "[sig-node] Security Context should support container.SecurityContext.RunAsUser And container.SecurityContext.RunAsGroup [LinuxOnly]",
        test!(of_the_container),
    ),
];

async fn runs_as(f: &Framework, change: impl FnOnce(&mut Value)) {
    let mut pod = Framework::script("security-context", "id; echo $(id -u):$(id -g)");
    change(&mut pod["spec"]);
    let said = f.output_of(&pod).await;
    assert!(said.contains("uid=1001") && said.contains("gid=2002") && said.ends_with("\n1001:2002\n"), "{said}");
}

async fn of_the_pod(f: Framework) -> anyhow::Result<()> {
    runs_as(&f, |spec| spec["securityContext"] = json!({"runAsUser": 1001, "runAsGroup": 2002})).await;
    Ok(())
}

async fn of_the_container(f: Framework) -> anyhow::Result<()> {
    runs_as(&f, |spec| {
        spec["securityContext"] = json!({"runAsUser": 1, "runAsGroup": 2});
        spec["containers"][0]["securityContext"] = json!({"runAsUser": 1001, "runAsGroup": 2002});
    })
    .await;
    Ok(())
}
