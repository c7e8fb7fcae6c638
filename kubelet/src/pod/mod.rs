//! One pod: what was seen of it, what to do next, how it is.
//!
//! Everything in here is plain and synchronous: the runtime's answers go in as [`Observed`], actions and a status come out.
//! The spec's parts that need a second thought (which containers are sidecars, which ports to host network) are asked here.

pub mod backoff;
pub mod condition;
pub mod phase;
pub mod plan;
pub mod qos;
pub mod resize;
pub mod restart;
pub mod status;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container as Spec, EphemeralContainer, Pod, PodSpec, PodStatus};

use crate::cgroups::Limits;
use crate::probes::Outcome;

pub use plan::{PodAction, plan};
pub use status::status;

/// A sandbox of the pod, as the runtime reports it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Sandbox {
    /// The runtime's id.
    pub id: String,
    /// Which sandbox of the pod it is, counted from 0.
    pub attempt: u32,
    /// Whether it runs.
    pub ready: bool,
    /// When it was created.
    pub created_at: Timestamp,
    /// Whether it shares the node's network.
    pub host_network: bool,
    /// The pod's addresses; empty with the node's network.
    pub ips: Vec<String>,
}

/// What a container does, as the runtime reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum State {
    /// Made, not started yet; if its start failed it stays here.
    Created,
    /// Its process runs.
    Running,
    /// Its process has ended.
    Exited,
    /// The runtime cannot say.
    #[default]
    Unknown,
}

/// A container of the pod, as the runtime reports it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Container {
    /// The runtime's id.
    pub id: String,
    /// The name in the pod's spec.
    pub name: String,
    /// The sandbox it belongs to.
    pub sandbox: String,
    /// How often it had been restarted when it was made.
    pub attempt: u32,
    /// What it does.
    pub state: State,
    /// When it was made.
    pub created_at: Timestamp,
    /// When its process started, if ever.
    pub started_at: Option<Timestamp>,
    /// When its process ended.
    pub finished_at: Option<Timestamp>,
    /// How its process ended.
    pub exit_code: i32,
    /// The runtime's word for the end: `Completed`, `Error`, `OOMKilled`.
    pub reason: String,
    /// The termination message, or the runtime's words.
    pub message: String,
    /// The image it was asked to run.
    pub image: String,
    /// The image it runs, by digest.
    pub image_id: String,
    /// The hash of the spec it was made from.
    pub hash: String,
    /// The limits it has, when the runtime tells.
    pub limits: Option<Limits>,
}

/// Why something of the pod is not there yet, and when to try again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// The reason in the container's state, such as `ErrImagePull`.
    pub reason: String,
    /// The words beside it.
    pub message: String,
    /// Not tried again before.
    pub retry_at: Timestamp,
}

/// Why the pod is being ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// Containers may take until then.
    pub deadline: Timestamp,
    /// The phase, reason and message that the kubelet itself gives the pod, when it was the kubelet that ended it.
    pub verdict: Option<Verdict>,
}

/// The kubelet's own judgement on a pod: rejected, evicted, over its deadline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// `status.reason`.
    pub reason: String,
    /// `status.message`.
    pub message: String,
    /// Whether the condition `DisruptionTarget` says that the kubelet did it.
    pub disruption: bool,
    /// Whether the pod was refused before anything of it ran.
    pub rejected: bool,
}

/// Everything that is known of a pod beside its spec.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Observed {
    /// Newest first.
    pub sandboxes: Vec<Sandbox>,
    /// Newest first.
    pub containers: Vec<Container>,
    /// What probes say, by container id.
    pub probes: BTreeMap<String, Outcome>,
    /// Why the sandbox could not be made.
    pub sandbox_failure: Option<Waiting>,
    /// Why containers could not be started, by name.
    pub waiting: BTreeMap<String, Waiting>,
    /// Restart back-off, by container name.
    pub backoff: BTreeMap<String, backoff::Backoff>,
    /// The status this kubelet last worked out, or the one in the API after a restart.
    pub previous: PodStatus,
    /// The node's addresses.
    pub host_ips: Vec<String>,
    /// Set when the pod is to end.
    pub ending: Option<Ending>,
    /// The containers, by id, that were ended for others to take their place, which have not been started yet.
    pub replacing: BTreeSet<String>,
    /// What is known of resizes.
    pub resize: resize::Resize,
}

impl Observed {
    /// The newest container of this name, in whatever sandbox.
    #[must_use]
    pub fn newest(&self, name: &str) -> Option<&Container> {
        self.containers.iter().find(|c| c.name == name)
    }

    /// The sandbox in which containers can run: the newest, when it is ready and fits the spec.
    #[must_use]
    pub fn usable_sandbox(&self, spec: &PodSpec) -> Option<&Sandbox> {
        let newest = self.sandboxes.first()?;
        let fits = newest.host_network == host_network(spec) && (newest.host_network || !newest.ips.is_empty());
        (newest.ready && fits && self.sandboxes.iter().filter(|s| s.ready).count() == 1).then_some(newest)
    }

    /// Whether the container's startup probe, if it has one, has succeeded.
    #[must_use]
    pub fn started(&self, spec: &Spec, container: &Container) -> bool {
        let probed = spec.startup_probe.is_none() || self.probes.get(&container.id).is_some_and(|o| o.started == Some(true));
        container.state == State::Running && probed
    }

    /// Whether the container runs, has started, and its readiness probe, if it has one, has succeeded.
    #[must_use]
    pub fn ready(&self, spec: &Spec, container: &Container) -> bool {
        let probed = spec.readiness_probe.is_none() || self.probes.get(&container.id).is_some_and(|o| o.ready == Some(true));
        self.started(spec, container) && probed
    }
}

/// Whether the pod uses the node's network.
#[must_use]
pub fn host_network(spec: &PodSpec) -> bool {
    spec.host_network.unwrap_or(false)
}

/// Whether an init container is a sidecar: it starts before what follows it and runs beside it (KEP-753).
#[must_use]
pub fn is_sidecar(init: &Spec) -> bool {
    init.restart_policy.as_deref() == Some("Always")
}

/// The pod's restart policy.
#[must_use]
pub fn restart_policy(spec: &PodSpec) -> &str {
    spec.restart_policy.as_deref().unwrap_or("Always")
}

/// Whether the phase is one that never changes again.
#[must_use]
pub fn is_terminal(phase: Option<&str>) -> bool {
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// The seconds the pod's containers have to end: of its deletion, or of its spec.
#[must_use]
pub fn grace_seconds(pod: &Pod) -> i64 {
    let spec = pod.spec.as_ref().and_then(|s| s.termination_grace_period_seconds).unwrap_or(30);
    pod.metadata.deletion_grace_period_seconds.unwrap_or(spec).max(1)
}

/// An ephemeral container in the form of the others.
#[must_use]
pub fn ephemeral_spec(e: &EphemeralContainer) -> Spec {
    Spec {
        args: e.args.clone(),
        command: e.command.clone(),
        env: e.env.clone(),
        env_from: e.env_from.clone(),
        image: e.image.clone(),
        image_pull_policy: e.image_pull_policy.clone(),
        name: e.name.clone(),
        resources: e.resources.clone(),
        security_context: e.security_context.clone(),
        stdin: e.stdin,
        stdin_once: e.stdin_once,
        termination_message_path: e.termination_message_path.clone(),
        termination_message_policy: e.termination_message_policy.clone(),
        tty: e.tty,
        volume_devices: e.volume_devices.clone(),
        volume_mounts: e.volume_mounts.clone(),
        working_dir: e.working_dir.clone(),
        ..Spec::default()
    }
}

/// The spec of the container of this name, of whatever kind.
#[must_use]
pub fn container_spec(spec: &PodSpec, name: &str) -> Option<Spec> {
    let plain = spec.containers.iter().chain(spec.init_containers.iter().flatten()).find(|c| c.name == name).cloned();
    plain.or_else(|| spec.ephemeral_containers.iter().flatten().find(|e| e.name == name).map(ephemeral_spec))
}

/// The hash by which a running container is known to be outdated. As upstream since 1.31 only name and image count:
/// nothing else of a container that matters to the runtime may change in a pod.
#[must_use]
pub fn spec_hash(container: &Spec) -> String {
    let text = format!("{}\n{}", container.name, container.image.as_deref().unwrap_or_default());
    let hash = text.bytes().fold(0x811c_9dc5_u32, |h, b| (h ^ u32::from(b)).wrapping_mul(0x0100_0193));
    format!("{hash:x}")
}

/// Whether the container was made from another spec than this.
#[must_use]
pub fn is_outdated(old: &Container, container: &Spec) -> bool {
    !old.hash.is_empty() && old.hash != spec_hash(container)
}

/// Whether another takes the place of an ended container at once, whatever its exit code and back-off: it was ended for that, or it was made
/// from another spec and would be restarted anyway. Upstream ends the one and starts the other in one go.
#[must_use]
pub fn is_being_replaced(spec: &PodSpec, seen: &Observed, container: &Spec, init: bool, old: &Container) -> bool {
    let outdated = || is_outdated(old, container) && restart::restarts(spec, container, init, old.exit_code);
    old.state == State::Exited && (seen.replacing.contains(&old.id) || outdated())
}

/// `namespace`, `name` and `uid` of a pod, empty where it has none.
#[must_use]
pub fn identity(pod: &Pod) -> (&str, &str, &str) {
    (
        pod.metadata.namespace.as_deref().unwrap_or_default(),
        pod.metadata.name.as_deref().unwrap_or_default(),
        pod.metadata.uid.as_deref().unwrap_or_default(),
    )
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::probes::Failed;

    /// So many seconds after the epoch. Tests plan at 1000.
    pub(crate) fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).expect("in range")
    }

    /// A world from text, a line a thing:
    /// `sandbox ATTEMPT ready|dead` has the id `s<attempt>`;
    /// `NAME ATTEMPT running|created|unknown|exited=CODE [@SANDBOX] [finished=SECONDS] [outdated] [ready] [started] [unhealthy] [unstarted]` has the id `<name><attempt>`;
    /// `backoff NAME DELAY`, `waiting NAME REASON UNTIL`, `replacing ID`, `resize GENERATION`,
    /// `given NAME RESOURCES` with resources in JSON (`given NAME` for none), `usage ID BYTES`,
    /// `cgroup [now.FIELD=N] [wanted.FIELD=N] [usage=N]`. Newest first is worked out from the attempts.
    pub(crate) fn world(spec: &PodSpec, text: &str) -> Observed {
        let mut seen = Observed { host_ips: vec!["192.0.2.1".into()], ..Observed::default() };
        for line in text.lines().map(str::trim).filter(|l| !l.is_empty()) {
            let words: Vec<&str> = line.split_whitespace().collect();
            let number = |i: usize| words[i].parse::<u32>().expect("a number");
            match words[0] {
                "sandbox" => seen.sandboxes.push(Sandbox {
                    id: format!("s{}", words[1]),
                    attempt: number(1),
                    ready: words[2] == "ready",
                    host_network: host_network(spec),
                    ips: if host_network(spec) { vec![] } else { vec![format!("10.244.0.{}", words[1])] },
                    ..Sandbox::default()
                }),
                "backoff" => {
                    let delay = jiff::SignedDuration::from_secs(number(2).into());
                    seen.backoff.insert(words[1].into(), backoff::Backoff { delay, restarted_at: at(900) });
                }
                "replacing" => drop(seen.replacing.insert(words[1].into())),
                "resize" => seen.resize.under_way = Some(number(1).into()),
                "given" => {
                    let resources = words.get(2).map_or("{}", |text| *text);
                    let resources = serde_json::from_str(resources).expect("resources");
                    seen.resize.actuated.insert(words[1].into(), resources);
                }
                "usage" => drop(seen.resize.usage.insert(words[1].into(), number(2).into())),
                "cgroup" => {
                    let of = |key: &str| words.iter().find_map(|w| w.strip_prefix(key)?.parse::<i64>().ok());
                    let limits = |side: &str| Limits {
                        shares: of(&format!("{side}.shares=")).unwrap_or(0),
                        quota: of(&format!("{side}.quota=")).unwrap_or(0),
                        memory: of(&format!("{side}.memory=")).unwrap_or(0),
                        pids: 0,
                    };
                    let cgroup = resize::PodCgroup { now: limits("now"), wanted: limits("wanted"), usage: of("usage=") };
                    seen.resize.cgroup = Some(cgroup);
                }
                "waiting" => {
                    let why = Waiting { reason: words[2].into(), message: "why".into(), retry_at: at(number(3).into()) };
                    seen.waiting.insert(words[1].into(), why);
                }
                name => {
                    let value = |key: &str| words.iter().find_map(|w| w.strip_prefix(key));
                    let id = format!("{name}{}", words[1]);
                    let has = |word: &str| words.contains(&word);
                    let spec = container_spec(spec, name).unwrap_or_default();
                    let outcome = Outcome {
                        started: has("started").then_some(true),
                        ready: has("ready").then_some(true),
                        failed: if has("unhealthy") { Some(Failed::Liveness) } else { has("unstarted").then_some(Failed::Startup) },
                    };
                    seen.probes.insert(id.clone(), outcome);
                    seen.containers.push(Container {
                        id,
                        name: name.into(),
                        sandbox: value("@").unwrap_or("s0").into(),
                        attempt: number(1),
                        state: match words[2] {
                            "running" => State::Running,
                            "created" => State::Created,
                            "unknown" => State::Unknown,
                            _ => State::Exited,
                        },
                        created_at: at(800),
                        started_at: Some(at(801)),
                        finished_at: Some(at(value("finished=").map_or(995, |v| v.parse().expect("seconds")))),
                        exit_code: value("exited=").map_or(0, |v| v.parse().expect("a code")),
                        image: spec.image.clone().unwrap_or_default(),
                        hash: if has("outdated") { "0".into() } else { spec_hash(&spec) },
                        ..Container::default()
                    });
                }
            }
        }
        seen.sandboxes.sort_by_key(|s| std::cmp::Reverse(s.attempt));
        seen.containers.sort_by_key(|c| std::cmp::Reverse(c.attempt));
        seen
    }
}
