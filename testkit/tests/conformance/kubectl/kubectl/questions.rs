//! What kubectl finds out about the cluster.

use serde_json::Value;

use crate::framework::Framework;

pub async fn api_versions(f: Framework) -> anyhow::Result<()> {
    let said = f.kubectl().ok(&["api-versions"]).await?;
    anyhow::ensure!(said.lines().any(|l| l == "v1"), "no v1 in {said}");
    Ok(())
}

pub async fn cluster_info(f: Framework) -> anyhow::Result<()> {
    let said = f.kubectl().ok(&["cluster-info"]).await?;
    anyhow::ensure!(said.contains("Kubernetes control plane") && said.contains("is running at"), "{said}");
    Ok(())
}

pub async fn version(f: Framework) -> anyhow::Result<()> {
    let said = f.kubectl().ok(&["version"]).await?;
    anyhow::ensure!(said.contains("Client Version:") && said.contains("Server Version:"), "{said}");
    let versions: Value = serde_json::from_str(&f.kubectl().ok(&["version", "-o", "json"]).await?)?;
    for side in ["clientVersion", "serverVersion"] {
        for part in ["major", "minor", "gitVersion", "gitCommit", "gitTreeState", "buildDate", "goVersion", "compiler", "platform"] {
            assert!(versions[side][part].as_str().is_some_and(|t| !t.is_empty()), "{side}.{part} is not in {versions}");
        }
    }
    Ok(())
}
