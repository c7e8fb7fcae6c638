//! Pods of a namespace are as safe as its labels ask for (Pod Security Standards): enforced, warned about, or noted for audit.

mod baseline;
mod restricted;

use api::field::{Errors, Path};
use api::object::{Meta as _, ObjectKey};
use api::status::Status;
use serde_json::Value;

use super::{Attributes, Notes, Operation, Step, View};
use crate::resources::cells::{items, text};

const PREFIX: &str = "pod-security.kubernetes.io/";
const LEVELS: &[&str] = &["privileged", "baseline", "restricted"];

/// Upstream's `PodSecurity`.
pub struct PodSecurity;

impl Step for PodSecurity {
    fn name(&self) -> &'static str {
        "PodSecurity"
    }

    fn validate(&self, at: &Attributes<'_>, obj: &Value, view: &dyn View, notes: &mut Notes) -> Result<(), Status> {
        if at.is("", "namespaces") && matches!(at.operation, Operation::Create | Operation::Update) {
            return validate_labels(obj);
        }
        let is_pod = at.row.group.is_empty() && at.row.plural == "pods";
        // Nothing that a plain update of a pod may change matters here.
        let looks = match (at.operation, at.subresource) {
            (Operation::Create, "") => true,
            (Operation::Update, "") => !is_pod,
            (Operation::Update, "ephemeralcontainers") => is_pod,
            _ => false,
        };
        let Some(pod) = pod_in(at, obj).filter(|_| looks) else { return Ok(()) };
        let Some(namespace) = view.get("", "namespaces", &ObjectKey::cluster(at.namespace)) else { return Ok(()) };
        let labels = namespace.labels();
        let said = |mode: &str| {
            let level = labels.get(&format!("{PREFIX}{mode}")).map_or("privileged", String::as_str);
            let version = labels.get(&format!("{PREFIX}{mode}-version")).map_or("latest", String::as_str);
            let wrong = violations(level, pod);
            (!wrong.is_empty()).then(|| format!("violate PodSecurity \"{level}:{version}\": {}", wrong.join(", ")))
        };
        if is_pod && let Some(wrong) = said("enforce") {
            return Err(at.forbidden(&wrong.replacen("violate", "violates", 1)));
        }
        if let Some(wrong) = said("audit") {
            notes.audit.insert("pod-security.kubernetes.io/audit-violations".to_owned(), format!("would {wrong}"));
        }
        notes.warnings.extend(said("warn").map(|wrong| format!("would {wrong}")));
        Ok(())
    }
}

/// The pod, or the template, whose safety is looked at.
fn pod_in<'a>(at: &Attributes<'_>, obj: &'a Value) -> Option<&'a Value> {
    match (at.row.group.as_ref(), at.row.plural.as_ref()) {
        ("", "pods") => Some(obj),
        ("", "podtemplates") => obj.get("template"),
        ("", "replicationcontrollers") | ("apps", "deployments" | "replicasets" | "statefulsets" | "daemonsets") | ("batch", "jobs") => {
            obj.pointer("/spec/template")
        }
        ("batch", "cronjobs") => obj.pointer("/spec/jobTemplate/spec/template"),
        _ => None,
    }
}

fn validate_labels(namespace: &Value) -> Result<(), Status> {
    let mut errors = Errors::new();
    let path = Path::new("metadata").child("labels");
    for mode in ["enforce", "audit", "warn"] {
        let labels = namespace.labels();
        let (level, version) = (format!("{PREFIX}{mode}"), format!("{PREFIX}{mode}-version"));
        if let Some(value) = labels.get(&level).filter(|l| !LEVELS.contains(&l.as_str())) {
            errors.invalid(&path.key(&level), value, &format!("must be one of {}", LEVELS.join(", ")));
        }
        if let Some(value) = labels.get(&version).filter(|v| !is_version(v)) {
            errors.invalid(&path.key(&version), value, "must be \"latest\" or \"v1.x\"");
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(Status::invalid("", "Namespace", namespace.name(), &errors)) }
}

fn is_version(text: &str) -> bool {
    text == "latest" || text.strip_prefix("v1.").is_some_and(|minor| minor.parse::<u16>().is_ok())
}

/// What of a pod a level forbids, in upstream's order and words.
fn violations(level: &str, pod: &Value) -> Vec<String> {
    let pod = Pod::of(pod);
    match level {
        "baseline" => baseline::ALL.iter().filter_map(|check| check(&pod)).collect(),
        "restricted" => baseline::KEPT.iter().chain(restricted::ALL).filter_map(|check| check(&pod)).collect(),
        _ => vec![],
    }
}

/// One rule: what it is called, and who breaks it.
type Check = fn(&Pod<'_>) -> Option<String>;

/// A pod with its containers of all kinds.
struct Pod<'a> {
    spec: &'a Value,
    containers: Vec<&'a Value>,
}

impl<'a> Pod<'a> {
    fn of(pod: &'a Value) -> Self {
        let spec = &pod["spec"];
        let lists = ["/initContainers", "/containers", "/ephemeralContainers"];
        Self { spec, containers: lists.iter().flat_map(|list| items(spec, list)).collect() }
    }

    /// The names of the containers for which `wrong` holds, quoted.
    fn containers(&self, wrong: impl Fn(&Value) -> bool) -> Vec<String> {
        self.containers.iter().filter(|c| wrong(c)).map(|c| format!("{:?}", text(c, "/name"))).collect()
    }
}

/// `container "a"` or `containers "a", "b"`.
fn named(what: &str, names: &[String]) -> String {
    format!("{what}{} {}", if names.len() == 1 { "" } else { "s" }, names.join(", "))
}

/// A violation whose detail is about some containers.
fn of_containers(reason: &str, names: &[String], detail: &str) -> Option<String> {
    (!names.is_empty()).then(|| format!("{reason} ({} {detail})", named("container", names)))
}

#[cfg(test)]
mod tests {
    use super::super::world_in_tests::{Request, World, run, verdict};
    use super::PodSecurity;
    use crate::resources::apps::deployments;
    use crate::resources::core::{namespaces, pod};
    use expect_test::{Expect, expect};

    fn world() -> World {
        let namespace = |level: &str| {
            format!(
                "{{metadata: {{name: {level}, labels: {{pod-security.kubernetes.io/enforce: {level}, pod-security.kubernetes.io/warn: {level}}}}}}}"
            )
        };
        World::of(&[
            ("", "namespaces", &namespace("baseline")),
            ("", "namespaces", &namespace("restricted")),
            ("", "namespaces", "{metadata: {name: free}}"),
        ])
    }

    #[track_caller]
    fn check(level: &str, spec: &str, expected: Expect) {
        let pod = format!("{{metadata: {{name: a, namespace: {level}}}, spec: {{{spec}}}}}");
        expected.assert_eq(&verdict(&PodSecurity, &world(), &Request::create(pod::row(), &pod)));
    }

    #[test]
    fn levels() {
        check("free", "hostNetwork: true, containers: [{name: c}]", expect!["ok"]);
        check("baseline", "containers: [{name: c}]", expect!["ok"]);
        check(
            "baseline",
            "hostNetwork: true, hostPID: true, volumes: [{name: v, hostPath: {path: /}}], securityContext: {sysctls: [{name: kernel.x}], seccompProfile: {type: Unconfined}},
             containers: [{name: c, ports: [{hostPort: 80}], securityContext: {privileged: true, procMount: Unmasked, capabilities: {add: [NET_ADMIN, CHOWN]}, seLinuxOptions: {user: u}}},
               {name: d, securityContext: {privileged: true}}]",
            expect![[r#"pods "a" is forbidden: violates PodSecurity "baseline:latest": non-default capabilities (container "c" must not include "NET_ADMIN" in securityContext.capabilities.add), host namespaces (hostNetwork=true, hostPID=true), hostPath volumes (volume "v"), hostPort (container "c" uses hostPort 80), privileged (containers "c", "d" must not set securityContext.privileged=true), procMount (container "c" must not set securityContext.procMount to "Unmasked"), seLinuxOptions (container "c" set forbidden securityContext.seLinuxOptions: user may not be set), seccompProfile (pod must not set securityContext.seccompProfile.type to "Unconfined"), forbidden sysctls (kernel.x)"#]],
        );
        check(
            "restricted",
            "containers: [{name: c}]",
            expect![[
                r#"pods "a" is forbidden: violates PodSecurity "restricted:latest": allowPrivilegeEscalation != false (container "c" must set securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (container "c" must set securityContext.capabilities.drop=["ALL"]), runAsNonRoot != true (pod or container "c" must set securityContext.runAsNonRoot=true), seccompProfile (pod or container "c" must set securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost")"#
            ]],
        );
        check(
            "restricted",
            "securityContext: {runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}}, volumes: [{name: v, nfs: {}}],
             containers: [{name: c, securityContext: {runAsUser: 0, allowPrivilegeEscalation: false, capabilities: {drop: [ALL], add: [NET_BIND_SERVICE]}}}]",
            expect![[r#"pods "a" is forbidden: violates PodSecurity "restricted:latest": restricted volume types (volume "v" uses restricted volume type "nfs"), runAsUser=0 (container "c" must not set runAsUser=0)"#]],
        );
    }

    #[test]
    fn templates_are_warned_about() {
        let deployment =
            "{metadata: {name: a, namespace: baseline}, spec: {template: {spec: {hostNetwork: true, containers: [{name: c}]}}}}";
        let (_, notes) = run(&PodSecurity, &world(), &Request::create(deployments::row(), deployment)).unwrap();
        assert_eq!(notes.warnings, ["would violate PodSecurity \"baseline:latest\": host namespaces (hostNetwork=true)"]);
    }

    #[test]
    fn labels_are_checked() {
        let namespace = "{metadata: {name: a, labels: {pod-security.kubernetes.io/enforce: strict}}}";
        expect![[r#"Namespace "a" is invalid: metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: "strict": must be one of privileged, baseline, restricted"#]]
            .assert_eq(&verdict(&PodSecurity, &world(), &Request::create(namespaces::row(), namespace)));
    }
}
