//! Whose `/etc/hosts` a container has.

use serde_json::json;

use super::super::pod;
use crate::framework::{BUSYBOX, Behaviour, Framework, test};

pub const BEHAVIOURS: &[Behaviour] = &[Behaviour::new(
    "[sig-node] KubeletManagedEtcHosts should test kubelet managed /etc/hosts file [LinuxOnly] [NodeConformance]",
    test!(managed),
)];

const MANAGED: &str = "# Kubernetes-managed hosts file.";

async fn managed(f: Framework) -> anyhow::Result<()> {
    let another = |name: &str, mounts| json!({"name": name, "image": BUSYBOX, "imagePullPolicy": "IfNotPresent", "command": ["cat", "/etc/hosts"], "volumeMounts": mounts});
    let mut own = pod(
        "own",
        "cat /etc/hosts",
        json!({"volumes": [{"name": "hosts", "hostPath": {"path": "/etc/hosts", "type": "File"}}]}),
        json!({}),
    );
    let containers = own["spec"]["containers"].as_array_mut().expect("containers");
    containers.push(another("beside", json!([])));
    containers.push(another("mounting", json!([{"name": "hosts", "mountPath": "/etc/hosts"}])));
    let said = f.output_of(&own).await;
    assert!(said.starts_with(&format!("{MANAGED}\n")), "{said}");
    assert_eq!(f.logs("own", "beside").await, said, "the containers share it");
    let hosts = f.logs("own", "mounting").await;
    assert!(!hosts.is_empty() && !hosts.contains("# Kubernetes-managed"), "{hosts}");

    let said = f.output_of(&pod("host", "cat /etc/hosts", json!({"hostNetwork": true}), json!({}))).await;
    assert!(!said.contains(MANAGED), "{said}");
    assert!(said.contains(hosts.trim_end()), "what the node has, {hosts} in {said}");
    Ok(())
}
