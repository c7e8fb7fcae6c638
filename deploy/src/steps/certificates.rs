//! Issues what [`crate::pki`] asks for and is missing, wrong or about to expire.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use jiff::Timestamp;

use super::Outcome;
use crate::cluster::{Cluster, Node};
use crate::pki::{self, Pair};
use crate::up::Up;
use crate::{files, paths};

/// # Errors
/// A file cannot be read or written.
pub async fn run(up: &Up) -> anyhow::Result<Outcome> {
    let issued = issue(&up.cluster, false)?;
    let what = if issued.is_empty() { "all valid".to_owned() } else { format!("{} issued", issued.len()) };
    Ok(Outcome::of(!issued.is_empty(), what))
}

/// Issues the certificates that need it, or all but the authorities when `renew`. Gives the files written.
///
/// # Errors
/// A file cannot be read or written.
pub fn issue(cluster: &Cluster, renew: bool) -> anyhow::Result<Vec<PathBuf>> {
    let now = Timestamp::now();
    let today = now.to_zoned(jiff::tz::TimeZone::UTC).date();
    let host = cluster.host();
    let mut issued = Vec::new();
    let mut authorities = Vec::new();
    for authority in pki::authorities() {
        let (certificate, key) = (file(host, authority.stem(), "crt"), file(host, authority.stem(), "key"));
        if !certificate.exists() || !key.exists() {
            write(&certificate, &key, &pki::issue_authority(authority, today)?)?;
            issued.push(certificate.clone());
        }
        authorities.push((authority, Pair { certificate: read(&certificate)?, key: read(&key)? }));
    }
    for node in &cluster.nodes {
        files::ensure(&file(node, "ca", "crt"), authorities[0].1.certificate.as_bytes(), files::PUBLIC)?;
        for leaf in pki::leaves(cluster, node) {
            let Some((_, authority)) = authorities.iter().find(|(a, _)| *a == leaf.authority) else { continue };
            let (certificate, key) = (file(node, leaf.stem, "crt"), file(node, leaf.stem, "key"));
            let present = std::fs::read_to_string(&certificate).unwrap_or_default();
            let good = key.exists() && pki::is_good(&present, &leaf, &authority.certificate, now.as_second());
            if renew || !good {
                write(&certificate, &key, &pki::issue(&leaf, authority, today)?)?;
                issued.push(certificate);
            }
        }
    }
    let (private, public) = (file(host, "sa", "key"), file(host, "sa", "pub"));
    if !private.exists() || !public.exists() {
        let (key, public_key) = pki::signing_key()?;
        files::ensure(&private, key.as_bytes(), files::SECRET)?;
        files::ensure(&public, public_key.as_bytes(), files::PUBLIC)?;
        issued.push(public);
    }
    Ok(issued)
}

/// The file of a certificate or key of `node`.
#[must_use]
pub fn file(node: &Node, stem: &str, extension: &str) -> PathBuf {
    node.file(&format!("{}/pki/{stem}.{extension}", paths::KUBERNETES))
}

/// The key first: a reader that sees the new certificate finds its key.
fn write(certificate: &Path, key: &Path, pair: &Pair) -> anyhow::Result<()> {
    files::ensure(key, pair.key.as_bytes(), files::SECRET)?;
    files::ensure(certificate, pair.certificate.as_bytes(), files::PUBLIC).map(|_| ())
}

fn read(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))
}
