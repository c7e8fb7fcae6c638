//! Accounts of pods: as objects, their tokens in pods, and the authority that pods trust.

mod object;
mod tokens;

use crate::framework::{Behaviour, test};

pub const BEHAVIOURS: &[Behaviour] = &[
    Behaviour::new("[sig-auth] ServiceAccounts should mount an API token into pods", test!(tokens::mounted)),
    Behaviour::new("[sig-auth] ServiceAccounts should allow opting out of API token automount", test!(tokens::opting_out)),
    Behaviour::new("[sig-auth] ServiceAccounts should mount projected service account token", test!(tokens::projected)),
    Behaviour::new(
        "[sig-auth] ServiceAccounts ServiceAccountIssuerDiscovery should support OIDC discovery of service account issuer",
        test!(tokens::discovery),
    ),
    Behaviour::new("[sig-auth] ServiceAccounts should run through the lifecycle of a ServiceAccount", test!(object::lifecycle)),
    Behaviour::new("[sig-auth] ServiceAccounts should guarantee kube-root-ca.crt exist in any namespace", test!(object::root_authority)),
    Behaviour::new("[sig-auth] ServiceAccounts should update a ServiceAccount", test!(object::updated)),
];
