//! A pod's names for itself: host name, domain, and the `/etc/hosts` its containers share.

use std::fmt::Write as _;

use k8s_openapi::api::core::v1::{HostAlias, Pod};

/// The kernel's limit on host names (sethostname(2)).
const MAX_HOSTNAME: usize = 64;

/// The host name and, with a subdomain, the domain of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// What `hostname` prints.
    pub hostname: String,
    /// `<subdomain>.<namespace>.svc.<cluster domain>`, or empty.
    pub domain: String,
}

/// The names of a pod.
///
/// # Errors
/// A fully qualified name that is too long to be a host name.
pub fn names(pod: &Pod, cluster_domain: &str) -> Result<Names, String> {
    let spec = pod.spec.clone().unwrap_or_default();
    let name = pod.metadata.name.clone().unwrap_or_default();
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    if let Some(hostname) = spec.hostname_override {
        return Ok(Names { hostname, domain: String::new() });
    }
    let mut hostname = spec.hostname.filter(|h| !h.is_empty()).unwrap_or(name);
    if hostname.len() > MAX_HOSTNAME - 1 {
        hostname.truncate(MAX_HOSTNAME - 1);
        hostname.truncate(hostname.trim_end_matches(['-', '.']).len());
    }
    let domain = match spec.subdomain.as_deref() {
        Some(subdomain) if !subdomain.is_empty() => format!("{subdomain}.{namespace}.svc.{cluster_domain}"),
        _ => String::new(),
    };
    if spec.set_hostname_as_fqdn == Some(true) && !domain.is_empty() {
        let fqdn = format!("{hostname}.{domain}");
        if fqdn.len() > MAX_HOSTNAME {
            return Err(format!(
                "failed to construct FQDN from pod hostname and cluster domain, FQDN {fqdn} is too long ({MAX_HOSTNAME} characters is the max, {} characters requested)",
                fqdn.len()
            ));
        }
        return Ok(Names { hostname: fqdn, domain });
    }
    Ok(Names { hostname, domain })
}

/// The text of `/etc/hosts`. `host` is the node's own file, for pods in its network.
#[must_use]
pub fn hosts_file(names: &Names, ips: &[String], aliases: &[HostAlias], host: Option<&str>) -> String {
    let mut out = match host {
        Some(host) => format!("# Kubernetes-managed hosts file (host network).\n{host}"),
        None => {
            let mut out = String::from(
                "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n\
                 fe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n",
            );
            for ip in ips {
                // Writing to a String cannot fail.
                let _ = if names.domain.is_empty() || names.hostname.ends_with(&names.domain) {
                    writeln!(out, "{ip}\t{}", names.hostname)
                } else {
                    writeln!(out, "{ip}\t{}.{}\t{}", names.hostname, names.domain, names.hostname)
                };
            }
            out
        }
    };
    if !aliases.is_empty() {
        out.push_str("\n# Entries added by HostAliases.\n");
        for alias in aliases {
            let _ = writeln!(out, "{}\t{}", alias.ip, alias.hostnames.as_deref().unwrap_or_default().join("\t"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    #[track_caller]
    fn check(name: &str, spec: &str, expected: Expect) {
        let mut pod = Pod { spec: Some(serde_json::from_str(spec).expect("a spec")), ..Pod::default() };
        (pod.metadata.name, pod.metadata.namespace) = (Some(name.into()), Some("ns".into()));
        expected.assert_eq(&match names(&pod, "cluster.local") {
            Ok(n) => format!("{} {}", n.hostname, n.domain),
            Err(e) => e,
        });
    }

    #[test]
    fn host_names() {
        check("web-0", r#"{"containers":[]}"#, expect!["web-0 "]);
        check("web-0", r#"{"containers":[],"hostname":"h","subdomain":"s"}"#, expect!["h s.ns.svc.cluster.local"]);
        check(
            "web-0",
            r#"{"containers":[],"subdomain":"s","setHostnameAsFQDN":true}"#,
            expect!["web-0.s.ns.svc.cluster.local s.ns.svc.cluster.local"],
        );
        check(&"x".repeat(100), r#"{"containers":[]}"#, expect!["xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx "]);
    }

    #[test]
    fn the_file() {
        let names = Names { hostname: "h".into(), domain: "s.ns.svc.c".into() };
        let aliases = [HostAlias { ip: "1.2.3.4".into(), hostnames: Some(vec!["a".into(), "b".into()]) }];
        let text = hosts_file(&names, &["10.244.0.5".into()], &aliases, None);
        expect![[r#"
            fe00::2	ip6-allrouters
            10.244.0.5	h.s.ns.svc.c	h

            # Entries added by HostAliases.
            1.2.3.4	a	b
        "#]]
        .assert_eq(&text.lines().skip(6).map(|l| format!("{l}\n")).collect::<String>());
    }
}
