//! Images made on this machine, because no registry can be assumed: pause of our own, busybox and nginx of Debian's packages.
//!
//! Each is an OCI archive in the cache directory, made once, and imported into the containerd of each node where it is missing.

pub mod oci;
pub mod rootfs;

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::{command, paths};

/// An image and how it is made.
#[derive(Debug)]
pub struct Image {
    /// The stem of its archive.
    pub name: &'static str,
    /// Makes the root file system and says how the image is run.
    pub make: fn(&Path) -> anyhow::Result<oci::Config>,
}

/// The pause image: no pod runs without it.
pub const PAUSE: Image = Image { name: "pause", make: rootfs::pause };
/// The images of the example.
pub const EXAMPLE: &[Image] = &[Image { name: "busybox", make: rootfs::busybox }, Image { name: "nginx", make: rootfs::nginx }];

impl Image {
    /// Whether its archive is in `cache`.
    #[must_use]
    pub fn is_made(&self, cache: &Path) -> bool {
        self.path(cache).exists()
    }

    fn path(&self, cache: &Path) -> PathBuf {
        cache.join(format!("{}-{}.tar", self.name, rootfs::RECIPE))
    }

    /// The archive of the image below `cache`, made if it is missing. The name says which recipe it was made by.
    ///
    /// # Errors
    /// The packages cannot be had, or a file cannot be written.
    pub fn archive(&self, cache: &Path) -> anyhow::Result<PathBuf> {
        let path = self.path(cache);
        if path.exists() {
            return Ok(path);
        }
        std::fs::create_dir_all(cache).with_context(|| format!("making directory {}", cache.display()))?;
        let work = tempfile::tempdir_in(cache).context("a directory to work in")?;
        let root = work.path().join("root");
        std::fs::create_dir(&root).context("making the root directory of an image")?;
        let config = (self.make)(&root).with_context(|| format!("making the image {}", self.name))?;
        let archive = work.path().join("image.tar");
        oci::pack(&root, &config, &archive).with_context(|| format!("packing the image {}", self.name))?;
        std::fs::rename(&archive, &path).with_context(|| format!("writing {}", path.display()))?;
        Ok(path)
    }
}

/// Imports an archive into the containerd at `socket`, unless it has all of it. Says whether it did.
///
/// # Errors
/// containerd refuses.
pub async fn import(socket: &Path, archive: &Path) -> anyhow::Result<bool> {
    let wanted = oci::names(archive)?;
    let socket = socket.to_string_lossy();
    let ctr = |args: &[&str]| -> Vec<String> {
        let all = ["--address", &socket, "--namespace", "k8s.io", "images"];
        all.iter().chain(args).map(|a| (*a).to_owned()).collect()
    };
    let present = command::run_async("ctr", ctr(&["list"])).await?;
    let has = |(name, digest): &(String, String)| {
        present.lines().any(|l| l.split_whitespace().next() == Some(name) && l.split_whitespace().any(|w| w == digest))
    };
    if wanted.iter().all(has) {
        return Ok(false);
    }
    command::run_async("ctr", ctr(&["import", &archive.to_string_lossy()])).await?;
    Ok(true)
}

/// The names under which the pause image is known.
#[must_use]
pub fn pause_names() -> Vec<String> {
    vec![paths::PAUSE_IMAGE.to_owned()]
}
