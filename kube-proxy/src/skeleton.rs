//! The fixed part of the table: base chains, and the sets they look things up in.
//!
//! A packet meets a handful of rules here, whatever the number of Services: each rule is one lookup in a hash.
//! What depends on the cluster is elements of these sets, and the few chains that elements lead to.

use crate::model::{Node, Protocol};
use crate::ruleset::{Action, Carries, Chain, Field, Hook, Match, Rule, Ruleset, Set, Type, Verdict};

/// Frontend (address, protocol, port) to what happens to new connections.
pub const SERVICES: &str = "services";
/// As [`SERVICES`], asked first for clients inside the cluster; only frontends that treat them differently are in it.
pub const INSIDE: &str = "inside";
/// Frontend and slot to endpoint.
pub const ENDPOINTS: &str = "endpoints";
/// Client and frontend to the endpoint it had last; learnt from packets.
pub const AFFINITY: &str = "affinity";
/// Frontends with client affinity, to the chain that remembers.
pub const STICKY: &str = "sticky";
/// Pods of this node that could be sent back to themselves, each paired with itself.
pub const HAIRPIN: &str = "hairpin";
/// Frontends that only some sources may use.
pub const RESTRICTED: &str = "restricted";
/// Which sources may use them.
pub const ADMITTED: &str = "admitted";
/// Pods of this node to the chain that says what may come in.
pub const INGRESS: &str = "isolated-ingress";
/// Pods of this node to the chain that says what may go out.
pub const EGRESS: &str = "isolated-egress";

/// The chain that tells the sender that there is no endpoint.
pub const NO_ENDPOINTS: &str = "no-endpoints";

/// The chain that asks the receiving pod's policies.
pub const ADMIT: &str = "admit";

/// How many clients are remembered for affinity at most, all Services together: 64 Ki entries are about 10 MB of kernel
/// memory. When it is full, new clients are balanced without being remembered.
pub const MAX_REMEMBERED: u32 = 65_536;

/// The fields of a frontend.
pub const FRONTEND: [Field; 3] = [Field::Daddr, Field::Proto, Field::Dport];

/// The table without Services, pods and policies.
#[must_use]
pub fn skeleton(node: &Node) -> Ruleset {
    use Type::{Addr, Net, Port, Proto, Slot};
    let mut table = Ruleset::default();
    let mut set = |name: &str, key: &[Type], carries| table.sets.insert(name.to_owned(), Set::new(key, carries));
    set(SERVICES, &[Addr, Proto, Port], Carries::Verdict);
    set(INSIDE, &[Addr, Proto, Port], Carries::Verdict);
    set(ENDPOINTS, &[Addr, Proto, Port, Slot], Carries::Endpoint);
    set(STICKY, &[Addr, Proto, Port], Carries::Verdict);
    set(HAIRPIN, &[Addr, Addr], Carries::Nothing);
    set(RESTRICTED, &[Addr, Proto, Port], Carries::Nothing);
    set(ADMITTED, &[Addr, Proto, Port, Net], Carries::Nothing);
    set(INGRESS, &[Addr], Carries::Verdict);
    set(EGRESS, &[Addr], Carries::Verdict);
    let learnt = Set { learnt: Some(MAX_REMEMBERED), ..Set::new(&[Addr, Addr, Proto, Port], Carries::Endpoint) };
    table.sets.insert(AFFINITY.to_owned(), learnt);

    let mut chain = |name: &str, hook, rules| table.chains.insert(name.to_owned(), Chain { hook, rules });
    let arriving = dispatch(node.cluster_cidr.map(Match::From).into_iter().collect(), node.cluster_cidr.is_some());
    chain("prerouting", Some(Hook::Prerouting), [vec![not_for_loopback()], arriving].concat());
    chain("output", Some(Hook::Output), dispatch(vec![], true));
    chain("forward", Some(Hook::Forward), forward());
    chain(ADMIT, None, admit());
    chain("postrouting", Some(Hook::Postrouting), postrouting(node));
    chain(NO_ENDPOINTS, None, vec![Rule::new([Match::Proto(Protocol::Tcp)], Action::Reset), Rule::new([], Action::Unreachable)]);
    table
}

/// Host ports answer on 127.0.0.1 because the kernel is told to route such packets ([`crate::sysctl`]); those that come in from elsewhere it
/// must not (CVE-2020-8558). What this node sends to itself has been through `output` and does not come here.
fn not_for_loopback() -> Rule {
    let loopback = ipnet::Ipv4Net::new_assert([127, 0, 0, 0].into(), 8).into();
    Rule::new([Match::To(loopback), Match::NotFrom(loopback)], Action::Verdict(Verdict::Drop))
}

/// New connections, by frontend. `inside` holds for clients in the cluster.
fn dispatch(inside: Vec<Match>, inside_is_known: bool) -> Vec<Rule> {
    let frontend = FRONTEND.to_vec();
    let with_source = [&FRONTEND[..], &[Field::Saddr]].concat();
    let mut rules = vec![Rule::new(
        [Match::In(frontend.clone(), RESTRICTED.into()), Match::NotIn(with_source, ADMITTED.into())],
        Action::Verdict(Verdict::Drop),
    )];
    if inside_is_known {
        rules.push(Rule::new(inside, Action::Lookup(frontend.clone(), INSIDE.into())));
    }
    rules.push(Rule::new([], Action::Lookup(frontend, SERVICES.into())));
    rules
}

/// NetworkPolicy. The node reaches its own pods without passing here, and they it.
fn forward() -> Vec<Rule> {
    vec![
        Rule::new([Match::Established], Action::Verdict(Verdict::Accept)),
        Rule::new([], Action::Lookup(vec![Field::Saddr], EGRESS.into())),
        Rule::new([], Action::Verdict(Verdict::Goto(ADMIT.into()))),
    ]
}

/// It decides: packets come here from within the sender's policies, whose chains end in a drop.
fn admit() -> Vec<Rule> {
    vec![Rule::new([], Action::Lookup(vec![Field::Daddr], INGRESS.into())), Rule::new([], Action::Verdict(Verdict::Accept))]
}

fn postrouting(node: &Node) -> Vec<Rule> {
    let mut rules = Vec::new();
    for protocol in Protocol::ALL {
        // The protocol is named because nft knows the width of a connection's port only then.
        rules.push(Rule::new(
            [Match::Redirected, Match::Proto(protocol)],
            Action::Lookup(vec![Field::OrigDaddr, Field::Proto, Field::OrigDport], STICKY.into()),
        ));
    }
    rules.push(Rule::new([Match::Redirected, Match::In(vec![Field::Saddr, Field::Daddr], HAIRPIN.into())], Action::Masquerade));
    rules.push(Rule::new([Match::MasqueradeWanted], Action::Masquerade));
    if let Some(cluster) = node.cluster_cidr {
        let multicast = ipnet::Ipv4Net::new_assert([224, 0, 0, 0].into(), 4).into();
        for pods in node.pod_cidrs.iter().filter(|c| c.addr().is_ipv4() == cluster.addr().is_ipv4()) {
            let leaving = [Match::From(*pods), Match::NotTo(cluster), Match::NotTo(multicast)];
            rules.push(Rule::new(leaving, Action::Masquerade));
        }
    }
    rules
}
