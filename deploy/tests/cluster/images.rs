//! A registry that the nodes pull from: as everybody's mirror, and as a private one that asks who it is.

use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use deploy::images::EXAMPLE;
use serde_json::Value;

use crate::tools::{SLOW, apply, cache, get, kubectl, run, str, wait};

/// User `somebody`, password `secret`, in the form that registries want (bcrypt).
const USERS: &str = "somebody:$2b$05$CCCCCCCCCCCCCCCCCCCCC.pIKrLVkBX9/OvQMSygY1pWEVn72t6na\n";

/// Where skopeo, run by root, remembers what it copied.
const SKOPEO_CACHE: &str = "/var/lib/containers";

/// Debian's docker-registry, with a directory of its own.
pub struct Registry {
    /// Skopeo's memory was not there before.
    first: bool,
    process: Child,
    address: Ipv4Addr,
    port: u16,
    #[expect(dead_code, reason = "it goes with the registry")]
    dir: tempfile::TempDir,
}

impl Registry {
    /// The mirror: it serves `library/busybox:mirrored` and `team/tool:1`, whoever asks.
    pub fn start() -> Self {
        let registry = Self::new(5555, None);
        for name in ["library/busybox:mirrored", "team/tool:1"] {
            registry.fill(name, &[]);
        }
        registry
    }

    fn new(port: u16, users: Option<&str>) -> Self {
        let first = !Path::new(SKOPEO_CACHE).exists();
        let dir = tempfile::tempdir().expect("a directory");
        let mut config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: ':{port}'}}\n",
            dir.path().join("data").display()
        );
        if let Some(users) = users {
            let path = dir.path().join("users");
            std::fs::write(&path, users).expect("written");
            config += &format!("auth: {{htpasswd: {{realm: test, path: {}}}}}\n", path.display());
        }
        let path = dir.path().join("config.yml");
        std::fs::write(&path, config).expect("written");
        let log = std::fs::File::create(dir.path().join("log")).expect("a log");
        let process = Command::new("docker-registry")
            .arg("serve")
            .arg(&path)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("docker-registry starts: `apt-get install docker-registry`");
        let registry = Self { first, process, address: own_address(), port, dir };
        wait("the registry", SLOW, || TcpStream::connect((registry.address, port)).map_err(|e| e.to_string()));
        registry
    }

    /// Under which the nodes reach it.
    pub fn url(&self) -> String {
        format!("http://{}", self.host())
    }

    fn host(&self) -> String {
        format!("{}:{}", self.address, self.port)
    }

    /// Puts busybox there under this name.
    fn fill(&self, name: &str, more: &[&str]) {
        let archive = EXAMPLE[0].archive(cache()).expect("busybox");
        let (from, to) = (format!("oci-archive:{}", archive.display()), format!("docker://{}/{name}", self.host()));
        run(
            "skopeo",
            &[&["copy", "--quiet", "--insecure-policy", "--dest-tls-verify=false"], more, &[from.as_str(), to.as_str()]].concat(),
        );
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
        if self.first && Path::new(SKOPEO_CACHE).exists() {
            std::fs::remove_dir_all(SKOPEO_CACHE).expect("removed");
        }
    }
}

/// This machine's address, which its nodes reach.
fn own_address() -> Ipv4Addr {
    let cluster = deploy::cluster::Cluster::load().expect("readable").expect("a cluster");
    cluster.host().address
}

fn pod(name: &str, image: &str, more: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  terminationGracePeriodSeconds: 0\n  {more}\n  containers:\n  \
         - {{name: a, image: '{image}', imagePullPolicy: Always, command: [sleep, '1000000']}}\n---\n"
    )
}

fn container(name: &str) -> Value {
    get(&["pod", name])["status"]["containerStatuses"][0].clone()
}

fn runs(name: &str) {
    wait(&format!("{name} to run"), SLOW, || match container(name) {
        status if status["state"]["running"].is_null() => Err(status.to_string()),
        _ => Ok(()),
    });
}

/// The container waits with this reason, and these words.
fn waits(name: &str, reason: &str, words: &str) {
    wait(&format!("{name} to say {reason}"), SLOW, || {
        let status = container(name);
        let waiting = &status["state"]["waiting"];
        if waiting["reason"] == reason && str(waiting, "/message").contains(words) { Ok(()) } else { Err(status.to_string()) }
    });
}

fn events(name: &str) -> String {
    kubectl(&["get", "events", "--field-selector", &format!("involvedObject.name={name}"), "-o", "custom-columns=R:.reason,M:.message"])
}

/// Every registry's images come from the mirror; what it does not have is said so, in the words that people search for.
pub fn come_through_the_mirror(registry: &Registry) {
    let absent = "nobody.example.com/absent/image:7";
    apply(&[pod("hub", "busybox:mirrored", ""), pod("other", "registry.example.com/team/tool:1", ""), pod("absent", absent, "")].concat());
    runs("hub");
    runs("other");
    let said = events("hub");
    assert!(
        said.contains("Pulling image \"busybox:mirrored\"") && said.contains("Successfully pulled image \"busybox:mirrored\" in "),
        "{said}"
    );
    // The runtime names an image by any of the names it has on the node, and this one is the node's own busybox too.
    let said = events("other");
    assert!(said.contains("Successfully pulled image \"registry.example.com/team/tool:1\" in "), "{said}");
    assert!(str(&container("other"), "/imageID").contains("@sha256:"), "{}", container("other"));
    waits("absent", "ErrImagePull", "not found");
    waits("absent", "ImagePullBackOff", &format!("Back-off pulling image \"{absent}\": ErrImagePull: "));
    let said = events("absent");
    for words in [
        format!("Pulling image \"{absent}\""),
        format!("Failed to pull image \"{absent}\": "),
        "Error: ErrImagePull".into(),
        format!("Back-off pulling image \"{absent}\""),
        "Error: ImagePullBackOff".into(),
    ] {
        assert!(said.contains(&words), "{words} is not in\n{said}");
    }
    // It comes once it is there.
    registry.fill("absent/image:7", &[]);
    runs("absent");
    kubectl(&["delete", "pod", "hub", "other", "absent", "--wait=false"]);
}

/// Pulled with the credentials of `imagePullSecrets`, refused without.
pub fn private_registry() {
    let registry = Registry::new(5556, Some(USERS));
    registry.fill("vault/tool:1", &["--dest-creds", "somebody:secret"]);
    // A registry without TLS must be said to be one. Its own entry comes before the mirror's.
    let cluster = deploy::cluster::Cluster::load().expect("readable").expect("a cluster");
    let entries: Vec<PathBuf> =
        cluster.nodes.iter().map(|n| n.file(&format!("{}/certs.d/{}", deploy::paths::CONFIG, registry.host()))).collect();
    for entry in &entries {
        std::fs::create_dir_all(entry).expect("made");
        let url = registry.url();
        let text = format!("server = \"{url}\"\n\n[host.\"{url}\"]\n  capabilities = [\"pull\", \"resolve\"]\n");
        std::fs::write(entry.join("hosts.toml"), text).expect("written");
    }
    let image = format!("{}/vault/tool:1", registry.host());
    kubectl(&[
        "create",
        "secret",
        "docker-registry",
        "vault",
        &format!("--docker-server={}", registry.host()),
        "--docker-username=somebody",
        "--docker-password=secret",
    ]);
    apply(
        &[
            pod("stranger", &image, ""),
            pod("friend", &image, "imagePullSecrets: [{name: vault}]"),
            pod("forgetful", &image, "imagePullSecrets: [{name: none}]"),
        ]
        .concat(),
    );
    runs("friend");
    waits("stranger", "ImagePullBackOff", "ErrImagePull: ");
    let said = events("stranger");
    assert!(said.contains("401 Unauthorized") || said.contains("authorization failed"), "{said}");
    let said = events("forgetful");
    assert!(said.contains("Unable to retrieve some image pull secrets (none); attempting to pull the image may not succeed."), "{said}");
    kubectl(&["delete", "pod", "stranger", "friend", "forgetful", "--wait=false"]);
    kubectl(&["delete", "secret", "vault"]);
    for entry in &entries {
        std::fs::remove_dir_all(Path::new(entry)).expect("removed");
    }
}
