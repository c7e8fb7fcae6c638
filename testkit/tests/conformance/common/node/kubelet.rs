//! Small things of a pod's life: its log, its end, its file system, its names for others.

use serde_json::json;

use super::super::{container_status, pod};
use crate::framework::{Behaviour, Framework, POD, test};

pub const BEHAVIOURS: &[Behaviour] = &[
    Behaviour::new(
        "[sig-node] Kubelet when scheduling a busybox command in a pod should print the output to logs [NodeConformance]",
        test!(output),
    ),
    Behaviour::new(
        "[sig-node] Kubelet when scheduling a busybox command that always fails in a pod should have an terminated reason [NodeConformance]",
        test!(reason),
    ),
    Behaviour::new(
        "[sig-node] Kubelet when scheduling a busybox command that always fails in a pod should be possible to delete [NodeConformance]",
        test!(deleted),
    ),
    Behaviour::new(
        "[sig-node] Kubelet when scheduling an agnhost Pod with hostAliases should write entries to /etc/hosts [NodeConformance]",
        test!(aliases),
    ),
    Behaviour::new(
        "[sig-node] Kubelet when scheduling a read only busybox container should not write to root filesystem [LinuxOnly] [NodeConformance]",
        test!(read_only),
    ),
];

async fn output(f: Framework) -> anyhow::Result<()> {
    assert_eq!(f.output_of(&Framework::script("p", "echo 'Hello World' ; sleep 1")).await, "Hello World\n");
    Ok(())
}

async fn reason(f: Framework) -> anyhow::Result<()> {
    f.create_pod(&Framework::script("p", "false")).await;
    let ended = f.until_ended("p").await;
    assert_eq!(ended["status"]["containerStatuses"].as_array().map(Vec::len), Some(1));
    let terminated = &container_status(&ended, "main")["state"]["terminated"];
    assert_eq!((&terminated["exitCode"], &terminated["reason"]), (&json!(1), &json!("Error")), "{}", ended["status"]);
    Ok(())
}

async fn deleted(f: Framework) -> anyhow::Result<()> {
    f.create_pod(&pod("p", "false", json!({"restartPolicy": "Always"}), json!({}))).await;
    f.until_it(&f.core("pods/p"), "to have failed", POD, |p| !container_status(p, "main")["lastState"]["terminated"].is_null()).await;
    f.wire.delete(&f.core("pods/p")).await.expect(200);
    f.until_gone(&f.core("pods/p"), POD).await;
    Ok(())
}

async fn aliases(f: Framework) -> anyhow::Result<()> {
    let aliases = json!({"hostAliases": [{"ip": "123.45.67.89", "hostnames": ["foo", "bar"]}]});
    let said = f.output_of(&pod("p", "cat /etc/hosts", aliases, json!({}))).await;
    assert!(said.contains("# Entries added by HostAliases.\n123.45.67.89\tfoo\tbar\n"), "{said}");
    let pod = f.wire.get(&f.core("pods/p")).await.expect(200);
    let own = format!("\n{}\tp\n", pod["status"]["podIP"].as_str().expect("an address"));
    assert!(said.contains(&own), "{own:?} in {said}");
    Ok(())
}

async fn read_only(f: Framework) -> anyhow::Result<()> {
    let context = json!({"securityContext": {"readOnlyRootFilesystem": true}});
    let said = f.output_of(&pod("p", "exec 2>&1; echo test > /file || true; ls /file || true", json!({}), context)).await;
    assert_eq!(said, "sh: can't create /file: Read-only file system\nls: /file: No such file or directory\n");
    Ok(())
}
