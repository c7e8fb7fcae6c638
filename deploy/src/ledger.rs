//! What the machine was like before `up`, where that cannot be seen from what there is now.
//!
//! Kept in `/etc/ferrite/ledger.json` from the first `up` on. `down` restores what is written here, and removes a shared
//! directory only when it was not there before.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::{files, paths};

/// Directories that others may have made as well: `down` removes them only when `up` found none.
pub const SHARED_DIRS: &[&str] =
    &["/etc/cni", "/run/containerd", "/var/lib/cni", "/var/lib/containerd", "/var/log/containers", "/var/log/pods", "/run/netns"];

/// The machine before `up`.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// The [`SHARED_DIRS`] that there were.
    pub dirs: Vec<String>,
    /// Kernel settings that `up` changed, with the value they had: the path below `/proc/sys`.
    pub sysctls: BTreeMap<String, String>,
}

impl Ledger {
    fn path() -> PathBuf {
        format!("{}/ledger.json", paths::CONFIG).into()
    }

    /// The ledger of the present cluster; `None` when there is none.
    ///
    /// # Errors
    /// A file that cannot be read or understood.
    pub fn load() -> anyhow::Result<Option<Self>> {
        match std::fs::read(Self::path()) {
            Ok(text) => serde_json::from_slice(&text).map(Some).with_context(|| format!("in {}", Self::path().display())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("reading {}", Self::path().display())),
        }
    }

    /// The ledger of the present cluster, or a new one of the machine as it is now.
    ///
    /// # Errors
    /// A file that cannot be read or written.
    pub fn open() -> anyhow::Result<Self> {
        if let Some(ledger) = Self::load()? {
            return Ok(ledger);
        }
        let dirs = SHARED_DIRS.iter().filter(|d| Path::new(d).exists()).map(|d| (*d).to_owned()).collect();
        let ledger = Self { dirs, sysctls: BTreeMap::new() };
        ledger.save()?;
        Ok(ledger)
    }

    /// Writes it down.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn save(&self) -> anyhow::Result<()> {
        let text = serde_json::to_vec_pretty(self).context("the ledger as JSON")?;
        files::ensure(&Self::path(), &text, files::PUBLIC).map(|_| ())
    }
}
