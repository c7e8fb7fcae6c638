//! flowcontrol.apiserver.k8s.io/v1 FlowSchema

use api::field::{Errors, Path};
use api::names;
use k8s_openapi::api::flowcontrol::v1::{FlowSchema, FlowSchemaStatus, PolicyRulesWithSubjects, Subject};
use serde_json::Value;

use crate::resource::{Column, Cx, Resource, Rules};
use crate::resources::bounds::{follows, one_of};
use crate::resources::cells::{items, or_none, text};

/// What stands last, and nowhere else than in the schemas that the server itself makes.
const HIGHEST: i32 = 10_000;

/// The row.
#[must_use]
pub fn row() -> Resource {
    Resource::cluster(super::GROUP, "v1", "FlowSchema", "flowschemas")
        .status()
        .generation()
        .conditional_update()
        .columns(vec![
            Column::name(),
            Column::text("PriorityLevel", "/spec/priorityLevelConfiguration/name"),
            Column::integer("MatchingPrecedence", "/spec/matchingPrecedence"),
            Column::compute("DistinguisherMethod", |o, _| or_none(text(o, "/spec/distinguisherMethod/type")).into()),
            Column::age(),
            Column::compute("MissingPL", |o, _| missing(o).into()),
        ])
        .rules::<FlowSchema>(SchemaRules)
}

fn missing(o: &Value) -> &str {
    let dangling = items(o, "/status/conditions").iter().find(|c| c["type"] == "Dangling");
    dangling.map_or("?", |c| text(c, "/status"))
}

struct SchemaRules;

impl Rules<FlowSchema> for SchemaRules {
    fn default(&self, schema: &mut FlowSchema) {
        if let Some(spec) = &mut schema.spec
            && spec.matching_precedence.unwrap_or(0) == 0
        {
            spec.matching_precedence = Some(1000);
        }
    }
    fn prepare_create(&self, schema: &mut FlowSchema, _: Cx<'_>) {
        schema.status = Some(FlowSchemaStatus::default());
    }
    fn prepare_update(&self, new: &mut FlowSchema, old: &FlowSchema, _: Cx<'_>) {
        new.status.clone_from(&old.status);
    }
    fn prepare_part(&self, _: &str, new: &mut FlowSchema, old: &FlowSchema, _: Cx<'_>) {
        new.spec.clone_from(&old.spec);
    }
    fn validate(&self, schema: &FlowSchema, errors: &mut Errors) {
        let (Some(spec), path) = (&schema.spec, Path::new("spec")) else { return };
        let precedence = spec.matching_precedence.unwrap_or(0);
        let exempt = schema.metadata.name.as_deref() == Some("exempt");
        if !(1..=HIGHEST).contains(&precedence) {
            errors.invalid(&path.child("matchingPrecedence"), precedence, &format!("must not be greater than {HIGHEST}"));
        }
        if precedence == 1 && !exempt {
            errors.invalid(&path.child("matchingPrecedence"), precedence, "only the schema named 'exempt' may have matchingPrecedence 1");
        }
        if let Some(method) = &spec.distinguisher_method {
            one_of(&method.type_, &["ByNamespace", "ByUser"], &path.child("distinguisherMethod").child("type"), errors);
        }
        let level = path.child("priorityLevelConfiguration").child("name");
        if spec.priority_level_configuration.name.is_empty() {
            errors.required(&level, "must reference a priority level");
        } else {
            follows(&spec.priority_level_configuration.name, names::dns1123_subdomain, &level, errors);
        }
        for (i, rule) in spec.rules.iter().flatten().enumerate() {
            validate_rule(rule, &path.child("rules").index(i), errors);
        }
    }
}

fn validate_rule(rule: &PolicyRulesWithSubjects, path: &Path, errors: &mut Errors) {
    if rule.subjects.is_empty() {
        errors.required(&path.child("subjects"), "subjects must contain at least one value");
    }
    for (i, subject) in rule.subjects.iter().enumerate() {
        validate_subject(subject, &path.child("subjects").index(i), errors);
    }
    let (resource, plain) = (rule.resource_rules.as_deref().unwrap_or_default(), rule.non_resource_rules.as_deref().unwrap_or_default());
    if resource.is_empty() && plain.is_empty() {
        errors.required(path, "at least one of resourceRules and nonResourceRules has to be non-empty");
    }
    for (i, rule) in resource.iter().enumerate() {
        let path = path.child("resourceRules").index(i);
        for (name, list) in [("verbs", &rule.verbs), ("apiGroups", &rule.api_groups), ("resources", &rule.resources)] {
            if list.is_empty() {
                errors.required(&path.child(name), "");
            }
        }
        if rule.namespaces.as_ref().is_none_or(Vec::is_empty) && rule.cluster_scope != Some(true) {
            errors.required(&path.child("namespaces"), "resource rules that are not cluster scoped must supply at least one namespace");
        }
    }
    for (i, rule) in plain.iter().enumerate() {
        let path = path.child("nonResourceRules").index(i);
        for (name, list) in [("verbs", &rule.verbs), ("nonResourceURLs", &rule.non_resource_urls)] {
            if list.is_empty() {
                errors.required(&path.child(name), "");
            }
        }
    }
}

fn validate_subject(subject: &Subject, path: &Path, errors: &mut Errors) {
    let set = [
        ("User", "user", subject.user.is_some()),
        ("Group", "group", subject.group.is_some()),
        ("ServiceAccount", "serviceAccount", subject.service_account.is_some()),
    ];
    let kinds: Vec<&str> = set.iter().map(|(kind, _, _)| *kind).collect();
    if !kinds.contains(&subject.kind.as_str()) {
        return errors.not_supported(&path.child("kind"), &subject.kind, &["Group", "ServiceAccount", "User"]);
    }
    for (kind, field, set) in set {
        if kind == subject.kind && !set {
            errors.required(&path.child(field), &format!("{field} is required when subject kind is '{kind}'"));
        }
        if kind != subject.kind && set {
            errors.forbidden(&path.child(field), &format!("{field} is forbidden when subject kind is not '{kind}'"));
        }
    }
}
