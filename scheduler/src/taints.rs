//! Taints keep pods away from a node unless they tolerate them.

use std::borrow::Cow;

use k8s_openapi::api::core::v1 as core;

/// What a taint does to pods that do not tolerate it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// New pods are kept away.
    NoSchedule,
    /// New pods rather go elsewhere.
    PreferNoSchedule,
    /// New pods are kept away, running ones evicted.
    NoExecute,
}

impl Effect {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "NoSchedule" => Some(Self::NoSchedule),
            "PreferNoSchedule" => Some(Self::PreferNoSchedule),
            "NoExecute" => Some(Self::NoExecute),
            _ => None,
        }
    }
}

/// A node's taint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taint {
    /// The key.
    pub key: Cow<'static, str>,
    /// The value, often empty.
    pub value: String,
    /// What it does.
    pub effect: Effect,
}

impl Taint {
    /// The taint that `spec.unschedulable` stands for.
    pub const UNSCHEDULABLE: Self =
        Self { key: Cow::Borrowed("node.kubernetes.io/unschedulable"), value: String::new(), effect: Effect::NoSchedule };

    /// `None` for an effect that we do not know.
    #[must_use]
    pub fn parse(taint: &core::Taint) -> Option<Self> {
        let effect = Effect::parse(&taint.effect)?;
        Some(Self { key: taint.key.clone().into(), value: taint.value.clone().unwrap_or_default(), effect })
    }

    /// Whether it keeps new pods away.
    #[must_use]
    pub fn forbids(&self) -> bool {
        self.effect != Effect::PreferNoSchedule
    }
}

/// What a pod tolerates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Toleration {
    /// `None` tolerates every key.
    key: Option<String>,
    /// `None` tolerates every effect.
    effect: Option<Effect>,
    value: Tolerated,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Tolerated {
    Any,
    Equal(String),
    /// More than this number (KEP-5471).
    Above(i64),
    /// Less than this number (KEP-5471).
    Below(i64),
}

impl Toleration {
    /// `None` for one that tolerates nothing that we know of.
    #[must_use]
    pub fn parse(toleration: &core::Toleration) -> Option<Self> {
        let value = toleration.value.clone().unwrap_or_default();
        let value = match toleration.operator.as_deref() {
            Some("Exists") => Tolerated::Any,
            None | Some("" | "Equal") => Tolerated::Equal(value),
            Some("Gt") => Tolerated::Above(value.parse().ok()?),
            Some("Lt") => Tolerated::Below(value.parse().ok()?),
            Some(_) => return None,
        };
        let effect = match toleration.effect.as_deref() {
            None | Some("") => None,
            Some(effect) => Some(Effect::parse(effect)?),
        };
        Some(Self { key: toleration.key.clone().filter(|k| !k.is_empty()), effect, value })
    }

    /// Whether it covers `taint`.
    #[must_use]
    pub fn tolerates(&self, taint: &Taint) -> bool {
        self.effect.is_none_or(|e| e == taint.effect)
            && self.key.as_deref().is_none_or(|k| k == taint.key)
            && match &self.value {
                Tolerated::Any => true,
                Tolerated::Equal(value) => *value == taint.value,
                Tolerated::Above(bound) => taint.value.parse().is_ok_and(|v: i64| v > *bound),
                Tolerated::Below(bound) => taint.value.parse().is_ok_and(|v: i64| v < *bound),
            }
    }
}

/// Whether one of `tolerations` covers `taint`.
#[must_use]
pub fn tolerated(taint: &Taint, tolerations: &[Toleration]) -> bool {
    tolerations.iter().any(|t| t.tolerates(taint))
}

/// Whether a pod with these tolerations may be put on a node with these taints.
#[must_use]
pub fn admitted(taints: &[Taint], tolerations: &[Toleration]) -> bool {
    taints.iter().filter(|t| t.forbids()).all(|t| tolerated(t, tolerations))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn check(toleration: Value, taint: Value) -> bool {
        let taint = Taint::parse(&serde_json::from_value(taint).expect("a taint")).expect("a known effect");
        let toleration = serde_json::from_value(toleration).expect("a toleration");
        Toleration::parse(&toleration).is_some_and(|t| t.tolerates(&taint))
    }

    #[test]
    fn key_value_and_effect_must_agree_where_they_are_given() {
        let taint = json!({"key": "k", "value": "v", "effect": "NoSchedule"});
        for (toleration, expected) in [
            (json!({"operator": "Exists"}), true),
            (json!({"key": "k", "operator": "Exists"}), true),
            (json!({"key": "k", "value": "v"}), true),
            (json!({"key": "k", "value": "v", "effect": "NoSchedule"}), true),
            (json!({"key": "k", "value": "w"}), false),
            (json!({"key": "k"}), false),
            (json!({"key": "l", "operator": "Exists"}), false),
            (json!({"key": "k", "value": "v", "effect": "NoExecute"}), false),
            (json!({"key": "k", "operator": "Resembles", "value": "v"}), false),
        ] {
            assert_eq!(check(toleration.clone(), taint.clone()), expected, "{toleration}");
        }
    }

    #[test]
    fn numbers_compare() {
        let taint = json!({"key": "sla", "value": "950", "effect": "NoSchedule"});
        assert!(check(json!({"key": "sla", "operator": "Gt", "value": "900"}), taint.clone()));
        assert!(!check(json!({"key": "sla", "operator": "Gt", "value": "950"}), taint.clone()));
        assert!(check(json!({"key": "sla", "operator": "Lt", "value": "951"}), taint.clone()));
        assert!(!check(json!({"key": "sla", "operator": "Lt", "value": "many"}), taint));
    }
}
