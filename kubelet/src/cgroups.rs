//! The cgroups between the root and a pod's containers: `kubepods`, a child a QoS class, a child a pod.
//!
//! Version 1 (one hierarchy a controller) and version 2. Only directories below `kubepods` are ever written or removed.
//! A controller that is not there is skipped; a value the kernel refuses is an error that names the file.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use k8s_openapi::api::core::v1::{Pod, PodSpec};

use crate::pod::qos::{self, QosClass};
use crate::pod::resize::PodCgroup;
use crate::resources::{self, CPU_PERIOD};

/// Which cgroup interface the machine has.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Version {
    /// A hierarchy a controller, each in its directory.
    One(Vec<&'static str>),
    /// One hierarchy.
    Two,
}

/// The controllers of version 1 in which pods get a cgroup, when they are mounted.
const CONTROLLERS: [&str; 8] = ["cpu", "cpuacct", "cpuset", "memory", "pids", "hugetlb", "devices", "freezer"];

/// The node's cgroups for pods.
#[derive(Debug, Clone)]
pub struct Cgroups {
    mount: PathBuf,
    version: Version,
    /// `/kubepods` or below `--cgroup-root`.
    base: PathBuf,
    per_qos: bool,
    pids_limit: i64,
}

/// What a cgroup may use. Zero means no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// CPU shares.
    pub shares: i64,
    /// CPU quota in microseconds a period.
    pub quota: i64,
    /// Memory in bytes.
    pub memory: i64,
    /// Processes.
    pub pids: i64,
}

impl Cgroups {
    /// The cgroups below `mount` (`/sys/fs/cgroup`) and `root` (`--cgroup-root`).
    #[must_use]
    pub fn new(mount: &Path, root: &str, per_qos: bool, pids_limit: i64) -> Self {
        let version = if mount.join("cgroup.controllers").exists() {
            Version::Two
        } else {
            Version::One(CONTROLLERS.into_iter().filter(|c| mount.join(c).is_dir()).collect())
        };
        Self { mount: mount.to_owned(), version, base: Path::new("/").join(root.trim_matches('/')).join("kubepods"), per_qos, pids_limit }
    }

    /// Makes `kubepods` and the QoS classes below it, and gives pods together what is allocatable.
    ///
    /// # Errors
    /// A directory that cannot be made, a value that is refused.
    pub fn prepare(&self, allocatable: Limits) -> anyhow::Result<()> {
        self.make(&self.base, allocatable)?;
        if self.per_qos {
            self.make(&self.base.join("burstable"), Limits::default())?;
            self.make(&self.base.join("besteffort"), Limits { shares: resources::shares(0), ..Limits::default() })?;
        }
        Ok(())
    }

    /// Makes a pod's cgroup with its limits, or changes the limits of the one that is there. Gives the path to name to the runtime.
    ///
    /// # Errors
    /// A directory that cannot be made, a value that is refused.
    pub fn ensure(&self, pod: &Pod) -> anyhow::Result<String> {
        let path = self.pod_path(pod);
        let limits = pod.spec.as_ref().map(|s| pod_limits(s, qos::class(pod))).unwrap_or_default();
        self.make(&path, Limits { pids: self.pids_limit, ..limits })?;
        Ok(path.display().to_string())
    }

    /// What a pod's cgroup has and what the pod wants of it, as the kernel keeps such amounts. Of a controller that is not there nothing is
    /// wanted.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn view(&self, pod: &Pod) -> anyhow::Result<PodCgroup> {
        let path = self.pod_path(pod);
        let wanted = pod.spec.as_ref().map(|s| pod_limits(s, qos::class(pod))).unwrap_or_default();
        let two = self.version == Version::Two;
        let read = |controller: &str, one: &str, other: &str| self.read(&path, controller, if two { other } else { one });
        let (shares, quota) = (read("cpu", "cpu.shares", "cpu.weight")?, read("cpu", "cpu.cfs_quota_us", "cpu.max")?);
        let (memory, usage) =
            (read("memory", "memory.limit_in_bytes", "memory.max")?, read("memory", "memory.usage_in_bytes", "memory.current")?);
        let there = |file: &Option<String>, amount: i64| if file.is_some() { amount } else { 0 };
        let known = |text: &Option<String>, parse: fn(&str) -> i64| text.as_deref().map_or(0, parse);
        Ok(PodCgroup {
            now: Limits {
                shares: known(&shares, if two { |t| shares_of_weight(number(t)) } else { number }),
                quota: known(&quota, number),
                memory: known(&memory, memory_limit),
                pids: 0,
            },
            wanted: Limits {
                shares: there(&shares, if two { shares_of_weight(weight(wanted.shares)) } else { wanted.shares }),
                quota: there(&quota, wanted.quota),
                memory: there(&memory, in_pages(wanted.memory, known(&memory, memory_limit))),
                pids: 0,
            },
            usage: usage.as_deref().map(number),
        })
    }

    /// Changes what a pod's cgroup may use; 0 leaves an amount as it is.
    ///
    /// # Errors
    /// A value that is refused.
    pub fn change(&self, pod: &Pod, limits: Limits) -> anyhow::Result<()> {
        self.write(&self.pod_path(pod), limits)
    }

    /// A file of a cgroup; `None` when its controller is not there.
    fn read(&self, path: &Path, controller: &str, file: &str) -> anyhow::Result<Option<String>> {
        let relative = path.strip_prefix("/").unwrap_or(path);
        let dir = match &self.version {
            Version::One(present) if !present.contains(&controller) => return Ok(None),
            Version::One(_) => self.mount.join(controller).join(relative),
            Version::Two => self.mount.join(relative),
        };
        match fs::read_to_string(dir.join(file)) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("reading {}", dir.join(file).display())),
        }
    }

    /// The path of a pod's cgroup, as the runtime wants it.
    #[must_use]
    pub fn pod_path(&self, pod: &Pod) -> PathBuf {
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        let class = match qos::class(pod) {
            _ if !self.per_qos => "",
            QosClass::Guaranteed => "",
            QosClass::Burstable => "burstable",
            QosClass::BestEffort => "besteffort",
        };
        self.base.join(class).join(format!("pod{uid}"))
    }

    /// The uids of the pods that have a cgroup.
    ///
    /// # Errors
    /// A directory that cannot be read.
    pub fn pods(&self) -> anyhow::Result<BTreeSet<String>> {
        let mut uids = BTreeSet::new();
        for class in ["", "burstable", "besteffort"] {
            for dir in self.everywhere(&self.base.join(class)) {
                let entries = match fs::read_dir(&dir) {
                    Ok(entries) => entries,
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    Err(error) => return Err(error).with_context(|| format!("reading {}", dir.display())),
                };
                uids.extend(entries.flatten().filter_map(|e| e.file_name().to_str()?.strip_prefix("pod").map(str::to_owned)));
            }
        }
        Ok(uids)
    }

    /// Removes the cgroup of a pod whose containers are gone. Idempotent.
    ///
    /// # Errors
    /// A cgroup that still holds processes.
    pub fn remove(&self, uid: &str) -> anyhow::Result<()> {
        for class in ["", "burstable", "besteffort"] {
            for dir in self.everywhere(&self.base.join(class).join(format!("pod{uid}"))) {
                remove_tree(&dir).with_context(|| format!("removing the cgroup {}", dir.display()))?;
            }
        }
        Ok(())
    }

    /// The directories, one a controller, that we make for the cgroup at `path`.
    fn directories(&self, path: &Path) -> Vec<PathBuf> {
        let path = path.strip_prefix("/").unwrap_or(path);
        match &self.version {
            Version::One(controllers) => controllers.iter().map(|c| self.mount.join(c).join(path)).collect(),
            Version::Two => vec![self.mount.join(path)],
        }
    }

    /// Every directory that may be there for the cgroup at `path`: the runtime makes one in each hierarchy there is.
    fn everywhere(&self, path: &Path) -> Vec<PathBuf> {
        let Ok(hierarchies) = std::fs::read_dir(&self.mount).map(|e| e.flatten()) else { return self.directories(path) };
        let relative = path.strip_prefix("/").unwrap_or(path);
        match self.version {
            // Names such as `cpu,cpuacct` beside links to them: the links lead to the same place.
            Version::One(_) => hierarchies.filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path().join(relative)).collect(),
            Version::Two => self.directories(path),
        }
    }

    fn make(&self, path: &Path, limits: Limits) -> anyhow::Result<()> {
        for dir in self.directories(path) {
            make_all(&dir, &self.mount, self.version == Version::Two).with_context(|| format!("making the cgroup {}", dir.display()))?;
        }
        self.write(path, limits)
    }

    fn write(&self, path: &Path, limits: Limits) -> anyhow::Result<()> {
        let relative = path.strip_prefix("/").unwrap_or(path);
        for (controller, file, value) in values(&self.version, limits) {
            let dir = match &self.version {
                Version::One(present) if !present.contains(&controller) => continue,
                Version::One(_) => self.mount.join(controller).join(relative),
                Version::Two => self.mount.join(relative),
            };
            let file = dir.join(file);
            if self.version == Version::Two && !file.exists() {
                continue; // the controller is not enabled here
            }
            fs::write(&file, &value).with_context(|| format!("writing {value} to {}", file.display()))?;
        }
        Ok(())
    }
}

/// A pod's limits: CPU and memory are limited when every container is.
#[must_use]
pub fn pod_limits(spec: &PodSpec, class: QosClass) -> Limits {
    let request = resources::pod_milli(spec, "cpu", resources::requests);
    let limit = |name: &str| {
        let own = spec.resources.as_ref().is_some_and(|r| resources::milli(r.limits.as_ref(), name).is_some());
        let all = spec
            .containers
            .iter()
            .chain(spec.init_containers.iter().flatten())
            .all(|c| c.resources.as_ref().is_some_and(|r| resources::milli(r.limits.as_ref(), name).is_some_and(|v| v > 0)));
        if own || all { resources::pod_milli(spec, name, resources::limits) } else { 0 }
    };
    let cpu = limit("cpu");
    match class {
        QosClass::BestEffort => Limits { shares: resources::shares(0), ..Limits::default() },
        QosClass::Guaranteed | QosClass::Burstable => Limits {
            shares: resources::shares(if request == 0 { cpu } else { request }),
            quota: resources::quota(cpu),
            memory: limit("memory") / 1000,
            pids: 0,
        },
    }
}

/// The pages in which kernels count memory limits, in bytes.
const PAGES: [i64; 3] = [4 << 10, 16 << 10, 64 << 10];

/// A memory limit as the kernel that keeps `now` would keep it.
fn in_pages(wanted: i64, now: i64) -> i64 {
    let rounded = PAGES.map(|page| wanted / page * page);
    rounded.into_iter().find(|r| now > 0 && *r == now).unwrap_or(rounded[0])
}

/// A memory limit from here on is none: the kernel says so in pages.
const NO_LIMIT: i64 = i64::MAX / 2;

/// The weight of so many shares. The mapping of the OCI runtimes: 2..262144 shares onto a weight of 1..10000.
fn weight(shares: i64) -> i64 {
    if shares == 0 { 0 } else { 1 + (shares - 2) * 9999 / 262_142 }
}

/// The least shares that have this weight.
fn shares_of_weight(weight: i64) -> i64 {
    if weight == 0 { 0 } else { 2 + ((weight - 1) * 262_142 + 9998) / 9999 }
}

/// The first number in a file of a cgroup; 0 for `max` and for -1, which are no limits.
fn number(text: &str) -> i64 {
    text.split_whitespace().next().and_then(|word| word.parse().ok()).filter(|n| *n > 0).unwrap_or(0)
}

fn memory_limit(text: &str) -> i64 {
    Some(number(text)).filter(|n| *n < NO_LIMIT).unwrap_or(0)
}

/// The files to write: controller, name, value.
fn values(version: &Version, limits: Limits) -> Vec<(&'static str, &'static str, String)> {
    let Limits { shares, quota, memory, pids } = limits;
    let mut out = vec![];
    match version {
        Version::One(_) => {
            if shares > 0 {
                out.push(("cpu", "cpu.shares", shares.to_string()));
            }
            if quota > 0 {
                out.push(("cpu", "cpu.cfs_period_us", CPU_PERIOD.to_string()));
                out.push(("cpu", "cpu.cfs_quota_us", quota.to_string()));
            }
            if memory > 0 {
                out.push(("memory", "memory.limit_in_bytes", memory.to_string()));
            }
        }
        Version::Two => {
            if shares > 0 {
                out.push(("cpu", "cpu.weight", weight(shares).to_string()));
            }
            if quota > 0 {
                out.push(("cpu", "cpu.max", format!("{quota} {CPU_PERIOD}")));
            }
            if memory > 0 {
                out.push(("memory", "memory.max", memory.to_string()));
            }
        }
    }
    if pids > 0 {
        out.push(("pids", "pids.max", pids.to_string()));
    }
    out
}

/// Makes a cgroup and its parents. Below version 2 each parent hands its controllers down; with a version 1 cpuset each
/// child starts empty and gets its parent's CPUs, without which no process may enter it.
fn make_all(dir: &Path, mount: &Path, unified: bool) -> io::Result<()> {
    if dir == mount {
        return Ok(());
    }
    let Some(parent) = dir.parent() else { return Ok(()) };
    if !dir.exists() {
        make_all(parent, mount, unified)?;
        match fs::create_dir(dir) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    if unified && let Ok(available) = fs::read_to_string(parent.join("cgroup.controllers")) {
        let enabled = fs::read_to_string(parent.join("cgroup.subtree_control")).unwrap_or_default();
        for controller in available.split_whitespace().filter(|c| !enabled.split_whitespace().any(|e| e == *c)) {
            // A controller that cannot be handed down (threaded, in use elsewhere) is one we do without.
            if let Err(error) = fs::write(parent.join("cgroup.subtree_control"), format!("+{controller}")) {
                tracing::debug!(cgroup = %parent.display(), controller, %error, "controller not enabled");
            }
        }
    }
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let (own, above) = (dir.join(file), parent.join(file));
        if !unified && fs::read_to_string(&own).is_ok_and(|v| v.trim().is_empty()) {
            fs::write(&own, fs::read_to_string(&above)?)?;
        }
    }
    Ok(())
}

/// Removes a cgroup and its children: `rmdir` from the leaves up, since their files cannot be removed.
fn remove_tree(dir: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    match fs::remove_dir(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    #[track_caller]
    fn check(spec: &str, unified: bool, expected: Expect) {
        let spec: PodSpec = serde_json::from_str(spec).expect("a spec");
        let pod = Pod { spec: Some(spec.clone()), ..Pod::default() };
        let version = if unified { Version::Two } else { Version::One(CONTROLLERS.to_vec()) };
        let lines: Vec<String> = values(&version, Limits { pids: 9, ..pod_limits(&spec, qos::class(&pod)) })
            .iter()
            .map(|(_, f, v)| format!("{f} {v}\n"))
            .collect();
        expected.assert_eq(&lines.concat());
    }

    const FULL: &str = r#"{"containers":[{"name":"a","resources":{"requests":{"cpu":"500m"},"limits":{"cpu":"2","memory":"64Mi"}}}]}"#;

    #[test]
    fn limits_are_the_sum_where_every_container_has_one() {
        check(
            FULL,
            false,
            expect![[r#"
                cpu.shares 512
                cpu.cfs_period_us 100000
                cpu.cfs_quota_us 200000
                memory.limit_in_bytes 67108864
                pids.max 9
            "#]],
        );
        check(
            FULL,
            true,
            expect![[r#"
                cpu.weight 20
                cpu.max 200000 100000
                memory.max 67108864
                pids.max 9
            "#]],
        );
        check(
            r#"{"containers":[{"name":"a","resources":{"limits":{"cpu":"2","memory":"64Mi"}}},{"name":"b"}]}"#,
            false,
            expect![[r#"
                cpu.shares 2
                pids.max 9
            "#]],
        );
    }

    #[test]
    fn what_a_pods_cgroup_has_is_compared_with_what_is_wanted() {
        let pod = |spec: &str| {
            let mut pod = Pod { spec: Some(serde_json::from_str(spec).expect("a spec")), ..Pod::default() };
            pod.metadata.uid = Some("u1".into());
            pod
        };
        let small = pod(&FULL.replace("64Mi", "10Ki").replace("500m", "20m"));
        let one = tempfile::tempdir().expect("a directory");
        for controller in ["cpu", "memory"] {
            fs::create_dir(one.path().join(controller)).expect("made");
        }
        let cgroups = Cgroups::new(one.path(), "/", true, 0);
        cgroups.ensure(&small).expect("made");
        fs::write(one.path().join("memory/kubepods/burstable/podu1/memory.limit_in_bytes"), "9223372036854771712\n").expect("written");
        fs::write(one.path().join("memory/kubepods/burstable/podu1/memory.usage_in_bytes"), "77\n").expect("written");
        let view = cgroups.view(&small).expect("read");
        assert_eq!(view.now, Limits { shares: 20, quota: 200_000, memory: 0, pids: 0 });
        assert_eq!(view.wanted, Limits { memory: 8192, ..view.now });
        assert_eq!(view.usage, Some(77));
        cgroups.change(&small, Limits { memory: 8192, ..Limits::default() }).expect("written");
        let view = cgroups.view(&small).expect("read");
        assert_eq!(view.now, view.wanted);

        let two = tempfile::tempdir().expect("a directory");
        fs::write(two.path().join("cgroup.controllers"), "").expect("written");
        let cgroups = Cgroups::new(two.path(), "/", true, 0);
        cgroups.ensure(&small).expect("made");
        let dir = two.path().join("kubepods/burstable/podu1");
        assert_eq!(cgroups.view(&small).expect("read"), PodCgroup::default(), "no controller, nothing wanted");
        for (file, text) in [("cpu.weight", "1\n"), ("cpu.max", "max 100000\n"), ("memory.max", "max\n"), ("memory.current", "5\n")] {
            fs::write(dir.join(file), text).expect("written");
        }
        let view = cgroups.view(&small).expect("read");
        assert_eq!(view.now, Limits { shares: 2, ..Limits::default() });
        assert_eq!((weight(view.wanted.shares), view.wanted.quota, view.usage), (weight(20), 200_000, Some(5)));
        cgroups.change(&small, view.wanted).expect("written");
        let view = cgroups.view(&small).expect("read");
        assert_eq!(view.now, view.wanted);
    }

    #[test]
    fn a_pods_directories_come_and_go() {
        let dir = tempfile::tempdir().expect("a directory");
        for controller in ["cpu", "memory", "pids"] {
            fs::create_dir(dir.path().join(controller)).expect("made");
        }
        let cgroups = Cgroups::new(dir.path(), "/", true, 0);
        let mut pod = Pod::default();
        pod.metadata.uid = Some("u1".into());
        pod.spec = Some(PodSpec::default());
        assert_eq!(cgroups.pod_path(&pod), Path::new("/kubepods/besteffort/podu1"));
        for dir in cgroups.directories(&cgroups.pod_path(&pod)) {
            fs::create_dir_all(dir.join("deep")).expect("made");
        }
        assert_eq!(cgroups.pods().expect("read"), BTreeSet::from(["u1".to_owned()]));
        cgroups.remove("u1").expect("removed");
        assert!(cgroups.pods().expect("read").is_empty());
        cgroups.remove("u1").expect("idempotent");
    }
}
