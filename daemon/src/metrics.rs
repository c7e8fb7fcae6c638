//! The metrics registry of a process, and the process's own resource use.

use std::fmt::Write as _;
use std::sync::Arc;

use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::encoding::EncodeMetric;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Metric, Registry};

/// Metrics of this process, rendered on `/metrics` in the OpenMetrics text format.
#[derive(Clone, Debug)]
pub struct Metrics(Arc<Mutex<Registry>>);

impl Metrics {
    /// A registry that already reports the process's memory, CPU and start time under Prometheus' usual names.
    #[must_use]
    pub fn new() -> Self {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(ProcessCollector));
        Self(Arc::new(Mutex::new(registry)))
    }

    /// Registers `metric` and gives it back, for keeping. Counters get the suffix `_total` by themselves.
    pub fn register<M: Metric + Clone>(&self, name: &str, help: &str, metric: M) -> M {
        self.0.lock().register(name, help.trim_end_matches('.'), metric.clone());
        metric
    }

    /// Registers something that computes its metrics when asked.
    pub fn register_collector(&self, collector: Box<dyn Collector>) {
        self.0.lock().register_collector(collector);
    }

    /// All metrics as text.
    #[must_use]
    pub fn render(&self) -> String {
        let mut out = String::new();
        if let Err(error) = prometheus_client::encoding::text::encode(&mut out, &self.0.lock()) {
            let _ = writeln!(out, "# {error}"); // writing to a String cannot fail
        }
        out
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

#[derive(Debug)]
struct ProcessCollector;

impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let Some(usage) = Usage::read() else { return Ok(()) };
        let mut gauge = |name: &str, help: &str, value: f64| {
            let metric = ConstGauge::new(value);
            metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
        };
        gauge("process_resident_memory_bytes", "Resident memory size in bytes", usage.resident)?;
        gauge("process_open_fds", "Number of open file descriptors", usage.open_fds)?;
        gauge("process_start_time_seconds", "Start time of the process since unix epoch in seconds", usage.started)?;
        let cpu = ConstCounter::new(usage.cpu);
        let metric =
            encoder.encode_descriptor("process_cpu_seconds", "Total user and system CPU time spent in seconds", None, cpu.metric_type())?;
        cpu.encode(metric)
    }
}

struct Usage {
    resident: f64,
    open_fds: f64,
    started: f64,
    cpu: f64,
}

impl Usage {
    /// What `/proc/self` says (proc(5)); nothing where it cannot be read.
    fn read() -> Option<Self> {
        const TICKS: f64 = 100.0; // USER_HZ is 100 on every Linux architecture we run on
        let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
        let after_name = stat.rsplit_once(')')?.1;
        let fields: Vec<f64> = after_name.split_whitespace().skip(1).map(|f| f.parse().unwrap_or(0.0)).collect();
        let boot = std::fs::read_to_string("/proc/stat").ok()?;
        let boot: f64 = boot.lines().find_map(|l| l.strip_prefix("btime "))?.trim().parse().ok()?;
        let open_fds = std::fs::read_dir("/proc/self/fd").ok()?.count();
        // Fields 14, 15, 22 and 24 of the whole line; counting here starts at field 4.
        Some(Self {
            cpu: (fields.get(10)? + fields.get(11)?) / TICKS,
            started: boot + fields.get(18)? / TICKS,
            resident: fields.get(20)? * 4096.0,
            open_fds: u32::try_from(open_fds).map_or(f64::MAX, f64::from),
        })
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_process_reports_itself() {
        let text = super::Metrics::new().render();
        let value = |name: &str| -> f64 {
            let line = text.lines().find(|l| l.starts_with(name)).unwrap_or_else(|| panic!("no {name} in\n{text}"));
            line.rsplit(' ').next().and_then(|v| v.parse().ok()).expect("a number")
        };
        assert!(value("process_resident_memory_bytes ") > 500_000.0);
        assert!(value("process_start_time_seconds ") > 1.6e9);
        assert!(value("process_cpu_seconds_total ") >= 0.0);
    }
}
