//! Nobody grants what they do not hold, unless they may `escalate` roles or `bind` the role in question.

use api::object::ObjectKey;
use api::status::Status;
use serde_json::Value;

use super::{Attributes, Notes, Operation, Step, View};
use crate::auth::rbac::Rule;
use crate::resources::cells::text;

const GROUP: &str = "rbac.authorization.k8s.io";

/// What upstream's storage of roles and bindings checks.
pub struct RbacEscalation;

impl Step for RbacEscalation {
    fn name(&self) -> &'static str {
        "RbacEscalation"
    }

    fn validate(&self, at: &Attributes<'_>, obj: &Value, view: &dyn View, _: &mut Notes) -> Result<(), Status> {
        if at.row.group != GROUP || !matches!(at.operation, Operation::Create | Operation::Update) {
            return Ok(());
        }
        let same = |field: &str| at.old.is_some_and(|old| old.get(field) == obj.get(field));
        match &*at.row.plural {
            "roles" | "clusterroles" => {
                let explicitly = right("escalate", &at.row.plural, vec![]);
                if same("rules") && same("aggregationRule") || view.holds(at.user, at.namespace, &explicitly) {
                    return Ok(());
                }
                if obj.get("aggregationRule").is_some_and(|a| !a.is_null()) && !view.holds(at.user, "", &everything()) {
                    return Err(at.forbidden("must have cluster-admin privileges to use the aggregationRule"));
                }
                confirm(at, &rules(obj), view)
            }
            "rolebindings" | "clusterrolebindings" => {
                let (plural, namespace) =
                    if text(obj, "/roleRef/kind") == "Role" { ("roles", Some(at.namespace)) } else { ("clusterroles", None) };
                let name = text(obj, "/roleRef/name");
                if same("subjects") && same("roleRef") || view.holds(at.user, at.namespace, &right("bind", plural, vec![name.to_owned()])) {
                    return Ok(());
                }
                let key = ObjectKey { namespace: namespace.map(str::to_owned), name: name.to_owned() };
                match view.get(GROUP, plural, &key) {
                    Some(role) => confirm(at, &rules(&role), view),
                    None => Err(Status::not_found(GROUP, plural, name)),
                }
            }
            _ => Ok(()),
        }
    }
}

fn rules(role: &Value) -> Vec<Rule> {
    // Validation has seen the rules; what is none of a rule's shape grants nothing.
    role.get("rules").and_then(|r| serde_json::from_value(r.clone()).ok()).unwrap_or_default()
}

fn right(verb: &str, plural: &str, resource_names: Vec<String>) -> Rule {
    Rule { verbs: vec![verb.into()], api_groups: vec![GROUP.into()], resources: vec![plural.into()], resource_names, ..Rule::default() }
}

fn everything() -> Rule {
    let all = || vec!["*".to_owned()];
    Rule { verbs: all(), api_groups: all(), resources: all(), ..Rule::default() }
}

fn confirm(at: &Attributes<'_>, rules: &[Rule], view: &dyn View) -> Result<(), Status> {
    let missing: Vec<String> = rules.iter().filter(|r| !view.holds(at.user, at.namespace, r)).map(compact).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let groups: Vec<String> = at.user.groups.iter().map(|g| format!("{g:?}")).collect();
    Err(at.forbidden(&format!(
        "user {:?} (groups=[{}]) is attempting to grant RBAC permissions not currently held:\n{}",
        at.user.name,
        groups.join(" "),
        missing.join("\n")
    )))
}

/// A rule on one line, as upstream's messages show it.
fn compact(rule: &Rule) -> String {
    let parts = [
        ("APIGroups", &rule.api_groups),
        ("Resources", &rule.resources),
        ("ResourceNames", &rule.resource_names),
        ("NonResourceURLs", &rule.non_resource_urls),
        ("Verbs", &rule.verbs),
    ];
    let quoted = |list: &[String]| list.iter().map(|x| format!("{x:?}")).collect::<Vec<_>>().join(" ");
    let parts: Vec<String> = parts.iter().filter(|(_, l)| !l.is_empty()).map(|(name, l)| format!("{name}:[{}]", quoted(l))).collect();
    format!("{{{}}}", parts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_shown_as_people_know_them() {
        let rule = Rule {
            verbs: vec!["get".into(), "list".into()],
            api_groups: vec![String::new()],
            resources: vec!["pods".into()],
            ..Rule::default()
        };
        assert_eq!(compact(&rule), r#"{APIGroups:[""], Resources:["pods"], Verbs:["get" "list"]}"#);
    }
}
