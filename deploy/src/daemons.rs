//! Which processes a node runs, with their arguments: plain functions of the cluster.
//!
//! Flags have upstream's names. What changes here is what `up` restarts, because a daemon's whole description is compared.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::cluster::{Cluster, DNS_SERVICE, DOMAIN, Node, POD_RANGE, SERVICE_RANGE};
use crate::paths;

/// A process to keep running.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Daemon {
    /// Its name: in `status`, of its log, of its unit.
    pub name: String,
    /// Absolute path.
    pub program: PathBuf,
    /// Arguments.
    pub args: Vec<String>,
    /// It is started once each of these has been ready.
    pub after: Vec<String>,
    /// How one sees that it is ready; at once when absent.
    pub ready: Option<Ready>,
    /// Changes when its program or a file that it reads only at its start changes.
    pub version: String,
}

/// How one sees that a daemon is ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ready {
    /// Something accepts connections at this address.
    Tcp(std::net::SocketAddr),
    /// Something accepts connections at this path.
    Unix(PathBuf),
}

/// A share of the disk, as upstream has it for eviction and for removing images, says little about one that a person's own files fill: what pods need is what counts.
const EVICTION: &str = "memory.available<100Mi,nodefs.available<1Gi,nodefs.inodesFree<2%,imagefs.available<1Gi,imagefs.inodesFree<2%";

/// What a node's daemons are told about the machine they run on.
#[derive(Debug, Clone)]
pub struct Environment {
    /// The resolver configuration that pods get behind the cluster's own names.
    pub resolv_conf: String,
}

/// The daemons of `node`, in the order in which they start. `version` gives a daemon's [`Daemon::version`] by its program and the
/// files it reads at its start.
#[must_use]
pub fn of(cluster: &Cluster, node: &Node, environment: &Environment, version: &dyn Fn(&str, &[&str]) -> String) -> Vec<Daemon> {
    let mut all = Vec::new();
    if node.is_host() {
        all.extend(control_plane(cluster, version));
    }
    all.extend(workers(node, environment, version));
    if node.is_host() {
        all.extend(cluster.others().iter().map(|other| in_namespaces(other, version)));
    }
    for daemon in &mut all {
        for flag in cluster.flags.iter().filter(|f| f.daemon == daemon.name) {
            let begin = format!("--{}=", flag.name);
            daemon.args.retain(|a| !a.starts_with(&begin));
            daemon.args.push(format!("{begin}{}", flag.value));
        }
    }
    all
}

/// The daemons that take flags of people's own.
pub const CONFIGURABLE: &[&str] = &["etcd", "apiserver", "controller-manager", "scheduler", "kubelet", "kube-proxy", "coredns-lite"];

fn control_plane(cluster: &Cluster, version: &dyn Fn(&str, &[&str]) -> String) -> Vec<Daemon> {
    let address = cluster.host().address;
    let pki = |file: &str| format!("{}/pki/{file}", paths::KUBERNETES);
    let conf = |name: &str| format!("{}/{name}.conf", paths::KUBERNETES);
    let etcd = Daemon {
        name: "etcd".into(),
        program: "/usr/bin/etcd".into(),
        args: flags(&[
            ("name", cluster.host().name.clone()),
            ("data-dir", format!("{}/etcd", paths::STATE)),
            ("listen-client-urls", "https://127.0.0.1:2379".into()),
            ("advertise-client-urls", "https://127.0.0.1:2379".into()),
            ("listen-peer-urls", "https://127.0.0.1:2380".into()),
            ("initial-advertise-peer-urls", "https://127.0.0.1:2380".into()),
            ("initial-cluster", format!("{}=https://127.0.0.1:2380", cluster.host().name)),
            ("client-cert-auth", "true".into()),
            ("trusted-ca-file", pki("etcd/ca.crt")),
            ("cert-file", pki("etcd/server.crt")),
            ("key-file", pki("etcd/server.key")),
            ("peer-client-cert-auth", "true".into()),
            ("peer-trusted-ca-file", pki("etcd/ca.crt")),
            ("peer-cert-file", pki("etcd/peer.crt")),
            ("peer-key-file", pki("etcd/peer.key")),
            // One member has nobody to hear from, so it need not wait a second before it elects itself.
            ("heartbeat-interval", "50".into()),
            ("election-timeout", "250".into()),
            ("snapshot-count", "10000".into()),
            ("auto-compaction-mode", "periodic".into()),
            ("auto-compaction-retention", "10m".into()),
            ("logger", "zap".into()),
            ("log-level", "warn".into()),
        ]),
        after: Vec::new(),
        ready: Some(Ready::Tcp(([127, 0, 0, 1], 2379).into())),
        version: version("/usr/bin/etcd", &[]),
    };
    let mut apiserver = ours(
        "apiserver",
        &["etcd"],
        Some(Ready::Tcp((address, 6443).into())),
        version,
        &[
            ("secure-port", "6443".into()),
            ("bind-address", "0.0.0.0".into()),
            ("advertise-address", address.to_string()),
            ("etcd-servers", "https://127.0.0.1:2379".into()),
            ("etcd-cafile", pki("etcd/ca.crt")),
            ("etcd-certfile", pki("apiserver-etcd-client.crt")),
            ("etcd-keyfile", pki("apiserver-etcd-client.key")),
            ("client-ca-file", pki("ca.crt")),
            ("tls-cert-file", pki("apiserver.crt")),
            ("tls-private-key-file", pki("apiserver.key")),
            ("enable-bootstrap-token-auth", "true".into()),
            ("service-account-issuer", format!("https://kubernetes.default.svc.{DOMAIN}")),
            ("service-account-key-file", pki("sa.pub")),
            ("service-account-signing-key-file", pki("sa.key")),
            ("service-cluster-ip-range", SERVICE_RANGE.into()),
            ("service-node-port-range", "30000-32767".into()),
            ("proxy-client-cert-file", pki("front-proxy-client.crt")),
            ("proxy-client-key-file", pki("front-proxy-client.key")),
            ("requestheader-client-ca-file", pki("front-proxy-ca.crt")),
            ("requestheader-allowed-names", "front-proxy-client".into()),
            ("requestheader-username-headers", "X-Remote-User".into()),
            ("requestheader-uid-headers", "X-Remote-Uid".into()),
            ("requestheader-group-headers", "X-Remote-Group".into()),
            ("requestheader-extra-headers-prefix", "X-Remote-Extra-".into()),
            ("kubelet-client-certificate", pki("apiserver-kubelet-client.crt")),
            ("kubelet-client-key", pki("apiserver-kubelet-client.key")),
            ("kubelet-certificate-authority", pki("ca.crt")),
            ("encryption-provider-config", paths::ENCRYPTION.into()),
        ],
    );
    apiserver.version = version(&apiserver.program.to_string_lossy(), &[paths::ENCRYPTION]);
    let controller_manager = ours(
        "controller-manager",
        &["apiserver"],
        None,
        version,
        &[
            ("kubeconfig", conf("controller-manager")),
            ("bind-address", "127.0.0.1".into()),
            ("client-ca-file", pki("ca.crt")),
            ("tls-cert-file", pki("controller-manager-serving.crt")),
            ("tls-private-key-file", pki("controller-manager-serving.key")),
            ("leader-elect", "true".into()),
            ("allocate-node-cidrs", "true".into()),
            ("cluster-cidr", POD_RANGE.into()),
            ("root-ca-file", pki("ca.crt")),
            ("service-account-private-key-file", pki("sa.key")),
            ("cluster-signing-cert-file", pki("ca.crt")),
            ("cluster-signing-key-file", pki("ca.key")),
        ],
    );
    let scheduler = ours(
        "scheduler",
        &["apiserver"],
        None,
        version,
        &[
            ("kubeconfig", conf("scheduler")),
            ("bind-address", "127.0.0.1".into()),
            ("client-ca-file", pki("ca.crt")),
            ("tls-cert-file", pki("scheduler-serving.crt")),
            ("tls-private-key-file", pki("scheduler-serving.key")),
            ("leader-elect", "true".into()),
        ],
    );
    vec![etcd, apiserver, controller_manager, scheduler]
}

fn workers(node: &Node, environment: &Environment, version: &dyn Fn(&str, &[&str]) -> String) -> Vec<Daemon> {
    let pki = |file: &str| format!("{}/pki/{file}", paths::KUBERNETES);
    let conf = |name: &str| format!("{}/{name}.conf", paths::KUBERNETES);
    // On this machine the kubelet need not fail while the apiserver starts; elsewhere there is nothing to wait for.
    let apiserver: &[&str] = if node.is_host() { &["apiserver"] } else { &[] };
    let kubelet_after: &[&str] = if node.is_host() { &["apiserver", "containerd"] } else { &["containerd"] };
    let config = format!("{}/containerd.toml", paths::CONFIG);
    let containerd = Daemon {
        name: "containerd".into(),
        program: "/usr/bin/containerd".into(),
        args: vec!["--config".into(), config.clone()],
        after: Vec::new(),
        ready: Some(Ready::Unix(paths::CONTAINERD_SOCKET.into())),
        version: version("/usr/bin/containerd", &[&node.file(&config).to_string_lossy()]),
    };
    let kubelet = ours(
        "kubelet",
        kubelet_after,
        None,
        version,
        &[
            ("kubeconfig", conf("kubelet")),
            ("hostname-override", node.name.clone()),
            ("node-ip", node.address.to_string()),
            ("container-runtime-endpoint", format!("unix://{}", paths::CONTAINERD_SOCKET)),
            ("client-ca-file", pki("ca.crt")),
            ("tls-cert-file", pki("kubelet.crt")),
            ("tls-private-key-file", pki("kubelet.key")),
            ("root-dir", paths::KUBELET.into()),
            ("eviction-hard", EVICTION.into()),
            ("image-gc-high-threshold", "100".into()),
            ("cluster-dns", DNS_SERVICE.to_string()),
            ("cluster-domain", DOMAIN.into()),
            ("resolv-conf", environment.resolv_conf.clone()),
        ],
    );
    let kube_proxy = ours(
        "kube-proxy",
        apiserver,
        None,
        version,
        &[
            ("kubeconfig", conf("kube-proxy")),
            ("hostname-override", node.name.clone()),
            ("node-ip", node.address.to_string()),
            ("cluster-cidr", POD_RANGE.into()),
        ],
    );
    let dns = ours(
        "coredns-lite",
        apiserver,
        None,
        version,
        &[
            ("kubeconfig", conf("coredns-lite")),
            ("bind-address", node.address.to_string()),
            ("port", "53".into()),
            ("node-name", node.name.clone()),
        ],
    );
    vec![containerd, kubelet, kube_proxy, dns]
}

fn in_namespaces(node: &Node, version: &dyn Fn(&str, &[&str]) -> String) -> Daemon {
    let program = format!("{}/ferrite", paths::PROGRAMS);
    Daemon {
        name: format!("node-{}", node.name),
        version: version(&program, &[]),
        program: program.into(),
        args: vec!["supervise".into(), "--node".into(), node.name.clone()],
        after: Vec::new(),
        ready: Some(Ready::Unix(node.file(crate::supervise::control::SOCKET))),
    }
}

fn ours(name: &str, after: &[&str], ready: Option<Ready>, version: &dyn Fn(&str, &[&str]) -> String, options: &[(&str, String)]) -> Daemon {
    let program = format!("{}/{name}", paths::PROGRAMS);
    Daemon {
        name: name.into(),
        version: version(&program, &[]),
        program: program.into(),
        args: flags(options),
        after: after.iter().map(|a| (*a).to_owned()).collect(),
        ready,
    }
}

fn flags(options: &[(&str, String)]) -> Vec<String> {
    options.iter().map(|(name, value)| format!("--{name}={value}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::{Machine, Wishes};

    fn names(nodes: u8) -> Vec<String> {
        let machine = Machine { name: "vm".into(), address: [192, 0, 2, 2].into(), mtu: 1500, restrict_oom_score_adj: false };
        let cluster = Cluster::wanted(machine, None, Wishes { nodes: Some(nodes), ..Wishes::default() }).expect("a cluster");
        let environment = Environment { resolv_conf: "/etc/resolv.conf".into() };
        let line = |node: &Node| {
            let all = of(&cluster, node, &environment, &|_, _| String::new());
            for daemon in &all {
                for needed in &daemon.after {
                    let before = all.iter().take_while(|d| d.name != daemon.name).any(|d| d.name == *needed && d.ready.is_some());
                    assert!(before, "{} waits for {needed}, which must come earlier and say when it is ready", daemon.name);
                }
            }
            all.iter().map(|d| d.name.as_str()).collect::<Vec<_>>().join(" ")
        };
        cluster.nodes.iter().map(line).collect()
    }

    #[test]
    fn the_host_runs_the_control_plane_and_the_other_nodes() {
        expect_test::expect![[r#"
            [
                "etcd apiserver controller-manager scheduler containerd kubelet kube-proxy coredns-lite node-vm-2 node-vm-3",
                "containerd kubelet kube-proxy coredns-lite",
                "containerd kubelet kube-proxy coredns-lite",
            ]
        "#]]
        .assert_debug_eq(&names(3));
    }

    #[test]
    fn peoples_own_flags_replace_ours_and_are_added() {
        let machine = Machine { name: "vm".into(), address: [192, 0, 2, 2].into(), mtu: 1500, restrict_oom_score_adj: false };
        let flags = ["scheduler:bind-address=0.0.0.0", "scheduler:v=4", "kubelet:max-pods=7"].map(|f| f.parse().expect("a flag"));
        let cluster = Cluster::wanted(machine, None, Wishes { flags: flags.into(), ..Wishes::default() }).expect("a cluster");
        let all = of(&cluster, cluster.host(), &Environment { resolv_conf: "/etc/resolv.conf".into() }, &|_, _| String::new());
        let args = |name: &str| all.iter().find(|d| d.name == name).map(|d| d.args.join(" ")).expect("it is there");
        assert!(args("scheduler").ends_with("--bind-address=0.0.0.0 --v=4") && !args("scheduler").contains("127.0.0.1"));
        assert!(args("kubelet").ends_with("--max-pods=7") && !args("kube-proxy").contains("max-pods"));
    }
}
