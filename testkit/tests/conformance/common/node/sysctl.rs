//! Kernel settings of a pod's own.

use serde_json::json;

use super::super::pod;
use crate::framework::{Behaviour, Framework, test};

pub const BEHAVIOURS: &[Behaviour] = &[
    Behaviour::new("[sig-node] Sysctls [LinuxOnly] [NodeConformance] should support sysctls [MinimumKubeletVersion:1.21]", test!(set)),
    Behaviour::new(
        "[sig-node] Sysctls [LinuxOnly] [NodeConformance] should reject invalid sysctls [MinimumKubeletVersion:1.21]",
        test!(rejected),
    ),
];

async fn set(f: Framework) -> anyhow::Result<()> {
    let spec = json!({"securityContext": {"sysctls": [{"name": "kernel.shm_rmid_forced", "value": "1"}]}});
    assert_eq!(f.output_of(&pod("p", "/bin/sysctl kernel.shm_rmid_forced", spec, json!({}))).await, "kernel.shm_rmid_forced = 1\n");
    Ok(())
}

async fn rejected(f: Framework) -> anyhow::Result<()> {
    let sysctls = [("foo-", "bar"), ("kernel.shmmax", "100000000"), ("safe-and-unsafe", "100000000"), ("bar..", "42")];
    let sysctls: Vec<_> = sysctls.iter().map(|(name, value)| json!({"name": name, "value": value})).collect();
    let spec = json!({"securityContext": {"sysctls": sysctls}});
    let refused = f.wire.post(&f.core("pods"), &pod("p", "true", spec, json!({}))).await.refusal();
    for (index, name) in [(0, "foo-"), (3, "bar..")] {
        let words = format!("spec.securityContext.sysctls[{index}].name: Invalid value: {name:?}");
        assert!(refused.contains(&words), "{words} in {refused}");
    }
    assert!(!refused.contains("safe-and-unsafe") && !refused.contains("kernel.shmmax"), "{refused}");
    Ok(())
}
