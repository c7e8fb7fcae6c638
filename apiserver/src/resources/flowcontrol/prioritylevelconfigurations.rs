//! flowcontrol.apiserver.k8s.io/v1 PriorityLevelConfiguration

use api::field::{Errors, Path};
use k8s_openapi::api::flowcontrol::v1::{
    LimitResponse, LimitedPriorityLevelConfiguration, PriorityLevelConfiguration, PriorityLevelConfigurationStatus, QueuingConfiguration,
};
use serde_json::Value;

use crate::resource::{Column, Cx, Resource, Rules};
use crate::resources::bounds::{not_negative, one_of, positive};
use crate::resources::cells::text;

const MAX_QUEUES: i32 = 10_000_000;

/// The row.
#[must_use]
pub fn row() -> Resource {
    Resource::cluster(super::GROUP, "v1", "PriorityLevelConfiguration", "prioritylevelconfigurations")
        .status()
        .generation()
        .conditional_update()
        .columns(vec![
            Column::name(),
            Column::text("Type", "/spec/type"),
            Column::compute("NominalConcurrencyShares", |o, _| shares(o).into()),
            Column::compute("Queues", |o, _| queuing(o, "queues").into()),
            Column::compute("HandSize", |o, _| queuing(o, "handSize").into()),
            Column::compute("QueueLengthLimit", |o, _| queuing(o, "queueLengthLimit").into()),
            Column::age(),
        ])
        .rules::<PriorityLevelConfiguration>(LevelRules)
}

fn shares(o: &Value) -> String {
    let kind = if text(o, "/spec/type") == "Exempt" { "exempt" } else { "limited" };
    o.pointer(&format!("/spec/{kind}/nominalConcurrencyShares")).map_or_else(|| "<none>".to_owned(), Value::to_string)
}

fn queuing(o: &Value, field: &str) -> String {
    o.pointer(&format!("/spec/limited/limitResponse/queuing/{field}")).map_or_else(|| "<none>".to_owned(), Value::to_string)
}

struct LevelRules;

impl Rules<PriorityLevelConfiguration> for LevelRules {
    fn default(&self, level: &mut PriorityLevelConfiguration) {
        let Some(spec) = &mut level.spec else { return };
        if let Some(exempt) = &mut spec.exempt {
            exempt.nominal_concurrency_shares.get_or_insert(0);
            exempt.lendable_percent.get_or_insert(0);
        }
        if let Some(limited) = &mut spec.limited {
            limited.nominal_concurrency_shares.get_or_insert(30);
            limited.lendable_percent.get_or_insert(0);
            if let Some(queuing) = limited.limit_response.as_mut().and_then(|r| r.queuing.as_mut()) {
                for (field, value) in [(&mut queuing.hand_size, 8), (&mut queuing.queues, 64), (&mut queuing.queue_length_limit, 50)] {
                    if field.unwrap_or(0) == 0 {
                        *field = Some(value);
                    }
                }
            }
        }
    }
    fn prepare_create(&self, level: &mut PriorityLevelConfiguration, _: Cx<'_>) {
        level.status = Some(PriorityLevelConfigurationStatus::default());
    }
    fn prepare_update(&self, new: &mut PriorityLevelConfiguration, old: &PriorityLevelConfiguration, _: Cx<'_>) {
        new.status.clone_from(&old.status);
    }
    fn prepare_part(&self, _: &str, new: &mut PriorityLevelConfiguration, old: &PriorityLevelConfiguration, _: Cx<'_>) {
        new.spec.clone_from(&old.spec);
    }
    fn validate(&self, level: &PriorityLevelConfiguration, errors: &mut Errors) {
        let (Some(spec), path) = (&level.spec, Path::new("spec")) else { return };
        match (spec.type_.as_str(), &spec.limited, &spec.exempt) {
            ("Limited", None, _) => errors.required(&path.child("limited"), "must not be empty when type is Limited"),
            ("Limited", Some(_), Some(_)) => errors.forbidden(&path.child("exempt"), "must be nil if the type is Limited"),
            ("Limited", Some(limited), None) => validate_limited(limited, &path.child("limited"), errors),
            ("Exempt", Some(_), _) => errors.forbidden(&path.child("limited"), "must be nil if the type is not Limited"),
            ("Exempt", None, exempt) => {
                let path = path.child("exempt");
                not_negative(exempt.as_ref().and_then(|e| e.nominal_concurrency_shares), &path.child("nominalConcurrencyShares"), errors);
            }
            (other, _, _) => one_of(other, &["Exempt", "Limited"], &path.child("type"), errors),
        }
    }
}

fn validate_limited(limited: &LimitedPriorityLevelConfiguration, path: &Path, errors: &mut Errors) {
    not_negative(limited.nominal_concurrency_shares, &path.child("nominalConcurrencyShares"), errors);
    if let Some(share) = limited.lendable_percent.filter(|p| !(0..=100).contains(p)) {
        errors.invalid(&path.child("lendablePercent"), share, "must be between 0 and 100, inclusive");
    }
    not_negative(limited.borrowing_limit_percent, &path.child("borrowingLimitPercent"), errors);
    let response = path.child("limitResponse");
    match &limited.limit_response {
        Some(LimitResponse { type_, queuing, .. }) => match (type_.as_str(), queuing) {
            ("Queue", Some(queuing)) => validate_queuing(queuing, &response.child("queuing"), errors),
            ("Queue", None) => errors.required(&response.child("queuing"), "must not be empty if limited.limitResponse.type is Queue"),
            ("Reject", Some(_)) => errors.forbidden(&response.child("queuing"), "must be nil if limited.limitResponse.type is not Limited"),
            ("Reject", None) => {}
            (other, _) => one_of(other, &["Queue", "Reject"], &response.child("type"), errors),
        },
        None => errors.required(&response, ""),
    }
}

fn validate_queuing(queuing: &QueuingConfiguration, path: &Path, errors: &mut Errors) {
    positive(queuing.queue_length_limit, &path.child("queueLengthLimit"), errors);
    positive(queuing.queues, &path.child("queues"), errors);
    positive(queuing.hand_size, &path.child("handSize"), errors);
    if let Some(n) = queuing.queues.filter(|n| *n > MAX_QUEUES) {
        errors.invalid(&path.child("queues"), n, &format!("must not be greater than {MAX_QUEUES}"));
    }
    let (hand, queues) = (queuing.hand_size.unwrap_or(0), queuing.queues.unwrap_or(0));
    if hand > queues {
        errors.invalid(&path.child("handSize"), hand, &format!("should not be greater than queues ({queues})"));
    }
}

#[cfg(test)]
mod tests {
    use super::row;
    use crate::resources::rows_in_tests::{cells, errors};
    use expect_test::expect;

    #[test]
    fn table_and_rules() {
        let level = |spec: &str| format!("{{metadata: {{name: a}}, spec: {{{spec}}}}}");
        let queue =
            "type: Limited, limited: {nominalConcurrencyShares: 5, limitResponse: {type: Queue, queuing: {queues: 4, handSize: 2}}}";
        assert_eq!(cells(row(), &level(queue)), "a | Limited | 5 | 4 | 2 | <none> | <unknown>");
        expect!["spec.limited.limitResponse.queuing.handSize: Invalid value: 8: should not be greater than queues (4)"]
            .assert_eq(&errors(row(), &level("type: Limited, limited: {limitResponse: {type: Queue, queuing: {queues: 4}}}")));
        expect!["spec.limited: Required value: must not be empty when type is Limited"].assert_eq(&errors(row(), &level("type: Limited")));
    }
}
