//! Addresses and networks: `ip`, `cidr` and what is asked of them.

use std::fmt;
use std::net::IpAddr;

use super::super::value::Val;
use super::opaque::Opaque;
use super::{Cost, Cx, Def, Fail, Out, def, fail, no_overload};

/// An address with the length of its network's prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    /// The address, with its host's bits.
    pub address: IpAddr,
    /// Bits of the prefix.
    pub prefix: u8,
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl Cidr {
    fn masked(self) -> Self {
        Self { address: mask(self.address, self.prefix), ..self }
    }
    fn contains(self, ip: IpAddr) -> bool {
        self.address.is_ipv4() == ip.is_ipv4() && mask(ip, self.prefix) == self.masked().address
    }
}

fn mask(ip: IpAddr, prefix: u8) -> IpAddr {
    match ip {
        IpAddr::V4(v4) => IpAddr::V4((v4.to_bits() & u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0)).into()),
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() & u128::MAX.checked_shl(128 - u32::from(prefix.min(128))).unwrap_or(0)).into()),
    }
}

const QUESTION: &[&str] = &["net.IP.() bool"];

pub(super) const DEFS: &[Def] = &[
    def("ip", &["(string) net.IP", "net.CIDR.() net.IP"], ip, Cost::Scan),
    def("isIP", &["(string) bool"], |a, _| text(a, |t| Val::Bool(parse_ip(t).is_ok())), Cost::Scan),
    def("ip.isCanonical", &["(string) bool"], is_canonical, Cost::Rewrite),
    def("family", &["net.IP.() int"], |a, _| ask(a, |ip| Val::Int(if ip.is_ipv4() { 4 } else { 6 })), Cost::One),
    def("isUnspecified", QUESTION, |a, _| ask(a, |ip| Val::Bool(ip.is_unspecified())), Cost::One),
    def("isLoopback", QUESTION, |a, _| ask(a, |ip| Val::Bool(ip.is_loopback())), Cost::One),
    def("isLinkLocalMulticast", QUESTION, |a, _| ask(a, |ip| Val::Bool(link_local_multicast(ip))), Cost::One),
    def("isLinkLocalUnicast", QUESTION, |a, _| ask(a, |ip| Val::Bool(link_local_unicast(ip))), Cost::One),
    def("isGlobalUnicast", QUESTION, |a, _| ask(a, |ip| Val::Bool(global_unicast(ip))), Cost::One),
    def("cidr", &["(string) net.CIDR"], cidr, Cost::Scan),
    def("isCIDR", &["(string) bool"], |a, _| text(a, |t| Val::Bool(parse_cidr(t).is_ok())), Cost::Scan),
    def("containsIP", &["net.CIDR.(net.IP) bool", "net.CIDR.(string) bool"], contains_ip, Cost::Network),
    def("containsCIDR", &["net.CIDR.(net.CIDR) bool", "net.CIDR.(string) bool"], contains_cidr, Cost::Network),
    def("masked", &["net.CIDR.() net.CIDR"], |a, _| network(a, |c| Val::Opaque(Opaque::Cidr(c.masked()))), Cost::One),
    def("prefixLength", &["net.CIDR.() int"], |a, _| network(a, |c| Val::Int(c.prefix.into())), Cost::One),
];

fn text<'a>(args: &[Val<'a>], f: fn(&str) -> Val<'a>) -> Out<'a> {
    match &args[0] {
        Val::Str(text) => Ok(f(text)),
        _ => no_overload(),
    }
}

fn ask<'a>(args: &[Val<'a>], f: fn(IpAddr) -> Val<'a>) -> Out<'a> {
    match &args[0] {
        Val::Opaque(Opaque::Ip(ip)) => Ok(f(*ip)),
        _ => no_overload(),
    }
}

fn network<'a>(args: &[Val<'a>], f: fn(Cidr) -> Val<'a>) -> Out<'a> {
    match &args[0] {
        Val::Opaque(Opaque::Cidr(cidr)) => Ok(f(*cidr)),
        _ => no_overload(),
    }
}

fn parse_ip(text: &str) -> Result<IpAddr, Fail> {
    if text.contains('%') {
        return fail(format!("IP Address {text:?} with zone value is not allowed"));
    }
    let Ok(ip) = text.parse::<IpAddr>() else {
        return fail(format!("IP Address {text:?} parse error during conversion from string: unable to parse IP"));
    };
    if mapped(ip) {
        return fail(format!("IPv4-mapped IPv6 address {text:?} is not allowed"));
    }
    Ok(ip)
}

fn mapped(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some())
}

fn parse_cidr(text: &str) -> Result<Cidr, Fail> {
    let wrong = || Fail::Error(format!("network address parse error during conversion from string: {text:?}"));
    let (address, prefix) = text.split_once('/').ok_or_else(wrong)?;
    let address: IpAddr = address.parse().map_err(|_| wrong())?;
    let plain = prefix.bytes().all(|b| b.is_ascii_digit()) && (prefix == "0" || !prefix.starts_with('0'));
    let most = if address.is_ipv4() { 32 } else { 128 };
    let prefix: u8 = prefix.parse().ok().filter(|p| plain && *p <= most).ok_or_else(wrong)?;
    if mapped(address) {
        return fail(format!("IPv4-mapped IPv6 address {text:?} is not allowed"));
    }
    Ok(Cidr { address, prefix })
}

fn ip<'a>(args: &[Val<'a>], _: Cx<'_>) -> Out<'a> {
    match &args[0] {
        Val::Str(text) => parse_ip(text).map(|ip| Val::Opaque(Opaque::Ip(ip))),
        Val::Opaque(Opaque::Cidr(cidr)) => Ok(Val::Opaque(Opaque::Ip(cidr.address))),
        _ => no_overload(),
    }
}

fn is_canonical<'a>(args: &[Val<'a>], _: Cx<'_>) -> Out<'a> {
    match &args[0] {
        Val::Str(text) => Ok(Val::Bool(parse_ip(text)?.to_string() == text[..])),
        _ => no_overload(),
    }
}

fn cidr<'a>(args: &[Val<'a>], _: Cx<'_>) -> Out<'a> {
    match &args[0] {
        Val::Str(text) => parse_cidr(text).map(|cidr| Val::Opaque(Opaque::Cidr(cidr))),
        _ => no_overload(),
    }
}

fn contains_ip<'a>(args: &[Val<'a>], _: Cx<'_>) -> Out<'a> {
    let (ip, network) = match args {
        [Val::Opaque(Opaque::Cidr(network)), Val::Opaque(Opaque::Ip(ip))] => (*ip, network),
        [Val::Opaque(Opaque::Cidr(network)), Val::Str(text)] => (parse_ip(text)?, network),
        _ => return no_overload(),
    };
    Ok(Val::Bool(network.contains(ip)))
}

fn contains_cidr<'a>(args: &[Val<'a>], _: Cx<'_>) -> Out<'a> {
    let (inner, outer) = match args {
        [Val::Opaque(Opaque::Cidr(outer)), Val::Opaque(Opaque::Cidr(inner))] => (*inner, outer),
        [Val::Opaque(Opaque::Cidr(outer)), Val::Str(text)] => (parse_cidr(text)?, outer),
        _ => return no_overload(),
    };
    Ok(Val::Bool(inner.prefix >= outer.prefix && outer.contains(inner.address)))
}

const fn link_local_multicast(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => matches!(v4.octets(), [224, 0, 0, _]),
        IpAddr::V6(v6) => v6.segments()[0] & 0xff0f == 0xff02,
    }
}

const fn link_local_unicast(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

const fn global_unicast(ip: IpAddr) -> bool {
    let broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
    !broadcast && !ip.is_unspecified() && !ip.is_loopback() && !ip.is_multicast() && !link_local_unicast(ip)
}
