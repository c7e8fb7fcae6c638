//! Rules for addresses, address ranges and protocols.

use std::net::IpAddr;

use api::field::{Errors, Path};
use api::names;

use super::bounds::follows;
use ipnet::IpNet;

/// Checks an address range.
pub fn validate_cidr(cidr: &str, path: &Path, errors: &mut Errors) {
    if cidr.parse::<IpNet>().is_err() {
        errors.invalid(path, cidr, "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)");
    }
}

/// Checks an address.
pub fn validate_ip(ip: &str, path: &Path, errors: &mut Errors) {
    follows(ip, names::ip_address, path, errors);
}

/// Checks that an address is one that a packet can go to from anywhere: not unspecified, loopback, link-local.
pub fn validate_non_special_ip(ip: &str, path: &Path, errors: &mut Errors) {
    let Ok(parsed) = ip.parse::<IpAddr>() else { return validate_ip(ip, path, errors) };
    if parsed.is_unspecified() {
        errors.invalid(path, ip, "may not be unspecified (0.0.0.0 or ::)");
    }
    if parsed.is_loopback() {
        errors.invalid(path, ip, "may not be in the loopback range (127.0.0.0/8, ::1/128)");
    }
    let (link_local, link_local_multicast) = match parsed {
        IpAddr::V4(v4) => (v4.is_link_local(), v4.octets()[..3] == [224, 0, 0]),
        IpAddr::V6(v6) => (v6.is_unicast_link_local(), v6.segments()[0] & 0xff0f == 0xff02),
    };
    if link_local {
        errors.invalid(path, ip, "may not be in the link-local range (169.254.0.0/16, fe80::/10)");
    }
    if link_local_multicast {
        errors.invalid(path, ip, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)");
    }
}

/// The transport protocols, in upstream's order.
pub const PROTOCOLS: &[&str] = &["SCTP", "TCP", "UDP"];

/// Checks a protocol that must be there.
pub fn validate_protocol(protocol: Option<&str>, path: &Path, errors: &mut Errors) {
    super::bounds::required_one_of(protocol.unwrap_or(""), PROTOCOLS, path, errors);
}

/// Checks a port number.
pub fn validate_port(port: i32, path: &Path, errors: &mut Errors) {
    for wrong in names::port_number(port.into()) {
        errors.invalid(path, port, &wrong);
    }
}
