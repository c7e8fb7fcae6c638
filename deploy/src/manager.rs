//! Who keeps the daemons of this machine running: systemd where it is process 1, our own supervisor elsewhere.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};

use crate::cluster::{Cluster, Node};
use crate::command;
use crate::daemons::Daemon;
use crate::process;
use crate::supervise::control::{self, Answer, DaemonStatus, Question};
use crate::supervise::policy::Changes;
use crate::supervise::{DAEMONS, logs, pid_dir};
use crate::{files, paths, wait};

/// Our supervisor listens within this time, or something is wrong with it.
const LISTENS_WITHIN: Duration = Duration::from_secs(10);
/// Daemons get 22 s each to end, and end in two or three rounds.
const STOPS_WITHIN: Duration = Duration::from_secs(75);
/// Where units are.
const UNITS: &str = "/etc/systemd/system";

/// Who keeps daemons running.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manager {
    /// Units named `ferrite-*.service`.
    Systemd,
    /// `ferrite supervise`.
    Supervisor,
}

impl Manager {
    /// The one that this machine has.
    #[must_use]
    pub fn of_this_machine() -> Self {
        if Path::new("/run/systemd/system").is_dir() { Self::Systemd } else { Self::Supervisor }
    }

    /// Makes these, and no other, the daemons of this machine. Gives what that changed.
    ///
    /// # Errors
    /// A file that cannot be written, or the manager refuses.
    pub fn apply(self, daemons: &[Daemon]) -> anyhow::Result<Changes> {
        match self {
            Self::Systemd => apply_units(daemons),
            Self::Supervisor => {
                write_daemons(Path::new(DAEMONS), daemons)?;
                let socket = Path::new(control::SOCKET);
                if control::ask(socket, Question::Status).is_ok() {
                    return match control::ask(socket, Question::Reload)? {
                        Answer::Changes(changes) => Ok(changes),
                        other => bail!("the supervisor answered {other:?}"),
                    };
                }
                // One that was killed left its daemons running, and the next one takes them over.
                let carries_on = std::fs::read_dir(pid_dir()).is_ok_and(|mut files| files.next().is_some());
                start_supervisor(socket)?;
                let started = if carries_on { vec!["the supervisor".to_owned()] } else { daemons.iter().map(|d| d.name.clone()).collect() };
                Ok(Changes { started, ..Changes::default() })
            }
        }
    }

    /// The daemons of this machine, without those of nodes in namespaces.
    ///
    /// # Errors
    /// The manager does not answer.
    pub fn status(self) -> anyhow::Result<Vec<DaemonStatus>> {
        match self {
            Self::Systemd => unit_status(),
            Self::Supervisor => ask_status(Path::new(control::SOCKET)),
        }
    }

    /// The last lines of a daemon's log, on `node`.
    #[must_use]
    pub fn tail(self, node: &Node, name: &str, lines: usize) -> String {
        if self == Self::Systemd && node.is_host() {
            let args = ["-u", &unit_name(name), "-n", &lines.to_string(), "--no-pager", "-o", "cat"].map(str::to_owned);
            return command::run("journalctl", args).unwrap_or_else(|e| format!("{e:#}"));
        }
        let text = std::fs::read(self.log(node, name)).unwrap_or_default();
        command::tail(&String::from_utf8_lossy(&text), lines)
    }

    /// Where a daemon's log is, on `node`.
    #[must_use]
    pub fn log(self, node: &Node, name: &str) -> PathBuf {
        node.file(&logs::path(name).to_string_lossy())
    }

    /// In words, how to read a daemon's log.
    #[must_use]
    pub fn where_is_log(self, node: &Node, name: &str) -> String {
        if self == Self::Systemd && node.is_host() {
            return format!("journalctl -u {}", unit_name(name));
        }
        self.log(node, name).display().to_string()
    }

    /// Ends all daemons. Not an error when none run.
    ///
    /// # Errors
    /// They do not end.
    pub fn stop(self) -> anyhow::Result<()> {
        match self {
            Self::Systemd => remove_units(),
            Self::Supervisor => {
                let socket = Path::new(control::SOCKET);
                if control::ask(socket, Question::Stop).is_err() {
                    // It was killed, or never started: `down` looks for the daemons itself.
                    return Ok(());
                }
                if !wait::until(STOPS_WITHIN, || control::ask(socket, Question::Status).is_err()) {
                    bail!("the supervisor's daemons did not end within {} s", STOPS_WITHIN.as_secs());
                }
                Ok(())
            }
        }
    }
}

/// The daemons of every node, by node.
#[must_use]
pub fn everywhere(cluster: &Cluster) -> Vec<(Node, anyhow::Result<Vec<DaemonStatus>>)> {
    let of = |node: &Node| {
        if node.is_host() { Manager::of_this_machine().status() } else { ask_status(&node.file(control::SOCKET)) }
    };
    cluster.nodes.iter().map(|node| (node.clone(), of(node))).collect()
}

/// Writes the list of a node's daemons; says whether it changed.
///
/// # Errors
/// The file cannot be written.
pub fn write_daemons(path: &Path, daemons: &[Daemon]) -> anyhow::Result<bool> {
    files::ensure(path, &serde_json::to_vec_pretty(daemons).context("the daemons as JSON")?, files::PUBLIC)
}

fn ask_status(socket: &Path) -> anyhow::Result<Vec<DaemonStatus>> {
    match control::ask(socket, Question::Status)? {
        Answer::Status(all) => Ok(all),
        other => bail!("the supervisor answered {other:?}"),
    }
}

fn start_supervisor(socket: &Path) -> anyhow::Result<()> {
    let log = logs::open("supervisor")?;
    let mut child = Command::new(Path::new(paths::PROGRAMS).join("ferrite"))
        .arg("supervise")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log.try_clone().context("its log")?)
        .stderr(log)
        .spawn()
        .context("starting the supervisor")?;
    let mut ended = Ok(None);
    wait::until(LISTENS_WITHIN, || {
        ended = child.try_wait();
        !matches!(ended, Ok(None)) || control::ask(socket, Question::Status).is_ok()
    });
    let log = logs::path("supervisor");
    if let Some(status) = ended.context("looking at the supervisor")? {
        bail!("the supervisor ended ({status}); its log is {}", log.display());
    }
    if let Err(error) = control::ask(socket, Question::Status) {
        return Err(error.context(format!("the supervisor does not listen; its log is {}", log.display())));
    }
    Ok(())
}

fn unit_name(daemon: &str) -> String {
    format!("ferrite-{daemon}.service")
}

/// The text of a daemon's unit.
fn unit(daemon: &Daemon) -> String {
    let quoted = |word: &str| format!("\"{}\"", word.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%").replace('$', "$$"));
    let command: Vec<String> =
        std::iter::once(daemon.program.to_string_lossy().into_owned()).chain(daemon.args.iter().map(|a| quoted(a))).collect();
    let after: Vec<String> = daemon.after.iter().map(|a| unit_name(a)).collect();
    let mut text = format!("# Written by `ferrite up`.\n[Unit]\nDescription=Ferrite {}\n", daemon.name);
    if !after.is_empty() {
        text += &format!("After={}\n", after.join(" "));
    }
    text += "StartLimitIntervalSec=0\n\n[Service]\n";
    text += &format!("# version {}\nExecStart={}\n", daemon.version, command.join(" "));
    // Containers outlive containerd; a node in namespaces is ended by its first process.
    text +=
        "Restart=always\nRestartSec=200ms\nTimeoutStopSec=22s\nKillMode=process\nDelegate=yes\nLimitNOFILE=1048576\nTasksMax=infinity\n";
    text + "\n[Install]\nWantedBy=multi-user.target\n"
}

fn apply_units(daemons: &[Daemon]) -> anyhow::Result<Changes> {
    let mut changes = Changes::default();
    let wanted: BTreeMap<String, &Daemon> = daemons.iter().map(|d| (unit_name(&d.name), d)).collect();
    for name in present_units()? {
        if !wanted.contains_key(&name) {
            command::run("systemctl", ["disable", "--now", "--quiet", &name])?;
            files::remove(&Path::new(UNITS).join(&name))?;
            changes.stopped.push(name);
        }
    }
    let mut written = Vec::new();
    for (name, daemon) in &wanted {
        let path = Path::new(UNITS).join(name);
        let new = !path.exists();
        if files::ensure(&path, unit(daemon).as_bytes(), files::PUBLIC)? {
            written.push(name.clone());
            if new { &mut changes.started } else { &mut changes.restarted }.push(daemon.name.clone());
        }
    }
    if !written.is_empty() || !changes.stopped.is_empty() {
        command::run("systemctl", ["daemon-reload"])?;
    }
    if !written.is_empty() {
        command::run("systemctl", ["restart", "--no-block"].into_iter().map(str::to_owned).chain(written))?;
    }
    let all: Vec<String> = wanted.into_keys().collect();
    command::run("systemctl", ["enable", "--quiet"].into_iter().map(str::to_owned).chain(all.clone()))?;
    command::run("systemctl", ["start", "--no-block"].into_iter().map(str::to_owned).chain(all))?;
    Ok(changes)
}

fn present_units() -> anyhow::Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(UNITS).with_context(|| format!("reading {UNITS}"))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.starts_with("ferrite-") && name.ends_with(".service") {
            found.push(name);
        }
    }
    found.sort();
    Ok(found)
}

fn remove_units() -> anyhow::Result<()> {
    let units = present_units()?;
    if units.is_empty() {
        return Ok(());
    }
    command::run("systemctl", ["disable", "--now", "--quiet"].into_iter().map(str::to_owned).chain(units.clone()))?;
    for unit in units {
        files::remove(&Path::new(UNITS).join(unit))?;
    }
    command::run("systemctl", ["daemon-reload"]).map(|_| ())
}

fn unit_status() -> anyhow::Result<Vec<DaemonStatus>> {
    let units = present_units()?;
    if units.is_empty() {
        return Ok(Vec::new());
    }
    let properties = "Id,MainPID,ActiveState,NRestarts,Result,ExecMainStartTimestampMonotonic";
    let args = ["show", "--property", properties].into_iter().map(str::to_owned).chain(units);
    let text = command::run("systemctl", args)?;
    let up = procfs_uptime()?;
    Ok(text.split("\n\n").filter_map(|block| parse_unit(block, up)).collect())
}

fn procfs_uptime() -> anyhow::Result<Duration> {
    let text = std::fs::read_to_string("/proc/uptime").context("reading /proc/uptime")?;
    let seconds: f64 = text.split(' ').next().unwrap_or_default().parse().context("in /proc/uptime")?;
    Ok(Duration::from_secs_f64(seconds))
}

/// One block of `systemctl show`.
fn parse_unit(block: &str, up: Duration) -> Option<DaemonStatus> {
    let values: BTreeMap<&str, &str> = block.lines().filter_map(|l| l.split_once('=')).collect();
    let name = values.get("Id")?.strip_prefix("ferrite-")?.strip_suffix(".service")?.to_owned();
    let pid = values.get("MainPID").and_then(|p| p.parse().ok()).filter(|p| *p > 0);
    let started = values.get("ExecMainStartTimestampMonotonic").and_then(|t| t.parse().ok()).map(Duration::from_micros);
    Some(DaemonStatus {
        name,
        pid,
        state: if pid.is_some() { "running" } else { "waiting" }.to_owned(),
        restarts: values.get("NRestarts").and_then(|r| r.parse().ok()).unwrap_or(0),
        last_exit: values.get("Result").filter(|r| **r != "success").map(|r| (*r).to_owned()),
        uptime: pid.and(started).map(|s| up.saturating_sub(s)),
        usage: pid.and_then(process::usage),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_says_what_to_run_and_after_what() {
        let daemon = Daemon {
            name: "kubelet".into(),
            program: "/usr/local/lib/ferrite/kubelet".into(),
            args: vec!["--node-ip=192.0.2.2".into(), "--x=50% $HOME \"q\"".into()],
            after: vec!["apiserver".into(), "containerd".into()],
            ready: None,
            version: "7".into(),
        };
        expect_test::expect![[r#"
            # Written by `ferrite up`.
            [Unit]
            Description=Ferrite kubelet
            After=ferrite-apiserver.service ferrite-containerd.service
            StartLimitIntervalSec=0

            [Service]
            # version 7
            ExecStart=/usr/local/lib/ferrite/kubelet "--node-ip=192.0.2.2" "--x=50%% $$HOME \"q\""
            Restart=always
            RestartSec=200ms
            TimeoutStopSec=22s
            KillMode=process
            Delegate=yes
            LimitNOFILE=1048576
            TasksMax=infinity

            [Install]
            WantedBy=multi-user.target
        "#]]
        .assert_eq(&unit(&daemon));
    }

    #[test]
    fn what_systemd_says_is_understood() {
        let block =
            "Id=ferrite-etcd.service\nMainPID=0\nActiveState=activating\nNRestarts=3\nResult=exit-code\nExecMainStartTimestampMonotonic=5";
        let status = parse_unit(block, Duration::from_secs(9)).expect("a unit");
        assert_eq!((status.name.as_str(), status.pid, status.restarts, status.state.as_str()), ("etcd", None, 3, "waiting"));
        assert_eq!(status.last_exit.as_deref(), Some("exit-code"));
        assert_eq!(parse_unit("Id=ssh.service", Duration::ZERO), None);
    }
}
