//! The authority that signs: its certificate and key, and the certificate it gives for a request.
//!
//! The subject is taken over as it was sent, with as many organizations as it has. Nothing but what is written here comes
//! into a certificate: no extension of the request but its alternative names is looked at.

use der::asn1::{Any, BitString, GeneralizedTime, ObjectIdentifier, OctetString, UtcTime};
use der::flagset::FlagSet;
use der::{Decode, Encode, Sequence};
use jiff::{SignedDuration, Timestamp};
use rustls::SignatureScheme;
use rustls::sign::SigningKey;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject as _;
use std::sync::Arc;
use x509_cert::Certificate;
use x509_cert::certificate::Version;
use x509_cert::ext::pkix::{
    AuthorityKeyIdentifier, BasicConstraints, ExtendedKeyUsage, KeyUsage, KeyUsages, SubjectAltName, SubjectKeyIdentifier,
};
use x509_cert::ext::{Extension, Extensions};
use x509_cert::name::Name;
use x509_cert::serial_number::SerialNumber;
use x509_cert::spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};
use x509_cert::time::{Time, Validity};

use super::request::Request;

/// Certificates are valid from a little earlier on, for clocks that are behind.
const BACKDATE: SignedDuration = SignedDuration::from_mins(5);
/// One that lives shorter than this has its whole life after now.
const SHORT: SignedDuration = SignedDuration::from_hours(8);
/// From this year on times have four digits (RFC 5280, 4.1.2.5).
const LONG_YEARS_FROM: i16 = 2050;

const BASIC_CONSTRAINTS: &str = "2.5.29.19";
const KEY_USAGE: &str = "2.5.29.15";
const EXTENDED_KEY_USAGE: &str = "2.5.29.37";
const AUTHORITY_KEY_IDENTIFIER: &str = "2.5.29.35";
const SUBJECT_ALT_NAME: &str = "2.5.29.17";

/// What is signed (RFC 5280, 4.1).
#[derive(Sequence)]
struct Tbs {
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT")]
    version: Version,
    serial: SerialNumber,
    algorithm: AlgorithmIdentifierOwned,
    issuer: Name,
    validity: Validity,
    subject: Name,
    key: SubjectPublicKeyInfoOwned,
    #[asn1(context_specific = "3", tag_mode = "EXPLICIT")]
    extensions: Extensions,
}

/// A certificate.
#[derive(Sequence)]
struct Signed {
    tbs: Any,
    algorithm: AlgorithmIdentifierOwned,
    signature: BitString,
}

/// An authority.
pub struct Authority {
    name: Name,
    key_id: Option<OctetString>,
    not_after: Timestamp,
    key: Arc<dyn SigningKey>,
}

/// What a certificate shall be, besides what the request says.
pub struct Terms<'a> {
    /// Kubernetes' names of what the key may be used for.
    pub usages: &'a [String],
    /// How long it is valid.
    pub life: SignedDuration,
    /// The time.
    pub now: Timestamp,
    /// A number that no other certificate of the authority has: 16 random bytes.
    pub serial: [u8; 16],
}

impl Authority {
    /// From PEM.
    ///
    /// # Errors
    /// A certificate or a key that cannot be read.
    pub fn parse(certificate: &[u8], key: &[u8]) -> Result<Self, String> {
        let (_, block) = x509_parser::pem::parse_x509_pem(certificate).map_err(|e| format!("the authority's certificate: {e}"))?;
        let certificate = Certificate::from_der(&block.contents).map_err(|e| format!("the authority's certificate: {e}"))?;
        let tbs = certificate.tbs_certificate();
        let key_id = tbs.get_extension::<SubjectKeyIdentifier>().map_err(|e| format!("the authority's certificate: {e}"))?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|e| format!("the authority's key: {e}"))?;
        let key = rustls::crypto::ring::sign::any_supported_type(&key).map_err(|e| format!("the authority's key: {e}"))?;
        let seconds = i64::try_from(tbs.validity().not_after.to_unix_duration().as_secs()).unwrap_or(i64::MAX);
        let not_after = Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX);
        Ok(Self { name: tbs.subject().clone(), key_id: key_id.map(|(_, id)| id.0), not_after, key })
    }

    /// A certificate for the request, as PEM.
    ///
    /// # Errors
    /// The authority has expired, or something that cannot be written as DER.
    pub fn sign(&self, request: &Request, terms: &Terms<'_>) -> Result<String, String> {
        if terms.now >= self.not_after {
            return Err(format!("the signer has expired: NotAfter={}", self.not_after));
        }
        self.encode(request, terms).map_err(|e| format!("unable to sign certificate: {e}"))?
    }

    fn encode(&self, request: &Request, terms: &Terms<'_>) -> der::Result<Result<String, String>> {
        let schemes = [
            (SignatureScheme::ECDSA_NISTP256_SHA256, "1.2.840.10045.4.3.2"),
            (SignatureScheme::ECDSA_NISTP384_SHA384, "1.2.840.10045.4.3.3"),
            (SignatureScheme::ED25519, "1.3.101.112"),
            (SignatureScheme::RSA_PKCS1_SHA256, "1.2.840.113549.1.1.11"),
        ];
        let Some(signer) = self.key.choose_scheme(&schemes.map(|(scheme, _)| scheme)) else {
            return Ok(Err("the authority's key is of a kind that cannot sign".to_owned()));
        };
        let Some((scheme, oid)) = schemes.into_iter().find(|(scheme, _)| *scheme == signer.scheme()) else {
            return Ok(Err("the authority's key is of a kind that cannot sign".to_owned()));
        };
        // RSA's algorithms are the only ones whose parameters are there, and NULL (RFC 4055).
        let parameters = (scheme == SignatureScheme::RSA_PKCS1_SHA256).then(Any::null);
        let algorithm = AlgorithmIdentifierOwned { oid: ObjectIdentifier::new(oid)?, parameters };
        let (from, until) = self.validity(terms);
        let tbs = Tbs {
            version: Version::V3,
            serial: SerialNumber::new(&positive(terms.serial))?,
            algorithm: algorithm.clone(),
            issuer: self.name.clone(),
            validity: Validity::new(time(from)?, time(until)?),
            subject: request.subject.clone(),
            key: request.key.clone(),
            extensions: self.extensions(request, terms.usages)?,
        }
        .to_der()?;
        let signature = match signer.sign(&tbs) {
            Ok(signature) => BitString::from_bytes(&signature)?,
            Err(error) => return Ok(Err(format!("unable to sign certificate: {error}"))),
        };
        let signed = Signed { tbs: Any::from_der(&tbs)?, algorithm, signature }.to_der()?;
        Ok(Ok(pem(&signed)))
    }

    fn validity(&self, terms: &Terms<'_>) -> (Timestamp, Timestamp) {
        let from = terms.now.saturating_sub(BACKDATE).unwrap_or(Timestamp::MIN);
        let start = if terms.life < SHORT { terms.now } else { from };
        let until = start.saturating_add(terms.life).unwrap_or(Timestamp::MAX);
        (from, until.min(self.not_after))
    }

    fn extensions(&self, request: &Request, usages: &[String]) -> der::Result<Extensions> {
        let mut all = Vec::new();
        let (key_usage, purposes) = key_usages(usages);
        if !key_usage.is_empty() {
            all.push(extension(KEY_USAGE, true, &KeyUsage(key_usage))?);
        }
        if !purposes.is_empty() {
            let purposes = purposes.into_iter().map(ObjectIdentifier::new).collect::<Result<Vec<_>, _>>()?;
            all.push(extension(EXTENDED_KEY_USAGE, false, &ExtendedKeyUsage(purposes))?);
        }
        all.push(extension(BASIC_CONSTRAINTS, true, &BasicConstraints { ca: false, path_len_constraint: None })?);
        if self.key_id.is_some() {
            let id = AuthorityKeyIdentifier { key_identifier: self.key_id.clone(), ..AuthorityKeyIdentifier::default() };
            all.push(extension(AUTHORITY_KEY_IDENTIFIER, false, &id)?);
        }
        if !request.names.is_empty() {
            // Without a subject the names are all there is, and must be understood (RFC 5280, 4.2.1.6).
            all.push(extension(SUBJECT_ALT_NAME, request.subject.is_empty(), &SubjectAltName(request.names.clone()))?);
        }
        Ok(all)
    }
}

fn extension(oid: &str, critical: bool, value: &impl Encode) -> der::Result<Extension> {
    Ok(Extension { extn_id: ObjectIdentifier::new(oid)?, critical, extn_value: OctetString::new(value.to_der()?)? })
}

/// A serial number is a positive integer (RFC 5280, 4.1.2.2).
fn positive(mut serial: [u8; 16]) -> [u8; 16] {
    serial[0] = serial[0] & 0x7f | 0x40;
    serial
}

fn time(at: Timestamp) -> der::Result<Time> {
    let seconds = std::time::Duration::from_secs(u64::try_from(at.as_second()).unwrap_or(0));
    let year = at.to_zoned(jiff::tz::TimeZone::UTC).year();
    Ok(match year {
        ..LONG_YEARS_FROM => Time::UtcTime(UtcTime::from_unix_duration(seconds)?),
        _ => Time::GeneralTime(GeneralizedTime::from_unix_duration(seconds)?),
    })
}

/// Usages of the key itself, and the purposes beyond, by Kubernetes' names. A name that is none means nothing; the apiserver
/// lets none of these in.
fn key_usages(usages: &[String]) -> (FlagSet<KeyUsages>, Vec<&'static str>) {
    let mut flags = FlagSet::<KeyUsages>::default();
    let mut purposes = Vec::new();
    for usage in usages {
        match usage.as_str() {
            "signing" | "digital signature" => flags |= KeyUsages::DigitalSignature,
            "content commitment" => flags |= KeyUsages::NonRepudiation,
            "key encipherment" => flags |= KeyUsages::KeyEncipherment,
            "key agreement" => flags |= KeyUsages::KeyAgreement,
            "data encipherment" => flags |= KeyUsages::DataEncipherment,
            "cert sign" => flags |= KeyUsages::KeyCertSign,
            "crl sign" => flags |= KeyUsages::CRLSign,
            "encipher only" => flags |= KeyUsages::EncipherOnly,
            "decipher only" => flags |= KeyUsages::DecipherOnly,
            "any" => purposes.push("2.5.29.37.0"),
            "server auth" => purposes.push("1.3.6.1.5.5.7.3.1"),
            "client auth" => purposes.push("1.3.6.1.5.5.7.3.2"),
            "code signing" => purposes.push("1.3.6.1.5.5.7.3.3"),
            "email protection" | "s/mime" => purposes.push("1.3.6.1.5.5.7.3.4"),
            "ipsec end system" => purposes.push("1.3.6.1.5.5.7.3.5"),
            "ipsec tunnel" => purposes.push("1.3.6.1.5.5.7.3.6"),
            "ipsec user" => purposes.push("1.3.6.1.5.5.7.3.7"),
            "timestamping" => purposes.push("1.3.6.1.5.5.7.3.8"),
            "ocsp signing" => purposes.push("1.3.6.1.5.5.7.3.9"),
            "microsoft sgc" => purposes.push("1.3.6.1.4.1.311.10.3.3"),
            "netscape sgc" => purposes.push("2.16.840.1.113730.4.1"),
            _ => {}
        }
    }
    (flags, purposes)
}

fn pem(der: &[u8]) -> String {
    let text = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, der);
    let mut out = "-----BEGIN CERTIFICATE-----\n".to_owned();
    // Base64 is ASCII: each byte is a character.
    for line in text.as_bytes().chunks(64) {
        out.push_str(&String::from_utf8_lossy(line));
        out.push('\n');
    }
    out + "-----END CERTIFICATE-----\n"
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::controllers::csr::request::tests::pem as request;
    use x509_parser::prelude::FromDer as _;

    /// An authority whose key is of this kind, and its certificate.
    pub fn authority(algorithm: &'static rcgen::SignatureAlgorithm) -> (Authority, Vec<u8>) {
        let key = rcgen::KeyPair::generate_for(algorithm).expect("a key");
        let mut params = rcgen::CertificateParams::new(vec![]).expect("no names");
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.not_after = rcgen::date_time_ymd(2040, 1, 1);
        params.distinguished_name.push(rcgen::DnType::CommonName, "kubernetes");
        let certificate = params.self_signed(&key).expect("a certificate");
        let authority = Authority::parse(certificate.pem().as_bytes(), key.serialize_pem().as_bytes()).expect("an authority");
        (authority, certificate.der().to_vec())
    }

    fn signed(authority: &Authority, request: &Request, hours: i64, now: &str) -> Result<Vec<u8>, String> {
        let usages = ["digital signature", "client auth"].map(str::to_owned);
        let now = now.parse().expect("a time");
        let terms = Terms { usages: &usages, life: SignedDuration::from_hours(hours), now, serial: [0xff; 16] };
        let pem = authority.sign(request, &terms)?;
        Ok(x509_parser::pem::parse_x509_pem(pem.as_bytes()).expect("PEM").1.contents)
    }

    #[test]
    fn certificates_verify_whatever_the_authority_s_key() {
        for algorithm in [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519] {
            let (authority, own) = authority(algorithm);
            let asked = Request::parse(&request("system:node:a", &["system:nodes"], &["a.example", "192.0.2.1"])).expect("a request");
            let der = signed(&authority, &asked, 24, "2026-01-01T00:00:00Z").expect("a certificate");
            let (rest, cert) = x509_parser::certificate::X509Certificate::from_der(&der).expect("a certificate");
            let (_, own) = x509_parser::certificate::X509Certificate::from_der(&own).expect("a certificate");
            assert!(rest.is_empty());
            cert.verify_signature(Some(own.public_key())).expect("the authority's signature");
            assert_eq!(cert.subject().to_string(), "CN=system:node:a, O=system:nodes");
            assert_eq!(cert.issuer(), own.subject());
            assert_eq!(cert.validity().not_before.to_string(), "Dec 31 23:55:00 2025 +00:00");
            assert_eq!(cert.validity().not_after.to_string(), "Jan  1 23:55:00 2026 +00:00");
            let usage = cert.key_usage().expect("one").expect("there");
            assert!(usage.critical && usage.value.digital_signature() && !usage.value.key_cert_sign());
            assert!(cert.extended_key_usage().expect("one").expect("there").value.client_auth);
            assert!(!cert.is_ca());
            let names = cert.subject_alternative_name().expect("one").expect("there").value.general_names.clone();
            assert_eq!(names.len(), 2);
        }
    }

    #[test]
    fn nothing_outlives_the_authority_and_an_expired_one_signs_nothing() {
        let (authority, _) = authority(&rcgen::PKCS_ECDSA_P256_SHA256);
        let asked = Request::parse(&request("a", &[], &[])).expect("a request");
        let der = signed(&authority, &asked, 24 * 365 * 100, "2026-01-01T00:00:00Z").expect("a certificate");
        let (_, cert) = x509_parser::certificate::X509Certificate::from_der(&der).expect("a certificate");
        assert_eq!(cert.validity().not_after.to_string(), "Jan  1 00:00:00 2040 +00:00");
        let error = signed(&authority, &asked, 1, "2041-01-01T00:00:00Z").expect_err("it has expired");
        assert!(error.starts_with("the signer has expired"), "{error}");
    }

    #[test]
    fn all_organizations_are_kept() {
        // As Go writes several organizations: one set with several values.
        use std::str::FromStr as _;
        let (authority, _) = authority(&rcgen::PKCS_ECDSA_P256_SHA256);
        let mut asked = Request::parse(&request("a", &[], &[])).expect("a request");
        asked.subject = Name::from_str("CN=me,O=one+O=two").expect("a name");
        let der = signed(&authority, &asked, 1, "2026-01-01T00:00:00Z").expect("a certificate");
        let (_, cert) = x509_parser::certificate::X509Certificate::from_der(&der).expect("a certificate");
        let organizations: Vec<&str> = cert.subject().iter_organization().filter_map(|o| o.as_str().ok()).collect();
        assert_eq!(organizations, ["one", "two"]);
        assert_eq!(cert.validity().not_after.to_string(), "Jan  1 01:00:00 2026 +00:00", "a short life is whole");
    }
}
