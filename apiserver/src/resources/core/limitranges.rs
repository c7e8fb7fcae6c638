//! v1 LimitRange

use std::collections::BTreeMap;

use api::field::{Errors, Path};
use k8s_openapi::api::core::v1::{LimitRange, LimitRangeItem};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::resource::{Column, Resource, Rules};
use crate::resources::quantities::{List, amount, canonical_list, validate_amount};

/// The row.
#[must_use]
pub fn row() -> Resource {
    Resource::namespaced("", "v1", "LimitRange", "limitranges")
        .short(&["limits"])
        .create_on_update()
        .columns(vec![Column::name(), Column::text("Created At", "/metadata/creationTimestamp")])
        .rules::<LimitRange>(LimitRangeRules)
}

struct LimitRangeRules;

impl Rules<LimitRange> for LimitRangeRules {
    fn default(&self, range: &mut LimitRange) {
        for item in range.spec.iter_mut().flat_map(|s| &mut s.limits) {
            for list in [&mut item.min, &mut item.max, &mut item.default, &mut item.default_request, &mut item.max_limit_request_ratio] {
                canonical_list(list);
            }
            if item.type_ == "Container" {
                default_container(item);
            }
        }
    }
    fn validate(&self, range: &LimitRange, errors: &mut Errors) {
        let path = Path::new("spec").child("limits");
        let items = range.spec.as_ref().map(|s| s.limits.as_slice()).unwrap_or_default();
        for (i, item) in items.iter().enumerate() {
            let path = path.index(i);
            if items[..i].iter().any(|other| other.type_ == item.type_) {
                errors.duplicate(&path.child("type"), &item.type_);
            }
            validate_item(item, &path, errors);
        }
    }
}

/// What is not said follows from what is: the limit from the maximum, the request from the limit, else from the minimum.
fn default_container(item: &mut LimitRangeItem) {
    fn fill(to: &mut Option<List>, from: Option<&List>) {
        for (name, amount) in from.into_iter().flatten() {
            to.get_or_insert_with(BTreeMap::new).entry(name.clone()).or_insert_with(|| amount.clone());
        }
    }
    fill(&mut item.default, item.max.as_ref());
    fill(&mut item.default_request, item.default.as_ref());
    fill(&mut item.default_request, item.min.as_ref());
}

fn validate_item(item: &LimitRangeItem, path: &Path, errors: &mut Errors) {
    let lists = [("min", &item.min), ("defaultRequest", &item.default_request), ("default", &item.default), ("max", &item.max)];
    for (field, list) in lists {
        for (name, text) in list.iter().flatten() {
            validate_amount(name, text, &path.child(field).key(name), errors);
        }
    }
    if item.type_ == "Pod" {
        for (field, list) in [("default", &item.default), ("defaultRequest", &item.default_request)] {
            if list.as_ref().is_some_and(|l| !l.is_empty()) {
                errors.forbidden(&path.child(field), "may not be specified when `type` is 'Pod'");
            }
        }
    }
    if item.type_ == "PersistentVolumeClaim" && item.min.is_none() && item.max.is_none() {
        errors.required(&path.child("limits"), "either minimum or maximum storage value is required, but neither was provided");
    }
    // What stands left must not be above what stands right of it.
    for (i, (low_name, low)) in lists.iter().enumerate() {
        for (high_name, high) in &lists[i + 1..] {
            validate_order((low_name, low.as_ref()), (high_name, high.as_ref()), path, errors);
        }
    }
    for (name, text) in item.max_limit_request_ratio.iter().flatten() {
        if amount(text).is_some_and(|q| q.milli_value() < 1000) {
            errors.invalid(&path.child("maxLimitRequestRatio").key(name), &text.0, &format!("ratio {} is less than 1", text.0));
        }
    }
}

fn validate_order(low: (&str, Option<&List>), high: (&str, Option<&List>), path: &Path, errors: &mut Errors) {
    let words = |field: &str| match field {
        "defaultRequest" => "default request".to_owned(),
        other => other.to_owned(),
    };
    for (name, text) in low.1.into_iter().flatten() {
        let Some(other): Option<&Quantity> = high.1.and_then(|l| l.get(name)) else { continue };
        if amount(text) > amount(other) {
            let why = format!("{} value {} is greater than {} value {}", words(low.0), text.0, words(high.0), other.0);
            errors.invalid(&path.child(low.0).key(name), &text.0, &why);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::row;
    use crate::resources::rows_in_tests::{created, errors};
    use expect_test::expect;

    #[test]
    fn what_is_not_said_follows_from_what_is() {
        expect![[r#"
            apiVersion: v1
            kind: LimitRange
            metadata:
              name: a
            spec:
              limits:
              - default:
                  cpu: 1
                defaultRequest:
                  cpu: 1
                  memory: 1Mi
                max:
                  cpu: 1
                min:
                  memory: 1Mi
                type: Container
        "#]]
        .assert_eq(&created(row(), "{metadata: {name: a}, spec: {limits: [{type: Container, max: {cpu: 1000m}, min: {memory: 1Mi}}]}}"));
    }

    #[test]
    fn rules() {
        expect![[r#"
            spec.limits[0].min[cpu]: Invalid value: "2": min value 2 is greater than default request value 1
            spec.limits[0].min[cpu]: Invalid value: "2": min value 2 is greater than default value 1
            spec.limits[0].min[cpu]: Invalid value: "2": min value 2 is greater than max value 1
            spec.limits[1].default: Forbidden: may not be specified when `type` is 'Pod'
            spec.limits[2].type: Duplicate value: "Pod""#]].assert_eq(&errors(
            row(),
            "{metadata: {name: a}, spec: {limits: [{type: Container, max: {cpu: 1}, min: {cpu: 2}}, {type: Pod, default: {cpu: 1}}, {type: Pod}]}}",
        ));
    }
}
