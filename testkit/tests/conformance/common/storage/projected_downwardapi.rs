//! The downward API inside a projected volume: as in one of its own.

use super::downwardapi_volume::{allocatable, default_mode, item_mode, name, resource, updated};
use crate::framework::Behaviour;

pub const BEHAVIOURS: &[Behaviour] = &[
    Behaviour::new("[sig-storage] Projected downwardAPI should provide podname only [NodeConformance]", |f| Box::pin(name(f, true))),
    Behaviour::new("[sig-storage] Projected downwardAPI should set DefaultMode on files [LinuxOnly] [NodeConformance]", |f| {
        Box::pin(default_mode(f, true))
    }),
    Behaviour::new("[sig-storage] Projected downwardAPI should set mode on item file [LinuxOnly] [NodeConformance]", |f| {
        Box::pin(item_mode(f, true))
    }),
    Behaviour::new("[sig-storage] Projected downwardAPI should update labels on modification [NodeConformance]", |f| {
        Box::pin(updated(f, true, "labels"))
    }),
    Behaviour::new("[sig-storage] Projected downwardAPI should update annotations on modification [NodeConformance]", |f| {
        Box::pin(updated(f, true, "annotations"))
    }),
    Behaviour::new("[sig-storage] Projected downwardAPI should provide container's cpu limit [NodeConformance]", |f| {
        Box::pin(resource(f, true, "limits.cpu", "2"))
    }),
    Behaviour::new("[sig-storage] Projected downwardAPI should provide container's memory limit [NodeConformance]", |f| {
        Box::pin(resource(f, true, "limits.memory", "67108864"))
    }),
    Behaviour::new("[sig-storage] Projected downwardAPI should provide container's cpu request [NodeConformance]", |f| {
        Box::pin(resource(f, true, "requests.cpu", "1"))
    }),
    Behaviour::new("[sig-storage] Projected downwardAPI should provide container's memory request [NodeConformance]", |f| {
        Box::pin(resource(f, true, "requests.memory", "33554432"))
    }),
    Behaviour::new(
        "[sig-storage] Projected downwardAPI should provide node allocatable (cpu) as default cpu limit if the limit is not set [NodeConformance]",
        |f| Box::pin(allocatable(f, true, "cpu")),
    ),
    Behaviour::new(
        "[sig-storage] Projected downwardAPI should provide node allocatable (memory) as default memory limit if the limit is not set [NodeConformance]",
        |f| Box::pin(allocatable(f, true, "memory")),
    ),
];
