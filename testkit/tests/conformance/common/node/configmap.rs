//! ConfigMaps, beside those in volumes.

use super::super::source::Source::ConfigMap;
use super::environment::{all_variables, empty_key, life, one_variable};
use crate::framework::Behaviour;

pub const BEHAVIOURS: &[Behaviour] = &[
    Behaviour::new("[sig-node] ConfigMap should be consumable via environment variable [NodeConformance]", |f| {
        Box::pin(one_variable(f, ConfigMap))
    }),
    Behaviour::new("[sig-node] ConfigMap should be consumable via the environment [NodeConformance]", |f| {
        Box::pin(all_variables(f, ConfigMap))
    }),
    Behaviour::new("[sig-node] ConfigMap should fail to create ConfigMap with empty key", |f| Box::pin(empty_key(f, ConfigMap))),
    Behaviour::new("[sig-node] ConfigMap should run through a ConfigMap lifecycle", |f| Box::pin(life(f, ConfigMap))),
];
