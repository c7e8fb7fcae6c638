//! Secrets, beside those in volumes.

use super::super::source::Source::Secret;
use super::environment::{all_variables, empty_key, life, one_variable};
use crate::framework::Behaviour;

pub const BEHAVIOURS: &[Behaviour] = &[
    Behaviour::new("[sig-node] Secrets should be consumable from pods in env vars [NodeConformance]", |f| {
        Box::pin(one_variable(f, Secret))
    }),
    Behaviour::new("[sig-node] Secrets should be consumable via the environment [NodeConformance]", |f| Box::pin(all_variables(f, Secret))),
    Behaviour::new("[sig-node] Secrets should fail to create secret due to empty secret key", |f| Box::pin(empty_key(f, Secret))),
    Behaviour::new("[sig-node] Secrets should patch a secret", |f| Box::pin(life(f, Secret))),
];
