//! Values of the libraries' own types.

use std::cmp::Ordering;
use std::net::IpAddr;
use std::rc::Rc;

use api::quantity::Quantity;

use super::authorizer::{Authz, Check, Decision};
use super::formats::Format;
use super::ip::Cidr;
use super::semver::Semver;
use super::url::Url;

/// A value of a library's type.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub enum Opaque<'a> {
    Url(Rc<Url>),
    Ip(IpAddr),
    Cidr(Cidr),
    Quantity(Quantity),
    Semver(Rc<Semver>),
    Format(&'static Format),
    Authorizer(Authz<'a>),
    Check(Rc<Check<'a>>),
    Decision(Decision),
}

impl Opaque<'_> {
    /// The name of its type.
    #[must_use]
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Url(_) => "kubernetes.URL",
            Self::Ip(_) => "net.IP",
            Self::Cidr(_) => "net.CIDR",
            Self::Quantity(_) => "kubernetes.Quantity",
            Self::Semver(_) => "kubernetes.Semver",
            Self::Format(_) => "kubernetes.NamedFormat",
            Self::Authorizer(_) => "kubernetes.authorization.Authorizer",
            Self::Check(check) => check.type_name(),
            Self::Decision(_) => "kubernetes.authorization.Decision",
        }
    }

    /// Its size, as costs have it.
    #[must_use]
    pub const fn size(&self) -> usize {
        match self {
            Self::Ip(ip) => address_size(ip),
            Self::Cidr(cidr) => address_size(&cidr.address),
            _ => 1,
        }
    }

    /// As text, where there is one.
    #[must_use]
    pub fn text(&self) -> Option<String> {
        match self {
            Self::Ip(ip) => Some(ip.to_string()),
            Self::Cidr(cidr) => Some(cidr.to_string()),
            Self::Quantity(quantity) => Some(quantity.to_string()),
            Self::Semver(version) => Some(version.to_string()),
            _ => None,
        }
    }

    /// The order of two values of a type that has one.
    #[must_use]
    pub fn order(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Quantity(a), Self::Quantity(b)) => Some(a.cmp(b)),
            (Self::Semver(a), Self::Semver(b)) => Some(a.cmp(b)),
            _ => None,
        }
    }
}

const fn address_size(ip: &IpAddr) -> usize {
    if ip.is_ipv4() { 4 } else { 16 }
}

impl PartialEq for Opaque<'_> {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Url(a), Self::Url(b)) => a == b,
            (Self::Ip(a), Self::Ip(b)) => a == b,
            (Self::Cidr(a), Self::Cidr(b)) => a == b,
            (Self::Format(a), Self::Format(b)) => a.name == b.name,
            _ => self.order(other) == Some(Ordering::Equal),
        }
    }
}
