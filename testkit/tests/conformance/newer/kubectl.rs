//! kubectl's newer words, by the newest kubectl of this machine.

use serde_json::{Value, json};

use crate::clients::versions;
use crate::framework::{BUSYBOX, Behaviour, Framework, POD, test};

pub const BEHAVIOURS: &[Behaviour] = &[
    Behaviour::new("newer: [sig-cli] Kubectl debug: profiles, a copy of a pod, and a pod on a node", test!(debug)),
    Behaviour::new("newer: [sig-cli] Kubectl auth whoami, and SelfSubjectReview API operations", test!(whoami)),
    Behaviour::new("newer: [sig-cli] Kubectl wait for fields, creation and deletion", test!(wait)),
    Behaviour::new("newer: [sig-cli] Kubectl subresource flag: status and scale are read, patched and replaced", test!(subresources)),
    Behaviour::new("newer: [sig-cli] Kubectl events: of one object, of types, watched", test!(events)),
];

async fn debug(f: Framework) -> anyhow::Result<()> {
    let newest = versions::newest().await?;
    let k = || newest.on(&f);
    f.create_pod(&Framework::script("target", "exec sleep 3600")).await;
    let pod = f.until_ready("target").await;
    let image = format!("--image={BUSYBOX}");
    let common = ["--image-pull-policy=IfNotPresent", "--quiet"];
    for (profile, check) in [
        ("general", json!({"capabilities": {"add": ["SYS_PTRACE"]}})),
        ("baseline", Value::Null),
        (
            "restricted",
            json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}, "runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}}),
        ),
        ("netadmin", json!({"capabilities": {"add": ["NET_ADMIN", "NET_RAW"]}})),
        ("sysadmin", json!({"privileged": true})),
    ] {
        let (profile_flag, name) = (format!("--profile={profile}"), format!("--container=dbg-{profile}"));
        let arguments =
            [&["debug", "target", &*image, &*profile_flag, &*name, "--target=main"][..], &common, &["--", "sh", "-c", "sleep 3600"]]
                .concat();
        k().ok(&arguments).await?;
        let read = f.wire.get(&f.core("pods/target")).await.expect(200);
        let added = read["spec"]["ephemeralContainers"].as_array().into_iter().flatten().find(|c| c["name"] == format!("dbg-{profile}"));
        let added = added.unwrap_or_else(|| panic!("{profile}: {read}"));
        assert_eq!(added.get("securityContext").unwrap_or(&Value::Null), &check, "{profile}");
    }
    // What runtimes let in: none of those of more rights than the pod's sandbox was made with.
    f.until_it(&f.core("pods/target"), "to run the general debugger", POD, |pod| {
        let all = pod["status"]["ephemeralContainerStatuses"].as_array();
        all.is_some_and(|all| all.iter().any(|s| s["name"] == "dbg-general" && s["state"]["running"].is_object()))
    })
    .await;
    let seen = k().ok(&["exec", "target", "-c", "dbg-general", "--", "ps"]).await?;
    assert!(seen.matches("sleep 3600").count() > 1, "the processes of the target, too: {seen}");

    // A copy of the pod with another command.
    k().ok(&[
        "debug",
        "target",
        "--copy-to=copied",
        "--container=main",
        "--same-node",
        "--quiet",
        "--",
        "sh",
        "-c",
        "echo copied; sleep 3600",
    ])
    .await?;
    let copied = f.until_ready("copied").await;
    assert_eq!(copied["spec"]["nodeName"], pod["spec"]["nodeName"]);
    assert_eq!(f.logs("copied", "main").await, "copied\n");

    // A pod in the node's namespaces, with its files at /host.
    let node = format!("node/{}", pod["spec"]["nodeName"].as_str().expect("a node"));
    k().ok(
        &[&["debug", &node, &*image, "--profile=sysadmin"][..], &common, &["--", "sh", "-c", "ls -d /host/proc && echo looked"]].concat()
    )
    .await?;
    let debugger = f
        .until("the node's debugger to have ended", POD, || async {
            let pods = f.list(&f.core("pods")).await;
            pods.into_iter().find(|p| {
                p["metadata"]["name"].as_str().is_some_and(|n| n.starts_with("node-debugger-")) && p["status"]["phase"] == "Succeeded"
            })
        })
        .await;
    let spec = &debugger["spec"];
    assert!(spec["hostNetwork"] == true && spec["hostPID"] == true && spec["hostIPC"] == true, "{spec}");
    let name = debugger["metadata"]["name"].as_str().expect("a name");
    assert_eq!(f.logs(name, "debugger").await, "/host/proc\nlooked\n");
    Ok(())
}

async fn whoami(f: Framework) -> anyhow::Result<()> {
    let newest = versions::newest().await?;
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview", "metadata": {}});
    let user = f.wire.post("/apis/authentication.k8s.io/v1/selfsubjectreviews", &review).await.expect(201)["status"]["userInfo"].clone();
    assert!(user["username"].as_str().is_some_and(|n| !n.is_empty()), "{user}");
    let groups = user["groups"].as_array().expect("groups");
    assert!(groups.contains(&json!("system:authenticated")), "{user}");
    let said = newest.on(&f).ok(&["auth", "whoami", "-o", "json"]).await?;
    let said: Value = serde_json::from_str(&said)?;
    assert_eq!(said["status"]["userInfo"]["username"], user["username"]);
    let said = newest.on(&f).ok(&["auth", "whoami", "--as=jane", "--as-group=devs"]).await?;
    assert!(said.contains("jane") && said.contains("[devs system:authenticated]"), "{said}");
    Ok(())
}

async fn wait(f: Framework) -> anyhow::Result<()> {
    let newest = versions::newest().await?;
    let k = || newest.on(&f);
    f.create_pod(&Framework::script("waited", "exec sleep 3600")).await;
    k().ok(&["wait", "--for=jsonpath={.status.phase}=Running", "pod/waited", "--timeout=120s"]).await?;
    k().ok(&["wait", "--for=jsonpath={.status.podIP}", "pod/waited", "--timeout=60s"]).await?;
    k().ok(&["wait", "--for=condition=Ready", "pod", "-l", "name=waited", "--timeout=60s"]).await?;
    k().ok(&["wait", "--for=create", "pod/waited", "--timeout=5s"]).await?;
    let not = k().fails(&["wait", "--for=jsonpath={.status.phase}=Failed", "pod/waited", "--timeout=1s"]).await?;
    assert!(not.contains("timed out waiting for the condition on pods/waited"), "{not}");
    f.wire.delete(&f.core("pods/waited")).await.expect(200);
    k().ok(&["wait", "--for=delete", "pod/waited", "--timeout=120s"]).await?;
    Ok(())
}

async fn subresources(f: Framework) -> anyhow::Result<()> {
    let newest = versions::newest().await?;
    let k = || newest.on(&f);
    let labels = json!({"app": "web"});
    f.wire.post(&f.group("apps/v1", "deployments"), &Framework::workload("Deployment", "web", 1, &labels)).await.expect(201);
    f.until_pods("app=web", 1).await;
    let table = k().ok(&["get", "deployment", "web", "--subresource=status"]).await?;
    assert!(table.starts_with("NAME ") && table.contains("\nweb "), "{table}");
    let table = k().ok(&["get", "deployment", "web", "--subresource=scale"]).await?;
    assert!(table.contains("DESIRED") && table.contains("AVAILABLE"), "{table}");
    k().ok(&["patch", "deployment", "web", "--subresource=scale", "--type=merge", "-p", r#"{"spec":{"replicas":2}}"#]).await?;
    f.until_pods("app=web", 2).await;
    let condition = r#"{"status":{"conditions":[{"type":"example.com/E2E","status":"True"}]}}"#;
    k().ok(&["patch", "deployment", "web", "--subresource=status", "-p", condition]).await?;
    let mut read: Value = serde_json::from_str(&k().ok(&["get", "deployment", "web", "--subresource=status", "-o", "json"]).await?)?;
    let has = |o: &Value| o["status"]["conditions"].as_array().is_some_and(|all| all.iter().any(|c| c["type"] == "example.com/E2E"));
    assert!(has(&read), "{read}");
    read["spec"]["replicas"] = json!(7);
    read["metadata"].as_object_mut().expect("metadata").remove("resourceVersion");
    k().stdin(read.to_string()).ok(&["replace", "--subresource=status", "-f", "-"]).await?;
    assert_eq!(f.wire.get(&f.group("apps/v1", "deployments/web")).await.expect(200)["spec"]["replicas"], 2, "the status alone was written");
    let refused = k().fails(&["get", "deployment", "web", "--subresource=nope"]).await?;
    assert!(refused.contains("the server could not find the requested resource"), "{refused}");
    Ok(())
}

async fn events(f: Framework) -> anyhow::Result<()> {
    let newest = versions::newest().await?;
    let k = || newest.on(&f);
    f.create_pod(&Framework::script("told", "exec sleep 3600")).await;
    f.until_ready("told").await;
    for reason in ["Scheduled", "Created", "Started"] {
        f.until(&format!("{reason} to be told"), POD, || async {
            let said = k().ok(&["events", "--for=pod/told"]).await.ok()?;
            said.lines().any(|l| l.contains(&format!(" {reason} "))).then_some(())
        })
        .await;
    }
    let said = k().ok(&["events", "--types=Normal", "-o", "json"]).await?;
    let list: Value = serde_json::from_str(&said)?;
    assert!(list["items"].as_array().is_some_and(|all| !all.is_empty() && all.iter().all(|e| e["type"] == "Normal")), "{said}");
    let said = k().ok(&["events", "--types=Warning", "--for=pod/told"]).await?;
    assert!(!said.contains("Started"), "{said}");
    Ok(())
}
