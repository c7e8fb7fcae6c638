//! How many pods and containers run here, on `/metrics` under upstream's names.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use k8s_openapi::api::core::v1::ContainerState;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;

use crate::pods::Pods;

/// Counts when it is asked.
#[derive(Debug)]
pub struct Running {
    /// The pods to count.
    pub pods: Arc<Pods>,
    /// This node.
    pub node: String,
}

impl Collector for Running {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let (pods, containers) = count(&self.pods);
        let mut name =
            encoder.encode_descriptor("kubelet_node_name", "[ALPHA] The node's name. The count is always 1", None, MetricType::Gauge)?;
        name.encode_family(&[("node", self.node.as_str())])?.encode_gauge(&1_i64)?;
        let help = "[ALPHA] Number of pods that have a running pod sandbox";
        encoder.encode_descriptor("kubelet_running_pods", help, None, MetricType::Gauge)?.encode_gauge(&pods)?;
        let help = "[ALPHA] Number of containers currently running";
        let mut family = encoder.encode_descriptor("kubelet_running_containers", help, None, MetricType::Gauge)?;
        for (state, number) in containers {
            family.encode_family(&[("container_state", state)])?.encode_gauge(&number)?;
        }
        Ok(())
    }
}

/// Pods with a container that runs, and containers by state.
fn count(pods: &Pods) -> (i64, BTreeMap<&'static str, i64>) {
    let (mut running, mut containers) = (0, BTreeMap::new());
    for known in pods.all() {
        let status = &known.status;
        let lists = [&status.container_statuses, &status.init_container_statuses, &status.ephemeral_container_statuses];
        let states = lists.into_iter().flatten().flatten().filter_map(|s| s.state.as_ref()).filter_map(word);
        let states: Vec<&str> = states.collect();
        running += i64::from(states.contains(&"running"));
        for state in states {
            *containers.entry(state).or_insert(0) += 1;
        }
    }
    (running, containers)
}

fn word(state: &ContainerState) -> Option<&'static str> {
    if state.running.is_some() {
        Some("running")
    } else if state.terminated.is_some() {
        Some("exited")
    } else {
        None // no container was made yet
    }
}
