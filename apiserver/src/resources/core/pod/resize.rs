//! What a resize may change (KEP-1287): amounts of CPU and memory of containers and sidecars, within the class of service.

use std::collections::BTreeMap;

use api::field::{Errors, Path};
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;

use super::containers::is_sidecar;
use super::{MIRROR, qos, spec};
use crate::resources::equality::same;

const RESIZABLE: [&str; 2] = ["cpu", "memory"];

/// Puts everything back that a resize does not speak of. Containers that were added, removed, renamed or put into another order stay,
/// for validation to find.
pub(super) fn prepare(new: &mut Pod, old: &Pod) {
    new.status.clone_from(&old.status);
    let (Some(asked), Some(old)) = (new.spec.take(), &old.spec) else { return };
    let containers = merged(&asked.containers, &old.containers);
    let init = merged(asked.init_containers.as_deref().unwrap_or_default(), old.init_containers.as_deref().unwrap_or_default());
    new.spec = match (containers, init) {
        (Some(containers), Some(init)) => {
            let init_containers = old.init_containers.as_ref().map(|_| init);
            Some(PodSpec { containers, init_containers, ..old.clone() })
        }
        _ => Some(asked),
    };
}

/// The old containers with the new resources and policies; nothing when they are not the same containers.
fn merged(new: &[Container], old: &[Container]) -> Option<Vec<Container>> {
    let same_names = new.len() == old.len() && new.iter().zip(old).all(|(n, o)| n.name == o.name);
    same_names.then(|| {
        let with = |(new, old): (&Container, &Container)| Container {
            resources: new.resources.clone(),
            resize_policy: new.resize_policy.clone(),
            ..old.clone()
        };
        new.iter().zip(old).map(with).collect()
    })
}

/// Checks a resize.
pub(super) fn validate(new: &Pod, old: &Pod, errors: &mut Errors) {
    let (Some(new_spec), Some(old_spec)) = (&new.spec, &old.spec) else { return };
    if [old_spec, new_spec].into_iter().any(has_resources_of_its_own) {
        return errors.forbidden(&Path::root(), "pods with pod-level resources cannot be resized");
    }
    if old.metadata.annotations.as_ref().is_some_and(|a| a.contains_key(MIRROR)) {
        return errors.forbidden(&Path::root(), "static pods cannot be resized");
    }
    if old_spec.os.as_ref().is_some_and(|os| os.name == "windows") {
        return errors.forbidden(&Path::root(), "windows pods cannot be resized");
    }
    let path = Path::new("spec");
    spec::validate(new_spec, &path, errors);
    let class = old.status.as_ref().and_then(|s| s.qos_class.as_deref()).unwrap_or_else(|| qos::class(old_spec));
    if qos::class(new_spec) != class {
        errors.invalid(&path, class, "Pod QOS Class may not change as a result of resizing");
    }
    if !is_supported(old) {
        errors.forbidden(&path, "Pod running on node without support for resize");
    }
    let (new_init, old_init) =
        (new_spec.init_containers.as_deref().unwrap_or_default(), old_spec.init_containers.as_deref().unwrap_or_default());
    // What follows pairs containers by their places.
    let ordered = validate_order("containers", &new_spec.containers, &old_spec.containers, &path, errors);
    if !validate_order("initContainers", new_init, old_init, &path, errors) || !ordered {
        return;
    }
    for (i, (now, before)) in new_init.iter().zip(old_init).enumerate().filter(|(_, (_, before))| is_sidecar(before)) {
        validate_removal(now, before, &path.child("initContainers").index(i).child("resources"), errors);
    }
    for (i, (now, before)) in new_spec.containers.iter().zip(&old_spec.containers).enumerate() {
        validate_removal(now, before, &path.child("containers").index(i).child("resources"), errors);
    }
    for (now, before) in new_spec.containers.iter().zip(&old_spec.containers) {
        if !same(&with_amounts_of(now, before), before) {
            errors.forbidden(&path, "only cpu and memory resources are mutable");
        }
    }
    for (now, before) in new_init.iter().zip(old_init) {
        if is_sidecar(before) {
            if !same(&with_amounts_of(now, before), before) {
                errors.forbidden(&path, "only cpu and memory resources for sidecar containers are mutable");
            }
        } else if !same(now, before) {
            errors.forbidden(&path, "resources for non-sidecar init containers are immutable");
        }
    }
}

fn has_resources_of_its_own(spec: &PodSpec) -> bool {
    let some = |list: &Option<BTreeMap<String, Text>>| list.as_ref().is_some_and(|l| !l.is_empty());
    spec.resources.as_ref().is_some_and(|r| some(&r.requests) || some(&r.limits))
}

/// Whether the pod's kubelet says what running containers have: an old one neither says nor resizes.
fn is_supported(pod: &Pod) -> bool {
    let statuses = pod.status.as_ref().and_then(|s| s.container_statuses.as_ref()).into_iter().flatten();
    let mut running = statuses.filter(|s| s.state.as_ref().is_some_and(|s| s.running.is_some()));
    running.next().is_none_or(|s| s.resources.is_some())
}

fn validate_order(list: &str, new: &[Container], old: &[Container], path: &Path, errors: &mut Errors) -> bool {
    if new.len() != old.len() {
        errors.forbidden(path, &format!("{list} may not be added or removed on resize"));
        return false;
    }
    let moved = new.iter().zip(old).enumerate().filter(|(_, (new, old))| new.name != old.name);
    let places: Vec<usize> = moved.map(|(i, _)| i).collect();
    for i in &places {
        errors.forbidden(&path.child(list).index(*i).child("name"), &format!("{list} may not be renamed or reordered on resize"));
    }
    places.is_empty()
}

fn validate_removal(now: &Container, before: &Container, path: &Path, errors: &mut Errors) {
    let lists =
        |c: &Container| c.resources.clone().map(|r| (r.requests.unwrap_or_default(), r.limits.unwrap_or_default())).unwrap_or_default();
    let ((requests, limits), (old_requests, old_limits)) = (lists(now), lists(before));
    if old_requests.keys().any(|name| !requests.contains_key(name)) {
        errors.forbidden(&path.child("requests"), "resource requests cannot be removed");
    }
    if old_limits.keys().any(|name| !limits.contains_key(name)) {
        errors.forbidden(&path.child("limits"), "resource limits cannot be removed");
    }
}

/// A container with the amounts of CPU and memory that another has.
fn with_amounts_of(container: &Container, other: &Container) -> Container {
    let (now, before) = (container.resources.clone().unwrap_or_default(), other.resources.clone().unwrap_or_default());
    let taken = |now: Option<BTreeMap<String, Text>>, before: Option<BTreeMap<String, Text>>| {
        let (mut list, before) = (now.unwrap_or_default(), before.unwrap_or_default());
        for name in RESIZABLE {
            match before.get(name) {
                Some(amount) => drop(list.insert(name.to_owned(), amount.clone())),
                None => drop(list.remove(name)),
            }
        }
        Some(list)
    };
    let (limits, requests) = (taken(now.limits, before.limits), taken(now.requests, before.requests));
    Container { resources: Some(ResourceRequirements { limits, requests, claims: now.claims }), ..container.clone() }
}

#[cfg(test)]
mod tests {
    use super::super::row;
    use crate::resources::rows_in_tests::{part_errors, updated_part};
    use expect_test::{Expect, expect};

    fn pod(spec: &str) -> String {
        format!("{{metadata: {{name: a, namespace: x}}, spec: {{{spec}}}}}")
    }

    #[track_caller]
    fn check(old: &str, new: &str, expected: Expect) {
        expected.assert_eq(&part_errors(row(), "resize", &pod(old), &pod(new)));
    }

    fn one(resources: &str) -> String {
        format!("containers: [{{name: c, image: i, resources: {{{resources}}}}}]")
    }

    const GUARANTEED: &str = "requests: {cpu: 20m, memory: 35Mi}, limits: {cpu: 20m, memory: 35Mi}";

    #[test]
    fn amounts_go_up_and_down() {
        check(&one(GUARANTEED), &one("requests: {cpu: 25m, memory: 30Mi}, limits: {cpu: 25m, memory: 30Mi}"), expect![""]);
        check(&one("requests: {cpu: 20m}"), &one("requests: {cpu: 15m, memory: 1Mi}, limits: {cpu: 30m}"), expect![""]);
    }

    #[test]
    fn the_class_of_service_stays() {
        check(
            "containers: [{name: c, image: i}]",
            &one("requests: {memory: 1Mi}"),
            expect![[r#"spec: Invalid value: "BestEffort": Pod QOS Class may not change as a result of resizing"#]],
        );
        check(
            &one("requests: {cpu: 1, memory: 1Mi}, limits: {cpu: 2, memory: 2Mi}"),
            &one("requests: {cpu: 2, memory: 2Mi}, limits: {cpu: 2, memory: 2Mi}"),
            expect![[r#"spec: Invalid value: "Burstable": Pod QOS Class may not change as a result of resizing"#]],
        );
    }

    #[test]
    fn nothing_is_removed() {
        check(
            &one("requests: {cpu: 1, memory: 1Mi}, limits: {cpu: 2, memory: 2Mi}"),
            &one("requests: {cpu: 2}"),
            expect![[r#"
                spec.containers[0].resources.requests: Forbidden: resource requests cannot be removed
                spec.containers[0].resources.limits: Forbidden: resource limits cannot be removed"#]],
        );
    }

    #[test]
    fn other_resources_policies_and_init_containers_stay() {
        check(
            &one("requests: {cpu: 1, ephemeral-storage: 1}"),
            &one("requests: {cpu: 1, ephemeral-storage: 3}"),
            expect!["spec: Forbidden: only cpu and memory resources are mutable"],
        );
        check(
            &one("requests: {cpu: 1}"),
            "containers: [{name: c, image: i, resources: {requests: {cpu: 1}}, resizePolicy: [{resourceName: cpu, restartPolicy: RestartContainer}]}]",
            expect!["spec: Forbidden: only cpu and memory resources are mutable"],
        );
        let with_init = |cpu: &str, restarts: &str| {
            format!(
                "{}, initContainers: [{{name: i, image: i, resources: {{requests: {{cpu: {cpu}}}}}{restarts}}}]",
                one("requests: {cpu: 1}")
            )
        };
        check(
            &with_init("1", ""),
            &with_init("2", ""),
            expect!["spec: Forbidden: resources for non-sidecar init containers are immutable"],
        );
        check(&with_init("1", ", restartPolicy: Always"), &with_init("2", ", restartPolicy: Always"), expect![""]);
    }

    #[test]
    fn containers_keep_their_names_and_places() {
        let two = |a: &str, b: &str| format!("containers: [{{name: {a}, image: i}}, {{name: {b}, image: i}}]");
        check(
            &two("a", "b"),
            &two("b", "a"),
            expect![[r#"
                spec.containers[0].name: Forbidden: containers may not be renamed or reordered on resize
                spec.containers[1].name: Forbidden: containers may not be renamed or reordered on resize"#]],
        );
        check(&two("a", "b"), &one(""), expect!["spec: Forbidden: containers may not be added or removed on resize"]);
    }

    #[test]
    fn some_pods_are_not_resized() {
        check(
            &format!("{}, resources: {{requests: {{cpu: 1}}}}", one("requests: {cpu: 1}")),
            &one("requests: {cpu: 2}"),
            expect!["<nil>: Forbidden: pods with pod-level resources cannot be resized"],
        );
        let mirror = |cpu: &str| {
            let resources = format!("requests: {{cpu: {cpu}}}");
            format!(
                "{{metadata: {{name: a, annotations: {{kubernetes.io/config.mirror: h}}}}, spec: {{nodeName: node, {}}}}}",
                one(&resources)
            )
        };
        expect!["<nil>: Forbidden: static pods cannot be resized"].assert_eq(&part_errors(row(), "resize", &mirror("1"), &mirror("2")));
        let on_an_old_node = |cpu: &str| {
            format!(
                "{{metadata: {{name: a}}, spec: {{{}}}, status: {{containerStatuses: [{{name: c, state: {{running: {{}}}}}}]}}}}",
                one(&format!("requests: {{cpu: {cpu}}}"))
            )
        };
        expect!["spec: Forbidden: Pod running on node without support for resize"].assert_eq(&part_errors(
            row(),
            "resize",
            &on_an_old_node("1"),
            &on_an_old_node("2"),
        ));
    }

    #[test]
    fn what_a_resize_does_not_speak_of_stays() {
        let stored = updated_part(
            row(),
            "resize",
            &pod(&one("requests: {cpu: 1}")),
            &pod("activeDeadlineSeconds: 5, containers: [{name: c, image: other, resources: {requests: {cpu: 2}}}]"),
        );
        let spec = &stored["spec"];
        assert_eq!((&spec["containers"][0]["image"], &spec["containers"][0]["resources"]["requests"]["cpu"]), (&"i".into(), &"2".into()));
        assert!(spec.get("activeDeadlineSeconds").is_none());
    }
}
