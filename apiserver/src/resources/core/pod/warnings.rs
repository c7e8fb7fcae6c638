//! What the author of a pod should be told though it is no error.

use std::collections::BTreeMap;

use api::field::Path;
use k8s_openapi::api::core::v1::{Container, PodSpec};

use crate::resources::quantities::amount;

/// Labels of nodes that have newer names.
const RENAMED: &[(&str, &str, &str)] = &[
    ("beta.kubernetes.io/arch", "v1.14", "kubernetes.io/arch"),
    ("beta.kubernetes.io/os", "v1.14", "kubernetes.io/os"),
    ("beta.kubernetes.io/instance-type", "v1.17", "node.kubernetes.io/instance-type"),
    ("failure-domain.beta.kubernetes.io/region", "v1.17", "topology.kubernetes.io/region"),
    ("failure-domain.beta.kubernetes.io/zone", "v1.17", "topology.kubernetes.io/zone"),
];

/// The warnings about a pod's spec, in a Pod as in a template.
#[must_use]
pub fn of(spec: &PodSpec, path: &Path) -> Vec<String> {
    let mut out = Vec::new();
    for (label, since, instead) in RENAMED {
        if spec.node_selector.as_ref().is_some_and(|s| s.contains_key(*label)) {
            out.push(format!("{}: deprecated since {since}; use {instead:?} instead", path.child("nodeSelector").key(label)));
        }
    }
    if spec.termination_grace_period_seconds.is_some_and(|s| s < 0) {
        let at = path.child("terminationGracePeriodSeconds");
        out.push(format!("{at}: must be >= 0; negative values are invalid and will be treated as 1"));
    }
    let lists = [("initContainers", spec.init_containers.as_deref().unwrap_or_default()), ("containers", &spec.containers)];
    for (list, containers) in lists {
        for (i, container) in containers.iter().enumerate() {
            of_container(container, &path.child(list).index(i), &mut out);
        }
    }
    out
}

fn of_container(c: &Container, path: &Path, out: &mut Vec<String>) {
    let mut defined: BTreeMap<&str, usize> = BTreeMap::new();
    for (i, variable) in c.env.iter().flatten().enumerate() {
        if defined.insert(&variable.name, i).is_some() {
            let at = path.child("env").index(i);
            out.push(format!("{at}: hides previous definition of {:?}, which may be dropped when using apply", variable.name));
        }
    }
    let ports: Vec<_> = c.ports.iter().flatten().collect();
    for (i, port) in ports.iter().enumerate() {
        let same = |p: &&k8s_openapi::api::core::v1::ContainerPort| {
            (p.container_port, &p.protocol, p.host_port, &p.host_ip) == (port.container_port, &port.protocol, port.host_port, &port.host_ip)
        };
        if let Some(j) = ports[..i].iter().position(same) {
            let (here, there) = (path.child("ports").index(i), path.child("ports").index(j));
            out.push(format!("{here}: duplicate port definition with {there}"));
        }
    }
    for (field, list) in [
        ("limits", c.resources.as_ref().and_then(|r| r.limits.as_ref())),
        ("requests", c.resources.as_ref().and_then(|r| r.requests.as_ref())),
    ] {
        for (name, text) in list.into_iter().flatten().filter(|(n, _)| matches!(n.as_str(), "memory" | "ephemeral-storage")) {
            if amount(text).is_some_and(|q| !q.is_whole()) {
                let at = path.child("resources").child(field).key(name);
                out.push(format!("{at}: fractional byte value {:?} is invalid, must be an integer", text.0));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn what_people_get_wrong() {
        let spec = "{nodeSelector: {beta.kubernetes.io/os: linux}, terminationGracePeriodSeconds: -1, containers: [{name: c, env: [{name: A, value: '1'}, {name: A, value: '2'}],
          ports: [{containerPort: 1}, {containerPort: 1}], resources: {limits: {memory: 100m}}}]}";
        let spec = serde_json::from_value(crate::resources::rows_in_tests::yaml(spec)).unwrap();
        expect![[r#"
            spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use "kubernetes.io/os" instead
            spec.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1
            spec.containers[0].env[1]: hides previous definition of "A", which may be dropped when using apply
            spec.containers[0].ports[1]: duplicate port definition with spec.containers[0].ports[0]
            spec.containers[0].resources.limits[memory]: fractional byte value "100m" is invalid, must be an integer"#]]
        .assert_eq(&of(&spec, &Path::new("spec")).join("\n"));
    }
}
