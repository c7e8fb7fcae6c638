//! What a pod's `/etc/resolv.conf` says.

use k8s_openapi::api::core::v1::Pod;

use crate::cri;
use crate::pod::host_network;

/// glibc reads no more name servers.
const MAX_SERVERS: usize = 3;
/// Upstream's limit on search domains.
const MAX_SEARCHES: usize = 32;
/// Upstream's limit on all search domains together, in characters.
const MAX_SEARCH_CHARS: usize = 2048;

/// The cluster's DNS.
#[derive(Debug, Clone, Default)]
pub struct ClusterDns {
    /// `--cluster-dns`.
    pub servers: Vec<String>,
    /// `--cluster-domain`.
    pub domain: String,
}

/// A `resolv.conf`, read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resolver {
    /// `nameserver` lines.
    pub servers: Vec<String>,
    /// The last `search` line.
    pub searches: Vec<String>,
    /// `options`.
    pub options: Vec<String>,
}

/// Reads a `resolv.conf` (resolv.conf(5)).
#[must_use]
pub fn parse(text: &str) -> Resolver {
    let mut out = Resolver::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => out.servers.extend(words.next().map(str::to_owned)),
            Some("search") => out.searches = words.map(|w| if w == "." { w } else { w.trim_end_matches('.') }.to_owned()).collect(),
            Some("options") => out.options.extend(words.map(str::to_owned)),
            _ => {}
        }
    }
    out
}

/// The resolver of a pod, by its `dnsPolicy` and `dnsConfig`.
#[must_use]
pub fn config(pod: &Pod, cluster: &ClusterDns, host: &Resolver) -> cri::DnsConfig {
    let spec = pod.spec.clone().unwrap_or_default();
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let in_cluster = match spec.dns_policy.as_deref().unwrap_or("ClusterFirst") {
        "ClusterFirst" => !host_network(&spec),
        "ClusterFirstWithHostNet" => true,
        _ => false,
    };
    let (mut servers, mut searches, mut options) = match spec.dns_policy.as_deref() {
        Some("None") => (vec![], vec![], vec![]),
        _ if in_cluster && !cluster.servers.is_empty() => {
            let domain = &cluster.domain;
            let own = [format!("{namespace}.svc.{domain}"), format!("svc.{domain}"), domain.clone()];
            let searches = if domain.is_empty() { host.searches.clone() } else { own.into_iter().chain(host.searches.clone()).collect() };
            (cluster.servers.clone(), searches, vec!["ndots:5".to_owned()])
        }
        _ => (host.servers.clone(), host.searches.clone(), host.options.clone()),
    };
    if let Some(extra) = spec.dns_config {
        servers.extend(extra.nameservers.unwrap_or_default());
        searches.extend(extra.searches.unwrap_or_default());
        for option in extra.options.unwrap_or_default() {
            let Some(name) = option.name else { continue };
            options.retain(|o| o.split(':').next() != Some(name.as_str()));
            options.push(match option.value {
                Some(value) if !value.is_empty() => format!("{name}:{value}"),
                _ => name,
            });
        }
    }
    unique(&mut servers);
    unique(&mut searches);
    servers.truncate(MAX_SERVERS);
    searches.truncate(MAX_SEARCHES);
    while searches.iter().map(|s| s.len() + 1).sum::<usize>() > MAX_SEARCH_CHARS + 1 {
        searches.pop();
    }
    cri::DnsConfig { servers, searches, options }
}

fn unique(list: &mut Vec<String>) {
    let mut seen = std::collections::BTreeSet::new();
    list.retain(|item| seen.insert(item.clone()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    #[track_caller]
    fn check(spec: &str, expected: Expect) {
        let mut pod = Pod { spec: Some(serde_json::from_str(spec).expect("a spec")), ..Pod::default() };
        pod.metadata.namespace = Some("ns".into());
        let cluster = ClusterDns { servers: vec!["10.96.0.10".into()], domain: "cluster.local".into() };
        let host = parse("# c\nnameserver 1.1.1.1\nsearch old\nsearch corp.example.\noptions edns0\n");
        let c = config(&pod, &cluster, &host);
        expected.assert_eq(&format!("{} | {} | {}", c.servers.join(" "), c.searches.join(" "), c.options.join(" ")));
    }

    #[test]
    fn policies() {
        for spec in [r#"{"containers":[]}"#, r#"{"containers":[],"hostNetwork":true,"dnsPolicy":"ClusterFirstWithHostNet"}"#] {
            check(spec, expect!["10.96.0.10 | ns.svc.cluster.local svc.cluster.local cluster.local corp.example | ndots:5"]);
        }
        for spec in [r#"{"containers":[],"dnsPolicy":"Default"}"#, r#"{"containers":[],"hostNetwork":true,"dnsPolicy":"ClusterFirst"}"#] {
            check(spec, expect!["1.1.1.1 | corp.example | edns0"]);
        }
    }

    #[test]
    fn dns_config_adds_and_overrides() {
        check(
            r#"{"containers":[],"dnsConfig":{"nameservers":["9.9.9.9","10.96.0.10"],"searches":["x"],"options":[{"name":"ndots","value":"2"},{"name":"rotate"}]}}"#,
            expect!["10.96.0.10 9.9.9.9 | ns.svc.cluster.local svc.cluster.local cluster.local corp.example x | ndots:2 rotate"],
        );
        check(r#"{"containers":[],"dnsPolicy":"None","dnsConfig":{"nameservers":["9.9.9.9"]}}"#, expect!["9.9.9.9 |  | "]);
    }
}
