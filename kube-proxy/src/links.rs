//! Brings routes and the VXLAN link to the plan, and reads the node's addresses. Touches only what is marked as ours.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use anyhow::Context as _;
use futures::TryStreamExt as _;
use ipnet::Ipv4Net;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::AddressAttribute;
use netlink_packet_route::link::LinkAttribute;
use netlink_packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourState};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope};
use rtnetlink::{Handle, LinkUnspec, LinkVxlan, RouteMessageBuilder};

use crate::routes::{Far, Near, Plan, ROUTE_PROTOCOL, Route, VXLAN_ID, VXLAN_LINK, VXLAN_PORT};

/// What the headers of VXLAN take of each packet: of IPv4 20 bytes, of UDP 8, of VXLAN 8, and the inner Ethernet's 14 (RFC 7348).
const VXLAN_OVERHEAD: u32 = 50;
/// IPv4 works nowhere with less (RFC 791).
const LEAST_MTU: u32 = 68;
/// What Ethernet has, where the link of this node's address cannot be told.
const USUAL_MTU: u32 = 1_500;

/// An address of this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    /// The link it is on.
    pub link: u32,
    /// The address with the network it is in.
    pub net: Ipv4Net,
}

/// The IPv4 addresses of this node.
///
/// # Errors
/// The kernel's refusal.
pub async fn addresses(handle: &Handle) -> anyhow::Result<BTreeSet<Address>> {
    let mut found = BTreeSet::new();
    let mut all = handle.address().get().execute();
    while let Some(message) = all.try_next().await.context("reading addresses")? {
        let link = message.header.index;
        for attribute in &message.attributes {
            if let AddressAttribute::Local(IpAddr::V4(addr)) = attribute
                && let Ok(net) = Ipv4Net::new(*addr, message.header.prefix_len)
            {
                found.insert(Address { link, net });
            }
        }
    }
    Ok(found)
}

/// The index of a link; none when it is not there.
async fn link(handle: &Handle, name: &str) -> anyhow::Result<Option<u32>> {
    let mut found = handle.link().get().match_name(name).execute();
    match found.try_next().await {
        Ok(message) => Ok(message.map(|m| m.header.index)),
        Err(rtnetlink::Error::NetlinkError(e)) if e.raw_code() == -libc::ENODEV => Ok(None),
        Err(error) => Err(error).with_context(|| format!("looking for the link {name}")),
    }
}

/// The networks that are reached without a gateway. Addresses alone do not tell: a single host may be on the wire by a route of its own.
///
/// # Errors
/// The kernel's refusal.
pub async fn on_link(handle: &Handle) -> anyhow::Result<Vec<Ipv4Net>> {
    let all = handle.route().get(RouteMessageBuilder::<Ipv4Addr>::new().build()).execute();
    let all: Vec<RouteMessage> = all.try_collect().await.context("reading routes")?;
    let on_link = all.iter().filter(|r| r.header.table == RouteHeader::RT_TABLE_MAIN && r.header.scope == RouteScope::Link);
    Ok(on_link.filter_map(destination).collect())
}

fn destination(message: &RouteMessage) -> Option<Ipv4Net> {
    message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(a)) => Ipv4Net::new(*a, message.header.destination_prefix_length).ok(),
        _ => None,
    })
}

/// Makes the kernel's routes, and the link they need, those of the plan. Says whether anything had to change.
///
/// # Errors
/// The kernel's refusal. What was done before stays; the next call does the rest.
pub async fn apply(handle: &Handle, plan: &Plan) -> anyhow::Result<bool> {
    let vxlan = match &plan.near {
        Some(near) => Some(vxlan(handle, near, &plan.far).await?),
        None => {
            if let Some(index) = link(handle, VXLAN_LINK).await? {
                handle.link().del(index).execute().await.context("removing the VXLAN link")?;
            }
            None
        }
    };
    let (mut there, mut changed) = (BTreeSet::new(), false);
    for message in ours(handle).await? {
        match read(&message).filter(|(route, link)| plan.routes.contains(route) && (!route.vxlan || *link == vxlan)) {
            Some((route, _)) => drop(there.insert(route)),
            None => {
                changed = true;
                handle.route().del(message).execute().await.context("removing a route")?;
            }
        }
    }
    for route in plan.routes.difference(&there) {
        changed = true;
        let mut message = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(route.to.network(), route.to.prefix_len())
            .gateway(route.via)
            .protocol(RouteProtocol::Other(ROUTE_PROTOCOL));
        if let Some(index) = vxlan.filter(|_| route.vxlan) {
            message = message.output_interface(index).onlink();
        }
        let attempted = || format!("adding the route {} via {}", route.to, route.via);
        handle.route().add(message.build()).replace().execute().await.with_context(attempted)?;
    }
    Ok(changed)
}

/// Removes the routes and the link.
///
/// # Errors
/// The kernel's refusal.
pub async fn cleanup(handle: &Handle) -> anyhow::Result<()> {
    apply(handle, &Plan::default()).await.map(drop)
}

async fn ours(handle: &Handle) -> anyhow::Result<Vec<RouteMessage>> {
    let all = handle.route().get(RouteMessageBuilder::<Ipv4Addr>::new().build()).execute();
    let all: Vec<RouteMessage> = all.try_collect().await.context("reading routes")?;
    Ok(all.into_iter().filter(|r| r.header.protocol == RouteProtocol::Other(ROUTE_PROTOCOL)).collect())
}

fn read(message: &RouteMessage) -> Option<(Route, Option<u32>)> {
    let (mut to, mut via, mut link) = (None, None, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(a)) => to = Some(*a),
            RouteAttribute::Gateway(RouteAddress::Inet(a)) => via = Some(*a),
            RouteAttribute::Oif(index) => link = Some(*index),
            _ => {}
        }
    }
    let to = Ipv4Net::new(to?, message.header.destination_prefix_length).ok()?;
    let via = via?;
    Some((Route { to, via, vxlan: via == to.network() }, link))
}

/// Brings up our end of the link, and tells it where the others are.
async fn vxlan(handle: &Handle, near: &Near, far: &BTreeSet<Far>) -> anyhow::Result<u32> {
    let mtu = uplink_mtu(handle, near.node).await?.saturating_sub(VXLAN_OVERHEAD).max(LEAST_MTU);
    let index = match link(handle, VXLAN_LINK).await? {
        Some(index) if is_as_planned(handle, index, near, mtu).await? => index,
        stale => {
            if let Some(index) = stale {
                handle.link().del(index).execute().await.context("removing the VXLAN link")?;
            }
            let message = LinkVxlan::new(VXLAN_LINK, VXLAN_ID)
                .port(VXLAN_PORT)
                .local(near.node)
                .learning(false)
                .mtu(mtu)
                .address(near.hardware.to_vec())
                .build();
            handle.link().add(message).execute().await.context("adding the VXLAN link")?;
            link(handle, VXLAN_LINK).await?.context("the VXLAN link went away")?
        }
    };
    handle.address().add(index, near.address.into(), 32).replace().execute().await.context("giving the VXLAN link its address")?;
    handle.link().set(LinkUnspec::new_with_index(index).up().build()).execute().await.context("bringing the VXLAN link up")?;
    neighbours(handle, index, far).await?;
    Ok(index)
}

/// The MTU of the link that has this node's address.
async fn uplink_mtu(handle: &Handle, node: Ipv4Addr) -> anyhow::Result<u32> {
    let Some(uplink) = addresses(handle).await?.into_iter().find(|a| a.net.addr() == node) else { return Ok(USUAL_MTU) };
    let found =
        handle.link().get().match_index(uplink.link).execute().try_next().await.context("reading the link of the node's address")?;
    let mtu = found.and_then(|m| m.attributes.into_iter().find_map(|a| if let LinkAttribute::Mtu(mtu) = a { Some(mtu) } else { None }));
    Ok(mtu.unwrap_or(USUAL_MTU))
}

async fn is_as_planned(handle: &Handle, index: u32, near: &Near, mtu: u32) -> anyhow::Result<bool> {
    let found = handle.link().get().match_index(index).execute().try_next().await.context("reading the VXLAN link")?;
    let Some(message) = found else { return Ok(false) };
    let has = |wanted: &dyn Fn(&LinkAttribute) -> bool| message.attributes.iter().any(wanted);
    Ok(has(&|a| matches!(a, LinkAttribute::Address(hw) if hw[..] == near.hardware))
        && has(&|a| matches!(a, LinkAttribute::Mtu(m) if *m == mtu)))
}

/// Who has which address on the link, and at which node that is.
async fn neighbours(handle: &Handle, index: u32, far: &BTreeSet<Far>) -> anyhow::Result<()> {
    for family in [AddressFamily::Inet, AddressFamily::Bridge] {
        let mut all = handle.neighbours().get().set_address_family(family).execute();
        let mut stale = Vec::new();
        while let Some(message) = all.try_next().await.context("reading neighbours")? {
            if message.header.ifindex == index && message.header.state == NeighbourState::Permanent && !is_known(&message.attributes, far) {
                stale.push(message);
            }
        }
        for message in stale {
            handle.neighbours().del(message).execute().await.context("removing a neighbour")?;
        }
    }
    for one in far {
        let neighbour = handle.neighbours().add(index, one.address.into()).link_layer_address(&one.hardware);
        neighbour.state(NeighbourState::Permanent).replace().execute().await.context("adding a neighbour")?;
        let forward = handle.neighbours().add_bridge(index, &one.hardware).destination(one.node.into());
        forward
            .state(NeighbourState::Permanent)
            .flags(NeighbourFlags::Own)
            .replace()
            .execute()
            .await
            .context("adding a forwarding entry")?;
    }
    Ok(())
}

fn is_known(attributes: &[NeighbourAttribute], far: &BTreeSet<Far>) -> bool {
    let (mut hardware, mut address) = (None, None);
    for attribute in attributes {
        match attribute {
            NeighbourAttribute::LinkLayerAddress(hw) => hardware = Some(hw.as_slice()),
            NeighbourAttribute::Destination(NeighbourAddress::Inet(a)) => address = Some(*a),
            _ => {}
        }
    }
    far.iter().any(|f| hardware == Some(&f.hardware[..]) && (address == Some(f.address) || address == Some(f.node)))
}
