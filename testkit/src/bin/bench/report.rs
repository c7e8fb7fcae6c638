//! The result, as a table in Markdown: what was measured, the aim, and what upstream 1.28 took on the same kind of machine.

use std::fmt::Write as _;
use std::time::Duration;

use crate::usage::Memory;
use crate::world::World;

/// What one operation costs each server, in processor time.
#[derive(Debug, Clone, Copy)]
pub struct Costs {
    /// The apiserver's.
    pub apiserver: Duration,
    /// etcd's.
    pub etcd: Duration,
}

/// A line of the table.
#[derive(Debug)]
struct Row {
    what: String,
    apiserver: String,
    etcd: String,
    aim: &'static str,
    upstream: &'static str,
}

/// The lines so far.
#[derive(Debug, Default)]
pub struct Report {
    rows: Vec<Row>,
}

/// The aim and upstream's figure of an operation.
const KNOWN: &[(&str, &str, &str)] = &[
    ("create", "0.15 ms", "1.07 ms"),
    ("get", "0.05 ms", "0.33 ms"),
    ("merge patch of a label", "0.2 ms", "1.85 ms"),
    ("merge patch of the status", "0.2 ms", "1.85 ms"),
    ("server-side apply", "", ""),
];

fn millis(time: Duration) -> String {
    format!("{:.3} ms", time.as_secs_f64() * 1e3)
}

#[allow(clippy::cast_precision_loss, reason = "sizes are shown with three digits")]
fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

#[allow(clippy::cast_precision_loss, reason = "sizes are shown with three digits")]
fn kilobytes(bytes: u64) -> String {
    format!("{:.1} KB", bytes as f64 / 1e3)
}

impl Report {
    fn row(&mut self, what: String, apiserver: String, etcd: String, aim: &'static str, upstream: &'static str) {
        eprintln!("  {what}: {apiserver} (etcd {etcd})");
        self.rows.push(Row { what, apiserver, etcd, aim, upstream });
    }

    /// A request about one pod.
    pub fn operation(&mut self, what: &str, clients: usize, costs: Costs, bytes: usize) {
        let (aim, upstream) = KNOWN.iter().find(|k| k.0 == what).map_or(("", ""), |k| (k.1, k.2));
        let what = format!("{what}, {clients} at once (answers of {bytes} bytes)");
        self.row(what, millis(costs.apiserver), millis(costs.etcd), aim, upstream);
    }

    /// A start.
    pub fn started(&mut self, what: &str, world: &World) {
        let shown = format!("{:.2} s ({:.2} s of a processor)", world.ready_after.as_secs_f64(), world.ready_time.as_secs_f64());
        self.row(format!("start to `/readyz`, {what}"), shown, String::new(), "0.3 s", "3.2 s");
    }

    /// Memory and processor time while nothing happens.
    pub fn idle(&mut self, what: &str, memory: Memory, time: Duration, spent: (Duration, Duration)) {
        let share = |t: Duration| format!("{:.3} %", t.as_secs_f64() / time.as_secs_f64() * 100.0);
        self.row(format!("idle processor share, {what}"), share(spent.0), share(spent.1), "0.1 %", "2.1 %");
        self.memory(&format!("idle, {what}"), memory);
    }

    /// Memory at some moment.
    pub fn memory(&mut self, what: &str, memory: Memory) {
        let shown = format!("{} (heap {})", megabytes(memory.resident), megabytes(memory.anonymous));
        let (aim, upstream) = if what == "idle, empty storage" { ("25 MB", "229 MB") } else { ("", "") };
        self.row(format!("resident memory, {what}"), shown, String::new(), aim, upstream);
    }

    /// What each pod adds to a server that was started on them.
    pub fn per_pod(&mut self, empty: Memory, full: Memory, pods: usize) {
        let each = full.resident.saturating_sub(empty.resident) / pods as u64;
        self.row("memory per stored pod, after a start".into(), kilobytes(each), String::new(), "4 KB", "40 KB");
    }

    /// Lists.
    #[allow(clippy::cast_precision_loss, reason = "throughput is shown with three digits")]
    pub fn list(&mut self, at_once: usize, size: usize, spent: Duration, bytes: usize, extra: u64) {
        let rate = bytes as f64 / spent.as_secs_f64() / 1e9;
        let what = format!("list of {}, {at_once} at once", megabytes(size as u64));
        self.row(what, format!("{rate:.2} GB/s a core"), String::new(), "1 GB/s", "0.05 GB/s");
        let what = format!("extra memory of each list, {at_once} at once");
        self.row(what, format!("{:.1} MiB", extra as f64 / f64::from(1 << 20)), String::new(), "4 MiB", "");
    }

    /// Watchers.
    pub fn watch(&mut self, watchers: usize, changes: usize, each: Duration, memory: u64) {
        let what = format!("event delivered, {watchers} watchers, {changes} events");
        self.row(what, format!("{:.2} µs", each.as_secs_f64() * 1e6), String::new(), "3.5 µs", "28-37 µs");
        self.row(format!("memory per watcher with a connection, {watchers}"), kilobytes(memory), String::new(), "", "");
    }

    /// The table.
    pub fn table(&self) -> String {
        let mut out = "| | apiserver | etcd | aim | upstream 1.28 |\n|---|---|---|---|---|\n".to_owned();
        for Row { what, apiserver, etcd, aim, upstream } in &self.rows {
            let _ = writeln!(out, "| {what} | {apiserver} | {etcd} | {aim} | {upstream} |"); // writing to a String cannot fail
        }
        out
    }
}
