//! What is wrong with a pod's containers.

use std::collections::BTreeSet;

use api::field::{Errors, Path};
use api::names;
use k8s_openapi::api::core::v1::{
    Container, ContainerPort, ContainerResizePolicy, EphemeralContainer, PodSpec, ResourceRequirements, SecurityContext, VolumeDevice,
    VolumeMount,
};

use super::{env, mounts, probes, security};
use crate::resources::bounds::{follows, one_of, required_one_of};
use crate::resources::network::{validate_ip, validate_port, validate_protocol};
use crate::resources::quantities;

/// What containers refer to in their pod.
pub(super) struct Surroundings<'a> {
    pub spec: &'a PodSpec,
    pub claims: Vec<&'a str>,
}

impl<'a> Surroundings<'a> {
    pub(super) fn of(spec: &'a PodSpec) -> Self {
        Self { spec, claims: spec.resource_claims.iter().flatten().map(|c| c.name.as_str()).collect() }
    }
}

/// What all kinds of containers have in common.
struct Common<'a> {
    name: &'a str,
    image: &'a str,
    pull_policy: &'a str,
    message_policy: &'a str,
    ports: &'a [ContainerPort],
    mounts: &'a [VolumeMount],
    devices: &'a [VolumeDevice],
    resources: Option<&'a ResourceRequirements>,
    security: Option<&'a SecurityContext>,
}

impl<'a> From<&'a Container> for Common<'a> {
    fn from(c: &'a Container) -> Self {
        Self {
            name: &c.name,
            image: c.image.as_deref().unwrap_or(""),
            pull_policy: c.image_pull_policy.as_deref().unwrap_or(""),
            message_policy: c.termination_message_policy.as_deref().unwrap_or(""),
            ports: c.ports.as_deref().unwrap_or_default(),
            mounts: c.volume_mounts.as_deref().unwrap_or_default(),
            devices: c.volume_devices.as_deref().unwrap_or_default(),
            resources: c.resources.as_ref(),
            security: c.security_context.as_ref(),
        }
    }
}

impl<'a> From<&'a EphemeralContainer> for Common<'a> {
    fn from(c: &'a EphemeralContainer) -> Self {
        Self {
            name: &c.name,
            image: c.image.as_deref().unwrap_or(""),
            pull_policy: c.image_pull_policy.as_deref().unwrap_or(""),
            message_policy: c.termination_message_policy.as_deref().unwrap_or(""),
            ports: c.ports.as_deref().unwrap_or_default(),
            mounts: c.volume_mounts.as_deref().unwrap_or_default(),
            devices: c.volume_devices.as_deref().unwrap_or_default(),
            resources: c.resources.as_ref(),
            security: c.security_context.as_ref(),
        }
    }
}

fn validate_common(c: &Common<'_>, around: &Surroundings<'_>, path: &Path, errors: &mut Errors) {
    if c.name.is_empty() {
        errors.required(&path.child("name"), "");
    } else {
        follows(c.name, names::dns1123_label, &path.child("name"), errors);
    }
    if c.image.is_empty() {
        errors.required(&path.child("image"), "");
    } else if c.image.trim() != c.image {
        errors.invalid(&path.child("image"), c.image, "must not have leading or trailing whitespace");
    }
    required_one_of(c.message_policy, &["FallbackToLogsOnError", "File"], &path.child("terminationMessagePolicy"), errors);
    validate_ports(c.ports, &path.child("ports"), errors);
    mounts::validate(c.mounts, c.devices, c.security, around.spec, path, errors);
    required_one_of(c.pull_policy, &["Always", "IfNotPresent", "Never"], &path.child("imagePullPolicy"), errors);
    if let Some(resources) = c.resources {
        quantities::validate_requirements(resources, &around.claims, &path.child("resources"), errors);
    }
    if let Some(context) = c.security {
        security::validate_container(context, around.spec, &path.child("securityContext"), errors);
    }
}

fn validate_ports(ports: &[ContainerPort], path: &Path, errors: &mut Errors) {
    for (i, port) in ports.iter().enumerate() {
        let path = path.index(i);
        if let Some(name) = port.name.as_ref().filter(|n| !n.is_empty()) {
            follows(name, names::port_name, &path.child("name"), errors);
            if ports[..i].iter().any(|p| p.name.as_ref() == Some(name)) {
                errors.duplicate(&path.child("name"), name);
            }
        }
        match port.container_port {
            0 => errors.required(&path.child("containerPort"), ""),
            n => validate_port(n, &path.child("containerPort"), errors),
        }
        if let Some(n) = port.host_port.filter(|p| *p != 0) {
            validate_port(n, &path.child("hostPort"), errors);
        }
        if let Some(ip) = port.host_ip.as_ref().filter(|ip| !ip.is_empty()) {
            validate_ip(ip, &path.child("hostIP"), errors);
        }
        validate_protocol(port.protocol.as_deref(), &path.child("protocol"), errors);
    }
}

fn validate_resize_policies(policies: &[ContainerResizePolicy], pod_restarts: &str, path: &Path, errors: &mut Errors) {
    for (i, policy) in policies.iter().enumerate() {
        let path = path.index(i);
        if policies[..i].iter().any(|p| p.resource_name == policy.resource_name) {
            errors.duplicate(&path, &policy.resource_name);
        }
        required_one_of(&policy.resource_name, &["cpu", "memory"], &path, errors);
        required_one_of(&policy.restart_policy, &["NotRequired", "RestartContainer"], &path, errors);
        if pod_restarts == "Never" && policy.restart_policy == "RestartContainer" {
            errors.invalid(&path, &policy.restart_policy, "must be 'NotRequired' when `restartPolicy` is 'Never'");
        }
    }
}

/// A container that is restarted for ever though it stands among the init containers.
pub(super) fn is_sidecar(c: &Container) -> bool {
    c.restart_policy.as_deref() == Some("Always")
}

/// A container's own restart policy, and the exit codes of which it thinks otherwise (KEP-5307).
fn validate_restarts(c: &Container, path: &Path, errors: &mut Errors) {
    const MOST_RULES: usize = 20;
    const MOST_CODES: usize = 255;
    if let Some(policy) = &c.restart_policy {
        one_of(policy, &["Always", "Never", "OnFailure"], &path.child("restartPolicy"), errors);
    }
    let rules = c.restart_policy_rules.as_deref().unwrap_or_default();
    if c.restart_policy.is_none() && !rules.is_empty() {
        errors.required(&path.child("restartPolicy"), "must specify restartPolicy when restart rules are used");
    }
    let path = path.child("restartPolicyRules");
    if rules.len() > MOST_RULES {
        errors.too_many(&path, rules.len(), MOST_RULES);
    }
    for (i, rule) in rules.iter().enumerate() {
        let path = path.index(i);
        one_of(&rule.action, &["Restart"], &path.child("action"), errors);
        let Some(codes) = &rule.exit_codes else {
            errors.required(&path.child("exitCodes"), "must be specified");
            continue;
        };
        let path = path.child("exitCodes");
        one_of(&codes.operator, &["In", "NotIn"], &path.child("operator"), errors);
        let count = codes.values.as_ref().map_or(0, Vec::len);
        if count > MOST_CODES {
            errors.too_many(&path.child("values"), count, MOST_CODES);
        }
    }
}

fn validate_running(c: &Container, around: &Surroundings<'_>, path: &Path, errors: &mut Errors) {
    let grace = around.spec.termination_grace_period_seconds.unwrap_or(0);
    if let Some(lifecycle) = &c.lifecycle {
        probes::validate_lifecycle(lifecycle, grace, around.spec, &path.child("lifecycle"), errors);
    }
    for (name, probe) in [("livenessProbe", &c.liveness_probe), ("readinessProbe", &c.readiness_probe), ("startupProbe", &c.startup_probe)]
    {
        if let Some(probe) = probe {
            probes::validate_probe(probe, name, &path.child(name), errors);
        }
    }
}

fn validate_one(c: &Container, around: &Surroundings<'_>, path: &Path, errors: &mut Errors) {
    validate_common(&Common::from(c), around, path, errors);
    env::validate(c.env.as_deref(), c.env_from.as_deref(), around.spec.volumes.as_deref().unwrap_or_default(), path, errors);
    let restarts = around.spec.restart_policy.as_deref().unwrap_or("");
    validate_resize_policies(c.resize_policy.as_deref().unwrap_or_default(), restarts, &path.child("resizePolicy"), errors);
}

pub(super) fn validate(spec: &PodSpec, path: &Path, errors: &mut Errors) {
    let around = Surroundings::of(spec);
    let containers = path.child("containers");
    if spec.containers.is_empty() {
        errors.required(&containers, "");
    }
    let mut names = BTreeSet::new();
    for (i, c) in spec.containers.iter().enumerate() {
        let path = containers.index(i);
        validate_one(c, &around, &path, errors);
        if !names.insert(&c.name) {
            errors.duplicate(&path.child("name"), &c.name);
        }
        validate_running(c, &around, &path, errors);
        validate_restarts(c, &path, errors);
    }
    for (i, c) in spec.init_containers.iter().flatten().enumerate() {
        let path = path.child("initContainers").index(i);
        validate_one(c, &around, &path, errors);
        if !names.insert(&c.name) {
            errors.duplicate(&path.child("name"), &c.name);
        }
        validate_init(c, &around, &path, errors);
    }
    validate_host_ports(spec, &containers, errors);
    for (i, c) in spec.ephemeral_containers.iter().flatten().enumerate() {
        let path = path.child("ephemeralContainers").index(i);
        validate_common(&Common::from(c), &around, &path, errors);
        env::validate(c.env.as_deref(), c.env_from.as_deref(), spec.volumes.as_deref().unwrap_or_default(), &path, errors);
        if !names.insert(&c.name) {
            errors.duplicate(&path.child("name"), &c.name);
        }
        validate_ephemeral(c, spec, &path, errors);
    }
}

fn validate_init(c: &Container, around: &Surroundings<'_>, path: &Path, errors: &mut Errors) {
    validate_restarts(c, path, errors);
    if is_sidecar(c) {
        if c.restart_policy_rules.as_ref().is_some_and(|rules| !rules.is_empty()) {
            errors.forbidden(&path.child("restartPolicyRules"), "not allowed for init containers with restart policy \"Always\"");
        }
        return validate_running(c, around, path, errors);
    }
    let set = [
        ("lifecycle", c.lifecycle.is_some()),
        ("livenessProbe", c.liveness_probe.is_some()),
        ("readinessProbe", c.readiness_probe.is_some()),
        ("startupProbe", c.startup_probe.is_some()),
    ];
    for (name, _) in set.iter().filter(|(_, set)| *set) {
        errors.forbidden(&path.child(name), "may not be set for init containers without restartPolicy=Always");
    }
}

/// A port of the node can be given to one container alone; in the node's network every port is the node's.
fn validate_host_ports(spec: &PodSpec, path: &Path, errors: &mut Errors) {
    let mut taken = BTreeSet::new();
    for (i, c) in spec.containers.iter().enumerate() {
        for (j, port) in c.ports.iter().flatten().enumerate() {
            let path = path.index(i).child("ports").index(j);
            let host = port.host_port.unwrap_or(0);
            // In a template the port may be left out: the pod will have it.
            if spec.host_network == Some(true) && host != 0 && host != port.container_port {
                errors.invalid(&path.child("hostPort"), host, "must match `containerPort` when `hostNetwork` is true");
            }
            let key = format!("{}/{}/{host}", port.protocol.as_deref().unwrap_or(""), port.host_ip.as_deref().unwrap_or(""));
            if host != 0 && !taken.insert(key.clone()) {
                errors.duplicate(&path.child("hostPort"), key);
            }
        }
    }
}

fn validate_ephemeral(c: &EphemeralContainer, spec: &PodSpec, path: &Path, errors: &mut Errors) {
    const NOT_HERE: &str = "cannot be set for an Ephemeral Container";
    if let Some(target) = c.target_container_name.as_ref().filter(|t| !t.is_empty()) {
        let known = spec.containers.iter().chain(spec.init_containers.iter().flatten()).any(|k| k.name == *target);
        if !known {
            errors.not_found(&path.child("targetContainerName"), target);
        }
    }
    let asks = |r: &ResourceRequirements| {
        r.limits.as_ref().is_some_and(|l| !l.is_empty()) || r.requests.as_ref().is_some_and(|l| !l.is_empty()) || r.claims.is_some()
    };
    let set = [
        ("lifecycle", c.lifecycle.is_some()),
        ("livenessProbe", c.liveness_probe.is_some()),
        ("ports", c.ports.as_ref().is_some_and(|p| !p.is_empty())),
        ("readinessProbe", c.readiness_probe.is_some()),
        ("resizePolicy", c.resize_policy.as_ref().is_some_and(|p| !p.is_empty())),
        ("resources", c.resources.as_ref().is_some_and(asks)),
        ("restartPolicy", c.restart_policy.is_some()),
        ("startupProbe", c.startup_probe.is_some()),
    ];
    for (name, _) in set.iter().filter(|(_, set)| *set) {
        errors.forbidden(&path.child(name), NOT_HERE);
    }
    for (i, mount) in c.volume_mounts.iter().flatten().enumerate() {
        let path = path.child("volumeMounts").index(i);
        for (name, value) in [("subPath", &mount.sub_path), ("subPathExpr", &mount.sub_path_expr)] {
            if value.as_ref().is_some_and(|v| !v.is_empty()) {
                errors.forbidden(&path.child(name), NOT_HERE);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::checks::check;
    use expect_test::expect;

    #[test]
    fn names_images_and_ports() {
        check("containers: []", expect!["spec.containers: Required value"]);
        check(
            "containers: [{name: A_, image: ' i'}, {name: c}, {name: c, image: i, imagePullPolicy: Often}]",
            expect![[r#"
            spec.containers[0].name: Invalid value: "A_": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
            spec.containers[0].image: Invalid value: " i": must not have leading or trailing whitespace
            spec.containers[1].image: Required value
            spec.containers[2].imagePullPolicy: Unsupported value: "Often": supported values: "Always", "IfNotPresent", "Never"
            spec.containers[2].name: Duplicate value: "c""#]],
        );
        check(
            "containers: [{name: c, image: i, ports: [{name: '123', containerPort: 0, protocol: ICMP}, {containerPort: 1, hostPort: 70000}]},
              {name: d, image: i, ports: [{containerPort: 1, hostPort: 80}, {containerPort: 2, hostPort: 80}]}]",
            expect![[r#"
                spec.containers[0].ports[0].name: Invalid value: "123": must contain at least one letter (a-z)
                spec.containers[0].ports[0].containerPort: Required value
                spec.containers[0].ports[0].protocol: Unsupported value: "ICMP": supported values: "SCTP", "TCP", "UDP"
                spec.containers[0].ports[1].hostPort: Invalid value: 70000: must be between 1 and 65535, inclusive
                spec.containers[1].ports[1].hostPort: Duplicate value: "TCP//80""#]],
        );
    }

    #[test]
    fn restart_rules() {
        let rule = "{action: Restart, exitCodes: {operator: In, values: [42]}}";
        check(&format!("containers: [{{name: c, image: i, restartPolicy: Never, restartPolicyRules: [{rule}]}}]"), expect![[""]]);
        check(
            &format!(
                "containers: [{{name: c, image: i, restartPolicyRules: [{rule}, {{action: Stop}}, {{action: Restart, exitCodes: {{operator: Like}}}}]}}],
                 initContainers: [{{name: s, image: i, restartPolicy: Always, restartPolicyRules: [{rule}]}}]"
            ),
            expect![[r#"
                spec.containers[0].restartPolicy: Required value: must specify restartPolicy when restart rules are used
                spec.containers[0].restartPolicyRules[1].action: Unsupported value: "Stop": supported values: "Restart"
                spec.containers[0].restartPolicyRules[1].exitCodes: Required value: must be specified
                spec.containers[0].restartPolicyRules[2].exitCodes.operator: Unsupported value: "Like": supported values: "In", "NotIn"
                spec.initContainers[0].restartPolicyRules: Forbidden: not allowed for init containers with restart policy "Always""#]],
        );
    }

    #[test]
    fn init_containers() {
        check(
            "containers: [{name: c, image: i}], initContainers: [{name: c, image: i, readinessProbe: {exec: {command: [a]}}},
              {name: s, image: i, restartPolicy: Always, readinessProbe: {exec: {command: [a]}}}]",
            expect![[r#"
                spec.initContainers[0].name: Duplicate value: "c"
                spec.initContainers[0].readinessProbe: Forbidden: may not be set for init containers without restartPolicy=Always"#]],
        );
    }
}
