//! Where transactions go: to the kernel by netlink, or through the program `nft` as text, which tests compare with it.

use std::collections::VecDeque;
use std::io::{self, Write as _};
use std::process::{Command, Stdio};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use parking_lot::Mutex;

use crate::diff::Transaction;
use crate::elements::Held;
use crate::netlink::Netfilter;
use crate::{encode, render};

/// Takes transactions. Each happens as a whole or not at all.
pub trait RuleSink {
    /// Makes the changes.
    ///
    /// # Errors
    /// The changes were refused; nothing has changed.
    fn apply(&mut self, transaction: &Transaction) -> anyhow::Result<()>;
}

/// The sockets whose changes are ours, so that other people's are told apart from them.
///
/// The kernel names sockets by a number; that of an `nft` process is its process id. The last few are enough, because
/// announcements follow their change at once.
#[derive(Debug, Clone, Default)]
pub struct OwnSockets(Arc<Mutex<VecDeque<u32>>>);

impl OwnSockets {
    /// How many are remembered.
    const KEPT: usize = 64;

    /// Remembers a socket.
    pub fn add(&self, port: u32) {
        let mut ports = self.0.lock();
        if !ports.contains(&port) {
            if ports.len() == Self::KEPT {
                ports.pop_front();
            }
            ports.push_back(port);
        }
    }

    /// Whether the socket is ours.
    #[must_use]
    pub fn contains(&self, port: u32) -> bool {
        self.0.lock().contains(&port)
    }
}

/// Runs the `nft` program. Takes what [`render`] says it can; costs at least 4 ms each.
#[derive(Debug, Default)]
pub struct Text {
    own: OwnSockets,
}

impl Text {
    /// A sink that tells `own` about its processes.
    #[must_use]
    pub fn new(own: OwnSockets) -> Self {
        Self { own }
    }

    /// Runs nft with `script` as its input.
    ///
    /// # Errors
    /// What nft complained about.
    pub fn run(&self, script: &str) -> anyhow::Result<()> {
        let mut child = Command::new("nft")
            .args(["-f", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("starting nft: is the package nftables installed?")?;
        self.own.add(child.id());
        let written = child.stdin.take().map_or(Ok(()), |mut stdin| stdin.write_all(script.as_bytes()));
        let output = child.wait_with_output().context("waiting for nft")?;
        if !output.status.success() {
            // nft repeats the offending line; the first lines say enough.
            let complaint: String = String::from_utf8_lossy(&output.stderr).lines().take(6).collect::<Vec<_>>().join(" | ");
            bail!("nft refused the rules: {complaint}");
        }
        written.context("writing to nft")
    }
}

impl RuleSink for Text {
    fn apply(&mut self, transaction: &Transaction) -> anyhow::Result<()> {
        self.run(&render::transaction(transaction))
    }
}

/// Speaks netlink, without a process or a text in between.
#[derive(Debug)]
pub struct Netlink {
    netfilter: Netfilter,
}

impl Netlink {
    /// Opens the socket in this thread's network namespace.
    ///
    /// # Errors
    /// No right to, or no netfilter.
    pub fn open(own: &OwnSockets) -> io::Result<Self> {
        let netfilter = Netfilter::open()?;
        own.add(netfilter.port());
        Ok(Self { netfilter })
    }

    /// The socket, for reading.
    pub fn netfilter(&mut self) -> &mut Netfilter {
        &mut self.netfilter
    }

    /// As [`RuleSink::apply`], and puts learnt elements into the table made anew.
    ///
    /// # Errors
    /// The changes were refused; nothing has changed.
    pub fn apply_with(&mut self, transaction: &Transaction, restored: &[Held]) -> anyhow::Result<()> {
        encode::apply(&mut self.netfilter, transaction, restored).context("the kernel refused the rules")
    }
}

impl RuleSink for Netlink {
    fn apply(&mut self, transaction: &Transaction) -> anyhow::Result<()> {
        self.apply_with(transaction, &[])
    }
}
