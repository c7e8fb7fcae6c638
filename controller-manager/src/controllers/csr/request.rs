//! What a request asks for, and whether its signer gives such certificates at all.

use der::asn1::{Ia5StringRef, ObjectIdentifier};
use der::{Decode, Tag, Tagged};
use x509_cert::attr::AttributeTypeAndValue;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::name::Name;
use x509_cert::request::{CertReq, ExtensionReq};
use x509_cert::spki::SubjectPublicKeyInfoOwned;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer as _;

use super::{CLIENT, KUBELET_CLIENT, KUBELET_SERVING, LEGACY};

const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");
const ORGANIZATION: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.10");
const SUBJECT_ALT_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.17");
const EXTENSION_REQUEST: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.14");

/// A request as parsed. Whoever made it holds the key: its signature was checked.
#[derive(Debug, Clone)]
pub struct Request {
    /// The subject as it was sent, several organizations included.
    pub subject: Name,
    /// The key to certify.
    pub key: SubjectPublicKeyInfoOwned,
    /// The alternative names.
    pub names: Vec<GeneralName>,
}

impl Request {
    /// Parses PEM of type `CERTIFICATE REQUEST`.
    ///
    /// # Errors
    /// What is no such thing, or was not signed with its own key.
    pub fn parse(pem: &[u8]) -> Result<Self, String> {
        let (_, block) = x509_parser::pem::parse_x509_pem(pem).map_err(|e| format!("PEM block type must be CERTIFICATE REQUEST: {e}"))?;
        if block.label != "CERTIFICATE REQUEST" {
            return Err("PEM block type must be CERTIFICATE REQUEST".to_owned());
        }
        let (_, signed) = X509CertificationRequest::from_der(&block.contents).map_err(|e| e.to_string())?;
        signed.verify_signature().map_err(|e| format!("unable to verify certificate request signature: {e}"))?;
        let request = CertReq::from_der(&block.contents).map_err(|e| e.to_string())?;
        let mut names = Vec::new();
        for attribute in request.info.attributes.iter().filter(|a| a.oid == EXTENSION_REQUEST) {
            for value in attribute.values.iter() {
                let extensions: ExtensionReq = value.decode_as().map_err(|e: der::Error| e.to_string())?;
                for extension in extensions.0.iter().filter(|e| e.extn_id == SUBJECT_ALT_NAME) {
                    names.extend(SubjectAltName::from_der(extension.extn_value.as_bytes()).map_err(|e| e.to_string())?.0);
                }
            }
        }
        Ok(Self { subject: request.info.subject, key: request.info.public_key, names })
    }

    /// The common name; of several the last counts, as in Go.
    #[must_use]
    pub fn common_name(&self) -> String {
        self.attributes(COMMON_NAME).pop().unwrap_or_default()
    }

    /// The organizations.
    #[must_use]
    pub fn organizations(&self) -> Vec<String> {
        self.attributes(ORGANIZATION)
    }

    fn attributes(&self, oid: ObjectIdentifier) -> Vec<String> {
        self.subject.iter().filter(|a| a.oid == oid).map(text).collect()
    }

    fn has(&self, kind: impl Fn(&GeneralName) -> bool) -> bool {
        self.names.iter().any(kind)
    }

    /// Whether this is what a kubelet asks for itself with: `system:node:<name>` of `system:nodes` (upstream's `ValidateKubeletClientCSR`).
    ///
    /// # Errors
    /// Why not.
    pub fn check_kubelet_client(&self, usages: &[String]) -> Result<(), String> {
        self.check_organization()?;
        if self.has(|n| matches!(n, GeneralName::DnsName(_))) {
            return Err("DNS subjectAltNames are not allowed".to_owned());
        }
        if self.has(|n| matches!(n, GeneralName::Rfc822Name(_))) {
            return Err("Email subjectAltNames are not allowed".to_owned());
        }
        if self.has(|n| matches!(n, GeneralName::IpAddress(_))) {
            return Err("IP subjectAltNames are not allowed".to_owned());
        }
        if self.has(|n| matches!(n, GeneralName::UniformResourceIdentifier(_))) {
            return Err("URI subjectAltNames are not allowed".to_owned());
        }
        self.check_common_name()?;
        check_usages(usages, "client auth")
    }

    fn check_kubelet_serving(&self, usages: &[String]) -> Result<(), String> {
        self.check_organization()?;
        if !self.has(|n| matches!(n, GeneralName::DnsName(_) | GeneralName::IpAddress(_))) {
            return Err("DNS or IP subjectAltName is required".to_owned());
        }
        if self.has(|n| matches!(n, GeneralName::Rfc822Name(_))) {
            return Err("Email subjectAltNames are not allowed".to_owned());
        }
        if self.has(|n| matches!(n, GeneralName::UniformResourceIdentifier(_))) {
            return Err("URI subjectAltNames are not allowed".to_owned());
        }
        check_usages(usages, "server auth")?;
        self.check_common_name()
    }

    fn check_organization(&self) -> Result<(), String> {
        if self.organizations() == ["system:nodes"] { Ok(()) } else { Err("subject organization is not system:nodes".to_owned()) }
    }

    fn check_common_name(&self) -> Result<(), String> {
        let ours = self.common_name().starts_with("system:node:");
        if ours { Ok(()) } else { Err("subject common name does not begin with system:node: ".to_owned()) }
    }

    /// Whether `signer` gives such certificates. `None` for a signer that is not ours.
    #[must_use]
    pub fn check_for(&self, signer: &str, usages: &[String]) -> Option<Result<(), String>> {
        Some(match signer {
            CLIENT => check_client(usages),
            KUBELET_CLIENT => self.check_kubelet_client(usages),
            KUBELET_SERVING => self.check_kubelet_serving(usages),
            LEGACY => Ok(()),
            _ => return None,
        })
    }
}

fn check_client(usages: &[String]) -> Result<(), String> {
    let allowed = ["digital signature", "key encipherment", "client auth"];
    if let Some(other) = usages.iter().find(|u| !allowed.contains(&u.as_str())) {
        return Err(format!("invalid usage for client certificate: {other}"));
    }
    match usages.iter().any(|u| u == "client auth") {
        true => Ok(()),
        false => Err("missing required usage for client certificate: client auth".to_owned()),
    }
}

/// Exactly signing, `purpose`, and with some keys encipherment.
fn check_usages(usages: &[String], purpose: &str) -> Result<(), String> {
    let mut rest: Vec<&str> = usages.iter().map(String::as_str).filter(|u| *u != "key encipherment").collect();
    rest.sort_unstable();
    rest.dedup();
    let mut wanted = ["digital signature", purpose];
    wanted.sort_unstable();
    if rest == wanted { Ok(()) } else { Err(format!("usages did not match [{purpose} digital signature key encipherment]")) }
}

/// The text of an attribute of a subject; what is no text is empty.
fn text(attribute: &AttributeTypeAndValue) -> String {
    let value = &attribute.value;
    match value.tag() {
        Tag::Ia5String => value.decode_as::<Ia5StringRef<'_>>().map(|s| s.as_str().to_owned()).unwrap_or_default(),
        Tag::Utf8String | Tag::PrintableString | Tag::TeletexString => String::from_utf8(value.value().to_vec()).unwrap_or_default(),
        _ => String::new(),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// PEM of a request, with a name for each of `sans`.
    pub fn pem(common_name: &str, organizations: &[&str], sans: &[&str]) -> Vec<u8> {
        let mut params = rcgen::CertificateParams::new(sans.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>()).expect("names");
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, common_name);
        for organization in organizations {
            params.distinguished_name.push(rcgen::DnType::OrganizationName, *organization);
        }
        let key = rcgen::KeyPair::generate().expect("a key");
        params.serialize_request(&key).expect("a request").pem().expect("PEM").into_bytes()
    }

    fn check(signer: &str, pem: &[u8], usages: &[&str]) -> String {
        let usages: Vec<String> = usages.iter().map(|u| (*u).to_owned()).collect();
        match Request::parse(pem).expect("a request").check_for(signer, &usages) {
            None => "not ours".to_owned(),
            Some(Ok(())) => "ok".to_owned(),
            Some(Err(why)) => why,
        }
    }

    #[test]
    fn each_signer_has_its_rules() {
        let (client, server) = (["digital signature", "client auth"], ["digital signature", "key encipherment", "server auth"]);
        let node = pem("system:node:a", &["system:nodes"], &[]);
        let serving = pem("system:node:a", &["system:nodes"], &["a", "192.0.2.1"]);
        assert_eq!(check(KUBELET_CLIENT, &node, &client), "ok");
        assert_eq!(check(KUBELET_CLIENT, &node, &server), "usages did not match [client auth digital signature key encipherment]");
        assert_eq!(check(KUBELET_CLIENT, &serving, &client), "DNS subjectAltNames are not allowed");
        assert_eq!(
            check(KUBELET_CLIENT, &pem("x", &["system:nodes"], &[]), &client),
            "subject common name does not begin with system:node: "
        );
        assert_eq!(check(KUBELET_CLIENT, &pem("system:node:a", &["b"], &[]), &client), "subject organization is not system:nodes");
        assert_eq!(check(KUBELET_SERVING, &serving, &server), "ok");
        assert_eq!(check(KUBELET_SERVING, &node, &server), "DNS or IP subjectAltName is required");
        assert_eq!(check(CLIENT, &pem("me", &[], &[]), &["client auth"]), "ok");
        assert_eq!(check(CLIENT, &pem("me", &[], &[]), &["server auth"]), "invalid usage for client certificate: server auth");
        assert_eq!(check(CLIENT, &pem("me", &[], &[]), &[]), "missing required usage for client certificate: client auth");
        assert_eq!(check(LEGACY, &pem("me", &[], &[]), &["any"]), "ok");
        assert_eq!(check("example.com/mine", &node, &client), "not ours");
    }

    #[test]
    fn a_request_that_another_key_signed_is_refused() {
        let good = pem("a", &[], &[]);
        let (_, block) = x509_parser::pem::parse_x509_pem(&good).expect("PEM");
        let mut bad = block.contents;
        let last = bad.len() - 1;
        bad[last] ^= 1;
        let text = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &bad);
        let bad = format!("-----BEGIN CERTIFICATE REQUEST-----\n{text}\n-----END CERTIFICATE REQUEST-----\n");
        assert!(Request::parse(bad.as_bytes()).is_err());
        for garbage in [&b""[..], b"-----BEGIN CERTIFICATE REQUEST-----\nAA==\n-----END CERTIFICATE REQUEST-----\n", b"x"] {
            assert!(Request::parse(garbage).is_err());
        }
    }
}
