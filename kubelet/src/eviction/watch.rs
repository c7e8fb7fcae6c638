//! Measures the node every few seconds, says what it is short of, and has one pod at a time ended until it is not.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Candidate, Measure, Pressure, Signal, Threshold, breached, thresholds, victim};
use crate::agent::Event;
use crate::events::Kind;
use crate::kubelet::Kubelet;
use crate::mirrors::is_static;
use crate::pod::{Verdict, identity, is_terminal};
use crate::resources::{self, SYSTEM_CRITICAL};
use crate::spec::{CONTAINER_NAME, POD_UID, log_directory};

/// How often the node is measured (upstream's `monitoringInterval`).
const EVERY: Duration = Duration::from_secs(10);
/// Files counted for the size of one pod's directories; more are not walked.
const MAX_FILES: usize = 100_000;

/// Watches until `shutdown`.
pub async fn run(kubelet: Arc<Kubelet>, events: mpsc::Sender<Event>, shutdown: CancellationToken) {
    let limits = match thresholds(&kubelet.flags.eviction_hard) {
        Ok(limits) => limits,
        // The flags were read before; this is for a kubelet that was put together otherwise.
        Err(error) => return tracing::error!(error = format!("{error:#}"), "--eviction-hard cannot be read; nothing will be evicted"),
    };
    let mut watch = Watch { kubelet, events, limits, since: BTreeMap::new() };
    loop {
        if let Err(error) = watch.round().await {
            tracing::warn!(error = format!("{error:#}"), "the node could not be measured");
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

struct Watch {
    kubelet: Arc<Kubelet>,
    events: mpsc::Sender<Event>,
    limits: Vec<Threshold>,
    /// When each threshold was last passed: its pressure stays for a while, so that the node does not flap.
    since: BTreeMap<Signal, Timestamp>,
}

impl Watch {
    async fn round(&mut self) -> anyhow::Result<()> {
        let now = self.kubelet.clock.now();
        let passed = breached(&self.limits, &self.measure().await?);
        for (threshold, _) in &passed {
            self.since.insert(threshold.signal, now);
        }
        let stays = SignedDuration::try_from(self.kubelet.flags.eviction_pressure_transition_period).unwrap_or(SignedDuration::MAX);
        self.since.retain(|_, at| now.duration_since(*at) < stays);
        let none = |signal| Measure { signal, available: 0, capacity: 0 };
        let lasting: Vec<_> = self.limits.iter().filter(|t| self.since.contains_key(&t.signal)).map(|t| (*t, none(t.signal))).collect();
        let pressure = Pressure::of(&lasting);
        if **self.kubelet.pressure.load() != pressure {
            self.kubelet.pressure.store(Arc::new(pressure));
            self.kubelet.node_bell.notify_one();
        }
        self.over_own_limits().await;
        let Some((threshold, measure)) = passed.first().copied() else { return Ok(()) };
        tracing::warn!(signal = ?threshold.signal, available = measure.available, "attempting to reclaim");
        let words = format!("Attempting to reclaim {}", resource(threshold.signal));
        self.kubelet.events.node(&self.kubelet.node.load(), Kind::Warning, "EvictionThresholdMet", words);
        if matches!(
            threshold.signal,
            Signal::NodefsAvailable | Signal::NodefsInodesFree | Signal::ImagefsAvailable | Signal::ImagefsInodesFree
        ) {
            crate::gc::containers(&self.kubelet).await?;
            crate::images::gc::remove_unused(&self.kubelet).await?;
            if breached(&[threshold], &self.measure().await?).is_empty() {
                return Ok(());
            }
        }
        self.evict(threshold, measure).await
    }

    async fn measure(&self) -> anyhow::Result<Vec<Measure>> {
        let mut out = vec![memory()?, pids()?];
        let root = &self.kubelet.flags.root_dir;
        out.extend(filesystem(root, Signal::NodefsAvailable, Signal::NodefsInodesFree)?);
        let images = self.kubelet.runtime.image_fs_info().await?;
        let mount = images.image_filesystems.iter().find_map(|f| f.fs_id.as_ref()).map(|f| PathBuf::from(&f.mountpoint));
        if let Some(mount) = mount.filter(|m| m.exists()) {
            out.extend(filesystem(&mount, Signal::ImagefsAvailable, Signal::ImagefsInodesFree)?);
        }
        Ok(out)
    }

    async fn evict(&self, threshold: Threshold, measure: Measure) -> anyhow::Result<()> {
        let resource = resource(threshold.signal);
        let stats = self.kubelet.runtime.list_container_stats(None).await?;
        let mut usage: BTreeMap<(String, String), i64> = BTreeMap::new();
        for s in stats {
            let Some(attributes) = s.attributes else { continue };
            let label = |key: &str| attributes.labels.get(key).cloned().unwrap_or_default();
            let bytes = match resource {
                "memory" => s.memory.and_then(|m| m.working_set_bytes).map(|v| v.value),
                "ephemeral-storage" => s.writable_layer.and_then(|w| w.used_bytes).map(|v| v.value),
                _ => None,
            };
            *usage.entry((label(POD_UID), label(CONTAINER_NAME))).or_default() += i64::try_from(bytes.unwrap_or(0)).unwrap_or(i64::MAX);
        }
        let pods: Vec<_> = self.kubelet.pods.all().into_iter().filter(|k| !is_terminal(k.status.phase.as_deref())).collect();
        let candidates: Vec<Candidate> = pods
            .iter()
            .map(|k| {
                let uid = identity(&k.pod).2.to_owned();
                let of_containers: i64 = usage.iter().filter(|((u, _), _)| *u == uid).map(|(_, v)| *v).sum();
                let of_files = if resource == "ephemeral-storage" { self.files(&k.pod) } else { 0 };
                let spec = k.pod.spec.as_ref();
                let priority = spec.and_then(|s| s.priority).unwrap_or(0);
                Candidate {
                    priority,
                    usage: of_containers + of_files,
                    request: spec.map_or(0, |s| resources::pod_milli(s, resource, resources::requests) / 1000),
                    critical: priority >= SYSTEM_CRITICAL || is_static(&k.pod),
                    uid,
                }
            })
            .collect();
        let Some(chosen) = victim(&candidates) else {
            tracing::warn!(resource, "no pod can be evicted");
            return Ok(());
        };
        let Some(known) = pods.iter().find(|k| identity(&k.pod).2 == chosen.uid) else { return Ok(()) };
        let mut message = format!("The node was low on resource: {resource}. ");
        message += &format!("Threshold quantity: {}, available: {}. ", size(threshold.amount(measure.capacity)), size(measure.available));
        for container in known.pod.spec.iter().flat_map(|s| &s.containers) {
            let used = usage.get(&(chosen.uid.clone(), container.name.clone())).copied().unwrap_or(0);
            let request = container.resources.as_ref().and_then(|r| resources::whole(r.requests.as_ref(), resource)).unwrap_or(0);
            if used > request {
                let (used, request) = (size(used), if request == 0 { "0".to_owned() } else { size(request) });
                message +=
                    &format!("Container {} was using {used}, request is {request}, has larger consumption of {resource}. ", container.name);
            }
        }
        self.end(&known.pod, message).await
    }

    async fn end(&self, pod: &Pod, message: String) -> anyhow::Result<()> {
        self.kubelet.events.pod(pod, None, Kind::Warning, "Evicted", &message);
        let verdict = Verdict { reason: "Evicted".into(), message, disruption: true, rejected: false };
        self.events.send(Event::End(identity(pod).2.to_owned(), verdict, 1)).await.context("telling the agent")
    }

    /// Evicts pods that use more disk than they themselves said they would.
    async fn over_own_limits(&self) {
        for known in self.kubelet.pods.all().into_iter().filter(|k| !is_terminal(k.status.phase.as_deref()) && !is_static(&k.pod)) {
            let Some(spec) = known.pod.spec.as_ref() else { continue };
            let uid = identity(&known.pod).2;
            let volumes = self.kubelet.pod_dir(uid).join("volumes/kubernetes.io~empty-dir");
            let over = spec.volumes.iter().flatten().find_map(|v| {
                let text = v.empty_dir.as_ref()?.size_limit.as_ref()?;
                let limit: api::quantity::Quantity = text.0.parse().ok()?;
                let limit = i64::try_from(limit.value()).ok().filter(|l| *l > 0)?;
                (tree_size(&volumes.join(&v.name)) > limit)
                    .then(|| format!("Usage of EmptyDir volume {:?} exceeds the limit {:?}. ", v.name, text.0))
            });
            let limit = resources::pod_milli(spec, "ephemeral-storage", resources::limits) / 1000;
            let all_limited = spec
                .containers
                .iter()
                .all(|c| c.resources.as_ref().is_some_and(|r| resources::whole(r.limits.as_ref(), "ephemeral-storage").is_some()));
            let over = over.or_else(|| {
                (all_limited && limit > 0 && self.files(&known.pod) > limit)
                    .then(|| format!("Pod ephemeral local storage usage exceeds the total limit of containers {}. ", size(limit)))
            });
            if let Some(message) = over
                && let Err(error) = self.end(&known.pod, message).await
            {
                tracing::warn!(pod = identity(&known.pod).1, error = daemon::describe_any(&error), "the pod could not be evicted");
            }
        }
    }

    /// Bytes of a pod's logs and volumes on the node's own disk.
    fn files(&self, pod: &Pod) -> i64 {
        let volumes = self.kubelet.pod_dir(identity(pod).2).join("volumes/kubernetes.io~empty-dir");
        tree_size(&volumes) + tree_size(&log_directory(&self.kubelet.flags.pod_logs_dir, pod))
    }
}

/// What runs short, in upstream's words.
fn resource(signal: Signal) -> &'static str {
    match signal {
        Signal::MemoryAvailable => "memory",
        Signal::PidAvailable => "pids",
        Signal::NodefsInodesFree | Signal::ImagefsInodesFree => "inodes",
        Signal::NodefsAvailable | Signal::ImagefsAvailable => "ephemeral-storage",
    }
}

fn memory() -> anyhow::Result<Measure> {
    let text = std::fs::read_to_string("/proc/meminfo").context("reading /proc/meminfo")?;
    let of = |name: &str| -> anyhow::Result<i64> {
        let line = text.lines().find_map(|l| l.strip_prefix(name)).with_context(|| format!("no {name} in /proc/meminfo"))?;
        Ok(line.trim().trim_end_matches("kB").trim().parse::<i64>()? * 1024)
    };
    Ok(Measure { signal: Signal::MemoryAvailable, available: of("MemAvailable:")?, capacity: of("MemTotal:")? })
}

fn pids() -> anyhow::Result<Measure> {
    let most: i64 = std::fs::read_to_string("/proc/sys/kernel/pid_max").context("reading pid_max")?.trim().parse()?;
    let load = std::fs::read_to_string("/proc/loadavg").context("reading /proc/loadavg")?;
    let used: i64 = load.split_whitespace().nth(3).and_then(|f| f.split('/').nth(1)).context("no processes in /proc/loadavg")?.parse()?;
    Ok(Measure { signal: Signal::PidAvailable, available: most - used, capacity: most })
}

fn filesystem(path: &Path, bytes: Signal, inodes: Signal) -> anyhow::Result<Vec<Measure>> {
    let stat = rustix::fs::statvfs(path).with_context(|| format!("measuring {}", path.display()))?;
    let number = |v: u64| i64::try_from(v).unwrap_or(i64::MAX);
    let mut out =
        vec![Measure { signal: bytes, available: number(stat.f_bavail * stat.f_frsize), capacity: number(stat.f_blocks * stat.f_frsize) }];
    // File systems without a table of inodes say 0.
    if stat.f_files > 0 {
        out.push(Measure { signal: inodes, available: number(stat.f_ffree), capacity: number(stat.f_files) });
    }
    Ok(out)
}

/// Bytes that a directory tree takes on disk; links are not followed, what vanishes meanwhile counts nothing.
fn tree_size(dir: &Path) -> i64 {
    use std::os::unix::fs::MetadataExt as _;
    let (mut total, mut files, mut stack) = (0_i64, 0_usize, vec![dir.to_owned()]);
    while let Some(next) = stack.pop() {
        let Ok(entries) = std::fs::read_dir(&next) else { continue };
        for entry in entries.flatten() {
            let Ok(meta) = entry.metadata() else { continue };
            files += 1;
            if files > MAX_FILES {
                return total;
            }
            total = total.saturating_add(i64::try_from(meta.blocks().saturating_mul(512)).unwrap_or(i64::MAX));
            if meta.is_dir() {
                stack.push(entry.path());
            }
        }
    }
    total
}

/// Bytes as Kubernetes writes them: in Ki where that is exact.
fn size(bytes: i64) -> String {
    if bytes % 1024 == 0 { api::quantity::Quantity::from_bytes(bytes).to_string() } else { format!("{}Ki", bytes / 1024) }
}
