//! The supervisor: keeps a node's daemons running where systemd is not process 1.
//!
//! It starts them in order, starts again what dies, keeps their logs bounded, and answers [`control`]. What to do when is decided
//! by [`policy::plan`]; this file only does it. Daemons survive the supervisor: the next one finds them by their process files
//! and carries on. Start reading at [`Supervisor::turn`].

pub mod control;
pub mod logs;
pub mod node;
pub mod policy;

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};

use self::control::{Answer, DaemonStatus, Question};
use self::policy::{Action, State, Unit, Units};
use crate::daemons::{Daemon, Ready};
use crate::process::{self, Identity};
use crate::{files, paths};

/// While something is starting or stopping, one looks again this soon.
const SOON: Duration = Duration::from_millis(30);
/// Adopted daemons are nobody's children: their end is noticed by looking.
const ADOPTED: Duration = Duration::from_secs(1);
/// Logs are measured this often.
const LOGS: Duration = Duration::from_secs(30);
/// A local connection succeeds or fails at once.
const PROBE: Duration = Duration::from_millis(200);
/// Questions in flight; a further one waits in the socket.
const QUESTIONS: usize = 8;

/// Where the list of a node's daemons is, as the node sees it.
pub const DAEMONS: &str = "/etc/ferrite/daemons.json";

/// Everything that can wake the supervisor.
enum Event {
    ChildEnded,
    Stop,
    Asked(Question, oneshot::Sender<Answer>),
    Time,
}

/// Written for each running daemon, so that another supervisor can carry on.
#[derive(Debug, Serialize, Deserialize)]
struct ProcessFile {
    process: Identity,
    daemon: Daemon,
}

#[derive(Debug)]
struct Supervisor {
    units: Units,
    adopted: Vec<(String, Identity)>,
    stopping: bool,
    logs_seen: Instant,
}

/// Runs until told to stop, and then until every daemon has ended.
///
/// # Errors
/// Another supervisor is at work, or the list of daemons cannot be read.
pub async fn run() -> anyhow::Result<()> {
    let socket = Path::new(control::SOCKET);
    if control::ask(socket, Question::Status).is_ok() {
        bail!("a supervisor is already at work here (it answers at {})", socket.display());
    }
    // Shims leave containerd; not every process 1 takes note of their end.
    nix::sys::prctl::set_child_subreaper(true).context("becoming the parent of orphans")?;
    files::ensure_dir(Path::new(paths::RUN))?;
    files::remove(socket)?;
    let (mut child, mut term, mut int) = (signal(SignalKind::child())?, signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let now = Instant::now();
    let mut supervisor = Supervisor { units: Units::new(), adopted: Vec::new(), stopping: false, logs_seen: now };
    supervisor.adopt(now)?;
    policy::reconcile(&mut supervisor.units, read_daemons()?, now);
    supervisor.restart_changed(now);

    let listener = UnixListener::bind(socket).with_context(|| format!("listening at {}", socket.display()))?;
    let (ask, mut questions) = mpsc::channel(QUESTIONS);
    let answering = tokio::spawn(answer_all(listener, ask));
    let mut wait = Duration::ZERO;
    loop {
        let event = tokio::select! {
            _ = child.recv() => Event::ChildEnded,
            _ = term.recv() => Event::Stop,
            _ = int.recv() => Event::Stop,
            Some((question, answer)) = questions.recv() => Event::Asked(question, answer),
            () = tokio::time::sleep(wait) => Event::Time,
        };
        match supervisor.turn(event, Instant::now()) {
            Some(next) => wait = next,
            None => break,
        }
    }
    answering.abort();
    files::remove(socket)?;
    Ok(())
}

impl Supervisor {
    /// Takes in one event and acts. Gives the time after which to look again; `None` when everything has ended.
    fn turn(&mut self, event: Event, now: Instant) -> Option<Duration> {
        self.reap(now);
        match event {
            Event::ChildEnded | Event::Time => {}
            Event::Stop => self.stop(),
            Event::Asked(question, answer) => {
                let said = self.answer(question, now);
                // Who asked may have gone away; then nobody misses the answer.
                let _ = answer.send(said);
            }
        }
        for action in policy::plan(&self.units, self.stopping, now) {
            self.act(action, now);
        }
        if self.stopping && self.units.is_empty() {
            return None;
        }
        if now.saturating_duration_since(self.logs_seen) >= LOGS {
            self.logs_seen = now;
            self.rotate_logs();
        }
        Some(match () {
            () if self.stopping || policy::is_moving(&self.units) => SOON,
            () if !self.adopted.is_empty() => ADOPTED,
            () => LOGS,
        })
    }

    fn stop(&mut self) {
        if !self.stopping {
            tracing::info!("stopping all daemons");
            self.stopping = true;
        }
    }

    fn answer(&mut self, question: Question, now: Instant) -> Answer {
        match question {
            Question::Status => Answer::Status(self.units.iter().map(|(name, unit)| status(name, unit, now)).collect()),
            Question::Stop => {
                self.stop();
                Answer::Stopping
            }
            Question::Reload => match read_daemons() {
                Ok(daemons) => {
                    let changes = policy::reconcile(&mut self.units, daemons, now);
                    self.restart_changed(now);
                    Answer::Changes(changes)
                }
                Err(error) => Answer::Failed(format!("{error:#}")),
            },
        }
    }

    /// Ends the daemons that run with another description than the one they shall have; they start again by themselves.
    fn restart_changed(&mut self, now: Instant) {
        let changed: Vec<String> = self
            .units
            .iter()
            .filter(|(_, unit)| matches!(unit.state, State::Running { .. }))
            .filter(|(name, unit)| read_process_file(name).is_none_or(|file| file.daemon != unit.daemon))
            .map(|(name, _)| name.clone())
            .collect();
        for name in changed {
            self.act(Action::Terminate(name), now);
        }
    }

    /// Takes over what an earlier supervisor left running.
    fn adopt(&mut self, now: Instant) -> anyhow::Result<()> {
        let dir = pid_dir();
        files::ensure_dir(&dir)?;
        for entry in std::fs::read_dir(&dir).with_context(|| format!("reading {}", dir.display()))? {
            let path = entry?.path();
            let Some(name) = path.file_stem().and_then(|s| s.to_str()) else { continue };
            let Some(file) = read_process_file(name) else { continue };
            if !file.process.is_alive() {
                continue;
            }
            tracing::info!(daemon = name, pid = file.process.pid, "already running");
            let mut unit = Unit::new(file.daemon, now);
            unit.state = State::Running { pid: file.process.pid, since: now };
            self.units.insert(name.to_owned(), unit);
            self.adopted.push((name.to_owned(), file.process));
        }
        Ok(())
    }

    /// Takes note of every process that has ended: children, orphans that became children, adopted daemons.
    fn reap(&mut self, now: Instant) {
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => self.ended(pid.as_raw(), format!("exit code {code}"), now),
                Ok(WaitStatus::Signaled(pid, signal, _)) => self.ended(pid.as_raw(), format!("killed by {signal}"), now),
                // Stopped and continued children are still there.
                Ok(WaitStatus::StillAlive) | Err(_) => break,
                Ok(_) => {}
            }
        }
        let (alive, gone): (Vec<_>, Vec<_>) = std::mem::take(&mut self.adopted).into_iter().partition(|(_, p)| p.is_alive());
        self.adopted = alive;
        for (_, process) in gone {
            self.ended(process.pid, "ended".into(), now);
        }
    }

    fn ended(&mut self, pid: i32, how: String, now: Instant) {
        let Some((name, unit)) = self.units.iter_mut().find(|(_, unit)| unit.pid() == Some(pid)) else { return };
        match unit.state {
            State::Stopping { .. } => tracing::info!(daemon = name, pid, how, "stopped"),
            _ => tracing::warn!(daemon = name, pid, how, "died"),
        }
        unit.exited(how, now);
        if let Err(error) = files::remove(&pid_file(name)) {
            tracing::warn!(daemon = name, error = format!("{error:#}"), "its process file stays");
        }
    }

    fn act(&mut self, action: Action, now: Instant) {
        match action {
            Action::Start(name) => self.start(&name, now),
            Action::Terminate(name) => {
                if let Some(unit) = self.units.get_mut(&name)
                    && let Some(pid) = unit.pid()
                {
                    send(&name, pid, Signal::SIGTERM);
                    unit.state = policy::stopping(pid, now);
                }
            }
            Action::Kill(name) => {
                if let Some(unit) = self.units.get_mut(&name)
                    && let Some(pid) = unit.pid()
                {
                    tracing::warn!(daemon = name, pid, "does not stop; killing it");
                    send(&name, pid, Signal::SIGKILL);
                    unit.state = policy::stopping(pid, now);
                }
            }
            Action::Probe(name) => {
                if let Some(unit) = self.units.get_mut(&name) {
                    unit.was_ready = is_ready(unit.daemon.ready.as_ref());
                }
            }
            Action::Forget(name) => {
                self.units.remove(&name);
            }
        }
    }

    fn start(&mut self, name: &str, now: Instant) {
        let Some(unit) = self.units.get_mut(name) else { return };
        match spawn(&unit.daemon) {
            Ok(process) => {
                tracing::info!(daemon = name, pid = process.pid, "started");
                unit.state = State::Running { pid: process.pid, since: now };
                let file = ProcessFile { process, daemon: unit.daemon.clone() };
                let written = serde_json::to_vec(&file).map_err(Into::into).and_then(|t| files::ensure(&pid_file(name), &t, files::PUBLIC));
                if let Err(error) = written {
                    tracing::warn!(daemon = name, error = format!("{error:#}"), "another supervisor will not find it");
                }
            }
            Err(error) => {
                tracing::error!(daemon = name, error = format!("{error:#}"), "cannot be started");
                unit.failed_to_start(format!("{error:#}"), now);
            }
        }
    }

    fn rotate_logs(&self) {
        for name in self.units.keys().map(String::as_str).chain(["supervisor"]) {
            if let Err(error) = logs::rotate(&logs::path(name)) {
                tracing::warn!(daemon = name, error = format!("{error:#}"), "its log grows");
            }
        }
    }
}

fn spawn(daemon: &Daemon) -> anyhow::Result<Identity> {
    let log = logs::open(&daemon.name)?;
    let child = Command::new(&daemon.program)
        .args(&daemon.args)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log.try_clone().context("its log")?)
        .stderr(log)
        .process_group(0)
        .spawn()
        .with_context(|| format!("starting {}", daemon.program.display()))?;
    // Not waited for here: `reap` takes note of every child's end.
    let pid = child.id().cast_signed();
    Ok(Identity::of(pid).unwrap_or(Identity { pid, start_time: 0 }))
}

fn send(name: &str, pid: i32, signal: Signal) {
    if let Err(error) = kill(Pid::from_raw(pid), signal) {
        tracing::debug!(daemon = name, pid, %error, "it has ended already");
    }
}

fn is_ready(ready: Option<&Ready>) -> bool {
    match ready {
        None => true,
        Some(Ready::Tcp(address)) => std::net::TcpStream::connect_timeout(address, PROBE).is_ok(),
        Some(Ready::Unix(path)) => std::os::unix::net::UnixStream::connect(path).is_ok(),
    }
}

fn status(name: &str, unit: &Unit, now: Instant) -> DaemonStatus {
    let pid = unit.pid().filter(|pid| *pid > 0);
    let (state, since) = match unit.state {
        State::Waiting(_) => ("waiting", None),
        State::Running { since, .. } if unit.was_ready => ("running", Some(since)),
        State::Running { since, .. } => ("starting", Some(since)),
        State::Stopping { .. } => ("stopping", None),
    };
    DaemonStatus {
        name: name.to_owned(),
        pid,
        state: state.to_owned(),
        restarts: unit.restarts,
        last_exit: unit.last_exit.clone(),
        uptime: since.map(|s| now.saturating_duration_since(s)),
        usage: pid.and_then(process::usage),
    }
}

fn read_daemons() -> anyhow::Result<Vec<Daemon>> {
    let text = std::fs::read(DAEMONS).with_context(|| format!("reading {DAEMONS}"))?;
    serde_json::from_slice(&text).with_context(|| format!("in {DAEMONS}"))
}

/// Where the process files of a node's daemons are, as the node sees it.
#[must_use]
pub fn pid_dir() -> PathBuf {
    Path::new(paths::RUN).join("pids")
}

fn pid_file(name: &str) -> PathBuf {
    pid_dir().join(format!("{name}.json"))
}

/// `None` when there is none, or one that was cut off by a crash.
fn read_process_file(name: &str) -> Option<ProcessFile> {
    serde_json::from_slice(&std::fs::read(pid_file(name)).ok()?).ok()
}

async fn answer_all(listener: UnixListener, ask: mpsc::Sender<(Question, oneshot::Sender<Answer>)>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // One after the other: a question takes a moment, and who does not ask is cut off.
                match tokio::time::timeout(PROBE, answer_one(stream, &ask)).await {
                    Ok(Ok(())) | Err(_) => {}
                    Ok(Err(error)) => tracing::debug!(error = format!("{error:#}"), "a question that could not be answered"),
                }
            }
            Err(error) => {
                tracing::warn!(%error, "accepting questions");
                tokio::time::sleep(ADOPTED).await;
            }
        }
    }
}

async fn answer_one(mut stream: UnixStream, ask: &mpsc::Sender<(Question, oneshot::Sender<Answer>)>) -> anyhow::Result<()> {
    let (reader, mut writer) = stream.split();
    let mut line = String::new();
    BufReader::new(reader.take(control::MOST_QUESTION)).read_line(&mut line).await?;
    let question: Question = serde_json::from_str(&line)?;
    let (tell, told) = oneshot::channel();
    ask.send((question, tell)).await?;
    let mut answer = serde_json::to_vec(&told.await?)?;
    answer.push(b'\n');
    writer.write_all(&answer).await?;
    Ok(())
}
