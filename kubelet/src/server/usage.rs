//! What the node, its pods and their containers use, observed once a request from `/proc` and the runtime.
//!
//! [`super::summary`] and [`super::exposition`] only render it.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use anyhow::Context as _;
use futures::{StreamExt as _, stream};
use jiff::Timestamp;
use parking_lot::Mutex;

use super::Server;
use crate::cri;
use crate::runtime::{self, Runtime};

/// Sandboxes that the runtime is asked about at once.
const AT_ONCE: usize = 8;

/// CPU and memory of something, at a time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Use {
    /// When it was measured, in nanoseconds since 1970.
    pub at: i64,
    /// CPU time used so far, in nanoseconds.
    pub cpu: u64,
    /// CPU time used a second, in nanoseconds; `None` before the second look.
    pub cpu_rate: Option<u64>,
    /// Memory that cannot be reclaimed easily, in bytes.
    pub working_set: u64,
    /// All memory, in bytes.
    pub memory: Option<u64>,
    /// Anonymous memory, in bytes.
    pub rss: Option<u64>,
    /// Memory still available, in bytes, where there is a limit.
    pub available: Option<u64>,
    /// Page faults so far.
    pub faults: Option<u64>,
    /// Major page faults so far.
    pub major_faults: Option<u64>,
    /// Swap, in bytes.
    pub swap: u64,
}

/// Bytes and files of a file system, or of a part of one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Space {
    /// Bytes used.
    pub used: u64,
    /// Bytes of the whole file system.
    pub capacity: u64,
    /// Bytes that may still be written.
    pub available: u64,
    /// Files.
    pub inodes_used: u64,
    /// Files there may be.
    pub inodes: u64,
    /// Files there may still be.
    pub inodes_free: u64,
}

/// A network interface's counters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Receive errors.
    pub rx_errors: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Send errors.
    pub tx_errors: u64,
}

/// A container's use.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContainerUse {
    /// Its name in the pod.
    pub name: String,
    /// Its id.
    pub id: String,
    /// Its image.
    pub image: String,
    /// When it was started.
    pub started: Option<Timestamp>,
    /// CPU and memory.
    pub used: Use,
    /// Its writable layer: bytes and files.
    pub layer: Option<(u64, u64)>,
    /// Its logs, in bytes.
    pub logs: u64,
}

/// A pod's use.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodUse {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// When it was started.
    pub started: Option<Timestamp>,
    /// The sum of its containers', or what the runtime measured for all of it.
    pub used: Use,
    /// Its containers, by name.
    pub containers: Vec<ContainerUse>,
    /// Its network interfaces, the default one first.
    pub network: Vec<Interface>,
    /// Processes in it.
    pub processes: Option<u64>,
}

/// Everything.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Usage {
    /// The node's name.
    pub node: String,
    /// When it was observed.
    pub at: Timestamp,
    /// When the node was started.
    pub booted: Option<Timestamp>,
    /// CPUs of the node.
    pub cores: usize,
    /// Memory of the node, in bytes.
    pub memory: u64,
    /// The node's use.
    pub used: Use,
    /// The node's interfaces.
    pub network: Vec<Interface>,
    /// The file system of `--root-dir`.
    pub fs: Space,
    /// The file system of images.
    pub image_fs: Space,
    /// Bytes and files of images in it.
    pub images: (u64, u64),
    /// Most processes, and those there are.
    pub processes: Option<(u64, u64)>,
    /// The pods, by namespace and name.
    pub pods: Vec<PodUse>,
}

/// CPU times as last seen, from which rates are made. One entry a container that was there at the last look.
#[derive(Debug, Default)]
pub struct Rates(Mutex<HashMap<String, Look>>);

/// When something was looked at, its CPU time then, and the rate since the look before.
type Look = (i64, u64, Option<u64>);

/// Two looks closer than this give no better rate than the last one.
const MIN_INTERVAL: i64 = 1_000_000_000;

impl Rates {
    fn rate(&self, key: &str, at: i64, cpu: u64) -> Option<u64> {
        let mut seen = self.0.lock();
        let Some((before, used, rate)) = seen.get(key).copied() else {
            seen.insert(key.to_owned(), (at, cpu, None));
            return None;
        };
        let span = at.saturating_sub(before);
        if span < MIN_INTERVAL {
            return rate;
        }
        let rate = u128::from(cpu.saturating_sub(used)) * 1_000_000_000 / u128::from(span.unsigned_abs());
        let rate = u64::try_from(rate).ok();
        seen.insert(key.to_owned(), (at, cpu, rate));
        rate
    }

    fn keep(&self, usage: &Usage) {
        let there: std::collections::HashSet<&str> =
            usage.pods.iter().flat_map(|p| p.containers.iter().map(|c| c.id.as_str()).chain([p.uid.as_str()])).chain([""]).collect();
        self.0.lock().retain(|key, _| there.contains(key.as_str()));
    }
}

/// Looks at everything.
///
/// # Errors
/// What the runtime or the kernel says.
pub async fn observe(server: &Server, rates: &Rates) -> anyhow::Result<Usage> {
    let stats = server.runtime.list_container_stats(None).await.context("asking the runtime what containers use")?;
    let sandboxes = sandboxes(&*server.runtime).await.context("asking the runtime what sandboxes use")?;
    let images = server.runtime.image_fs_info().await.context("asking the runtime about the file system of images")?;
    let mut usage = node(server, rates)?;
    if let Some(fs) = images.image_filesystems.first() {
        usage.images = (number(fs.used_bytes.as_ref()), number(fs.inodes_used.as_ref()));
        let place = fs.fs_id.as_ref().map(|i| i.mountpoint.as_str()).unwrap_or_default();
        usage.image_fs = space(Path::new(place)).with_context(|| format!("measuring the file system of images at {place:?}"))?;
    }
    usage.pods = pods(server, rates, &stats, &sandboxes);
    rates.keep(&usage);
    Ok(usage)
}

/// What sandboxes use. Of one that cannot be measured the sum over its containers stands in.
async fn sandboxes(runtime: &dyn Runtime) -> Result<Vec<cri::PodSandboxStats>, runtime::Error> {
    match runtime.list_pod_sandbox_stats(None).await {
        Ok(all) => return Ok(all),
        // Not every runtime measures sandboxes.
        Err(error) if error.code == tonic::Code::Unimplemented => return Ok(vec![]),
        // containerd before 1.7 answers for none when a single one has ended: each that runs is asked for by itself.
        Err(error) => tracing::debug!(%error, "what all sandboxes use"),
    }
    let ready = cri::PodSandboxStateValue { state: cri::PodSandboxState::SandboxReady.into() };
    let running =
        runtime.list_pod_sandboxes(Some(cri::PodSandboxFilter { state: Some(ready), ..cri::PodSandboxFilter::default() })).await?;
    let one = |sandbox: cri::PodSandbox| async move {
        let filter = cri::PodSandboxStatsFilter { id: sandbox.id, ..cri::PodSandboxStatsFilter::default() };
        // One that has just ended, for instance.
        let failed = |error| tracing::debug!(id = filter.id, %error, "what a sandbox uses");
        runtime.list_pod_sandbox_stats(Some(filter.clone())).await.map_err(failed).unwrap_or_default()
    };
    Ok(stream::iter(running).map(one).buffer_unordered(AT_ONCE).collect::<Vec<_>>().await.concat())
}

fn number(value: Option<&cri::UInt64Value>) -> u64 {
    value.map_or(0, |v| v.value)
}

fn pods(server: &Server, rates: &Rates, stats: &[cri::ContainerStats], sandboxes: &[cri::PodSandboxStats]) -> Vec<PodUse> {
    let mut out: BTreeMap<(String, String), PodUse> = BTreeMap::new();
    for stat in stats {
        let Some(attributes) = &stat.attributes else { continue };
        let label = |name: &str| attributes.labels.get(&format!("io.kubernetes.{name}")).cloned().unwrap_or_default();
        let (namespace, name, uid) = (label("pod.namespace"), label("pod.name"), label("pod.uid"));
        let Some(known) = server.pods.get(&uid) else { continue };
        // Only what runs now: the runtime also lists containers that have ended.
        let container = label("container.name");
        if known.container_id(&container) != Some(&attributes.id) {
            continue;
        }
        let lists = [&known.status.container_statuses, &known.status.init_container_statuses, &known.status.ephemeral_container_statuses];
        let Some(status) = lists.into_iter().flatten().flatten().find(|s| s.name == container) else { continue };
        let Some(running) = status.state.as_ref().and_then(|s| s.running.as_ref()) else { continue };
        let pod = out.entry((namespace.clone(), name.clone())).or_insert_with(|| PodUse {
            started: known.status.start_time.as_ref().map(|t| t.0),
            namespace: namespace.clone(),
            name: name.clone(),
            uid: uid.clone(),
            ..PodUse::default()
        });
        let mut used = usage_of(stat.cpu.as_ref(), stat.memory.as_ref(), stat.swap.as_ref());
        used.cpu_rate = used.cpu_rate.or_else(|| rates.rate(&attributes.id, used.at, used.cpu));
        let logs = server.pod_logs_dir.join(format!("{namespace}_{name}_{uid}")).join(&container);
        pod.used = sum(pod.used, used);
        pod.containers.push(ContainerUse {
            name: container,
            id: attributes.id.clone(),
            image: status.image.clone(),
            started: running.started_at.as_ref().map(|t| t.0),
            used,
            layer: stat.writable_layer.as_ref().map(|l| (number(l.used_bytes.as_ref()), number(l.inodes_used.as_ref()))),
            logs: bytes_in(&logs),
        });
    }
    for sandbox in sandboxes {
        let (Some(attributes), Some(linux)) = (&sandbox.attributes, &sandbox.linux) else { continue };
        let meta = attributes.metadata.clone().unwrap_or_default();
        let Some(pod) = out.get_mut(&(meta.namespace, meta.name)).filter(|p| p.uid == meta.uid) else { continue };
        let measured = usage_of(linux.cpu.as_ref(), linux.memory.as_ref(), None);
        if measured.cpu > 0 {
            let swap = pod.used.swap;
            pod.used = Use { swap, cpu_rate: measured.cpu_rate.or_else(|| rates.rate(&pod.uid, measured.at, measured.cpu)), ..measured };
        }
        pod.processes = linux.process.as_ref().and_then(|p| p.process_count.as_ref()).map(|c| c.value);
        let interfaces = linux.network.iter().flat_map(|n| n.default_interface.iter().chain(&n.interfaces));
        for i in interfaces {
            if pod.network.iter().all(|known| known.name != i.name) {
                pod.network.push(Interface {
                    name: i.name.clone(),
                    rx_bytes: number(i.rx_bytes.as_ref()),
                    rx_errors: number(i.rx_errors.as_ref()),
                    tx_bytes: number(i.tx_bytes.as_ref()),
                    tx_errors: number(i.tx_errors.as_ref()),
                });
            }
        }
    }
    let mut pods: Vec<PodUse> = out.into_values().collect();
    pods.iter_mut().for_each(|p| p.containers.sort_by(|a, b| a.name.cmp(&b.name)));
    pods
}

fn usage_of(cpu: Option<&cri::CpuUsage>, memory: Option<&cri::MemoryUsage>, swap: Option<&cri::SwapUsage>) -> Use {
    let value = |v: Option<&cri::UInt64Value>| v.map(|v| v.value);
    Use {
        at: cpu.map(|c| c.timestamp).or(memory.map(|m| m.timestamp)).unwrap_or_default(),
        cpu: number(cpu.and_then(|c| c.usage_core_nano_seconds.as_ref())),
        // containerd 1.6 says 0 where it has not measured.
        cpu_rate: value(cpu.and_then(|c| c.usage_nano_cores.as_ref())).filter(|v| *v > 0),
        working_set: number(memory.and_then(|m| m.working_set_bytes.as_ref())),
        memory: value(memory.and_then(|m| m.usage_bytes.as_ref())).filter(|v| *v > 0),
        rss: value(memory.and_then(|m| m.rss_bytes.as_ref())),
        available: value(memory.and_then(|m| m.available_bytes.as_ref())).filter(|v| *v > 0),
        faults: value(memory.and_then(|m| m.page_faults.as_ref())),
        major_faults: value(memory.and_then(|m| m.major_page_faults.as_ref())),
        swap: number(swap.and_then(|s| s.swap_usage_bytes.as_ref())),
    }
}

fn sum(a: Use, b: Use) -> Use {
    let both = |a: Option<u64>, b: Option<u64>| a.or(b).map(|_| a.unwrap_or(0).saturating_add(b.unwrap_or(0)));
    Use {
        at: a.at.max(b.at),
        cpu: a.cpu.saturating_add(b.cpu),
        cpu_rate: both(a.cpu_rate, b.cpu_rate),
        working_set: a.working_set.saturating_add(b.working_set),
        memory: both(a.memory, b.memory),
        rss: both(a.rss, b.rss),
        available: None,
        faults: both(a.faults, b.faults),
        major_faults: both(a.major_faults, b.major_faults),
        swap: a.swap.saturating_add(b.swap),
    }
}

/// Bytes of the files in one directory; a log directory has no directories in it.
fn bytes_in(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok);
    entries.filter_map(|e| e.metadata().ok()).map(|m| m.len()).sum()
}

fn space(path: &Path) -> std::io::Result<Space> {
    let stat = rustix::fs::statvfs(path)?;
    Ok(Space {
        used: (stat.f_blocks - stat.f_bfree) * stat.f_frsize,
        capacity: stat.f_blocks * stat.f_frsize,
        available: stat.f_bavail * stat.f_frsize,
        inodes_used: stat.f_files.saturating_sub(stat.f_ffree),
        inodes: stat.f_files,
        inodes_free: stat.f_ffree,
    })
}

/// The node itself, from proc(5).
fn node(server: &Server, rates: &Rates) -> anyhow::Result<Usage> {
    let at = Timestamp::now();
    let stat = std::fs::read_to_string("/proc/stat")?;
    let cpu = cpu_time(&stat);
    let at_nanos = i64::try_from(at.as_nanosecond()).unwrap_or(i64::MAX);
    let meminfo = std::fs::read_to_string("/proc/meminfo")?;
    let memory = |name: &str| -> u64 {
        let line = meminfo.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':'));
        line.and_then(|l| l.split_whitespace().next()).and_then(|n| n.parse::<u64>().ok()).unwrap_or(0) * 1_024
    };
    let vmstat = std::fs::read_to_string("/proc/vmstat").unwrap_or_default();
    let events = |name: &str| vmstat.lines().find_map(|l| l.strip_prefix(name)?.trim().parse().ok());
    let (total, available) = (memory("MemTotal"), memory("MemAvailable"));
    let boot = stat.lines().find_map(|l| l.strip_prefix("btime ")?.trim().parse().ok());
    let pid_max = std::fs::read_to_string("/proc/sys/kernel/pid_max").ok().and_then(|t| t.trim().parse().ok());
    let running = std::fs::read_to_string("/proc/loadavg").ok();
    let running = running.and_then(|t| t.split([' ', '/']).nth(4)?.parse().ok());
    Ok(Usage {
        node: server.node_name.clone(),
        at,
        booted: boot.and_then(|s| Timestamp::from_second(s).ok()),
        cores: stat.lines().filter(|l| l.starts_with("cpu") && !l.starts_with("cpu ")).count(),
        memory: total,
        used: Use {
            at: at_nanos,
            cpu,
            cpu_rate: rates.rate("", at_nanos, cpu),
            working_set: total.saturating_sub(available),
            memory: Some(total.saturating_sub(memory("MemFree"))),
            rss: Some(memory("AnonPages")),
            available: Some(available),
            faults: events("pgfault "),
            major_faults: events("pgmajfault "),
            swap: memory("SwapTotal").saturating_sub(memory("SwapFree")),
        },
        network: interfaces(&std::fs::read_to_string("/proc/net/dev")?),
        fs: space(&server.root_dir)?,
        image_fs: Space::default(),
        images: (0, 0),
        processes: pid_max.zip(running),
        pods: vec![],
    })
}

/// CPU time of all cores that was not idle, in nanoseconds; USER_HZ is 100.
fn cpu_time(stat: &str) -> u64 {
    let Some(line) = stat.lines().find_map(|l| l.strip_prefix("cpu ")) else { return 0 };
    let ticks: Vec<u64> = line.split_whitespace().map(|n| n.parse().unwrap_or(0)).collect();
    // user nice system idle iowait irq softirq steal; guest time is part of user time.
    let busy: u64 = ticks.iter().take(8).enumerate().filter(|(i, _)| !matches!(i, 3 | 4)).map(|(_, n)| n).sum();
    busy.saturating_mul(10_000_000)
}

fn interfaces(dev: &str) -> Vec<Interface> {
    let lines = dev.lines().filter_map(|line| line.split_once(':'));
    let all = lines.map(|(name, counters)| {
        let n: Vec<u64> = counters.split_whitespace().map(|n| n.parse().unwrap_or(0)).collect();
        let at = |i: usize| n.get(i).copied().unwrap_or(0);
        Interface { name: name.trim().to_owned(), rx_bytes: at(0), rx_errors: at(2), tx_bytes: at(8), tx_errors: at(10) }
    });
    // As upstream: without the loopback and the pods' ends.
    let mut out: Vec<Interface> = all.filter(|i| i.name != "lo" && !i.name.starts_with("veth")).collect();
    out.sort_by_key(|i| !i.name.starts_with('e')); // eth0 and its like are the default one
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_come_from_two_looks() {
        let rates = Rates::default();
        let second = 1_000_000_000;
        assert_eq!(rates.rate("a", 0, 100), None);
        assert_eq!(rates.rate("a", second / 2, 500), None);
        assert_eq!(rates.rate("a", 2 * second, 2_100), Some(1_000));
        assert_eq!(rates.rate("a", 2 * second + 1, 9_999), Some(1_000), "too soon for a new one");
        assert_eq!(rates.rate("a", 4 * second, 0), Some(0), "a counter that was reset is no negative rate");
    }

    #[test]
    fn proc_is_understood() {
        assert_eq!(cpu_time("cpu  1 2 3 400 5 6 7 8 9 9\ncpu0 1 1 1 1\n"), 27 * 10_000_000);
        let dev = "Inter-| Receive\n face |bytes\n    lo: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n  cni0: 5 1 0 0 0 0 0 0 6 1 0 0 0 0 0 0\n  eth0: 10 1 2 0 0 0 0 0 20 1 3 0 0 0 0 0\nveth1: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n";
        let names: Vec<String> =
            interfaces(dev).iter().map(|i| format!("{} {}/{} {}/{}", i.name, i.rx_bytes, i.rx_errors, i.tx_bytes, i.tx_errors)).collect();
        assert_eq!(names, ["eth0 10/2 20/3", "cni0 5/0 6/0"]);
    }
}
