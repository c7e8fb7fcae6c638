//! ConfigMaps in projected volumes.

use super::super::source::Source;
use super::shown::{Case, Shown, optional, read, twice, updated};
use crate::framework::Behaviour;

const SHOWN: Shown = Shown { source: Source::ConfigMap, projected: true };

pub const BEHAVIOURS: &[Behaviour] = &[
    Behaviour::new("[sig-storage] Projected configMap should be consumable from pods in volume [NodeConformance]", |f| {
        Box::pin(read(f, SHOWN, Case::whole()))
    }),
    Behaviour::new(
        "[sig-storage] Projected configMap should be consumable from pods in volume with defaultMode set [LinuxOnly] [NodeConformance]",
        |f| Box::pin(read(f, SHOWN, Case::default_mode())),
    ),
    Behaviour::new("[sig-storage] Projected configMap should be consumable from pods in volume as non-root [NodeConformance]", |f| {
        Box::pin(read(f, SHOWN, Case::non_root()))
    }),
    Behaviour::new("[sig-storage] Projected configMap should be consumable from pods in volume with mappings [NodeConformance]", |f| {
        Box::pin(read(f, SHOWN, Case::mappings()))
    }),
    Behaviour::new(
        "[sig-storage] Projected configMap should be consumable from pods in volume with mappings and Item mode set [LinuxOnly] [NodeConformance]",
        |f| Box::pin(read(f, SHOWN, Case::item_mode())),
    ),
    Behaviour::new(
        "[sig-storage] Projected configMap should be consumable from pods in volume with mappings as non-root [NodeConformance]",
        |f| Box::pin(read(f, SHOWN, Case::mappings_non_root())),
    ),
    Behaviour::new("[sig-storage] Projected configMap updates should be reflected in volume [NodeConformance]", |f| {
        Box::pin(updated(f, SHOWN))
    }),
    Behaviour::new("[sig-storage] Projected configMap optional updates should be reflected in volume [NodeConformance]", |f| {
        Box::pin(optional(f, SHOWN))
    }),
    Behaviour::new("[sig-storage] Projected configMap should be consumable in multiple volumes in the same pod [NodeConformance]", |f| {
        Box::pin(twice(f, SHOWN))
    }),
];
