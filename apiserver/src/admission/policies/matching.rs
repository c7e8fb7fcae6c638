//! Which requests a policy or a binding concerns. Pure.

use api::labels::Selector;
use api::object::{Meta as _, ObjectKey};
use serde_json::Value;

use crate::admission::matching::{Request, Rule, Seen, selector, selects, wanted};
use crate::admission::{Attributes, View};
use crate::resources::cells::{items, text};

/// `matchConstraints` of a policy, or `matchResources` of a binding.
#[derive(Debug)]
pub struct Matches {
    rules: Vec<Rule>,
    excluded: Vec<Rule>,
    /// Other versions of a resource count too.
    equivalent: bool,
    /// `None` for a selector that cannot be read, which selects nothing.
    namespaces: Option<Selector>,
    objects: Option<Selector>,
}

impl Matches {
    /// Reads what is matched.
    #[must_use]
    pub fn parse(matched: &Value) -> Self {
        let rules = |field: &str| items(matched, field).iter().map(Rule::parse).collect();
        Self {
            rules: rules("/resourceRules"),
            excluded: rules("/excludeResourceRules"),
            equivalent: text(matched, "/matchPolicy") != "Exact",
            namespaces: selector(&matched["namespaceSelector"]).ok(),
            objects: selector(&matched["objectSelector"]).ok(),
        }
    }

    /// How a request that is matched is seen; `None` when it is not.
    #[must_use]
    pub fn seen(&self, at: &Attributes<'_>, obj: &Value, view: &dyn View) -> Option<Seen> {
        let request = Request::of(at)?;
        let rule = |rules: &[Rule]| wanted(rules, self.equivalent, &request, || Seen::equivalents(&view.catalog(), at.row, at.subresource));
        // A binding without rules takes what its policy takes.
        let seen = if self.rules.is_empty() { request.seen.clone() } else { rule(&self.rules)? };
        let selected = self.in_namespace(&request, obj, view) && self.objects.as_ref().is_some_and(|s| selects(s, obj, at.old));
        (selected && rule(&self.excluded).is_none()).then_some(seen)
    }

    /// Whether the namespace is one of those selected: that of the object, or the object itself if it is one. Other objects are in none.
    fn in_namespace(&self, request: &Request, obj: &Value, view: &dyn View) -> bool {
        let Some(selector) = &self.namespaces else { return false };
        if selector.is_everything() || !request.is_in_namespace() {
            return true;
        }
        if request.writes_namespace() {
            return selects(selector, obj, None);
        }
        view.get("", "namespaces", &ObjectKey::cluster(&request.namespace)).is_some_and(|n| selector.matches(&n.labels()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::world_in_tests::{Request, World, with_attributes};
    use crate::resources::rows_in_tests::yaml;
    use crate::resources::{apps, core};

    fn check(matched: &str, request: &Request<'_>, expected: bool) {
        let world = World::of(&[("", "namespaces", "{metadata: {name: shop, labels: {team: a}}}")]);
        let matches = Matches::parse(&yaml(matched));
        with_attributes(request, |at, obj| assert_eq!(matches.seen(at, obj, &world).is_some(), expected, "{matched}"));
    }

    const ALL: &str = "{apiGroups: ['*'], apiVersions: ['*'], operations: ['*'], resources: ['*']}";

    #[test]
    fn rules_name_resources() {
        let request = || Request::create(apps::deployments::row(), "{metadata: {name: a, namespace: shop}}");
        let rule = |rule: &str| format!("{{resourceRules: [{{apiGroups: [apps], apiVersions: [v1], {rule}}}]}}");
        check(&rule("operations: [CREATE], resources: [deployments]"), &request(), true);
        check(&rule("operations: [UPDATE], resources: [deployments]"), &request(), false);
        check(&rule("operations: ['*'], resources: [pods]"), &request(), false);
        check(&rule("operations: ['*'], resources: [deployments/scale]"), &request(), false);
        check(&rule("operations: ['*'], resources: ['*/*'], resourceNames: [a]"), &request(), true);
        check(&rule("operations: ['*'], resources: ['*/*'], resourceNames: [b]"), &request(), false);
        check(&rule("operations: ['*'], resources: ['*'], scope: Cluster"), &request(), false);
        check(&rule("operations: ['*'], resources: [deployments/scale]"), &request().part("scale"), true);
        check(&format!("{{resourceRules: [{ALL}], excludeResourceRules: [{ALL}]}}"), &request(), false);
        check("{}", &request(), true);
    }

    #[test]
    fn selectors_select() {
        let request = || {
            Request::update(
                apps::deployments::row(),
                "{metadata: {name: a, namespace: shop, labels: {x: w}}}",
                "{metadata: {name: a, namespace: shop}}",
            )
        };
        let with = |more: &str| format!("{{resourceRules: [{ALL}], {more}}}");
        check(&with("namespaceSelector: {matchLabels: {team: a}}"), &request(), true);
        check(&with("namespaceSelector: {matchLabels: {team: b}}"), &request(), false);
        check(&with("namespaceSelector: {matchExpressions: [{key: team, operator: Odd}]}"), &request(), false);
        check(&with("objectSelector: {matchLabels: {x: w}}"), &request(), true);
        check(&with("objectSelector: {matchLabels: {x: z}}"), &request(), false);
        let node = Request::create(core::nodes::row(), "{metadata: {name: a}}");
        check(&with("namespaceSelector: {matchLabels: {team: b}}"), &node, true);
        let namespace = Request::create(core::namespaces::row(), "{metadata: {name: z, labels: {team: b}}}");
        check(&with("namespaceSelector: {matchLabels: {team: b}}"), &namespace, true);
    }
}
