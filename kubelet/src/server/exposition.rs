//! `/metrics/resource` and `/metrics/cadvisor` in Prometheus' classic text format, with the time of each measurement in ms.

use std::fmt::Write as _;

use super::usage::{ContainerUse, PodUse, Usage, Use};

/// Content type of the classic format.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Families of samples, one after the other.
#[derive(Default)]
struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}"); // writing to a String cannot fail
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64, at: i64) {
        let labels: Vec<String> = labels.iter().map(|(n, v)| format!("{n}=\"{}\"", escape(v))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let _ = writeln!(self.0, "{name}{labels} {value} {}", at / 1_000_000); // as above
    }
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// Numbers of bytes and nanoseconds stay exact up to 2^53.
#[allow(clippy::cast_precision_loss)]
fn float(number: u64) -> f64 {
    number as f64
}

fn seconds(nanos: u64) -> f64 {
    float(nanos) / 1e9
}

fn since_epoch(time: jiff::Timestamp) -> f64 {
    time.as_duration().as_secs_f64()
}

/// What metrics-server reads.
#[must_use]
pub fn resource(usage: &Usage) -> String {
    let mut out = Text::default();
    let containers: Vec<(&PodUse, &ContainerUse)> = usage.pods.iter().flat_map(|p| p.containers.iter().map(move |c| (p, c))).collect();
    let each = |out: &mut Text, name: &str, kind: &str, help: &str, value: &dyn Fn(&ContainerUse) -> Option<f64>| {
        out.family(name, kind, help);
        for (pod, c) in &containers {
            if let Some(value) = value(c) {
                out.sample(name, &[("container", &c.name), ("namespace", &pod.namespace), ("pod", &pod.name)], value, c.used.at);
            }
        }
    };
    each(
        &mut out,
        "container_cpu_usage_seconds_total",
        "counter",
        "[STABLE] Cumulative cpu time consumed by the container in core-seconds",
        &|c| Some(seconds(c.used.cpu)),
    );
    each(&mut out, "container_memory_working_set_bytes", "gauge", "[STABLE] Current working set of the container in bytes", &|c| {
        Some(float(c.used.working_set))
    });
    each(&mut out, "container_start_time_seconds", "gauge", "[STABLE] Start time of the container since unix epoch in seconds", &|c| {
        c.started.map(since_epoch)
    });
    each(
        &mut out,
        "container_swap_usage_bytes",
        "gauge",
        "[ALPHA] Current amount of the container swap usage in bytes. Reported only on non-windows systems",
        &|c| Some(float(c.used.swap)),
    );
    let node = &usage.used;
    let mut one = |name: &str, kind: &str, help: &str, value: f64| {
        out.family(name, kind, help);
        out.sample(name, &[], value, node.at);
    };
    one("node_cpu_usage_seconds_total", "counter", "[STABLE] Cumulative cpu time consumed by the node in core-seconds", seconds(node.cpu));
    one("node_memory_working_set_bytes", "gauge", "[STABLE] Current working set of the node in bytes", float(node.working_set));
    one(
        "node_swap_usage_bytes",
        "gauge",
        "[ALPHA] Current swap usage of the node in bytes. Reported only on non-windows systems",
        float(node.swap),
    );
    let pods = |out: &mut Text, name: &str, kind: &str, help: &str, value: &dyn Fn(&Use) -> f64| {
        out.family(name, kind, help);
        for pod in &usage.pods {
            out.sample(name, &[("namespace", &pod.namespace), ("pod", &pod.name)], value(&pod.used), pod.used.at);
        }
    };
    let help = "[STABLE] Cumulative cpu time consumed by the pod in core-seconds";
    pods(&mut out, "pod_cpu_usage_seconds_total", "counter", help, &|u| seconds(u.cpu));
    let help = "[STABLE] Current working set of the pod in bytes";
    pods(&mut out, "pod_memory_working_set_bytes", "gauge", help, &|u| float(u.working_set));
    let help = "[ALPHA] Current amount of the pod swap usage in bytes. Reported only on non-windows systems";
    pods(&mut out, "pod_swap_usage_bytes", "gauge", help, &|u| float(u.swap));
    out.0.push_str("# HELP resource_scrape_error [STABLE] 1 if there was an error while getting container metrics, 0 otherwise\n");
    out.0.push_str("# TYPE resource_scrape_error gauge\nresource_scrape_error 0\n");
    out.0
}

/// The part of cAdvisor's metrics that dashboards use.
#[must_use]
pub fn cadvisor(usage: &Usage) -> String {
    let mut out = Text::default();
    let of = |p: &PodUse, c: Option<&ContainerUse>| -> Vec<(&'static str, String)> {
        let text = |f: fn(&ContainerUse) -> &String| c.map(f).cloned().unwrap_or_default();
        let id = c.map_or_else(|| format!("/kubepods/pod{}", p.uid), |c| format!("/kubepods/pod{}/{}", p.uid, c.id));
        vec![
            ("container", text(|c| &c.name)),
            ("id", id),
            ("image", text(|c| &c.image)),
            ("name", text(|c| &c.id)),
            ("namespace", p.namespace.clone()),
            ("pod", p.name.clone()),
        ]
    };
    let root =
        ["container", "id", "image", "name", "namespace", "pod"].map(|n| (n, if n == "id" { "/".to_owned() } else { String::new() }));
    let mut groups = vec![(root.to_vec(), usage.used, usage.booted)];
    for pod in &usage.pods {
        groups.push((of(pod, None), pod.used, pod.started));
        groups.extend(pod.containers.iter().map(|c| (of(pod, Some(c)), c.used, c.started)));
    }
    let each = |out: &mut Text,
                name: &str,
                kind: &str,
                help: &str,
                extra: Option<(&str, &str)>,
                value: &dyn Fn(&Use, Option<f64>) -> Option<f64>| {
        out.family(name, kind, help);
        for (labels, used, started) in &groups {
            let Some(value) = value(used, started.map(since_epoch)) else { continue };
            let mut labels: Vec<(&str, &str)> = labels.iter().map(|(n, v)| (*n, v.as_str())).collect();
            labels.extend(extra);
            labels.sort_unstable();
            out.sample(name, &labels, value, used.at);
        }
    };
    let help = "Cumulative cpu time consumed in seconds.";
    each(&mut out, "container_cpu_usage_seconds_total", "counter", help, Some(("cpu", "total")), &|u, _| Some(seconds(u.cpu)));
    let help = "Current working set in bytes.";
    each(&mut out, "container_memory_working_set_bytes", "gauge", help, None, &|u, _| Some(float(u.working_set)));
    let help = "Current memory usage in bytes, including all memory regardless of when it was accessed";
    each(&mut out, "container_memory_usage_bytes", "gauge", help, None, &|u, _| u.memory.map(float));
    each(&mut out, "container_memory_rss", "gauge", "Size of RSS in bytes.", None, &|u, _| u.rss.map(float));
    each(&mut out, "container_memory_swap", "gauge", "Container swap usage in bytes.", None, &|u, _| Some(float(u.swap)));
    let help = "Start time of the container since unix epoch in seconds.";
    each(&mut out, "container_start_time_seconds", "gauge", help, None, &|_, started| started);
    let help = "Last time a container was seen by the exporter";
    each(&mut out, "container_last_seen", "gauge", help, None, &|u, _| Some((u.at / 1_000_000_000) as f64));

    out.family("container_fs_usage_bytes", "gauge", "Number of bytes that are consumed by the container on this filesystem.");
    for (pod, c) in usage.pods.iter().flat_map(|p| p.containers.iter().map(move |c| (p, c))) {
        let labels = of(pod, Some(c));
        let mut labels: Vec<(&str, &str)> = labels.iter().map(|(n, v)| (*n, v.as_str())).collect();
        labels.push(("device", ""));
        labels.sort_unstable();
        if let Some((bytes, _)) = c.layer {
            out.sample("container_fs_usage_bytes", &labels, float(bytes), c.used.at);
        }
    }
    type Counter = fn(&super::usage::Interface) -> u64;
    let counters: [(&str, &str, Counter); 4] = [
        ("container_network_receive_bytes_total", "Cumulative count of bytes received", |i| i.rx_bytes),
        ("container_network_receive_errors_total", "Cumulative count of errors encountered while receiving", |i| i.rx_errors),
        ("container_network_transmit_bytes_total", "Cumulative count of bytes transmitted", |i| i.tx_bytes),
        ("container_network_transmit_errors_total", "Cumulative count of errors encountered while transmitting", |i| i.tx_errors),
    ];
    for (name, help, counter) in counters {
        out.family(name, "counter", help);
        let pods = usage.pods.iter().map(|p| (of(p, None), &p.network, p.used.at));
        for (labels, network, at) in pods.chain([(root.to_vec(), &usage.network, usage.used.at)]) {
            for interface in network {
                let mut labels: Vec<(&str, &str)> = labels.iter().map(|(n, v)| (*n, v.as_str())).collect();
                labels.push(("interface", &interface.name));
                labels.sort_unstable();
                out.sample(name, &labels, float(counter(interface)), at);
            }
        }
    }
    out.family("machine_cpu_cores", "gauge", "Number of logical CPU cores.");
    out.sample("machine_cpu_cores", &[], float(usage.cores as u64), usage.used.at);
    out.family("machine_memory_bytes", "gauge", "Amount of memory installed on the machine.");
    out.sample("machine_memory_bytes", &[], float(usage.memory), usage.used.at);
    out.0
}
