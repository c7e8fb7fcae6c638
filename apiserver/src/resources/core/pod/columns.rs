//! What `kubectl get pods` shows.

use jiff::Timestamp;
use serde_json::Value;

use crate::resource::Column;
use crate::resources::cells::{flag, human_duration, int, items, or_none, text};

/// The columns.
pub(super) fn columns() -> Vec<Column> {
    vec![
        Column::name(),
        Column::compute("Ready", |o, _| Line::of(o).ready().into()),
        Column::compute("Status", |o, _| Line::of(o).status.into()),
        Column::compute("Restarts", |o, now| Line::of(o).restarts(now).into()),
        Column::age(),
        Column::compute("IP", |o, _| ip(o).into()).wide(),
        Column::compute("Node", |o, _| or_none(text(o, "/spec/nodeName")).into()).wide(),
        Column::compute("Nominated Node", |o, _| or_none(text(o, "/status/nominatedNodeName")).into()).wide(),
        Column::compute("Readiness Gates", |o, _| gates(o).into()).wide(),
    ]
}

fn ip(o: &Value) -> &str {
    let first = items(o, "/status/podIPs").first().map_or("", |ip| text(ip, "/ip"));
    or_none(if first.is_empty() { text(o, "/status/podIP") } else { first })
}

fn gates(o: &Value) -> String {
    let gates = items(o, "/spec/readinessGates");
    if gates.is_empty() {
        return "<none>".to_owned();
    }
    let open = gates.iter().filter(|g| condition(o, text(g, "/conditionType")));
    format!("{}/{}", open.count(), gates.len())
}

fn condition(o: &Value, kind: &str) -> bool {
    items(o, "/status/conditions").iter().any(|c| c["type"] == kind && c["status"] == "True")
}

/// Restarts of some containers, and when the last of them ended.
#[derive(Default, Clone, Copy)]
struct Restarts {
    count: i64,
    last: Option<Timestamp>,
}

impl Restarts {
    fn add(&mut self, status: &Value) {
        self.count += int(status, "/restartCount");
        self.last = self.last.max(text(status, "/lastState/terminated/finishedAt").parse().ok());
    }
}

/// A pod in one line.
struct Line {
    status: String,
    ready: usize,
    containers: usize,
    restarts: Restarts,
}

impl Line {
    fn of(o: &Value) -> Self {
        let sidecars: Vec<&str> =
            items(o, "/spec/initContainers").iter().filter(|c| c["restartPolicy"] == "Always").map(|c| text(c, "/name")).collect();
        let mut line = Self {
            status: reason_of_phase(o),
            ready: 0,
            containers: items(o, "/spec/containers").len() + sidecars.len(),
            restarts: Restarts::default(),
        };
        let (initializing, of_sidecars) = line.read_init_containers(o, &sidecars);
        if !initializing || condition(o, "Initialized") {
            line.restarts = of_sidecars;
            line.read_containers(o);
        }
        if !text(o, "/metadata/deletionTimestamp").is_empty() {
            match (text(o, "/status/reason"), text(o, "/status/phase")) {
                ("NodeLost", _) => line.status = "Unknown".to_owned(),
                (_, "Succeeded" | "Failed") => {}
                _ => line.status = "Terminating".to_owned(),
            }
        }
        line
    }

    fn ready(&self) -> String {
        format!("{}/{}", self.ready, self.containers)
    }

    fn restarts(&self, now: Timestamp) -> String {
        match self.restarts {
            Restarts { count, last: Some(last) } if count > 0 => {
                format!("{count} ({} ago)", human_duration(now.duration_since(last).as_secs()))
            }
            Restarts { count, .. } => count.to_string(),
        }
    }

    /// Reads up to the first init container that is not done; says whether there is one, and the sidecars' restarts.
    fn read_init_containers(&mut self, o: &Value, sidecars: &[&str]) -> (bool, Restarts) {
        let mut of_sidecars = Restarts::default();
        for (i, status) in items(o, "/status/initContainerStatuses").iter().enumerate() {
            self.restarts.add(status);
            let sidecar = sidecars.contains(&text(status, "/name"));
            if sidecar {
                of_sidecars.add(status);
            }
            let terminated = status.pointer("/state/terminated");
            let waiting = text(status, "/state/waiting/reason");
            self.status = match terminated {
                Some(t) if int(t, "/exitCode") == 0 => continue,
                _ if sidecar && flag(status, "/started") => {
                    self.ready += usize::from(flag(status, "/ready"));
                    continue;
                }
                Some(t) => format!("Init:{}", reason_of_end(t)),
                None if !waiting.is_empty() && waiting != "PodInitializing" => format!("Init:{waiting}"),
                None => format!("Init:{i}/{}", items(o, "/spec/initContainers").len()),
            };
            return (true, of_sidecars);
        }
        (false, of_sidecars)
    }

    fn read_containers(&mut self, o: &Value) {
        let mut running = false;
        for status in items(o, "/status/containerStatuses").iter().rev() {
            self.restarts.add(status);
            let waiting = text(status, "/state/waiting/reason");
            if !waiting.is_empty() {
                waiting.clone_into(&mut self.status);
            } else if let Some(terminated) = status.pointer("/state/terminated") {
                self.status = reason_of_end(terminated);
            } else if flag(status, "/ready") && status.pointer("/state/running").is_some() {
                running = true;
                self.ready += 1;
            }
        }
        if self.status == "Completed" && running {
            self.status = if condition(o, "Ready") { "Running" } else { "NotReady" }.to_owned();
        }
    }
}

fn reason_of_phase(o: &Value) -> String {
    let gated = |c: &&Value| c["type"] == "PodScheduled" && c["reason"] == "SchedulingGated";
    if items(o, "/status/conditions").iter().find(gated).is_some() {
        return "SchedulingGated".to_owned();
    }
    let reason = text(o, "/status/reason");
    if reason.is_empty() { text(o, "/status/phase") } else { reason }.to_owned()
}

fn reason_of_end(terminated: &Value) -> String {
    match (text(terminated, "/reason"), int(terminated, "/signal")) {
        ("", 0) => format!("ExitCode:{}", int(terminated, "/exitCode")),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use crate::resources::core::pod;
    use crate::resources::rows_in_tests::cells;
    use expect_test::{Expect, expect};

    #[track_caller]
    fn check(spec: &str, status: &str, expected: Expect) {
        let meta = "{name: a, creationTimestamp: '2026-01-01T00:00:00Z'}";
        expected.assert_eq(&cells(pod::row(), &format!("{{metadata: {meta}, spec: {{{spec}}}, status: {{{status}}}}}")));
    }

    const TWO: &str = "nodeName: n, containers: [{name: c}, {name: d}]";

    #[test]
    fn table() {
        check(
            TWO,
            "phase: Running, podIPs: [{ip: 10.0.0.1}], containerStatuses: [
               {name: c, ready: true, restartCount: 3, state: {running: {}}, lastState: {terminated: {finishedAt: '2026-01-01T00:00:00Z'}}},
               {name: d, ready: false, restartCount: 0, state: {waiting: {reason: CrashLoopBackOff}}}]",
            expect!["a | 1/2 | CrashLoopBackOff | 3 (5m ago) | 5m | 10.0.0.1 | <none> | <none> | <none>"],
        );
        check(
            "initContainers: [{name: i}, {name: j}], containers: [{name: c}]",
            "phase: Pending, initContainerStatuses: [{name: i, state: {terminated: {exitCode: 0}}}, {name: j, restartCount: 1, state: {running: {}}}]",
            expect!["a | 0/1 | Init:1/2 | 1 | 5m | <none> | <none> | <none> | <none>"],
        );
        check(
            "initContainers: [{name: s, restartPolicy: Always}], containers: [{name: c}]",
            "phase: Running, initContainerStatuses: [{name: s, started: true, ready: true, state: {running: {}}}],
             containerStatuses: [{name: c, ready: true, state: {running: {}}}]",
            expect!["a | 2/2 | Running | 0 | 5m | <none> | <none> | <none> | <none>"],
        );
        check(
            "containers: [{name: c}], readinessGates: [{conditionType: x/y}]",
            "phase: Succeeded, conditions: [{type: x/y, status: 'True'}], containerStatuses: [{state: {terminated: {reason: Completed}}}]",
            expect!["a | 0/1 | Completed | 0 | 5m | <none> | <none> | <none> | 1/1"],
        );
        check(
            "containers: [{name: c}]",
            "phase: Failed, containerStatuses: [{state: {terminated: {exitCode: 137, signal: 9}}}]",
            expect!["a | 0/1 | Signal:9 | 0 | 5m | <none> | <none> | <none> | <none>"],
        );
    }

    #[test]
    fn going() {
        let pod =
            "{metadata: {name: a, deletionTimestamp: '2026-01-01T00:05:30Z'}, spec: {containers: [{name: c}]}, status: {phase: Running}}";
        assert!(cells(pod::row(), pod).starts_with("a | 0/1 | Terminating"));
    }
}
