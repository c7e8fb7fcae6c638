//! Rules for names, labels and annotations (apimachinery's `validation`). Each check returns what is wrong in upstream's words; empty means valid.

/// The most bytes of a DNS-1123 label.
pub const LABEL_MAX: usize = 63;
/// The most bytes of a DNS-1123 subdomain.
pub const SUBDOMAIN_MAX: usize = 253;
/// The most bytes of all annotations of an object together.
pub const ANNOTATIONS_MAX: usize = 256 << 10;

const LABEL_WRONG: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const SUBDOMAIN_WRONG: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL_1035_WRONG: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
const QUALIFIED_WRONG: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const LABEL_VALUE_WRONG: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const CONFIG_KEY_WRONG: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";
const ENV_NAME_WRONG: &str = "a valid environment variable name must consist only of printable ASCII characters other than '='";

/// Says that something has more than `most` characters or bytes.
#[must_use]
pub fn max_len(most: usize, unit: &str) -> String {
    format!("must be no more than {most} {unit}")
}

fn is_label(s: &str) -> bool {
    let ok = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    bounded_by(s, ok, |c| ok(c) || c == b'-')
}

/// Non-empty, every byte `inner`, the first and last `outer`.
fn bounded_by(s: &str, outer: impl Fn(u8) -> bool, inner: impl Fn(u8) -> bool) -> bool {
    let b = s.as_bytes();
    matches!((b.first(), b.last()), (Some(f), Some(l)) if outer(*f) && outer(*l)) && b.iter().all(|c| inner(*c))
}

fn is_qualified_part(s: &str) -> bool {
    bounded_by(s, |c| c.is_ascii_alphanumeric(), |c| c.is_ascii_alphanumeric() || b"-_.".contains(&c))
}

/// RFC 1123 label, as namespaces and container names are.
#[must_use]
pub fn dns1123_label(s: &str) -> Vec<String> {
    let mut out = Vec::new();
    if s.len() > LABEL_MAX {
        out.push(max_len(LABEL_MAX, "bytes"));
    }
    if !is_label(s) {
        // What would do as a subdomain has only its dots against it.
        out.push(if is_subdomain(s) { "must not contain dots".to_owned() } else { LABEL_WRONG.to_owned() });
    }
    out
}

fn is_subdomain(s: &str) -> bool {
    s.split('.').all(is_label)
}

/// RFC 1123 subdomain, as most objects' names are.
#[must_use]
pub fn dns1123_subdomain(s: &str) -> Vec<String> {
    let mut out = Vec::new();
    if s.len() > SUBDOMAIN_MAX {
        out.push(max_len(SUBDOMAIN_MAX, "bytes"));
    }
    if !is_subdomain(s) {
        out.push(SUBDOMAIN_WRONG.to_owned());
    }
    out
}

/// RFC 1035 label, as Services' names are.
#[must_use]
pub fn dns1035_label(s: &str) -> Vec<String> {
    let mut out = Vec::new();
    if s.len() > LABEL_MAX {
        out.push(max_len(LABEL_MAX, "bytes"));
    }
    if !is_label(s) || s.starts_with(|c: char| c.is_ascii_digit()) {
        out.push(LABEL_1035_WRONG.to_owned());
    }
    out
}

/// A name that is one segment of a URL path, as RBAC objects' names are.
#[must_use]
pub fn path_segment(s: &str) -> Vec<String> {
    if s == "." || s == ".." {
        return vec![format!("may not be '{s}'")];
    }
    ["/", "%"].iter().filter(|c| s.contains(**c)).map(|c| format!("may not contain '{c}'")).collect()
}

/// A label or annotation key, taint key, resource name: `[prefix/]name`.
#[must_use]
pub fn qualified_name(s: &str) -> Vec<String> {
    let mut out = Vec::new();
    let name = match s.split('/').collect::<Vec<_>>().as_slice() {
        [name] => *name,
        [prefix, name] => {
            if prefix.is_empty() {
                out.push("prefix part must be non-empty".to_owned());
            }
            out.extend(dns1123_subdomain(prefix).into_iter().filter(|_| !prefix.is_empty()).map(|w| format!("prefix part {w}")));
            *name
        }
        _ => {
            let example = "(e.g. 'example.com/MyName')";
            let wrong = QUALIFIED_WRONG.strip_prefix("name part ").unwrap_or(QUALIFIED_WRONG);
            return vec![format!("a qualified name {wrong} with an optional DNS subdomain prefix and '/' {example}")];
        }
    };
    if name.is_empty() {
        out.push("name part must be non-empty".to_owned());
    } else if name.len() > LABEL_MAX {
        out.push(format!("name part {}", max_len(LABEL_MAX, "bytes")));
    }
    if !is_qualified_part(name) {
        out.push(QUALIFIED_WRONG.to_owned());
    }
    out
}

/// The value of a label.
#[must_use]
pub fn label_value(s: &str) -> Vec<String> {
    let mut out = Vec::new();
    if s.len() > LABEL_MAX {
        out.push(max_len(LABEL_MAX, "bytes"));
    }
    if !s.is_empty() && !is_qualified_part(s) {
        out.push(LABEL_VALUE_WRONG.to_owned());
    }
    out
}

/// A key of a ConfigMap or Secret.
#[must_use]
pub fn config_map_key(s: &str) -> Vec<String> {
    let mut out = Vec::new();
    if s.len() > SUBDOMAIN_MAX {
        out.push(max_len(SUBDOMAIN_MAX, "bytes"));
    }
    if s.is_empty() || !s.bytes().all(|c| c.is_ascii_alphanumeric() || b"-_.".contains(&c)) {
        out.push(CONFIG_KEY_WRONG.to_owned());
    }
    match s {
        "." => out.push("must not be '.'".to_owned()),
        ".." => out.push("must not be '..'".to_owned()),
        s if s.starts_with("..") => out.push("must not start with '..'".to_owned()),
        _ => {}
    }
    out
}

/// The name of an environment variable (relaxed rule of Kubernetes 1.34).
#[must_use]
pub fn env_var_name(s: &str) -> Vec<String> {
    if s.is_empty() || !s.bytes().all(|c| (0x20..0x7f).contains(&c) && c != b'=') { vec![ENV_NAME_WRONG.to_owned()] } else { vec![] }
}

/// The name of a port: up to 15 characters, `[a-z0-9-]` with at least one letter.
#[must_use]
pub fn port_name(s: &str) -> Vec<String> {
    let mut out = Vec::new();
    if s.len() > 15 {
        out.push(max_len(15, "characters"));
    }
    if !s.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-') {
        out.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".to_owned());
    }
    if !s.bytes().any(|c| c.is_ascii_lowercase()) {
        out.push("must contain at least one letter (a-z)".to_owned());
    }
    if s.contains("--") {
        out.push("must not contain consecutive hyphens".to_owned());
    }
    if s.starts_with('-') || s.ends_with('-') {
        out.push("must not begin or end with a hyphen".to_owned());
    }
    out
}

/// A port number.
#[must_use]
pub fn port_number(port: i64) -> Vec<String> {
    if (1..=65_535).contains(&port) { vec![] } else { vec!["must be between 1 and 65535, inclusive".to_owned()] }
}

/// An IP address in canonical notation.
#[must_use]
pub fn ip_address(s: &str) -> Vec<String> {
    if s.parse::<std::net::IpAddr>().is_ok() {
        vec![]
    } else {
        vec!["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)".to_owned()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_by_rule() {
        assert!(dns1123_label("a-1").is_empty() && dns1123_subdomain("a.b-c").is_empty() && dns1035_label("a1").is_empty());
        assert_eq!(dns1123_label("a.b"), ["must not contain dots"]);
        for bad in ["", "-a", "a-", "A", "a_b", "a..b", "é"] {
            assert!(!dns1123_subdomain(bad).is_empty(), "{bad}");
        }
        assert!(!dns1035_label("1a").is_empty());
        assert_eq!(dns1123_subdomain(&"a".repeat(254)), ["must be no more than 253 bytes"]);
    }

    #[test]
    fn keys_values_and_ports() {
        assert!(qualified_name("a.io/B_c").is_empty() && qualified_name("x").is_empty());
        for bad in ["", "/a", "a/", "a/b/c", "A.io/b", "-a"] {
            assert!(!qualified_name(bad).is_empty(), "{bad}");
        }
        assert!(label_value("").is_empty() && !label_value("a b").is_empty());
        assert!(config_map_key("a_b.c-D").is_empty() && !config_map_key("..a").is_empty());
        assert!(port_name("http-1").is_empty() && !port_name("123").is_empty() && !port_name("a--b").is_empty());
        assert!(!path_segment("a/b").is_empty() && path_segment("system:node").is_empty());
        assert!(env_var_name("a.b-c").is_empty() && !env_var_name("a=b").is_empty());
    }
}
