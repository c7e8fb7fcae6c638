//! What is wrong with the names that a pod goes by and resolves: DNS, host name, aliases.

use api::field::{Errors, Path};
use api::names;
use k8s_openapi::api::core::v1::{PodDNSConfig, PodSpec};
use serde_json::json;

use crate::resources::bounds::{follows, one_of};
use crate::resources::network::validate_ip;

const MAX_NAMESERVERS: usize = 3;
const MAX_SEARCHES: usize = 32;
const MAX_SEARCH_CHARACTERS: usize = 2048;
/// The kernel's limit on host names.
const MAX_HOSTNAME: usize = 64;

pub(super) fn validate(spec: &PodSpec, path: &Path, errors: &mut Errors) {
    let policy = spec.dns_policy.as_deref().unwrap_or("");
    one_of(policy, &["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"], &path.child("dnsPolicy"), errors);
    validate_dns_config(spec.dns_config.as_ref(), policy, &path.child("dnsConfig"), errors);
    for (name, value) in [("hostname", &spec.hostname), ("subdomain", &spec.subdomain)] {
        if let Some(value) = value.as_ref().filter(|v| !v.is_empty()) {
            follows(value, names::dns1123_label, &path.child(name), errors);
        }
    }
    if let Some(name) = &spec.hostname_override {
        let at = path.child("hostnameOverride");
        if name.len() > MAX_HOSTNAME {
            errors.too_long(&at, MAX_HOSTNAME);
        }
        follows(name, names::dns1123_subdomain, &at, errors);
        if spec.set_hostname_as_fqdn == Some(true) {
            errors.forbidden(&path.child("setHostnameAsFQDN"), "must be nil or false when `hostnameOverride` is set");
        }
        if spec.host_network == Some(true) {
            errors.forbidden(&path.child("hostNetwork"), "must be false when `hostnameOverride` is set");
        }
    }
    for (i, alias) in spec.host_aliases.iter().flatten().enumerate() {
        let path = path.child("hostAliases").index(i);
        validate_ip(&alias.ip, &path.child("ip"), errors);
        for (j, hostname) in alias.hostnames.iter().flatten().enumerate() {
            follows(hostname, names::dns1123_subdomain, &path.child("hostnames").index(j), errors);
        }
    }
}

fn validate_dns_config(config: Option<&PodDNSConfig>, policy: &str, path: &Path, errors: &mut Errors) {
    let Some(config) = config else {
        if policy == "None" {
            errors.required(path, "must provide `dnsConfig` when `dnsPolicy` is None");
        }
        return;
    };
    let servers = config.nameservers.as_deref().unwrap_or_default();
    let at = path.child("nameservers");
    if servers.is_empty() && policy == "None" {
        errors.required(&at, "must provide at least one DNS nameserver when `dnsPolicy` is None");
    }
    if servers.len() > MAX_NAMESERVERS {
        errors.invalid(&at, &json!(servers), &format!("must not have more than {MAX_NAMESERVERS} nameservers"));
    }
    for (i, server) in servers.iter().enumerate() {
        validate_ip(server, &at.index(i), errors);
    }
    let searches = config.searches.as_deref().unwrap_or_default();
    let at = path.child("searches");
    if searches.len() > MAX_SEARCHES {
        errors.invalid(&at, &json!(searches), &format!("must not have more than {MAX_SEARCHES} search paths"));
    }
    if searches.join(" ").len() > MAX_SEARCH_CHARACTERS {
        errors.invalid(&at, &json!(searches), "must not have more than 2048 characters (including spaces) in the search list");
    }
    for (i, search) in searches.iter().enumerate().filter(|(_, s)| *s != ".") {
        // Names of hosts may not have underscores; search paths may, also before a part's name (RFC 2782, KEP-4427).
        let parts =
            search.strip_suffix('.').unwrap_or(search).split('.').map(|part| part.strip_prefix('_').unwrap_or(part).replace('_', "-"));
        for wrong in names::dns1123_subdomain(&parts.collect::<Vec<_>>().join(".")) {
            errors.invalid(&at.index(i), search, &wrong);
        }
    }
    for (i, option) in config.options.iter().flatten().enumerate() {
        if option.name.as_ref().is_none_or(String::is_empty) {
            errors.required(&path.child("options").index(i), "must not be empty");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::checks::check;
    use expect_test::expect;

    #[test]
    fn dns_and_names() {
        check(
            "containers: [{name: c, image: i}], dnsPolicy: None",
            expect!["spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None"],
        );
        check(
            "containers: [{name: c, image: i}], dnsConfig: {nameservers: [a, 1.1.1.1, 2.2.2.2, 3.3.3.3], searches: ['A B', _tcp.a.b., .], options: [{}]},
             hostname: a.b, subdomain: A, hostAliases: [{ip: x, hostnames: [a_b]}]",
            expect![[r#"
                spec.dnsConfig.nameservers: Invalid value: ["a","1.1.1.1","2.2.2.2","3.3.3.3"]: must not have more than 3 nameservers
                spec.dnsConfig.nameservers[0]: Invalid value: "a": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)
                spec.dnsConfig.searches[0]: Invalid value: "A B": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
                spec.dnsConfig.options[0]: Required value: must not be empty
                spec.hostname: Invalid value: "a.b": must not contain dots
                spec.subdomain: Invalid value: "A": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
                spec.hostAliases[0].ip: Invalid value: "x": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)
                spec.hostAliases[0].hostnames[0]: Invalid value: "a_b": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"#]],
        );
    }
}
