//! The cluster's certificates: which there shall be, and how one is issued.
//!
//! [`authorities`] and [`leaves`] say what must exist, as data; [`is_good`] decides whether a certificate on disk is that one.
//! Everything is ECDSA P-256. Names and places are kubeadm's, so that people find them.

use std::net::IpAddr;

use anyhow::{Context as _, bail};
use jiff::civil::Date;
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType};
use x509_parser::prelude::{FromDer as _, GeneralName, ParsedExtension, X509Certificate};

use crate::cluster::{Cluster, DOMAIN, KUBERNETES_SERVICE, NODE_GATEWAY, Node};

/// Certificates are valid for a year, as kubeadm's.
pub const LEAF_DAYS: i64 = 365;
/// Authorities are valid for ten years.
pub const AUTHORITY_DAYS: i64 = 3650;
/// Renewed by `up` when less than this is left.
pub const RENEW_DAYS: i64 = 60;

/// A certificate authority; its name is the stem of its files below `pki/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Authority {
    /// Signs everything that speaks to the apiserver or is spoken to by it.
    Cluster,
    /// Signs for etcd alone: who holds one of its certificates may read and write everything.
    Etcd,
    /// Signs for the apiserver's requests to aggregated apiservers.
    FrontProxy,
}

/// All authorities.
#[must_use]
pub const fn authorities() -> [Authority; 3] {
    [Authority::Cluster, Authority::Etcd, Authority::FrontProxy]
}

impl Authority {
    /// The path below `/etc/kubernetes/pki`, without extension.
    #[must_use]
    pub const fn stem(self) -> &'static str {
        match self {
            Self::Cluster => "ca",
            Self::Etcd => "etcd/ca",
            Self::FrontProxy => "front-proxy-ca",
        }
    }

    /// The subject's common name.
    #[must_use]
    pub const fn common_name(self) -> &'static str {
        match self {
            Self::Cluster => "kubernetes",
            Self::Etcd => "etcd-ca",
            Self::FrontProxy => "front-proxy-ca",
        }
    }
}

/// What a certificate may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usage {
    /// To be connected to.
    Server,
    /// To connect.
    Client,
    /// Both, as etcd wants it.
    Both,
}

/// A certificate that there shall be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    /// The path below the node's `/etc/kubernetes/pki`, without extension.
    pub stem: &'static str,
    /// Who signs it.
    pub authority: Authority,
    /// The subject's common name: for a client, the user.
    pub common_name: String,
    /// The subject's organisation: for a client, the group.
    pub organization: Option<&'static str>,
    /// The names and addresses it serves.
    pub names: Vec<String>,
    /// What for.
    pub usage: Usage,
}

/// The certificates of `node`.
#[must_use]
pub fn leaves(cluster: &Cluster, node: &Node) -> Vec<Leaf> {
    let client = |stem, user: &str, group| Leaf {
        stem,
        authority: Authority::Cluster,
        common_name: user.to_owned(),
        organization: group,
        names: Vec::new(),
        usage: Usage::Client,
    };
    let identity = format!("system:node:{}", node.name);
    let mut all = vec![
        client("kubelet-client", &identity, Some("system:nodes")),
        Leaf {
            names: vec![node.name.clone(), node.address.to_string()],
            usage: Usage::Server,
            ..client("kubelet", &identity, Some("system:nodes"))
        },
        client("kube-proxy", "system:kube-proxy", None),
        client("coredns-lite", "system:coredns", None),
    ];
    if node.is_host() {
        all.extend(control_plane(cluster, node));
    }
    all
}

fn control_plane(cluster: &Cluster, node: &Node) -> Vec<Leaf> {
    let local = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let leaf = |stem, authority, common_name: &str, organization, usage| Leaf {
        stem,
        authority,
        common_name: common_name.to_owned(),
        organization,
        names: Vec::new(),
        usage,
    };
    let mut serving: Vec<String> = ["kubernetes", "kubernetes.default", "kubernetes.default.svc"].map(str::to_owned).to_vec();
    serving.push(format!("kubernetes.default.svc.{DOMAIN}"));
    serving.extend([node.name.clone(), KUBERNETES_SERVICE.to_string(), cluster.host().address.to_string(), NODE_GATEWAY.to_string()]);
    serving.extend(local.clone());
    let etcd_names: Vec<String> = local.into_iter().chain([node.name.clone(), node.address.to_string()]).collect();
    let masters = Some("system:masters");
    vec![
        Leaf { names: serving, ..leaf("apiserver", Authority::Cluster, "kube-apiserver", None, Usage::Server) },
        leaf("apiserver-kubelet-client", Authority::Cluster, "kube-apiserver-kubelet-client", masters, Usage::Client),
        leaf("apiserver-etcd-client", Authority::Etcd, "kube-apiserver-etcd-client", None, Usage::Client),
        Leaf { names: etcd_names.clone(), ..leaf("etcd/server", Authority::Etcd, &node.name, None, Usage::Both) },
        Leaf { names: etcd_names, ..leaf("etcd/peer", Authority::Etcd, &node.name, None, Usage::Both) },
        leaf("front-proxy-client", Authority::FrontProxy, "front-proxy-client", None, Usage::Client),
        leaf("admin", Authority::Cluster, "kubernetes-admin", masters, Usage::Client),
        leaf("controller-manager", Authority::Cluster, "system:kube-controller-manager", None, Usage::Client),
        leaf("scheduler", Authority::Cluster, "system:kube-scheduler", None, Usage::Client),
        Leaf {
            names: vec!["localhost".into(), "127.0.0.1".into(), node.name.clone(), node.address.to_string()],
            ..leaf("controller-manager-serving", Authority::Cluster, "kube-controller-manager", None, Usage::Server)
        },
        Leaf {
            names: vec!["localhost".into(), "127.0.0.1".into(), node.name.clone(), node.address.to_string()],
            ..leaf("scheduler-serving", Authority::Cluster, "kube-scheduler", None, Usage::Server)
        },
    ]
}

/// A certificate and its key, as PEM.
#[derive(Debug, Clone)]
pub struct Pair {
    /// The certificate.
    pub certificate: String,
    /// The private key, PKCS#8.
    pub key: String,
}

/// A new authority, valid from yesterday (clocks differ) on.
///
/// # Errors
/// The crypto library refuses; it has no reason to.
pub fn issue_authority(authority: Authority, today: Date) -> anyhow::Result<Pair> {
    let mut params = params(authority.common_name(), None, today, AUTHORITY_DAYS)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate()?;
    Ok(Pair { certificate: params.self_signed(&key)?.pem(), key: key.serialize_pem() })
}

/// A new certificate signed by `authority`.
///
/// # Errors
/// The authority's files are not a certificate and its key.
pub fn issue(leaf: &Leaf, authority: &Pair, today: Date) -> anyhow::Result<Pair> {
    let signer = KeyPair::from_pem(&authority.key).context("the authority's key")?;
    let issuer = Issuer::from_ca_cert_pem(&authority.certificate, signer).context("the authority's certificate")?;
    let mut params = params(&leaf.common_name, leaf.organization, today, LEAF_DAYS)?;
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = match leaf.usage {
        Usage::Server => vec![ExtendedKeyUsagePurpose::ServerAuth],
        Usage::Client => vec![ExtendedKeyUsagePurpose::ClientAuth],
        Usage::Both => vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth],
    };
    for name in &leaf.names {
        params.subject_alt_names.push(match name.parse::<IpAddr>() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) => SanType::DnsName(name.as_str().try_into().with_context(|| format!("{name} as a name in a certificate"))?),
        });
    }
    let key = KeyPair::generate()?;
    Ok(Pair { certificate: params.signed_by(&key, &issuer)?.pem(), key: key.serialize_pem() })
}

/// The key with which ServiceAccount tokens are signed, and its public half.
///
/// # Errors
/// The crypto library refuses; it has no reason to.
pub fn signing_key() -> anyhow::Result<(String, String)> {
    let key = KeyPair::generate()?;
    Ok((key.serialize_pem(), key.public_key_pem()))
}

fn params(common_name: &str, organization: Option<&str>, today: Date, days: i64) -> anyhow::Result<CertificateParams> {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    if let Some(organization) = organization {
        params.distinguished_name.push(DnType::OrganizationName, organization);
    }
    params.distinguished_name.push(DnType::CommonName, common_name);
    let span = |days: i64| jiff::Span::new().try_days(days).context("a span of days");
    let (from, to) = (today.checked_sub(span(1)?)?, today.checked_add(span(days)?)?);
    let time = |d: Date| rcgen::date_time_ymd(d.year().into(), d.month().unsigned_abs(), d.day().unsigned_abs());
    (params.not_before, params.not_after) = (time(from), time(to));
    Ok(params)
}

/// What is written in a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The subject's common name.
    pub common_name: String,
    /// The subject's organisation.
    pub organization: Option<String>,
    /// Names and addresses, sorted.
    pub names: Vec<String>,
    /// Seconds since 1970 from which it is no longer valid.
    pub not_after: i64,
    /// The identifier of the key that signed it.
    pub signer: Option<Vec<u8>>,
    /// The identifier of its own key.
    pub own: Option<Vec<u8>>,
}

/// Reads a certificate.
///
/// # Errors
/// The text is not a certificate in PEM.
pub fn read(pem: &str) -> anyhow::Result<Written> {
    let (_, pem) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).context("not PEM")?;
    let (rest, certificate) = X509Certificate::from_der(&pem.contents).context("not a certificate")?;
    if !rest.is_empty() {
        bail!("a certificate with something behind it");
    }
    let subject = certificate.subject();
    let text = |a: Option<&x509_parser::x509::AttributeTypeAndValue<'_>>| a.and_then(|a| a.as_str().ok()).map(str::to_owned);
    let mut names = Vec::new();
    if let Some(alternatives) = certificate.subject_alternative_name().context("subject alternative names")? {
        for name in &alternatives.value.general_names {
            match name {
                GeneralName::DNSName(name) => names.push((*name).to_owned()),
                GeneralName::IPAddress(bytes) => names.push(match (<[u8; 4]>::try_from(*bytes), <[u8; 16]>::try_from(*bytes)) {
                    (Ok(v4), _) => IpAddr::from(v4).to_string(),
                    (_, Ok(v6)) => IpAddr::from(v6).to_string(),
                    _ => bail!("an address of {} bytes", bytes.len()),
                }),
                other => bail!("an alternative name of a kind we do not issue: {other}"),
            }
        }
    }
    names.sort();
    let (mut signer, mut own) = (None, None);
    for extension in certificate.extensions() {
        match extension.parsed_extension() {
            ParsedExtension::AuthorityKeyIdentifier(id) => signer = id.key_identifier.as_ref().map(|k| k.0.to_vec()),
            ParsedExtension::SubjectKeyIdentifier(id) => own = Some(id.0.to_vec()),
            _ => {}
        }
    }
    Ok(Written {
        common_name: text(subject.iter_common_name().next()).unwrap_or_default(),
        organization: text(subject.iter_organization().next()),
        names,
        not_after: certificate.validity().not_after.timestamp(),
        signer,
        own,
    })
}

/// Whether `pem` is the certificate `leaf` asks for, signed by the present `authority` and with time left.
#[must_use]
pub fn is_good(pem: &str, leaf: &Leaf, authority: &str, now: i64) -> bool {
    let (Ok(written), Ok(authority)) = (read(pem), read(authority)) else { return false };
    let mut names = leaf.names.clone();
    names.sort();
    written.common_name == leaf.common_name
        && written.organization.as_deref() == leaf.organization
        && written.names == names
        && written.signer.is_some()
        && written.signer == authority.own
        && written.not_after > now + RENEW_DAYS * 86_400
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::{Machine, Wishes};

    const TODAY: Date = jiff::civil::date(2026, 11, 21);
    const NOW: i64 = 1_795_219_200;

    fn cluster() -> Cluster {
        let machine = Machine { name: "vm".into(), address: [192, 0, 2, 2].into(), mtu: 1500, restrict_oom_score_adj: false };
        Cluster::wanted(machine, None, Wishes { nodes: Some(2), ..Wishes::default() }).expect("a cluster")
    }

    #[test]
    fn every_certificate_is_what_was_asked_for_until_something_changes() {
        let cluster = cluster();
        let (ca, other) =
            (issue_authority(Authority::Cluster, TODAY).expect("a CA"), issue_authority(Authority::Cluster, TODAY).expect("a CA"));
        for leaf in cluster.nodes.iter().flat_map(|n| leaves(&cluster, n)) {
            let pem = issue(&leaf, &ca, TODAY).expect("a certificate").certificate;
            assert!(is_good(&pem, &leaf, &ca.certificate, NOW), "{leaf:?}");
            assert!(!is_good(&pem, &leaf, &other.certificate, NOW), "another authority of the same name");
            assert!(!is_good(&pem, &leaf, &ca.certificate, NOW + 310 * 86_400), "too little time left");
            let renamed = Leaf { names: vec!["other".into()], ..leaf.clone() };
            assert!(!is_good(&pem, &renamed, &ca.certificate, NOW), "other names");
        }
    }

    #[test]
    fn only_the_host_holds_the_control_planes_keys() {
        let cluster = cluster();
        let stems: Vec<&str> = leaves(&cluster, &cluster.nodes[1]).iter().map(|l| l.stem).collect();
        assert_eq!(stems, ["kubelet-client", "kubelet", "kube-proxy", "coredns-lite"]);
    }

    #[test]
    fn garbage_is_not_a_certificate() {
        let leaf = &leaves(&cluster(), cluster().host())[0];
        for garbage in ["", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            assert!(!is_good(garbage, leaf, garbage, NOW));
        }
    }
}
