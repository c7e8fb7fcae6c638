//! apps/v1 StatefulSet

use api::field::{Errors, Path};
use k8s_openapi::api::apps::v1::{
    RollingUpdateStatefulSetStrategy, StatefulSet, StatefulSetPersistentVolumeClaimRetentionPolicy, StatefulSetSpec, StatefulSetStatus,
};

use crate::resource::{Column, Cx, Resource, Rules};
use crate::resources::bounds::{int_or_percent, not_negative, one_of};
use crate::resources::cells::int;
use crate::resources::core::persistentvolumeclaims;
use crate::resources::equality::same;
use crate::resources::{label_selector, pod_template};

const UPDATABLE: &str = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden";

/// The row.
#[must_use]
pub fn row() -> Resource {
    let [containers, images, _] = pod_template::wide_columns();
    Resource::namespaced("apps", "v1", "StatefulSet", "statefulsets")
        .short(&["sts"])
        .in_all()
        .status()
        .generation()
        .scale("/spec/replicas", "/status/replicas", "/spec/selector")
        .columns(vec![
            Column::name(),
            Column::compute("Ready", |o, _| format!("{}/{}", int(o, "/status/readyReplicas"), int(o, "/spec/replicas")).into()),
            Column::age(),
            containers,
            images,
        ])
        .rules::<StatefulSet>(StatefulSetRules)
}

struct StatefulSetRules;

impl Rules<StatefulSet> for StatefulSetRules {
    fn default(&self, set: &mut StatefulSet) {
        let Some(spec) = &mut set.spec else { return };
        pod_template::default(&mut spec.template);
        spec.pod_management_policy.get_or_insert_with(|| "OrderedReady".to_owned());
        spec.replicas.get_or_insert(1);
        spec.revision_history_limit.get_or_insert(10);
        let strategy = spec.update_strategy.get_or_insert_default();
        if strategy.type_.as_ref().is_none_or(String::is_empty) {
            strategy.type_ = Some("RollingUpdate".to_owned());
            strategy.rolling_update.get_or_insert_with(RollingUpdateStatefulSetStrategy::default);
        }
        if let (Some("RollingUpdate"), Some(rolling)) = (strategy.type_.as_deref(), &mut strategy.rolling_update) {
            rolling.partition.get_or_insert(0);
        }
        let retention: &mut StatefulSetPersistentVolumeClaimRetentionPolicy =
            spec.persistent_volume_claim_retention_policy.get_or_insert_default();
        retention.when_deleted.get_or_insert_with(|| "Retain".to_owned());
        retention.when_scaled.get_or_insert_with(|| "Retain".to_owned());
        for claim in spec.volume_claim_templates.iter_mut().flatten() {
            claim.status.get_or_insert_default().phase.get_or_insert_with(|| "Pending".to_owned());
            if let Some(spec) = &mut claim.spec {
                persistentvolumeclaims::default_spec(spec);
            }
        }
    }
    fn prepare_create(&self, set: &mut StatefulSet, _: Cx<'_>) {
        set.status = Some(StatefulSetStatus::default());
    }
    fn prepare_update(&self, new: &mut StatefulSet, old: &StatefulSet, _: Cx<'_>) {
        new.status.clone_from(&old.status);
    }
    fn prepare_part(&self, part: &str, new: &mut StatefulSet, old: &StatefulSet, _: Cx<'_>) {
        if part == "status" {
            new.spec.clone_from(&old.spec);
        }
    }
    fn validate(&self, set: &StatefulSet, errors: &mut Errors) {
        match &set.spec {
            Some(spec) => validate_spec(spec, &Path::new("spec"), errors),
            None => errors.required(&Path::new("spec"), ""),
        }
    }
    fn validate_update(&self, new: &StatefulSet, old: &StatefulSet, errors: &mut Errors) {
        let (Some(new), Some(old)) = (&new.spec, &old.spec) else { return };
        let rest = StatefulSetSpec {
            replicas: old.replicas,
            ordinals: old.ordinals.clone(),
            template: old.template.clone(),
            update_strategy: old.update_strategy.clone(),
            revision_history_limit: old.revision_history_limit,
            persistent_volume_claim_retention_policy: old.persistent_volume_claim_retention_policy.clone(),
            min_ready_seconds: old.min_ready_seconds,
            ..new.clone()
        };
        if !same(&rest, old) {
            errors.forbidden(&Path::new("spec"), UPDATABLE);
        }
    }
    fn warnings(&self, workload: &StatefulSet) -> Vec<String> {
        workload.spec.iter().flat_map(|s| pod_template::warnings(&s.template, &Path::new("spec").child("template"))).collect()
    }
    fn validate_part(&self, part: &str, new: &StatefulSet, _: &StatefulSet, errors: &mut Errors) {
        let (Some(status), path) = (&new.status, Path::new("status")) else { return };
        if part != "status" {
            return;
        }
        not_negative(Some(status.replicas), &path.child("replicas"), errors);
        for (name, n) in [
            ("readyReplicas", status.ready_replicas),
            ("currentReplicas", status.current_replicas),
            ("updatedReplicas", status.updated_replicas),
            ("availableReplicas", status.available_replicas),
        ] {
            not_negative(n, &path.child(name), errors);
            if let Some(n) = n.filter(|n| *n > status.replicas) {
                errors.invalid(&path.child(name), n, "cannot be greater than status.replicas");
            }
        }
    }
}

fn validate_spec(spec: &StatefulSetSpec, path: &Path, errors: &mut Errors) {
    match spec.pod_management_policy.as_deref().unwrap_or("") {
        "OrderedReady" | "Parallel" => {}
        "" => errors.required(&path.child("podManagementPolicy"), ""),
        other => errors.invalid(&path.child("podManagementPolicy"), other, "must be 'OrderedReady' or 'Parallel'"),
    }
    validate_strategy(spec, &path.child("updateStrategy"), errors);
    if let Some(retention) = &spec.persistent_volume_claim_retention_policy {
        let path = path.child("persistentVolumeClaimRetentionPolicy");
        for (name, value) in [("whenDeleted", &retention.when_deleted), ("whenScaled", &retention.when_scaled)] {
            one_of(value.as_deref().unwrap_or(""), &["Delete", "Retain"], &path.child(name), errors);
        }
    }
    not_negative(spec.replicas, &path.child("replicas"), errors);
    not_negative(spec.min_ready_seconds, &path.child("minReadySeconds"), errors);
    not_negative(spec.ordinals.as_ref().and_then(|o| o.start), &path.child("ordinals").child("start"), errors);
    let labels = spec.template.metadata.as_ref().and_then(|m| m.labels.as_ref());
    label_selector::validate_for_template(&spec.selector, labels, "statefulset", path, errors);
    // Mounts name the claims' volumes too, which the template does not have.
    let mut template = spec.template.clone();
    if let Some(pod) = &mut template.spec {
        for claim in spec.volume_claim_templates.iter().flatten() {
            let name = claim.metadata.name.clone().unwrap_or_default();
            let volumes = pod.volumes.get_or_insert_default();
            if !volumes.iter().any(|v| v.name == name) {
                volumes.push(volume_of_claim(name));
            }
        }
    }
    pod_template::validate_long_running(&template, "StatefulSet", &path.child("template"), errors);
}

fn volume_of_claim(name: String) -> k8s_openapi::api::core::v1::Volume {
    let source = k8s_openapi::api::core::v1::PersistentVolumeClaimVolumeSource { claim_name: name.clone(), read_only: None };
    k8s_openapi::api::core::v1::Volume { name, persistent_volume_claim: Some(source), ..Default::default() }
}

fn validate_strategy(spec: &StatefulSetSpec, path: &Path, errors: &mut Errors) {
    let Some(strategy) = &spec.update_strategy else { return errors.required(path, "") };
    match strategy.type_.as_deref().unwrap_or("") {
        "" => errors.required(path, ""),
        "OnDelete" if strategy.rolling_update.is_some() => {
            let shown = serde_json::json!(strategy.rolling_update);
            errors.invalid(&path.child("rollingUpdate"), &shown, "only allowed for updateStrategy 'RollingUpdate'");
        }
        "OnDelete" => {}
        "RollingUpdate" => {
            let Some(rolling) = &strategy.rolling_update else { return };
            not_negative(rolling.partition, &path.child("rollingUpdate").child("partition"), errors);
            if let Some(unavailable) = &rolling.max_unavailable {
                int_or_percent(unavailable, &path.child("rollingUpdate").child("maxUnavailable"), errors);
            }
        }
        other => errors.invalid(path, other, "must be 'RollingUpdate' or 'OnDelete'"),
    }
}

#[cfg(test)]
mod tests {
    use super::row;
    use crate::resources::rows_in_tests::{cells, errors, update_errors};
    use expect_test::expect;

    fn set(spec: &str) -> String {
        format!(
            "{{metadata: {{name: a}}, spec: {{selector: {{matchLabels: {{a: b}}}}, template: {{metadata: {{labels: {{a: b}}}}, spec: {{containers: [{{name: c, image: i, volumeMounts: [{{name: data, mountPath: /d}}]}}]}}}}, volumeClaimTemplates: [{{metadata: {{name: data}}, spec: {{accessModes: [ReadWriteOnce], resources: {{requests: {{storage: 1Gi}}}}}}}}], {spec}}}, status: {{readyReplicas: 1}}}}"
        )
    }

    #[test]
    fn table_and_rules() {
        assert_eq!(cells(row(), &set("replicas: 3")), "a | 1/3 | <unknown> | c | i");
        assert_eq!(errors(row(), &set("")), "");
        expect![[r#"
            spec.podManagementPolicy: Invalid value: "Any": must be 'OrderedReady' or 'Parallel'
            spec.updateStrategy: Invalid value: "Never": must be 'RollingUpdate' or 'OnDelete'"#]]
        .assert_eq(&errors(row(), &set("podManagementPolicy: Any, updateStrategy: {type: Never}")));
        assert_eq!(update_errors(row(), &set("replicas: 1"), &set("replicas: 2")), "");
        assert!(update_errors(row(), &set(""), &set("serviceName: s")).contains("updates to statefulset spec for fields other than"));
    }
}
