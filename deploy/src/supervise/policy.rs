//! When a daemon is started, killed or left alone: a plain function of what is known and of the time.
//!
//! [`Unit`] is one daemon's state; [`plan`] looks at all of them and says what to do now. The executor is `super::run`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::daemons::Daemon;

/// A daemon that died is started again after this at the earliest.
const FIRST_DELAY: Duration = Duration::from_millis(200);
/// And after this at the latest.
const MOST_DELAY: Duration = Duration::from_secs(5);
/// One that has run for this long is taken for healthy: the next delay is the first again.
const HEALTHY_AFTER: Duration = Duration::from_secs(10);
/// Who has not ended this long after SIGTERM gets SIGKILL. Daemons give themselves 20 s.
const STOP_WITHIN: Duration = Duration::from_secs(22);

/// Where a daemon stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Not started yet, or died; to be started when what it needs has been ready, and not before this time.
    Waiting(Instant),
    /// Runs.
    Running {
        /// Its process.
        pid: i32,
        /// Since when.
        since: Instant,
    },
    /// Was told to stop, to be started again or to be forgotten.
    Stopping {
        /// Its process.
        pid: i32,
        /// SIGKILL follows at this time.
        kill_at: Instant,
    },
}

/// A daemon and what became of it.
#[derive(Debug, Clone)]
pub struct Unit {
    /// What to run.
    pub daemon: Daemon,
    /// Where it stands.
    pub state: State,
    /// Whether it has been ready since the supervisor runs.
    pub was_ready: bool,
    /// How often it was started again after it died.
    pub restarts: u32,
    /// How it ended last.
    pub last_exit: Option<String>,
    /// To be forgotten once it has stopped.
    pub retired: bool,
    delay: Duration,
}

/// What to do now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Start it.
    Start(String),
    /// Ask it to end: SIGTERM.
    Terminate(String),
    /// End it: SIGKILL.
    Kill(String),
    /// See whether it is ready.
    Probe(String),
    /// It has stopped and is no longer wanted.
    Forget(String),
}

/// All daemons, by name.
pub type Units = BTreeMap<String, Unit>;

impl Unit {
    /// One that has not been started.
    #[must_use]
    pub const fn new(daemon: Daemon, now: Instant) -> Self {
        Self { daemon, state: State::Waiting(now), was_ready: false, restarts: 0, last_exit: None, retired: false, delay: FIRST_DELAY }
    }

    /// Its process, when it has one.
    #[must_use]
    pub const fn pid(&self) -> Option<i32> {
        match self.state {
            State::Waiting(_) => None,
            State::Running { pid, .. } | State::Stopping { pid, .. } => Some(pid),
        }
    }

    /// Its process ended, in the words of `how`.
    pub fn exited(&mut self, how: String, now: Instant) {
        self.last_exit = Some(how);
        match self.state {
            State::Running { since, .. } => {
                if now.saturating_duration_since(since) >= HEALTHY_AFTER {
                    self.delay = FIRST_DELAY;
                }
                self.restarts += 1;
                self.state = State::Waiting(now + self.delay);
                self.delay = (self.delay * 2).min(MOST_DELAY);
            }
            State::Stopping { .. } | State::Waiting(_) => self.state = State::Waiting(now),
        }
    }

    /// It could not be started at all.
    pub fn failed_to_start(&mut self, why: String, now: Instant) {
        self.state = State::Running { pid: 0, since: now };
        self.exited(why, now);
    }
}

/// What to do now. With `stopping`, everything ends: those that nobody waits for first.
#[must_use]
pub fn plan(units: &Units, stopping: bool, now: Instant) -> Vec<Action> {
    let mut actions = Vec::new();
    for (name, unit) in units {
        let unwanted = unit.retired || (stopping && !someone_needs(units, name));
        match unit.state {
            State::Waiting(_) if unwanted => actions.push(Action::Forget(name.clone())),
            State::Waiting(from) => {
                let may = unit.daemon.after.iter().all(|n| units.get(n).is_none_or(|needed| needed.was_ready));
                if !stopping && from <= now && may {
                    actions.push(Action::Start(name.clone()));
                }
            }
            State::Running { .. } if unwanted => actions.push(Action::Terminate(name.clone())),
            State::Running { .. } => {
                if !unit.was_ready {
                    actions.push(Action::Probe(name.clone()));
                }
            }
            State::Stopping { kill_at, .. } => {
                if kill_at <= now {
                    actions.push(Action::Kill(name.clone()));
                }
            }
        }
    }
    actions
}

fn someone_needs(units: &Units, name: &str) -> bool {
    units.values().any(|u| u.daemon.after.iter().any(|n| n == name))
}

/// The state of a unit that is being stopped from `now` on.
#[must_use]
pub fn stopping(pid: i32, now: Instant) -> State {
    State::Stopping { pid, kill_at: now + STOP_WITHIN }
}

/// Whether something is on its way, so that it is worth looking again soon.
#[must_use]
pub fn is_moving(units: &Units) -> bool {
    units.values().any(|u| !matches!(u.state, State::Running { .. }) || !u.was_ready)
}

/// What came of comparing the units with the daemons there shall be.
#[derive(Debug, Default, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Changes {
    /// New ones.
    pub started: Vec<String>,
    /// Those that run with other arguments or another program than they shall.
    pub restarted: Vec<String>,
    /// Those no longer wanted.
    pub stopped: Vec<String>,
}

/// Makes the units those of `wanted`: adds, marks for restart, retires.
pub fn reconcile(units: &mut Units, wanted: Vec<Daemon>, now: Instant) -> Changes {
    let mut changes = Changes::default();
    for (name, unit) in units.iter_mut() {
        if !unit.retired && !wanted.iter().any(|d| d.name == *name) {
            unit.retired = true;
            changes.stopped.push(name.clone());
        }
    }
    for daemon in wanted {
        let name = daemon.name.clone();
        match units.get_mut(&name) {
            None => {
                changes.started.push(name.clone());
                units.insert(name, Unit::new(daemon, now));
            }
            Some(unit) => {
                unit.retired = false;
                if unit.daemon != daemon {
                    // What was ready once need not be waited for again: its clients already know how to live without it.
                    unit.daemon = daemon;
                    changes.restarted.push(name);
                }
            }
        }
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn daemon(name: &str, after: &[&str]) -> Daemon {
        Daemon {
            name: name.into(),
            program: "/bin/x".into(),
            args: Vec::new(),
            after: after.iter().map(|a| (*a).into()).collect(),
            ready: None,
            version: String::new(),
        }
    }

    /// Two daemons, the second after the first, both as the closure leaves them.
    fn check(change: impl FnOnce(&mut Units, Instant), stopping: bool, expected: &[&str]) {
        let now = Instant::now();
        let mut units = Units::new();
        let changes = reconcile(&mut units, vec![daemon("api", &["etcd"]), daemon("etcd", &[])], now);
        assert_eq!(changes.started, ["api", "etcd"]);
        change(&mut units, now);
        let done: Vec<String> = plan(&units, stopping, now).iter().map(|a| format!("{a:?}")).collect();
        assert_eq!(done, expected);
    }

    fn run(units: &mut Units, name: &str, now: Instant, ready: bool) {
        let unit = units.get_mut(name).expect("a unit");
        unit.state = State::Running { pid: 7, since: now };
        unit.was_ready = ready;
    }

    #[test]
    fn what_is_needed_comes_first() {
        check(|_, _| {}, false, &[r#"Start("etcd")"#]);
        check(|u, now| run(u, "etcd", now, false), false, &[r#"Probe("etcd")"#]);
        check(|u, now| run(u, "etcd", now, true), false, &[r#"Start("api")"#]);
    }

    #[test]
    fn a_restart_of_what_is_needed_stops_nobody() {
        let both = |u: &mut Units, now| {
            run(u, "etcd", now, true);
            run(u, "api", now, true);
            u.get_mut("etcd").expect("a unit").exited("signal 9".into(), now);
        };
        check(both, false, &[]);
    }

    #[test]
    fn stopping_goes_backwards() {
        let both = |u: &mut Units, now| {
            run(u, "etcd", now, true);
            run(u, "api", now, true);
        };
        check(both, true, &[r#"Terminate("api")"#]);
        check(|u, now| run(u, "etcd", now, true), true, &[r#"Forget("api")"#]);
        let alone = |u: &mut Units, now| {
            run(u, "etcd", now, true);
            u.remove("api");
        };
        check(alone, true, &[r#"Terminate("etcd")"#]);
    }

    #[test]
    fn who_does_not_stop_is_killed() {
        let late = |u: &mut Units, now: Instant| {
            u.get_mut("etcd").expect("a unit").state = State::Stopping { pid: 7, kill_at: now };
        };
        check(late, false, &[r#"Kill("etcd")"#]);
    }

    #[test]
    fn delays_double_and_start_over_for_the_healthy() {
        let start = Instant::now();
        let mut unit = Unit::new(daemon("x", &[]), start);
        let mut die_after = |ran: Duration| {
            unit.state = State::Running { pid: 7, since: start };
            unit.exited("died".into(), start + ran);
            let State::Waiting(until) = unit.state else { panic!("it waits") };
            until.duration_since(start + ran).as_millis()
        };
        let quick: Vec<u128> = (0..7).map(|_| die_after(Duration::from_millis(1))).collect();
        assert_eq!(quick, [200, 400, 800, 1600, 3200, 5000, 5000]);
        assert_eq!(die_after(HEALTHY_AFTER), 200);
        assert_eq!(unit.restarts, 8);
    }

    #[test]
    fn only_what_differs_is_restarted() {
        let now = Instant::now();
        let mut units = Units::new();
        reconcile(&mut units, vec![daemon("a", &[]), daemon("b", &[]), daemon("c", &[])], now);
        let changed = Daemon { version: "2".into(), ..daemon("b", &[]) };
        let changes = reconcile(&mut units, vec![daemon("a", &[]), changed.clone()], now);
        assert_eq!((changes.restarted, changes.stopped), (vec!["b".to_owned()], vec!["c".to_owned()]));
        assert_eq!(reconcile(&mut units, vec![daemon("a", &[]), changed], now), Changes::default());
    }
}
