//! `ferrite certs`: which certificates there are and until when, and their renewal.

use anyhow::Context as _;
use jiff::Timestamp;

use crate::cluster::Cluster;
use crate::pki;
use crate::status::render;
use crate::steps::certificates;

/// What `ferrite certs` is told.
#[derive(Debug, Clone, clap::Args)]
pub struct Flags {
    /// Issue all certificates anew, the authorities excepted. The daemons notice.
    #[arg(long)]
    pub renew: bool,
}

/// Lists the certificates, renewed before if asked for.
///
/// # Errors
/// There is no cluster, or a certificate cannot be read or written.
pub fn run(flags: &Flags) -> anyhow::Result<()> {
    crate::steps::prerequisites::needs_root()?;
    let cluster = Cluster::load()?.context("there is no cluster on this machine: run deploy/up")?;
    if flags.renew {
        let issued = certificates::issue(&cluster, true)?;
        eprintln!("{} certificates issued; run deploy/up to renew the administrator's kubeconfig as well", issued.len());
    }
    let now = Timestamp::now();
    let mut rows = Vec::new();
    for node in &cluster.nodes {
        let authorities = pki::authorities().into_iter().filter(|_| node.is_host()).map(|a| (a.stem(), a.common_name().to_owned()));
        for (stem, subject) in authorities.chain(pki::leaves(&cluster, node).into_iter().map(|l| (l.stem, l.common_name))) {
            let path = certificates::file(node, stem, "crt");
            let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
            let until = pki::read(&text).with_context(|| format!("in {}", path.display()))?.not_after;
            let expires = Timestamp::from_second(until).map_or_else(|_| "-".into(), |t| t.strftime("%Y-%m-%d").to_string());
            rows.push(vec![node.name.clone(), stem.to_owned(), subject, expires, format!("{} days", (until - now.as_second()) / 86_400)]);
        }
    }
    println!("{}", render(&["NODE", "CERTIFICATE", "SUBJECT", "EXPIRES", "LEFT"], &rows));
    Ok(())
}
