//! What every other behaviour takes for granted.

use crate::framework::{Behaviour, Framework, test};

pub const BEHAVIOURS: &[Behaviour] =
    &[Behaviour::new("[sig-architecture] Conformance Tests should have at least two untainted nodes", test!(two_nodes))];

async fn two_nodes(f: Framework) -> anyhow::Result<()> {
    let nodes = f.wire.get("/api/v1/nodes").await.ok();
    let takes_pods = |node: &serde_json::Value| {
        let none = vec![];
        let taints = node["spec"]["taints"].as_array().unwrap_or(&none);
        let conditions = node["status"]["conditions"].as_array().unwrap_or(&none);
        node["spec"]["unschedulable"] != true
            && !taints.iter().any(|t| t["effect"] == "NoSchedule" || t["effect"] == "NoExecute")
            && conditions.iter().any(|c| c["type"] == "Ready" && c["status"] == "True")
            && !conditions.iter().any(|c| c["type"] == "NetworkUnavailable" && c["status"] == "True")
    };
    let good = nodes["items"].as_array().expect("a list").iter().filter(|n| takes_pods(n)).count();
    anyhow::ensure!(good >= 2, "{good} nodes take pods: {nodes}");
    Ok(())
}
