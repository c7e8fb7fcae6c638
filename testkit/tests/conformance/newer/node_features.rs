//! What a node gives its pods, and what it says where its runtime cannot: memory for files, names, DNS, groups, user namespaces.

use serde_json::{Value, json};

use crate::common::put;
use crate::framework::{Behaviour, Framework, POD, test};

pub const BEHAVIOURS: &[Behaviour] = &[
    Behaviour::new("newer: [sig-storage] EmptyDir volumes pod should support memory backed volumes of specified size", test!(memory)),
    Behaviour::new("newer: [sig-node] Hostname of Pod: hostnameOverride is the name, and no more than that", test!(hostname)),
    Behaviour::new(
        "newer: [sig-network] DNS should work with a search path containing an underscore and a search path with a single dot",
        test!(search),
    ),
    Behaviour::new("newer: [sig-node] SupplementalGroupsPolicy: Strict is refused by a node that cannot, Merge is as ever", test!(groups)),
    Behaviour::new("newer: [sig-node] UserNamespaces: hostUsers false does not run where the runtime cannot", test!(users)),
    Behaviour::new(
        "newer: [sig-node] Mount recursive read-only: IfPossible is tried, Enabled does not run where the runtime cannot",
        test!(recursive),
    ),
    Behaviour::new("newer: [sig-node] PodLogs: streams of output and error by themselves", test!(streams)),
];

async fn memory(f: Framework) -> anyhow::Result<()> {
    let mut pod = Framework::script(
        "memory",
        "df -k /small | tail -1 | awk '{print $2}'; df -k /pod | tail -1 | awk '{print $2}'; dd if=/dev/zero of=/small/f bs=1M count=20 2>/dev/null || echo full",
    );
    put(
        &mut pod["spec"],
        json!({"volumes": [
        {"name": "small", "emptyDir": {"medium": "Memory", "sizeLimit": "10Mi"}}, {"name": "pod", "emptyDir": {"medium": "Memory"}}]}),
    );
    put(
        &mut pod["spec"]["containers"][0],
        json!({
        "resources": {"limits": {"memory": "64Mi"}},
        "volumeMounts": [{"name": "small", "mountPath": "/small"}, {"name": "pod", "mountPath": "/pod"}]}),
    );
    assert_eq!(f.output_of(&pod).await, "10240\n65536\nfull\n");
    Ok(())
}

async fn hostname(f: Framework) -> anyhow::Result<()> {
    let mut pod = Framework::script("named", "hostname; hostname -f; cat /etc/hosts");
    put(&mut pod["spec"], json!({"hostnameOverride": "override.example.com", "hostname": "other", "subdomain": "sub"}));
    let said = f.output_of(&pod).await;
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[0], "override.example.com", "{said}");
    assert!(lines.iter().any(|l| l.ends_with("\toverride.example.com")), "{said}");
    let mut wrong = pod.clone();
    wrong["metadata"]["name"] = json!("wrong");
    put(&mut wrong["spec"], json!({"setHostnameAsFQDN": true}));
    assert_eq!(f.wire.post(&f.core("pods"), &wrong).await.code, 422);
    let mut wrong = pod.clone();
    wrong["metadata"]["name"] = json!("wrong");
    put(&mut wrong["spec"], json!({"hostNetwork": true}));
    assert_eq!(f.wire.post(&f.core("pods"), &wrong).await.code, 422);
    Ok(())
}

async fn search(f: Framework) -> anyhow::Result<()> {
    let mut pod =
        Framework::script("searching", "cat /etc/resolv.conf; nslookup kubernetes.default.svc.cluster.local >/dev/null && echo found");
    put(&mut pod["spec"], json!({"dnsConfig": {"searches": [".", "abc_d.example.com", "_svc._tcp.example.com"]}}));
    let said = f.output_of(&pod).await;
    let line = said.lines().find(|l| l.starts_with("search ")).unwrap_or("");
    assert!(
        line.ends_with(" . abc_d.example.com _svc._tcp.example.com") || line.contains("abc_d.example.com _svc._tcp.example.com"),
        "{said}"
    );
    assert!(said.ends_with("found\n"), "{said}");
    Ok(())
}

async fn groups(f: Framework) -> anyhow::Result<()> {
    let pod = |name: &str, policy: &str| {
        let mut pod = Framework::script(name, "id -G");
        let context = json!({"runAsUser": 1000, "runAsGroup": 1000, "supplementalGroups": [60000], "supplementalGroupsPolicy": policy});
        put(&mut pod["spec"], json!({"securityContext": context}));
        pod
    };
    let merged = f.output_of(&pod("merge", "Merge")).await;
    assert!(merged.split_whitespace().any(|g| g == "60000"), "{merged}");
    let made = f.create_pod(&pod("strict", "Strict")).await;
    let ended = f.until_ended("strict").await;
    let node = f.wire.get(&format!("/api/v1/nodes/{}", ended["spec"]["nodeName"].as_str().unwrap_or(""))).await.expect(200);
    if node["status"]["features"]["supplementalGroupsPolicy"] == true {
        assert_eq!(f.logs("strict", "main").await.trim(), "1000 60000");
    } else {
        let status = &ended["status"];
        assert_eq!((&status["phase"], &status["reason"]), (&json!("Failed"), &json!("SupplementalGroupsPolicyNotSupported")), "{status}");
        assert_eq!(status["message"], "Pod was rejected: SupplementalGroupsPolicy=Strict is not supported in this node");
    }
    assert_eq!(ended["metadata"]["uid"], made["metadata"]["uid"]);
    Ok(())
}

/// Waits until an event of the pod has these words, and sees that nothing of it ran.
async fn says(f: &Framework, pod: &str, reason: &str, words: &str) {
    f.until(&format!("{reason}: {words}"), POD, || async {
        let events = f.list(&f.core(&format!("events?fieldSelector=involvedObject.name%3D{pod}%2Creason%3D{reason}"))).await;
        events.iter().any(|e| e["message"].as_str().is_some_and(|m| m.contains(words))).then_some(())
    })
    .await;
    let now = f.wire.get(&f.core(&format!("pods/{pod}"))).await.expect(200);
    let started = |c: &Value| c["state"]["running"].is_object() || c["state"]["terminated"].is_object();
    assert!(!now["status"]["containerStatuses"].as_array().is_some_and(|all| all.iter().any(started)), "{now}");
}

async fn users(f: Framework) -> anyhow::Result<()> {
    let mut pod = Framework::script("userns", "cat /proc/self/uid_map");
    put(&mut pod["spec"], json!({"hostUsers": false}));
    f.create_pod(&pod).await;
    says(&f, "userns", "FailedCreatePodSandBox", "can't set `spec.hostUsers: false`, runtime does not support user namespaces").await;
    Ok(())
}

async fn recursive(f: Framework) -> anyhow::Result<()> {
    let pod = |name: &str, mode: &str| {
        let mut pod = Framework::script(name, "touch /mnt/f 2>/dev/null || echo read-only");
        put(&mut pod["spec"], json!({"volumes": [{"name": "v", "emptyDir": {}}]}));
        put(
            &mut pod["spec"]["containers"][0],
            json!({"volumeMounts": [{"name": "v", "mountPath": "/mnt", "readOnly": true, "recursiveReadOnly": mode}]}),
        );
        pod
    };
    assert_eq!(f.output_of(&pod("if-possible", "IfPossible")).await, "read-only\n");
    let status = f.wire.get(&f.core("pods/if-possible")).await.expect(200);
    let shown = &status["status"]["containerStatuses"][0]["volumeMounts"][0];
    assert_eq!((&shown["mountPath"], &shown["readOnly"], &shown["recursiveReadOnly"]), (&json!("/mnt"), &json!(true), &json!("Disabled")));
    f.create_pod(&pod("enabled", "Enabled")).await;
    says(&f, "enabled", "Failed", "it is not supported by the runtime").await;
    Ok(())
}

async fn streams(f: Framework) -> anyhow::Result<()> {
    f.create_pod(&Framework::script("speaks", "echo to out; echo to err >&2")).await;
    f.until_ended("speaks").await;
    let log = async |query: &str| {
        let answer = f.wire.get(&f.core(&format!("pods/speaks/log{query}"))).await;
        (answer.code, answer.text())
    };
    assert_eq!(log("?stream=Stdout").await, (200, "to out\n".to_owned()));
    assert_eq!(log("?stream=Stderr").await, (200, "to err\n".to_owned()));
    let (_, all) = log("?stream=All").await;
    assert!(all.contains("to out\n") && all.contains("to err\n"), "{all}");
    assert_eq!(log("?stream=Stdlog").await.0, 422);
    assert_eq!(log("?stream=Stdout&tailLines=1").await.0, 422, "one stream alone has no last lines that could be found");
    Ok(())
}
