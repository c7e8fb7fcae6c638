//! The formats of text that a schema may ask for. A format that is not known holds for every text, as upstream.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use base64::Engine as _;
use jiff::Timestamp;
use jiff::civil::Date;

/// Whether a text has a format.
#[must_use]
pub fn holds(format: &str, text: &str) -> bool {
    match format {
        "date-time" | "datetime" => text.parse::<Timestamp>().is_ok(),
        "date" => text.len() == 10 && text.parse::<Date>().is_ok(),
        "ipv4" => text.parse::<Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<Ipv6Addr>().is_ok(),
        "cidr" => is_cidr(text),
        "mac" => is_mac(text),
        "uuid" | "uuid3" | "uuid4" | "uuid5" => is_uuid(text, format.as_bytes().get(4).copied()),
        "uri" => http::Uri::try_from(text).is_ok_and(|u| u.scheme().is_some() || text.starts_with('/')) || is_opaque_uri(text),
        "email" => text.split_once('@').is_some_and(|(user, host)| !user.is_empty() && is_hostname(host)),
        "hostname" => is_hostname(text),
        "byte" => base64::engine::general_purpose::STANDARD.decode(text).is_ok(),
        "duration" => is_duration(text),
        "hexcolor" => {
            let digits = text.strip_prefix('#').unwrap_or(text);
            matches!(digits.len(), 3 | 6) && digits.bytes().all(|c| c.is_ascii_hexdigit())
        }
        "k8s-short-name" => api::names::dns1123_label(text).is_empty(),
        "k8s-long-name" => api::names::dns1123_subdomain(text).is_empty(),
        _ => true,
    }
}

fn is_cidr(text: &str) -> bool {
    let Some((address, bits)) = text.split_once('/') else { return false };
    let most = match address.parse::<IpAddr>() {
        Ok(IpAddr::V4(_)) => 32,
        Ok(IpAddr::V6(_)) => 128,
        Err(_) => return false,
    };
    bits.parse::<u8>().is_ok_and(|b| b <= most)
}

fn is_mac(text: &str) -> bool {
    let parts: Vec<&str> = text.split([':', '-']).collect();
    matches!(parts.len(), 6 | 8 | 20) && parts.iter().all(|p| p.len() == 2 && p.bytes().all(|c| c.is_ascii_hexdigit()))
}

fn is_uuid(text: &str, version: Option<u8>) -> bool {
    let version_fits = |id: uuid::Uuid| version.is_none_or(|v| id.get_version_num() == usize::from(v - b'0'));
    uuid::Uuid::try_parse(text).is_ok_and(version_fits)
}

fn is_opaque_uri(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once(':') else { return false };
    let named =
        scheme.starts_with(|c: char| c.is_ascii_alphabetic()) && scheme.bytes().all(|c| c.is_ascii_alphanumeric() || b"+-.".contains(&c));
    named && !rest.is_empty() && !rest.contains(char::is_whitespace)
}

fn is_hostname(text: &str) -> bool {
    let label =
        |l: &str| !l.is_empty() && l.len() <= 63 && l.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-') && !l.starts_with('-');
    text.len() <= 253 && text.trim_end_matches('.').split('.').all(label)
}

/// Go's notation (`1h30m`), or a number and a unit in words (`2 days`).
fn is_duration(text: &str) -> bool {
    const UNITS: [&str; 8] = ["ns", "us", "µs", "ms", "s", "m", "h", "d"];
    let mut rest = text.trim_start_matches(['-', '+']);
    if rest == "0" {
        return true;
    }
    let mut some = false;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        if digits == 0 || rest[..digits].parse::<f64>().is_err() {
            return false;
        }
        rest = rest[digits..].trim_start();
        let unit = rest.find(|c: char| c.is_ascii_digit() || c == '.' || c == ' ').unwrap_or(rest.len());
        let word = rest[..unit].trim_end_matches('s');
        let known = UNITS.contains(&&rest[..unit]) || ["second", "minute", "hour", "day", "week", "w"].contains(&word);
        if !known {
            return false;
        }
        rest = rest[unit..].trim_start();
        some = true;
    }
    some
}

#[cfg(test)]
mod tests {
    use super::holds;

    #[test]
    fn formats() {
        let held = [
            ("date-time", "2026-01-01T00:00:00.5Z"),
            ("date", "2026-01-31"),
            ("ipv4", "10.0.0.1"),
            ("ipv6", "::1"),
            ("cidr", "10.0.0.0/8"),
            ("mac", "00:11:22:33:44:55"),
            ("uuid", "67e55044-10b1-426f-9247-bb680e5fe0c8"),
            ("uuid4", "67e55044-10b1-426f-9247-bb680e5fe0c8"),
            ("uri", "https://a.example/b?c#d"),
            ("uri", "urn:a:b"),
            ("email", "a@b.example"),
            ("hostname", "a.b-c.example"),
            ("byte", "YWJj"),
            ("duration", "1h30m"),
            ("duration", "2 days"),
            ("k8s-short-name", "a-b"),
            ("nonsense", "anything"),
        ];
        let broken = [
            ("date-time", "yesterday"),
            ("date", "2026-02-31"),
            ("ipv4", "::1"),
            ("ipv6", "10.0.0.1"),
            ("cidr", "10.0.0.0/33"),
            ("mac", "00:11"),
            ("uuid", "x"),
            ("uuid3", "67e55044-10b1-426f-9247-bb680e5fe0c8"),
            ("uri", "no uri"),
            ("email", "nobody"),
            ("hostname", "-a"),
            ("byte", "Y$"),
            ("duration", "1 fortnight"),
            ("duration", ""),
            ("k8s-long-name", "A"),
        ];
        assert_eq!(held.iter().filter(|(f, t)| !holds(f, t)).collect::<Vec<_>>(), Vec::<&(&str, &str)>::new());
        assert_eq!(broken.iter().filter(|(f, t)| holds(f, t)).collect::<Vec<_>>(), Vec::<&(&str, &str)>::new());
    }
}
