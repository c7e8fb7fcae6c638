//! What must be so before anything is done: rights, programs, kernel features, free ports, and no cluster of somebody else.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;

use anyhow::{Context as _, bail};

use super::Outcome;
use crate::up::Up;
use crate::{cgroups, command, mounts, paths};

/// Programs of the distribution, with the package that has them.
const PROGRAMS: &[(&str, &str)] = &[
    ("/usr/bin/etcd", "etcd-server"),
    ("/usr/bin/containerd", "containerd"),
    ("/usr/bin/ctr", "containerd"),
    ("/usr/sbin/runc", "runc"),
    ("/usr/sbin/nft", "nftables"),
    ("/usr/lib/cni/bridge", "containernetworking-plugins"),
    ("/usr/lib/cni/host-local", "containernetworking-plugins"),
    ("/usr/lib/cni/loopback", "containernetworking-plugins"),
    ("/bin/busybox", "busybox-static"),
];

/// Kernel features: a path that there is only with the feature, and the module that brings it.
const KERNEL: &[(&str, &str)] = &[("/proc/sys/net/bridge/bridge-nf-call-iptables", "br_netfilter")];

/// Ports on which this machine's daemons listen, and who does.
const PORTS: &[(u16, &str)] = &[
    (6443, "apiserver"),
    (2379, "etcd"),
    (2380, "etcd"),
    (10250, "kubelet"),
    (10249, "kube-proxy"),
    (10256, "kube-proxy"),
    (10257, "controller-manager"),
    (10259, "scheduler"),
];

/// Directories that only one cluster of a machine can have.
const OWN_DIRS: &[&str] = &[paths::KUBERNETES, paths::KUBELET, paths::STATE];

/// # Errors
/// Somebody who is not root asks.
pub fn needs_root() -> anyhow::Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!("containers, links and cgroups need root: run it again with sudo");
    }
    Ok(())
}

/// # Errors
/// What is missing, and what to do about it.
pub async fn run(up: &Up) -> anyhow::Result<Outcome> {
    for (program, package) in PROGRAMS {
        if !Path::new(program).exists() {
            bail!("{program} is missing: `apt-get install --no-install-recommends {package}` (deploy/up does it by itself)");
        }
    }
    kernel()?;
    if up.before.is_none() {
        not_taken(up.cluster.host().address)?;
    }
    Ok(Outcome::Unchanged("root, programs, kernel, ports".into()))
}

fn kernel() -> anyhow::Result<()> {
    for (path, module) in KERNEL {
        if !Path::new(path).exists() {
            command::run("modprobe", [module])
                .with_context(|| format!("the kernel lacks {module}, which Services between pods of one node need"))?;
        }
    }
    let file_systems = std::fs::read_to_string("/proc/filesystems").context("reading /proc/filesystems")?;
    if !file_systems.lines().any(|l| l.ends_with("\toverlay")) {
        command::run("modprobe", ["overlay"]).context("the kernel lacks overlay file systems, which containers need")?;
    }
    command::run("nft", ["list", "tables"]).context("the kernel lacks nftables, which Services need")?;
    if cgroups::hierarchies(&mounts::all()?).is_empty() {
        bail!("no cgroups are mounted, which containers need: `mount -t cgroup2 cgroup2 /sys/fs/cgroup`");
    }
    Ok(())
}

/// On a machine without a cluster of ours, nothing may look like one.
fn not_taken(address: Ipv4Addr) -> anyhow::Result<()> {
    for dir in OWN_DIRS {
        if std::fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some()) {
            bail!("{dir} is not empty, but belongs to no cluster of ours: remove what is there (after a crash, deploy/down does that)");
        }
    }
    for link in [paths::POD_BRIDGE, paths::NODE_BRIDGE] {
        if Path::new("/sys/class/net").join(link).exists() {
            bail!(
                "there is a network link {link}, which is not ours: remove it with `ip link delete {link}` (after a crash, deploy/down does that)"
            );
        }
    }
    let taken = |at: SocketAddr| TcpListener::bind(at).is_err_and(|e| e.kind() == std::io::ErrorKind::AddrInUse);
    for (port, daemon) in PORTS {
        if taken((Ipv4Addr::UNSPECIFIED, *port).into()) {
            bail!("port {port}, on which {daemon} is to listen, is taken: `ss -ltnp sport = :{port}` shows by whom");
        }
    }
    if taken((address, 53).into()) {
        bail!("port 53 of {address}, on which coredns-lite is to listen, is taken: `ss -ltnp sport = :53` shows by whom");
    }
    Ok(())
}
