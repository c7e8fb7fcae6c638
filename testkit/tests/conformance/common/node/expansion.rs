//! `$(VARIABLE)` in environments, commands and paths inside volumes.

use serde_json::{Value, json};

use super::super::{container_status, pod};
use crate::framework::{Behaviour, Framework, POD, test};

pub const BEHAVIOURS: &[Behaviour] = &[
    Behaviour::new("[sig-node] Variable Expansion should allow composing env vars into new env vars [NodeConformance]", test!(environment)),
    Behaviour::new(
        "[sig-node] Variable Expansion should allow substituting values in a container's command [NodeConformance]",
        test!(command),
    ),
    Behaviour::new("[sig-node] Variable Expansion should allow substituting values in a container's args [NodeConformance]", test!(args)),
    Behaviour::new("[sig-node] Variable Expansion should allow substituting values in a volume subpath", test!(sub_path)),
    Behaviour::new("[sig-node] Variable Expansion should fail substituting values in a volume subpath with backticks [Slow]", |f| {
        Box::pin(refused(f, ".."))
    }),
    Behaviour::new("[sig-node] Variable Expansion should fail substituting values in a volume subpath with absolute path [Slow]", |f| {
        Box::pin(refused(f, "/tmp"))
    }),
    Behaviour::new(
        "[sig-node] Variable Expansion should verify that a failing subpath expansion can be modified during the lifecycle of a container [Slow]",
        test!(modified),
    ),
    Behaviour::new("[sig-node] Variable Expansion should succeed in writing subpaths in container [Slow]", test!(written)),
];

async fn environment(f: Framework) -> anyhow::Result<()> {
    let env = json!({"env": [
        {"name": "FOO", "value": "foo-value"}, {"name": "BAR", "value": "bar-value"},
        {"name": "FOOBAR", "value": "$(FOO);;$(BAR)"}, {"name": "LATER", "value": "$(UNKNOWN) $$(FOO)"},
    ]});
    let said = f.output_of(&pod("p", "env", json!({}), env)).await;
    for wanted in ["FOO=foo-value", "BAR=bar-value", "FOOBAR=foo-value;;bar-value", "LATER=$(UNKNOWN) $(FOO)"] {
        assert!(said.lines().any(|l| l == wanted), "{wanted} in {said}");
    }
    Ok(())
}

async fn command(f: Framework) -> anyhow::Result<()> {
    let container = json!({"env": [{"name": "TEST_VAR", "value": "test-value"}],
        "command": ["sh", "-c", "TEST_VAR=wrong echo \"$(TEST_VAR)\""]});
    assert_eq!(f.output_of(&pod("p", "", json!({}), container)).await, "test-value\n");
    Ok(())
}

async fn args(f: Framework) -> anyhow::Result<()> {
    let container = json!({"env": [{"name": "TEST_VAR", "value": "test-value"}],
        "command": ["sh", "-c"], "args": ["TEST_VAR=wrong echo \"$(TEST_VAR)\""]});
    assert_eq!(f.output_of(&pod("p", "", json!({}), container)).await, "test-value\n");
    Ok(())
}

/// Annotations of a pod as variables, by their keys.
fn annotation(variable: &str, key: &str) -> Value {
    json!({"name": variable, "valueFrom": {"fieldRef": {"fieldPath": format!("metadata.annotations['{key}']")}}})
}

/// A pod with a volume at `/all` and the part of it that `expression` names at `/part`.
fn mounting(script: &str, policy: &str, variable: Value, expression: &str) -> Value {
    let mounts = json!([{"name": "v", "mountPath": "/part", "subPathExpr": expression}, {"name": "v", "mountPath": "/all"}]);
    let spec = json!({"volumes": [{"name": "v", "emptyDir": {}}], "restartPolicy": policy});
    pod("p", script, spec, json!({"env": [variable], "volumeMounts": mounts}))
}

async fn sub_path(f: Framework) -> anyhow::Result<()> {
    let name = json!({"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}});
    let pod = mounting("echo here > /part/file; cat /all/p/file; ls /all", "Never", name, "$(POD_NAME)");
    assert_eq!(f.output_of(&pod).await, "here\np\n");
    Ok(())
}

async fn until_config_error(f: &Framework) -> Value {
    let reason = "CreateContainerConfigError";
    let wanted = |p: &Value| container_status(p, "main")["state"]["waiting"]["reason"] == reason;
    f.until_it(&f.core("pods/p"), reason, POD, wanted).await
}

async fn refused(f: Framework, part: &str) -> anyhow::Result<()> {
    f.create_pod(&mounting("true", "Never", json!({"name": "PART", "value": part}), "$(PART)")).await;
    let pod = until_config_error(&f).await;
    assert_eq!(pod["status"]["phase"], "Pending");
    Ok(())
}

async fn modified(f: Framework) -> anyhow::Result<()> {
    // An annotation that is missing is an empty variable, and a path that begins with it is absolute.
    let mut pod = mounting("sleep 600", "Always", annotation("PART", "mysubpath"), "$(PART)/x");
    pod["metadata"]["annotations"] = json!({"notmysubpath": "mypath"});
    f.create_pod(&pod).await;
    until_config_error(&f).await;
    f.wire.patch("merge", &f.core("pods/p"), &json!({"metadata": {"annotations": {"mysubpath": "mypath"}}})).await.expect(200);
    f.until_ready("p").await;
    assert_eq!(f.kubectl().ok(&["exec", "p", "--", "ls", "/all/mypath"]).await?, "x\n");
    Ok(())
}

async fn written(f: Framework) -> anyhow::Result<()> {
    let mut pod = mounting("sleep 600", "Always", annotation("PART", "mysubpath"), "$(PART)");
    pod["metadata"]["annotations"] = json!({"mysubpath": "mypath"});
    f.create_pod(&pod).await;
    f.until_ready("p").await;
    f.kubectl().ok(&["exec", "p", "--", "touch", "/part/mypath.file"]).await?;
    assert_eq!(f.kubectl().ok(&["exec", "p", "--", "find", "/all", "-type", "f"]).await?, "/all/mypath/mypath.file\n");
    // The volume is cleaned away although the expression would now lead elsewhere.
    f.wire.patch("merge", &f.core("pods/p"), &json!({"metadata": {"annotations": {"mysubpath": "elsewhere/.."}}})).await.expect(200);
    f.wire.delete(&f.core("pods/p")).await.expect(200);
    f.until_gone(&f.core("pods/p"), POD).await;
    Ok(())
}
