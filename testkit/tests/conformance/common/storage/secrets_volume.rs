//! Secrets in volumes of their own.

use super::super::source::Source;
use super::shown::{Case, Shown, immutable, optional, read, same_name, twice};
use crate::framework::Behaviour;

const SHOWN: Shown = Shown { source: Source::Secret, projected: false };

pub const BEHAVIOURS: &[Behaviour] = &[
    Behaviour::new("[sig-storage] Secrets should be consumable from pods in volume [NodeConformance]", |f| {
        Box::pin(read(f, SHOWN, Case::whole()))
    }),
    Behaviour::new(
        "[sig-storage] Secrets should be consumable from pods in volume with defaultMode set [LinuxOnly] [NodeConformance]",
        |f| Box::pin(read(f, SHOWN, Case::default_mode())),
    ),
    Behaviour::new(
        "[sig-storage] Secrets should be consumable from pods in volume as non-root with defaultMode and fsGroup set [LinuxOnly] [NodeConformance]",
        |f| Box::pin(read(f, SHOWN, Case::group())),
    ),
    Behaviour::new("[sig-storage] Secrets should be consumable from pods in volume with mappings [NodeConformance]", |f| {
        Box::pin(read(f, SHOWN, Case::mappings()))
    }),
    Behaviour::new(
        "[sig-storage] Secrets should be consumable from pods in volume with mappings and Item Mode set [LinuxOnly] [NodeConformance]",
        |f| Box::pin(read(f, SHOWN, Case::item_mode())),
    ),
    Behaviour::new("[sig-storage] Secrets should be consumable in multiple volumes in a pod [NodeConformance]", |f| {
        Box::pin(twice(f, SHOWN))
    }),
    Behaviour::new("[sig-storage] Secrets optional updates should be reflected in volume [NodeConformance]", |f| {
        Box::pin(optional(f, SHOWN))
    }),
    Behaviour::new(
        "[sig-storage] Secrets should be able to mount in a volume regardless of a different secret existing with same name in different namespace [NodeConformance]",
        |f| Box::pin(same_name(f, SHOWN)),
    ),
    Behaviour::new("[sig-storage] Secrets should be immutable if `immutable` field is set", |f| Box::pin(immutable(f, SHOWN))),
];
