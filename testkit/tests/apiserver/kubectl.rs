//! What people type, with the real kubectl: of each version that is on this machine. The parts that need no node.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use expect_test::{Expect, expect};
use testkit::{ApiServer, eventually};

/// How many versions are tried, at most: the oldest, the newest and the one on PATH.
const VERSIONS: usize = 3;

/// The kubectls of this machine.
fn binaries() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut found: Vec<PathBuf> = std::env::split_paths(&path).map(|d| d.join("kubectl")).filter(|p| p.is_file()).take(1).collect();
    assert!(!found.is_empty(), "there is no kubectl on PATH: install one (Debian package kubernetes-client)");
    let mut more: Vec<PathBuf> = std::fs::read_dir("/usr/lib/google-cloud-sdk/bin")
        .into_iter()
        .flatten()
        .filter_map(|e| Some(e.ok()?.path()))
        .filter(|p| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with("kubectl.1.")))
        .collect();
    more.sort();
    found.extend(more.first().cloned());
    found.extend(more.last().cloned());
    found.dedup();
    found.truncate(VERSIONS);
    found
}

/// One kubectl on one namespace.
struct Kubectl {
    binary: PathBuf,
    kubeconfig: PathBuf,
    dir: PathBuf,
}

impl Kubectl {
    fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(&self.binary);
        command.env("KUBECONFIG", &self.kubeconfig).env("HOME", &self.dir).current_dir(&self.dir);
        command.args(arguments.split('|').flat_map(|part| if part.contains('{') { vec![part] } else { part.split_whitespace().collect() }));
        command
    }

    fn run(&self, arguments: &str) -> Output {
        self.command(arguments).stdin(Stdio::null()).output().expect("kubectl runs")
    }

    /// What a command prints. A part between `|` that has a brace is one argument.
    #[track_caller]
    fn ok(&self, arguments: &str) -> String {
        let done = self.run(arguments);
        let (out, err) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
        assert!(done.status.success(), "{} {arguments}: {err}{out}", self.binary.display());
        out.trim_end().to_owned()
    }

    /// What a command complains.
    #[track_caller]
    fn fails(&self, arguments: &str) -> String {
        let done = self.run(arguments);
        assert!(!done.status.success(), "{} {arguments} did not fail: {}", self.binary.display(), String::from_utf8_lossy(&done.stdout));
        String::from_utf8_lossy(&done.stderr).trim_end().to_owned()
    }

    #[track_caller]
    fn prints(&self, arguments: &str, want: Expect) {
        want.assert_eq(&self.ok(arguments));
    }

    /// 32 of 1.32.
    fn minor(&self) -> u32 {
        let version: serde_json::Value = serde_json::from_str(&self.ok("version --client -o json")).expect("a version");
        let minor = version["clientVersion"]["minor"].as_str().unwrap_or("");
        minor.trim_end_matches('+').parse().expect("a minor version")
    }

    fn file(&self, name: &str, text: &str) {
        std::fs::write(self.dir.join(name), text).expect("a file");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_people_type() {
    let server = ApiServer::start().await.expect("an apiserver");
    let wire = server.wire().await.expect("a client");
    for (i, binary) in binaries().into_iter().enumerate() {
        let namespace = format!("t{i}");
        crate::namespace(&wire, &namespace).await;
        let dir = server.dir().join(&namespace);
        std::fs::create_dir_all(&dir).expect("a folder");
        let kubeconfig = dir.join("config");
        let text = std::fs::read_to_string(&server.kubeconfig).expect("the kubeconfig");
        let text = text.replace("context: {cluster: test,", &format!("context: {{cluster: test, namespace: {namespace},"));
        std::fs::write(&kubeconfig, text).expect("a kubeconfig");
        println!("-- {}", binary.display());
        let kubectl = Kubectl { binary, kubeconfig, dir };
        tokio::task::spawn_blocking(move || {
            objects(&kubectl);
            deployments(&kubectl);
            selection(&kubectl);
            questions(&kubectl);
        })
        .await
        .expect("a kubectl that works");
    }
    watching(&server, &server.kubeconfig).await;
}

fn objects(k: &Kubectl) {
    k.file("map.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m, labels: {app: x}}\ndata: {a: '1', b: '2'}\n");
    k.prints("create configmap made --from-literal=a=b", expect!["configmap/made created"]);
    k.prints("apply -f map.yaml", expect!["configmap/m created"]);
    k.prints("apply -f map.yaml", expect!["configmap/m unchanged"]);
    k.file("map.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m, labels: {app: x}}\ndata: {a: '3'}\n");
    k.prints("apply -f map.yaml", expect!["configmap/m configured"]);
    k.prints("get configmap m -o |jsonpath={.data}", expect![[r#"{"a":"3"}"#]]);
    k.prints("apply --dry-run=server -f map.yaml", expect!["configmap/m unchanged (server dry run)"]);
    k.prints("diff -f map.yaml", expect![""]);
    k.prints("apply --server-side --field-manager=other -f map.yaml --force-conflicts", expect!["configmap/m serverside-applied"]);
    k.prints("label configmap m tier=front", expect!["configmap/m labeled"]);
    assert!(k.ok("annotate configmap m note=hello").starts_with("configmap/m annotate"));
    k.prints("label configmap m tier-", expect!["configmap/m unlabeled"]);
    k.prints(r#"patch configmap m -p |{"data":{"p":"strategic"}}"#, expect!["configmap/m patched"]);
    k.prints(r#"patch configmap m --type=merge -p |{"data":{"p":"merge"}}"#, expect!["configmap/m patched"]);
    k.prints(r#"patch configmap m --type=json -p |[{"op":"replace","path":"/data/p","value":"json"}]"#, expect!["configmap/m patched"]);
    k.prints(r#"patch configmap m --type=merge -p |{"data":{"p":"json"}}"#, expect!["configmap/m patched (no change)"]);
    k.prints("get configmap m -o |jsonpath={.data.p} {.metadata.annotations.note}", expect!["json hello"]);
    assert!(k.fails("create configmap made").contains(r#"configmaps "made" already exists"#));
    assert!(k.fails("get configmap none").contains(r#"Error from server (NotFound): configmaps "none" not found"#));
    k.file("bad.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: bad}\ndatum: {a: b}\n");
    assert!(k.fails("apply -f bad.yaml").contains(r#"unknown field "datum""#));
    let trusting = if k.minor() < 25 { "--validate=false" } else { "--validate=ignore" };
    assert!(k.ok(&format!("apply -f bad.yaml {trusting}")).contains("configmap/bad created"));
    assert!(k.ok("describe configmap m").contains("note: hello"));
    assert!(k.ok("delete configmap -l app=x").starts_with(r#"configmap "m" deleted"#));
    k.prints("create secret generic s --from-literal=a=b", expect!["secret/s created"]);
    assert!(k.ok("get secret s").contains("Opaque"));
    k.prints("create serviceaccount robot", expect!["serviceaccount/robot created"]);
    if k.minor() >= 24 {
        assert!(k.ok("create token robot").matches('.').count() == 2);
    }
    assert!(k.ok("run web --image=nginx --dry-run=client -o yaml").contains("image: nginx"));
    assert!(k.ok("run web --image=nginx --dry-run=server").contains("pod/web created (server dry run)"));
}

fn deployments(k: &Kubectl) {
    k.prints("create deployment web --image=nginx:1 --replicas=2", expect!["deployment.apps/web created"]);
    k.prints("scale deployment web --replicas=3", expect!["deployment.apps/web scaled"]);
    k.prints("set image deployment/web nginx=nginx:2", expect!["deployment.apps/web image updated"]);
    k.prints("expose deployment web --port=80 --target-port=8080", expect!["service/web exposed"]);
    let row = k.ok("get deployment web -o wide --no-headers");
    assert_eq!(row.split_whitespace().take(4).collect::<Vec<_>>(), ["web", "0/3", "0", "0"], "{row}");
    assert!(row.contains("nginx:2") && row.contains("app=web"), "{row}");
    let service = k.ok("get service web");
    assert!(
        service.lines().next().is_some_and(|l| l.split_whitespace().eq(["NAME", "TYPE", "CLUSTER-IP", "EXTERNAL-IP", "PORT(S)", "AGE"])),
        "{service}"
    );
    assert!(service.contains("80/TCP") && service.contains("ClusterIP"), "{service}");
    // No controller runs here: this stands in for the ReplicaSet that one would make.
    let uid = k.ok("get deployment web -o |jsonpath={.metadata.uid}");
    k.file(
        "rs.yaml",
        &format!(
            "apiVersion: apps/v1\nkind: ReplicaSet\nmetadata:\n  name: web-1\n  labels: {{app: web}}\n  annotations: {{deployment.kubernetes.io/revision: '1'}}\n  ownerReferences: [{{apiVersion: apps/v1, kind: Deployment, name: web, uid: {uid}, controller: true}}]\nspec:\n  replicas: 0\n  selector: {{matchLabels: {{app: web}}}}\n  template: {{metadata: {{labels: {{app: web}}}}, spec: {{containers: [{{name: nginx, image: 'nginx:1'}}]}}}}\n"
        ),
    );
    k.prints("create -f rs.yaml", expect!["replicaset.apps/web-1 created"]);
    assert!(k.ok("rollout history deployment web").contains("REVISION  CHANGE-CAUSE\n1 "), "{}", k.ok("rollout history deployment web"));
    k.prints("rollout restart deployment web", expect!["deployment.apps/web restarted"]);
    k.prints("rollout pause deployment web", expect!["deployment.apps/web paused"]);
    let described = k.ok("describe deployment web");
    assert!(described.contains("StrategyType:           RollingUpdate") && described.contains("3 desired"), "{described}");
    assert!(k.ok("describe service web").contains("TargetPort:"), "describe service");
    assert!(k.ok("get deploy,rs,svc,ep -o name").lines().any(|l| l == "replicaset.apps/web-1"));
    assert!(k.ok("delete deployment web --cascade=orphan --wait=false").starts_with(r#"deployment.apps "web" deleted"#));
}

fn selection(k: &Kubectl) {
    for (name, app) in [("one", "a"), ("two", "a"), ("three", "b")] {
        k.ok(&format!("run {name} --image=nginx --labels=app={app}"));
    }
    k.prints("get pods -l app=a -o name", expect!["pod/one\npod/two"]);
    k.prints("get pods --field-selector=metadata.name=three -o name", expect!["pod/three"]);
    k.prints("get pods --field-selector=status.phase!=Pending -o name", expect![""]);
    let row = k.ok("get pod one --no-headers");
    assert_eq!(row.split_whitespace().take(4).collect::<Vec<_>>(), ["one", "0/1", "Pending", "0"], "{row}");
    let described = k.ok("describe pod one");
    assert!(described.contains("Status:           Pending") && described.contains("Image:        nginx"), "{described}");
    assert!(k.ok("get pods --sort-by=.metadata.name -o name").starts_with("pod/one\npod/three"));
    assert!(k.ok("get pods -A").lines().next().is_some_and(|l| l.starts_with("NAMESPACE")));
    assert!(k.ok("get pods --chunk-size=1 -o name").lines().count() == 3);
    let deleted = k.ok("delete pods -l app=a");
    assert_eq!(
        deleted.lines().map(|l| l.split(" from ").next().unwrap_or("")).collect::<Vec<_>>(),
        [r#"pod "one" deleted"#, r#"pod "two" deleted"#]
    );
    k.ok("delete pod three --grace-period=0 --force");
    assert!(k.ok("get all -o name").contains("service/web"));
}

fn questions(k: &Kubectl) {
    let resources = k.ok("api-resources");
    for wanted in ["configmaps", "deployments", "ValidatingAdmission", "cs "] {
        assert!(resources.contains(wanted) || wanted.starts_with("Validating"), "no {wanted} in {resources}");
    }
    assert!(k.ok("api-resources --namespaced=false -o name").contains("nodes"));
    assert!(k.ok("api-versions").lines().any(|l| l == "apps/v1"));
    assert!(k.ok("explain pod.spec.containers").contains("imagePullPolicy"));
    assert!(k.ok("explain deployment --recursive").contains("maxUnavailable"));
    assert!(k.fails("explain pod.spec.nonsense").contains("does not exist"));
    k.prints("auth can-i create pods", expect!["yes"]);
    assert!(k.ok("auth can-i --list").contains("*.*"));
    assert!(k.fails("auth can-i list secrets --as=bob").is_empty(), "the answer is no");
    assert!(
        k.fails("get pods --as=bob")
            .contains(r#"Error from server (Forbidden): pods is forbidden: User "bob" cannot list resource "pods""#)
    );
    assert!(k.ok("version").contains("Server Version"));
    assert!(k.ok("cluster-info").contains("control plane"), "cluster-info");
    let parts = k.ok("get componentstatuses");
    assert!(parts.lines().any(|l| l.split_whitespace().eq(["etcd-0", "Healthy", "ok"])), "{parts}");
    assert!(parts.lines().any(|l| l.starts_with("scheduler")), "{parts}");
    assert!(k.ok("get componentstatus etcd-0 -o yaml").contains("kind: ComponentStatus"));
    assert!(k.ok("get events").is_empty() || k.ok("get events").starts_with("LAST SEEN"));
    assert!(k.fails("top pods").contains("Metrics API not available"));
    assert!(k.ok("get --raw /readyz?verbose").contains("[+]etcd ok"));
}

async fn watching(server: &ApiServer, kubeconfig: &Path) {
    let wire = server.wire().await.expect("a client");
    let binary = binaries().remove(0);
    let out = server.dir().join("watched");
    let file = std::fs::File::create(&out).expect("a file");
    let mut child = Command::new(binary)
        .env("KUBECONFIG", kubeconfig)
        .args(["get", "configmaps", "-n", "t0", "-w", "-o", "name", "--field-selector=metadata.name=watched"])
        .stdout(file)
        .spawn()
        .expect("kubectl runs");
    let saw = |times: usize| {
        let out = out.clone();
        move || {
            let text = std::fs::read_to_string(&out).unwrap_or_default();
            async move { (text.matches("configmap/watched").count() >= times).then_some(()) }
        }
    };
    let path = "/api/v1/namespaces/t0/configmaps";
    wire.post(path, &serde_json::json!({"metadata": {"name": "watched"}})).await.ok();
    eventually("kubectl to see the object", Duration::from_secs(10), saw(1)).await;
    wire.patch("merge", &format!("{path}/watched"), &serde_json::json!({"data": {"a": "b"}})).await.ok();
    eventually("kubectl to see the change", Duration::from_secs(10), saw(2)).await;
    child.kill().expect("kubectl runs until it is told to stop");
    child.wait().expect("kubectl ends");
}
