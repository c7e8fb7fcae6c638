//! What may change in a pod: little of its spec, its status by the kubelet, its ephemeral containers through their subresource.

use api::field::{Errors, Path};
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, Toleration};
use serde_json::Value;

use super::spec;
use crate::resources::equality::same;

const UPDATABLE: &str = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

/// Checks a change of a whole pod.
pub(super) fn validate(new: &Pod, old: &Pod, errors: &mut Errors) {
    let (Some(new), Some(old)) = (&new.spec, &old.spec) else { return };
    let path = Path::new("spec");
    let counted = validate_count(&new.containers, &old.containers, &path.child("containers"), errors);
    let (new_init, old_init) = (new.init_containers.as_deref().unwrap_or_default(), old.init_containers.as_deref().unwrap_or_default());
    if !validate_count(new_init, old_init, &path.child("initContainers"), errors) || !counted {
        return;
    }
    validate_deadline_update(new, old, &path, errors);
    validate_tolerations(new, old, &path.child("tolerations"), errors);
    let gates = |s: &PodSpec| s.scheduling_gates.iter().flatten().map(|g| g.name.clone()).collect::<Vec<_>>();
    let (new_gates, old_gates) = (gates(new), gates(old));
    for (i, gate) in new_gates.iter().enumerate().filter(|(_, g)| !old_gates.contains(g)) {
        let why = format!("only deletion is allowed, but found new scheduling gate '{gate}'");
        errors.forbidden(&path.child("schedulingGates").index(i).child("name"), &why);
    }
    // What is left once that which may change is taken back must be what was there.
    let mut rest = new.clone();
    for (c, before) in rest.containers.iter_mut().zip(&old.containers) {
        c.image.clone_from(&before.image);
    }
    for (c, before) in rest.init_containers.iter_mut().flatten().zip(old_init) {
        c.image.clone_from(&before.image);
    }
    rest.active_deadline_seconds = old.active_deadline_seconds;
    rest.tolerations.clone_from(&old.tolerations);
    rest.scheduling_gates.clone_from(&old.scheduling_gates);
    if old.termination_grace_period_seconds.is_some_and(|s| s < 0) && new.termination_grace_period_seconds == Some(1) {
        rest.termination_grace_period_seconds = old.termination_grace_period_seconds;
    }
    if !old_gates.is_empty() {
        take_back_gated(&mut rest, old, &path, errors);
    }
    if !same(&rest, old) {
        errors.forbidden(&path, &format!("{UPDATABLE}\n{}", differences(&rest, old)));
    }
}

/// While something holds a pod back from the scheduler, where it may run can be narrowed.
fn take_back_gated(rest: &mut PodSpec, old: &PodSpec, path: &Path, errors: &mut Errors) {
    let kept = |key: &String, value: &String| rest.node_selector.as_ref().and_then(|s| s.get(key)) == Some(value);
    if old.node_selector.iter().flatten().all(|(k, v)| kept(k, v)) {
        rest.node_selector.clone_from(&old.node_selector);
    } else {
        let shown = serde_json::json!(rest.node_selector);
        errors.invalid(&path.child("nodeSelector"), &shown, "only additions are allowed (no modifications or deletions)");
        rest.node_selector.clone_from(&old.node_selector);
    }
    let had_none = old.affinity.as_ref().is_none_or(|a| a.node_affinity.is_none());
    if let (true, Some(affinity)) = (had_none, &mut rest.affinity) {
        affinity.node_affinity = None;
        if affinity.pod_affinity.is_none() && affinity.pod_anti_affinity.is_none() {
            rest.affinity.clone_from(&old.affinity);
        }
    }
}

fn validate_count(new: &[Container], old: &[Container], path: &Path, errors: &mut Errors) -> bool {
    if new.len() != old.len() {
        errors.forbidden(path, "pod updates may not add or remove containers");
    }
    new.len() == old.len()
}

fn validate_deadline_update(new: &PodSpec, old: &PodSpec, path: &Path, errors: &mut Errors) {
    let at = path.child("activeDeadlineSeconds");
    match (new.active_deadline_seconds, old.active_deadline_seconds) {
        (Some(new), Some(old)) if new > old => errors.invalid(&at, new, "must be less than or equal to previous value"),
        (Some(new), _) => spec::validate_deadline(new, path, errors),
        (None, Some(_)) => errors.invalid(&at, &Value::Null, "must not update from a positive integer to nil value"),
        (None, None) => {}
    }
}

fn validate_tolerations(new: &PodSpec, old: &PodSpec, path: &Path, errors: &mut Errors) {
    let without_time = |t: &Toleration| Toleration { toleration_seconds: None, ..t.clone() };
    let now: Vec<Toleration> = new.tolerations.iter().flatten().map(without_time).collect();
    if old.tolerations.iter().flatten().any(|t| !now.contains(&without_time(t))) {
        errors.forbidden(path, "existing toleration can not be modified except its tolerationSeconds");
    }
}

/// The places where two specs differ, as people find them in the object.
fn differences(new: &PodSpec, old: &PodSpec) -> String {
    fn walk(path: &str, new: &Value, old: &Value, out: &mut Vec<String>) {
        match (new, old) {
            (Value::Object(n), Value::Object(o)) => {
                let mut keys: Vec<&String> = n.keys().chain(o.keys()).collect();
                keys.sort();
                keys.dedup();
                for key in keys {
                    let null = Value::Null;
                    walk(&format!("{path}.{key}"), n.get(key).unwrap_or(&null), o.get(key).unwrap_or(&null), out);
                }
            }
            (Value::Array(n), Value::Array(o)) if n.len() == o.len() => {
                for (i, (n, o)) in n.iter().zip(o).enumerate() {
                    walk(&format!("{path}[{i}]"), n, o, out);
                }
            }
            (n, o) if n != o => out.push(format!("  {path}:\n- \t{o}\n+ \t{n}")),
            _ => {}
        }
    }
    let mut out = Vec::new();
    let tree = |s: &PodSpec| serde_json::to_value(s).unwrap_or_default();
    walk("spec", &tree(new), &tree(old), &mut out);
    out.join("\n")
}

/// Whether a container of a pod with this policy may run again after it ended: by its own rules, by its own policy, by its pod's (KEP-5307).
fn restarts(policy: &str, container: Option<&Container>, exit_code: i32) -> bool {
    let rules = container.iter().flat_map(|c| c.restart_policy_rules.iter().flatten());
    let mut matching = rules.filter(|rule| {
        let codes = rule.exit_codes.as_ref();
        codes.is_some_and(|codes| codes.values.iter().flatten().any(|c| *c == exit_code) != (codes.operator == "NotIn"))
    });
    if let Some(rule) = matching.next() {
        return rule.action == "Restart";
    }
    match container.and_then(|c| c.restart_policy.as_deref()).unwrap_or(policy) {
        "Always" => true,
        "OnFailure" => exit_code != 0,
        _ => false,
    }
}

/// Checks a change of a pod's status.
pub(super) fn validate_status(new: &Pod, old: &Pod, errors: &mut Errors) {
    let (Some(new_status), Some(old_status)) = (&new.status, &old.status) else { return };
    let path = Path::new("status");
    if old_status.qos_class.is_some() {
        errors.immutable(&path.child("qosClass"), &new_status.qos_class, &old_status.qos_class);
    }
    let policy = old.spec.as_ref().and_then(|s| s.restart_policy.as_deref()).unwrap_or("Always");
    let own = old.spec.iter().flat_map(|s| &s.containers).any(|c| c.restart_policy.is_some());
    if policy != "Always" || own {
        let now = new_status.container_statuses.as_deref().unwrap_or_default();
        for before in old_status.container_statuses.iter().flatten() {
            let Some(ended) = before.state.as_ref().and_then(|s| s.terminated.as_ref()) else { continue };
            let container = old.spec.iter().flat_map(|s| &s.containers).find(|c| c.name == before.name);
            if restarts(policy, container, ended.exit_code) {
                continue;
            }
            let revived = |s: &k8s_openapi::api::core::v1::ContainerStatus| {
                s.name == before.name && s.state.as_ref().is_none_or(|state| state.terminated.is_none())
            };
            if let Some(i) = now.iter().position(revived) {
                errors
                    .forbidden(&path.child("containerStatuses").index(i).child("state"), "may not be transitioned to non-terminated state");
            }
        }
    }
    for (i, ip) in new_status.pod_ips.iter().flatten().enumerate() {
        crate::resources::network::validate_ip(&ip.ip, &path.child("podIPs").index(i), errors);
    }
}

/// Checks a change of a pod's ephemeral containers: they only ever come.
pub(super) fn validate_ephemeral(new: &Pod, old: &Pod, errors: &mut Errors) {
    let (Some(new), Some(old)) = (&new.spec, &old.spec) else { return };
    let path = Path::new("spec").child("ephemeralContainers");
    let now = new.ephemeral_containers.as_deref().unwrap_or_default();
    for before in old.ephemeral_containers.iter().flatten() {
        match now.iter().position(|c| c.name == before.name) {
            None => errors.forbidden(&path, &format!("existing ephemeral containers {:?} may not be removed\n", before.name)),
            Some(i) if !same(&now[i], before) => {
                errors.forbidden(&path.index(i), &format!("existing ephemeral containers {:?} may not be changed\n", before.name));
            }
            Some(_) => {}
        }
    }
    spec::validate(new, &Path::new("spec"), errors);
}

#[cfg(test)]
mod tests {
    use super::super::row;
    use crate::resources::rows_in_tests::{part_errors, update_errors};
    use expect_test::{Expect, expect};

    fn pod(spec: &str) -> String {
        format!("{{metadata: {{name: a, namespace: x}}, spec: {{{spec}}}}}")
    }

    #[track_caller]
    fn check(old: &str, new: &str, expected: Expect) {
        expected.assert_eq(&update_errors(row(), &pod(old), &pod(new)));
    }

    const ONE: &str = "containers: [{name: c, image: i}]";

    #[test]
    fn what_ended_runs_again_only_by_its_rules() {
        let pod = |policy: &str, container: &str, state: &str| {
            format!(
                "{{metadata: {{name: a, namespace: x}}, spec: {{restartPolicy: {policy}, containers: [{{name: c, image: i{container}}}]}},
                  status: {{containerStatuses: [{{name: c, state: {{{state}}}}}]}}}}"
            )
        };
        let revived = |policy: &str, container: &str, code: i32| {
            let ended = pod(policy, container, &format!("terminated: {{exitCode: {code}}}"));
            part_errors(row(), "status", &ended, &pod(policy, container, "running: {}"))
        };
        let rules = ", restartPolicy: Never, restartPolicyRules: [{action: Restart, exitCodes: {operator: In, values: [42]}}]";
        let no = "status.containerStatuses[0].state: Forbidden: may not be transitioned to non-terminated state";
        for (policy, container, code, expected) in [
            ("Never", "", 1, no),
            ("OnFailure", "", 1, ""),
            ("OnFailure", "", 0, no),
            ("Always", "", 0, ""),
            ("Never", rules, 42, ""),
            ("Never", rules, 1, no),
            ("Always", rules, 1, no),
            ("Never", ", restartPolicy: OnFailure", 1, ""),
        ] {
            assert_eq!(revived(policy, container, code), expected, "{policy}{container} {code}");
        }
    }

    #[test]
    fn little_may_change() {
        check(ONE, "containers: [{name: c, image: j}], activeDeadlineSeconds: 5, tolerations: [{key: a, operator: Exists}]", expect![[""]]);
        check(
            ONE,
            "containers: [{name: c, image: i}, {name: d, image: i}]",
            expect!["spec.containers: Forbidden: pod updates may not add or remove containers"],
        );
        check(
            ONE,
            "containers: [{name: d, image: i}], nodeName: x",
            expect![[r#"
            spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)
              spec.containers[0].name:
            - 	"c"
            + 	"d"
              spec.nodeName:
            - 	null
            + 	"x""#]],
        );
        check(
            &format!("{ONE}, activeDeadlineSeconds: 5, tolerations: [{{key: a, operator: Exists}}]"),
            &format!("{ONE}, activeDeadlineSeconds: 6"),
            expect![[r#"
                spec.activeDeadlineSeconds: Invalid value: 6: must be less than or equal to previous value
                spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds"#]],
        );
        check(
            &format!("{ONE}, schedulingGates: [{{name: g}}]"),
            &format!("{ONE}, schedulingGates: [{{name: h}}], nodeSelector: {{a: b}}"),
            expect!["spec.schedulingGates[0].name: Forbidden: only deletion is allowed, but found new scheduling gate 'h'"],
        );
    }

    #[test]
    fn parts() {
        let debug = |c: &str| pod(&format!("{ONE}, ephemeralContainers: [{c}]"));
        expect![[r#"
            spec.ephemeralContainers: Forbidden: existing ephemeral containers "d" may not be removed

            spec.ephemeralContainers[0].ports: Forbidden: cannot be set for an Ephemeral Container"#]]
        .assert_eq(&part_errors(
            row(),
            "ephemeralcontainers",
            &debug("{name: d, image: i}"),
            &debug("{name: e, image: i, ports: [{containerPort: 1}]}"),
        ));
        let ended = |state: &str| {
            format!(
                "{{metadata: {{name: a}}, spec: {{{ONE}, restartPolicy: Never}}, status: {{containerStatuses: [{{name: c, state: {{{state}}}}}]}}}}"
            )
        };
        expect!["status.containerStatuses[0].state: Forbidden: may not be transitioned to non-terminated state"].assert_eq(&part_errors(
            row(),
            "status",
            &ended("terminated: {exitCode: 1}"),
            &ended("running: {}"),
        ));
    }
}
