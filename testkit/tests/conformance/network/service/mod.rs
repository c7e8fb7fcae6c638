//! Services: where they answer, who answers, and what changes with their type.

mod affinity;
mod endpoints;
mod objects;
mod types;

use crate::framework::{Behaviour, test};

pub const BEHAVIOURS: &[Behaviour] = &[
    Behaviour::new("[sig-network] Services should provide secure master service", test!(objects::secure_master)),
    Behaviour::new("[sig-network] Services should find a service from listing all namespaces", test!(objects::found_everywhere)),
    Behaviour::new("[sig-network] Services should complete a service status lifecycle", test!(objects::status)),
    Behaviour::new("[sig-network] Services should delete a collection of services", test!(objects::collection)),
    Behaviour::new("[sig-network] Services should test the lifecycle of an Endpoint", test!(objects::endpoints_lifecycle)),
    Behaviour::new("[sig-network] Services should serve a basic endpoint from pods", test!(endpoints::basic)),
    Behaviour::new("[sig-network] Services should serve multiport endpoints from pods", test!(endpoints::several_ports)),
    Behaviour::new("[sig-network] Services should be able to create a functioning NodePort service", test!(types::node_port)),
    Behaviour::new(
        "[sig-network] Services should be able to change the type from ExternalName to ClusterIP",
        test!(types::external_name_to_cluster_ip),
    ),
    Behaviour::new(
        "[sig-network] Services should be able to change the type from ExternalName to NodePort",
        test!(types::external_name_to_node_port),
    ),
    Behaviour::new(
        "[sig-network] Services should be able to change the type from ClusterIP to ExternalName",
        test!(types::cluster_ip_to_external_name),
    ),
    Behaviour::new(
        "[sig-network] Services should be able to change the type from NodePort to ExternalName",
        test!(types::node_port_to_external_name),
    ),
    Behaviour::new(
        "[sig-network] Services should have session affinity work for service with type clusterIP [LinuxOnly]",
        test!(affinity::cluster_ip),
    ),
    Behaviour::new(
        "[sig-network] Services should be able to switch session affinity for service with type clusterIP [LinuxOnly]",
        test!(affinity::switched_cluster_ip),
    ),
    Behaviour::new("[sig-network] Services should have session affinity work for NodePort service [LinuxOnly]", test!(affinity::node_port)),
    Behaviour::new(
        "[sig-network] Services should be able to switch session affinity for NodePort service [LinuxOnly]",
        test!(affinity::switched_node_port),
    ),
];
