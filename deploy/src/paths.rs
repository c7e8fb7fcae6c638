//! Where things are on a node. Every node sees the same paths; a node in namespaces has its own directories behind them.

/// The programs: the daemons and `ferrite` itself.
pub const PROGRAMS: &str = "/usr/local/lib/ferrite";
/// Kubeconfigs, and certificates below `pki/`.
pub const KUBERNETES: &str = "/etc/kubernetes";
/// What is to run on this machine, and the configuration of containerd.
pub const CONFIG: &str = "/etc/ferrite";
/// Data of etcd and containerd, and the directories of nodes in namespaces.
pub const STATE: &str = "/var/lib/ferrite";
/// Sockets and process files, gone after a reboot.
pub const RUN: &str = "/run/ferrite";
/// One log file a daemon.
pub const LOGS: &str = "/var/log/ferrite";
/// The kubelet's directory.
pub const KUBELET: &str = "/var/lib/kubelet";
/// containerd's socket.
pub const CONTAINERD_SOCKET: &str = "/run/ferrite/containerd/containerd.sock";
/// Debian's CNI plugins.
pub const CNI_PLUGINS: &str = "/usr/lib/cni";
/// The bridge to which the nodes in namespaces are attached.
pub const NODE_BRIDGE: &str = "ferrite0";
/// The bridge of a node's pods.
pub const POD_BRIDGE: &str = "cni0";
/// The cgroup, in every hierarchy, below which nodes in namespaces live.
pub const CGROUP: &str = "ferrite";
/// What `deploy/up` prints for `kubectl`.
pub const ADMIN_KUBECONFIG: &str = "/etc/kubernetes/admin.conf";
/// How the apiserver encrypts Secrets in etcd, with the key.
pub const ENCRYPTION: &str = "/etc/kubernetes/pki/encryption.yaml";
/// The image every pod's sandbox runs.
pub const PAUSE_IMAGE: &str = "localhost/ferrite/pause:0.1";

/// Directories that each node has for itself. For this machine's own node they are the machine's; a node in namespaces has
/// them mounted from [`node_dir`]. `/run` is not in the list: such a node gets an empty one.
pub const NODE_DIRS: &[&str] = &[
    "/etc/cni",
    "/etc/ferrite",
    "/etc/kubernetes",
    "/var/lib/cni",
    "/var/lib/containerd",
    "/var/lib/kubelet",
    "/var/log/containers",
    "/var/log/pods",
    // Last: it hides the directory that the others come from.
    "/var/lib/ferrite",
];

/// Where the directories of a node in namespaces are on this machine.
#[must_use]
pub fn node_dir(name: &str) -> String {
    format!("{STATE}/nodes/{name}")
}

/// What such a node sees as [`RUN`].
#[must_use]
pub fn node_run_dir(name: &str) -> String {
    format!("{RUN}/nodes/{name}")
}

/// What such a node sees as [`LOGS`].
#[must_use]
pub fn node_log_dir(name: &str) -> String {
    format!("{LOGS}/{name}")
}
