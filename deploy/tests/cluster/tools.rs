//! What the checks use: `ferrite`, `kubectl`, and waiting with a deadline.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Nodes, images and daemons on a busy machine take their time.
pub const SLOW: Duration = Duration::from_secs(90);

/// Runs `ferrite`.
pub fn ferrite(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ferrite")).args(args).output().expect("ferrite starts")
}

/// Runs `ferrite up`, which must succeed; gives its answers and its report.
pub fn up(args: &[&str]) -> (String, String) {
    let out = try_up(args);
    let (said, told) = (text(&out.stdout), text(&out.stderr));
    assert!(out.status.success(), "{said}{told}");
    assert_eq!(said.lines().last(), Some("export KUBECONFIG=/etc/kubernetes/admin.conf"), "the last line is for scripts");
    (said, told)
}

/// Runs `ferrite up`.
pub fn try_up(args: &[&str]) -> Output {
    let cache = concat!(env!("CARGO_TARGET_TMPDIR"), "/ferrite-images");
    ferrite(&[&["up", "--cache-dir", cache], args].concat())
}

/// Takes the cluster down.
pub fn down() {
    let out = ferrite(&["down"]);
    assert!(out.status.success(), "{}", text(&out.stderr));
}

/// Where images made for the tests are kept.
pub fn cache() -> &'static std::path::Path {
    std::path::Path::new(concat!(env!("CARGO_TARGET_TMPDIR"), "/ferrite-images"))
}

/// What a program printed.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs a program that must succeed; gives what it printed.
pub fn run(program: &str, args: &[&str]) -> String {
    let out = Command::new(program).args(args).output().unwrap_or_else(|e| panic!("{program}: {e}"));
    assert!(out.status.success(), "{program} {args:?}: {}{}", text(&out.stdout), text(&out.stderr));
    text(&out.stdout)
}

fn kubectl_command(args: &[&str]) -> Command {
    let mut command = Command::new("kubectl");
    command.args(["--kubeconfig", "/etc/kubernetes/admin.conf"]).args(args);
    command
}

/// Runs `kubectl`; what it said when it failed.
pub fn try_kubectl(args: &[&str]) -> Result<String, String> {
    let out = kubectl_command(args).output().expect("kubectl starts");
    if out.status.success() { Ok(text(&out.stdout)) } else { Err(text(&out.stderr)) }
}

/// Runs `kubectl`, which must succeed.
pub fn kubectl(args: &[&str]) -> String {
    try_kubectl(args).unwrap_or_else(|error| panic!("kubectl {args:?}: {error}"))
}

/// What `kubectl get` gives, as JSON.
pub fn get(args: &[&str]) -> Value {
    serde_json::from_str(&kubectl(&[&["get", "-o", "json"], args].concat())).expect("JSON")
}

/// Applies YAML.
pub fn apply(yaml: &str) {
    fed(&["apply", "-f", "-"], yaml);
}

/// Writes an object to a path of the apiserver.
pub fn replace(path: &str, object: &Value) {
    fed(&["replace", "--raw", path, "-f", "-"], &object.to_string());
}

/// Runs `kubectl` with an input, which must succeed.
fn fed(args: &[&str], input: &str) {
    let mut child = kubectl_command(args).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("kubectl starts");
    child.stdin.take().expect("piped").write_all(input.as_bytes()).expect("written");
    assert!(child.wait().expect("kubectl ends").success(), "kubectl {args:?} refused\n{input}");
}

/// Waits until `look` gives something; panics with what it said last when that takes longer than `within`.
#[track_caller]
pub fn wait<T>(what: &str, within: Duration, mut look: impl FnMut() -> Result<T, String>) -> T {
    let began = Instant::now();
    let mut last = String::new();
    let mut found = None;
    let came = deploy::wait::until(within, || match look() {
        Ok(value) => {
            found = Some(value);
            true
        }
        Err(why) => {
            last = why;
            false
        }
    });
    assert!(came, "{what} took longer than {:?}: {last}", began.elapsed());
    found.expect("it came")
}

/// Waits until every wanted pod of the deployment is available.
#[track_caller]
pub fn rolled_out(deployment: &str) {
    wait(&format!("the rollout of {deployment}"), SLOW, || {
        let found = get(&["deployment", deployment]);
        let (wanted, status) = (&found["spec"]["replicas"], &found["status"]);
        let is = |field: &str| status[field] == *wanted;
        if is("availableReplicas") && is("updatedReplicas") && is("replicas") { Ok(()) } else { Err(status.to_string()) }
    });
}

/// The pods with this label, that are not being deleted.
pub fn pods(label: &str) -> Vec<Value> {
    let mut all = get(&["pods", "-l", label]);
    let pods = all["items"].as_array_mut().map(std::mem::take).unwrap_or_default();
    pods.into_iter().filter(|p| p["metadata"]["deletionTimestamp"].is_null()).collect()
}

/// A field as text.
pub fn str<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The process of a daemon, as `ferrite status` shows it.
pub fn pid_of(node: &str, daemon: &str) -> String {
    let status = text(&ferrite(&["status"]).stdout);
    let rows = status.lines().map(|l| l.split_whitespace().collect::<Vec<_>>());
    let row = rows.into_iter().find(|r| r.first() == Some(&node) && r.get(1) == Some(&daemon));
    row.unwrap_or_else(|| panic!("{daemon} on {node} is not in\n{status}"))[2].to_owned()
}

/// Sends a signal.
pub fn signal(signal: &str, pid: &str) {
    run("kill", &[signal, pid]);
}
