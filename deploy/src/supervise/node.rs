//! A further node on this machine: a supervisor in namespaces of its own, where every path is the default one.
//!
//! The outer process stays in the machine's namespaces, waits, and passes signals on. The inner one is process 1 of the node;
//! when it ends, the kernel ends every process of the node and takes its mounts and links away, as if a machine was switched
//! off. What stays is the node's directory. Start reading at [`run`].

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use nix::mount::MsFlags;
use nix::sched::CloneFlags;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::cgroups::{self, Hierarchy};
use crate::cluster::{Cluster, NODE_GATEWAY, Node};
use crate::command::ip;
use crate::{files, mounts, paths};

/// The stack of the node's first process; the kernel provides memory only for what is used of it.
const STACK: usize = 8 << 20;

/// Runs the node until it is told to stop. Must be called before any thread is started.
///
/// # Errors
/// The node's namespaces, cgroups or links cannot be made.
pub fn run(name: &str) -> anyhow::Result<ExitCode> {
    let cluster = Cluster::load()?.context("there is no cluster on this machine: run deploy/up first")?;
    let Some(node) = cluster.others().iter().find(|n| n.name == name) else {
        bail!("{name} is not a node in namespaces of this cluster");
    };
    let hierarchies = cgroups::hierarchies(&mounts::all()?);
    let cgroup = format!("{}/{name}", paths::CGROUP);
    cgroups::remove(&hierarchies, &cgroup).context("removing what an earlier run left")?;
    cgroups::enter(&hierarchies, name)?;

    let signals = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT, Signal::SIGCHLD]);
    signals.thread_block().context("blocking signals")?;
    let (go, told) = nix::unistd::pipe().context("a pipe")?;
    let inner = start(&cluster, node, &hierarchies, go, signals)?;
    let linked = link(&cluster, node, inner).and_then(|()| File::from(told).write_all(b"!").context("telling the node to go on"));
    if let Err(error) = linked {
        // It dies by the closed pipe as well; this only spares us its complaint.
        let _ = kill(inner, Signal::SIGKILL);
        return Err(error);
    }
    loop {
        match signals.wait().context("waiting for signals")? {
            Signal::SIGCHLD => match waitpid(inner, Some(WaitPidFlag::WNOHANG)).context("waiting for the node")? {
                WaitStatus::Exited(_, code) => return Ok(ExitCode::from(code.to_le_bytes()[0])),
                WaitStatus::Signaled(_, signal, _) => bail!("the node {name} was killed by {signal}"),
                _ => {}
            },
            signal => kill(inner, signal).with_context(|| format!("passing {signal} on"))?,
        }
    }
}

/// Starts the inner process. It waits for a byte from the pipe before it does anything.
#[expect(unsafe_code, reason = "a process in new namespaces of which this one stays outside needs clone(2)")]
fn start(cluster: &Cluster, node: &Node, hierarchies: &[Hierarchy], go: OwnedFd, signals: SigSet) -> anyhow::Result<Pid> {
    let flags = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWCGROUP;
    let mut stack = vec![0; STACK];
    let mut go = Some(File::from(go));
    let inside = Box::new(|| {
        let outcome = go.take().context("the pipe").and_then(|go| inside(cluster, node, hierarchies, go, signals));
        match outcome {
            Ok(()) => 0,
            Err(error) => {
                eprintln!("node {}: {error:#}", node.name);
                1
            }
        }
    });
    // SAFETY: this process has one thread (see `run`), so the child, a copy with a stack of its own, holds no other thread's locks.
    unsafe { nix::sched::clone(inside, &mut stack, flags, Some(Signal::SIGCHLD as i32)) }.context("making namespaces")
}

/// The node's link: `eth0` inside, a port of [`paths::NODE_BRIDGE`] outside.
fn link(cluster: &Cluster, node: &Node, inner: Pid) -> anyhow::Result<()> {
    let (port, mtu) = (port_name(node), cluster.mtu);
    if Path::new("/sys/class/net").join(&port).exists() {
        ip(&format!("link delete {port}"))?;
    }
    ip(&format!("link add {port} mtu {mtu} type veth peer name eth0 mtu {mtu} netns {inner}"))?;
    ip(&format!("link set {port} master {} up", paths::NODE_BRIDGE))?;
    // What a pod of the node asks at another node's port may lead back to the node: through the port that it came in by.
    ip(&format!("link set {port} type bridge_slave hairpin on"))?;
    Ok(())
}

/// The outer end of the node's link.
#[must_use]
pub fn port_name(node: &Node) -> String {
    format!("ferrite0-{}", node.number)
}

/// What the node's first process does.
fn inside(cluster: &Cluster, node: &Node, hierarchies: &[Hierarchy], mut go: File, signals: SigSet) -> anyhow::Result<()> {
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).context("tying the node to its outer process")?;
    let mut byte = [0];
    go.read_exact(&mut byte).context("the node's outer process is gone")?;
    nix::unistd::sethostname(&node.name).context("setting the host name")?;
    file_systems(node, hierarchies)?;
    network(cluster.host().address, node)?;
    signals.thread_unblock().context("unblocking signals")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting the runtime")?;
    runtime.block_on(super::run())
}

fn file_systems(node: &Node, hierarchies: &[Hierarchy]) -> anyhow::Result<()> {
    mount("none", "/", None, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None)?;
    // Lazily unmounted with all below it: the machine's cgroups must not be in the list of mounts that runc reads.
    mounts::detach(Path::new("/sys"))?;
    mount("sysfs", "/sys", Some("sysfs"), MsFlags::empty(), None)?;
    cgroups::mount_anew(hierarchies)?;
    mount("proc", "/proc", Some("proc"), MsFlags::empty(), None)?;

    let (run, logs, dir) = (paths::node_run_dir(&node.name), paths::node_log_dir(&node.name), paths::node_dir(&node.name));
    let resolver = std::fs::canonicalize("/etc/resolv.conf").context("looking for /etc/resolv.conf")?;
    // `/run` is to be empty, but for the directory in which the machine finds the node's sockets.
    let run_dir = File::open(&run).with_context(|| format!("opening {run}"))?;
    mount("tmpfs", "/run", Some("tmpfs"), MsFlags::empty(), Some("mode=755"))?;
    files::ensure_dir(Path::new(paths::RUN))?;
    let run_dir = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&run_dir));
    mount(&run_dir, paths::RUN, None, MsFlags::MS_BIND, None)?;
    mount(&logs, paths::LOGS, None, MsFlags::MS_BIND, None)?;
    // The machine's resolver may listen on its loopback, which is not the node's: the node has a file of its own.
    let own_resolver = format!("{dir}/resolv.conf");
    if resolver.starts_with("/run") {
        let text = std::fs::read(&own_resolver).with_context(|| format!("reading {own_resolver}"))?;
        files::ensure(&resolver, &text, files::PUBLIC)?;
    } else {
        let target = resolver.to_str().context("the path of /etc/resolv.conf is not text")?;
        mount(&own_resolver, target, None, MsFlags::MS_BIND, None)?;
    }
    for path in paths::NODE_DIRS {
        let source = format!("{dir}{path}");
        files::ensure_dir(Path::new(path))?;
        mount(&source, path, None, MsFlags::MS_BIND, None)?;
    }
    Ok(())
}

fn network(host: Ipv4Addr, node: &Node) -> anyhow::Result<()> {
    ip("link set lo up")?;
    ip(&format!("address add {}/24 dev eth0", node.address))?;
    ip("link set eth0 up")?;
    ip(&format!("route add default via {NODE_GATEWAY}"))?;
    // This machine's node is known by another address, yet it is on the same wire: pod ranges need no tunnel.
    ip(&format!("route add {host} dev eth0 scope link"))?;
    for (key, value) in crate::steps::sysctls::WANTED {
        let path = Path::new("/proc/sys").join(key);
        std::fs::write(&path, value).with_context(|| format!("writing {value} to {}", path.display()))?;
    }
    Ok(())
}

fn mount(source: &str, target: &str, kind: Option<&str>, flags: MsFlags, options: Option<&str>) -> anyhow::Result<()> {
    nix::mount::mount(Some(source), target, kind, flags, options).with_context(|| format!("mounting {source} at {target}"))
}
