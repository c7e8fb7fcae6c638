//! Environment variables: names that were not allowed once, all addresses of a node, values out of files.

use serde_json::{Value, json};

use crate::common::put;
use crate::framework::{Behaviour, Framework, POD, test};

pub const BEHAVIOURS: &[Behaviour] = &[
    Behaviour::new("newer: [sig-node] ConfigMap should be consumable as environment variable names with various prefixes", test!(of_map)),
    Behaviour::new(
        "newer: [sig-node] Secrets should be consumable as environment variable names variable names with various prefixes",
        test!(of_secret),
    ),
    Behaviour::new("newer: [sig-node] Downward API should provide hostIPs as an env var [NodeConformance]", test!(host_ips)),
    Behaviour::new("newer: [sig-node] FileKeyRef should be consumable via FileKeyRef, in hooks and with optional keys", test!(files)),
    Behaviour::new("newer: [sig-node] FileKeyRef should fail when the file or its key does not exist", test!(no_files)),
];

/// What `env` prints of the variables that hold one of `values`, sorted.
async fn prints(f: &Framework, name: &str, more: Value) -> Vec<String> {
    let mut pod = Framework::script(name, "env");
    put(&mut pod["spec"]["containers"][0], more);
    // A shell keeps to itself what it could not name.
    pod["spec"]["containers"][0]["command"] = json!(["env"]);
    let mut lines: Vec<String> = f.output_of(&pod).await.lines().filter(|l| l.contains("value-")).map(str::to_owned).collect();
    lines.sort();
    lines
}

/// Every printable character but the equals sign may be in a name (KEP-4369).
const PREFIXES: [&str; 5] = ["p-", "1-", "$_-", "#-", " .-"];

async fn prefixed(f: &Framework, source: &str) {
    let from: Vec<Value> =
        PREFIXES.iter().map(|p| json!({"prefix": p, source: {"name": "keys"}})).chain([json!({source: {"name": "keys"}})]).collect();
    let mut wanted = vec![];
    for prefix in PREFIXES.iter().chain(&[""]) {
        wanted.extend([("data-1", "value-1"), ("data.2", "value-2"), ("3", "value-3")].map(|(k, v)| format!("{prefix}{k}={v}")));
    }
    wanted.sort();
    assert_eq!(prints(f, "pod-prefixes", json!({"envFrom": from})).await, wanted);
}

async fn of_map(f: Framework) -> anyhow::Result<()> {
    let map = json!({"metadata": {"name": "keys"}, "data": {"data-1": "value-1", "data.2": "value-2", "3": "value-3"}});
    f.wire.post(&f.core("configmaps"), &map).await.expect(201);
    prefixed(&f, "configMapRef").await;
    Ok(())
}

async fn of_secret(f: Framework) -> anyhow::Result<()> {
    let secret = json!({"metadata": {"name": "keys"}, "stringData": {"data-1": "value-1", "data.2": "value-2", "3": "value-3"}});
    f.wire.post(&f.core("secrets"), &secret).await.expect(201);
    prefixed(&f, "secretRef").await;
    Ok(())
}

async fn host_ips(f: Framework) -> anyhow::Result<()> {
    let env = json!([{"name": "HOST_IPS", "valueFrom": {"fieldRef": {"fieldPath": "status.hostIPs"}}}]);
    let mut pod = Framework::script("host-ips", "echo $HOST_IPS");
    pod["spec"]["containers"][0]["env"] = env;
    let said = f.output_of(&pod).await;
    let status = f.wire.get(&f.core("pods/host-ips")).await.expect(200)["status"].clone();
    let ips: Vec<&str> = status["hostIPs"].as_array().expect("addresses").iter().filter_map(|ip| ip["ip"].as_str()).collect();
    assert_eq!((said.trim(), ips.first().copied()), (&*ips.join(","), status["hostIP"].as_str()));
    Ok(())
}

/// A pod whose init container writes a file, and whose container has variables out of it without seeing it.
fn with_file(name: &str, text: &str, variables: Value, script: &str) -> Value {
    let mut pod = Framework::script(name, script);
    let spec = &mut pod["spec"];
    spec["volumes"] = json!([{"name": "config", "emptyDir": {}}]);
    let mut writes = spec["containers"][0].clone();
    put(
        &mut writes,
        json!({"name": "setup", "volumeMounts": [{"name": "config", "mountPath": "/data"}],
        "env": [{"name": "TEXT", "value": text}], "command": ["sh", "-c", "mkdir /data/sub; printf %s \"$TEXT\" > /data/sub/config.env"]}),
    );
    spec["initContainers"] = json!([writes]);
    spec["containers"][0]["env"] = variables;
    pod
}

fn out_of(name: &str, path: &str, key: &str, optional: bool) -> Value {
    json!({"name": name, "valueFrom": {"fileKeyRef": {"volumeName": "config", "path": path, "key": key, "optional": optional}}})
}

async fn files(f: Framework) -> anyhow::Result<()> {
    let text = "# a comment\nFIRST='value-1'\n  SECOND = 'value-2 # $FIRST'\nTHIRD='value-3\nvalue-4'\n";
    let variables = json!([
        out_of("A", "sub/config.env", "FIRST", false), out_of("B", "sub/config.env", "SECOND", false), out_of("C", "sub/config.env", "THIRD", false),
        out_of("D", "sub/config.env", "NONE", true), out_of("E", "none.env", "FIRST", true), {"name": "F", "value": "$(A)!"},
    ]);
    let said = f.output_of(&with_file("files", text, variables, "env | sort; [ ! -e /data ]")).await;
    let lines: Vec<&str> = said.lines().filter(|l| l.contains("value-") || l.starts_with("D=") || l.starts_with("E=")).collect();
    assert_eq!(lines, ["A=value-1", "B=value-2 # $FIRST", "C=value-3", "F=value-1!", "value-4"]);

    let mut pod = with_file(
        "hooked",
        text,
        json!([out_of("A", "sub/config.env", "FIRST", false)]),
        "while [ ! -e /said ]; do sleep 0.1; done; cat /said",
    );
    pod["spec"]["containers"][0]["lifecycle"] =
        json!({"postStart": {"exec": {"command": ["sh", "-c", "echo postStart: $A >/saying; mv /saying /said"]}}});
    assert_eq!(f.output_of(&pod).await, "postStart: value-1\n");
    Ok(())
}

async fn no_files(f: Framework) -> anyhow::Result<()> {
    let waits = async |name: &str, text: &str, variable: Value, words: &str| {
        f.create_pod(&with_file(name, text, json!([variable]), "env")).await;
        f.until_it(&f.core(&format!("pods/{name}")), "to say what is missing", POD, |pod| {
            let waiting = &pod["status"]["containerStatuses"][0]["state"]["waiting"];
            waiting["reason"] == "CreateContainerConfigError" && waiting["message"] == words
        })
        .await;
    };
    waits("no-file", "A='a'", out_of("A", "none.env", "A", false), "couldn't parse env file").await;
    waits("no-key", "A='a'", out_of("A", "sub/config.env", "B", false), "environment variable key \"B\" not found in file").await;
    waits("no-format", "A=a", out_of("A", "sub/config.env", "A", false), "couldn't parse env file").await;
    for wrong in [json!({"volumeName": "none", "path": "a", "key": "A"}), json!({"volumeName": "config", "path": "../a", "key": "A"})] {
        let pod = with_file("refused", "", json!([{"name": "A", "valueFrom": {"fileKeyRef": wrong}}]), "env");
        let answer = f.wire.post(&f.core("pods"), &pod).await;
        assert_eq!(answer.code, 422, "{}", answer.text());
    }
    Ok(())
}
