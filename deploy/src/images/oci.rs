//! An OCI archive: one layer, one configuration, one manifest, and an index that names it.
//!
//! The same root directory gives the same bytes, so the digest says whether containerd has the image already.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::Path;

use anyhow::Context as _;
use serde_json::json;
use sha2::{Digest as _, Sha256};

/// How containerd names an image of the index.
const NAME: &str = "io.containerd.image.name";
/// The index is a few hundred bytes for each name.
const MOST_INDEX: u64 = 1 << 20;

/// How an image is run, and what it is called.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    /// Full names with tags.
    pub names: Vec<String>,
    /// The program, and arguments that always come first.
    pub entrypoint: Vec<String>,
    /// Arguments when none are given.
    pub cmd: Vec<String>,
    /// Environment.
    pub env: Vec<String>,
    /// `80/tcp`.
    pub ports: Vec<String>,
    /// The signal that ends it gracefully.
    pub stop_signal: Option<&'static str>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

/// Packs the directory `root` into the archive `path`.
///
/// # Errors
/// A file that cannot be read or written.
pub fn pack(root: &Path, config: &Config, path: &Path) -> anyhow::Result<()> {
    let layer = layer(root)?;
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let ports: BTreeMap<&str, serde_json::Value> = config.ports.iter().map(|p| (p.as_str(), json!({}))).collect();
    let mut run = json!({ "Env": config.env, "Entrypoint": config.entrypoint, "Cmd": config.cmd, "Labels": config.labels });
    if !ports.is_empty() {
        run["ExposedPorts"] = json!(ports);
    }
    if let Some(signal) = config.stop_signal {
        run["StopSignal"] = json!(signal);
    }
    let image = json!({
        "architecture": architecture, "os": "linux", "config": run,
        "rootfs": { "type": "layers", "diff_ids": [digest(&layer)] },
    });
    let image = serde_json::to_vec(&image)?;
    let blob = |kind: &str, bytes: &[u8]| json!({ "mediaType": kind, "digest": digest(bytes), "size": bytes.len() });
    let manifest = serde_json::to_vec(&json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": blob("application/vnd.oci.image.config.v1+json", &image),
        "layers": [blob("application/vnd.oci.image.layer.v1.tar", &layer)],
    }))?;
    let named = |name: &String| {
        let mut entry = blob("application/vnd.oci.image.manifest.v1+json", &manifest);
        entry["annotations"] = json!({ NAME: name });
        entry["platform"] = json!({ "architecture": architecture, "os": "linux" });
        entry
    };
    let index = serde_json::to_vec(&json!({ "schemaVersion": 2, "manifests": config.names.iter().map(named).collect::<Vec<_>>() }))?;

    let mut archive = tar::Builder::new(File::create(path).with_context(|| format!("making {}", path.display()))?);
    // The index first, so that `names` need not read the rest.
    append(&mut archive, "index.json", &index)?;
    append(&mut archive, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    for bytes in [&manifest, &image, &layer] {
        append(&mut archive, &format!("blobs/{}", digest(bytes).replace(':', "/")), bytes)?;
    }
    archive.into_inner()?.flush()?;
    Ok(())
}

/// The names in an archive made by [`pack`], each with the digest of what it names.
///
/// # Errors
/// The file is not such an archive.
pub fn names(path: &Path) -> anyhow::Result<Vec<(String, String)>> {
    let attempted = || format!("reading the index of {}", path.display());
    let mut archive = tar::Archive::new(File::open(path).with_context(attempted)?);
    let first = archive.entries().with_context(attempted)?.next().context("it is empty").with_context(attempted)?;
    let mut text = String::new();
    first.with_context(attempted)?.take(MOST_INDEX).read_to_string(&mut text).with_context(attempted)?;
    let index: serde_json::Value = serde_json::from_str(&text).with_context(attempted)?;
    let manifests = index["manifests"].as_array().context("no manifests").with_context(attempted)?;
    let name = |m: &serde_json::Value| Some((m["annotations"][NAME].as_str()?.to_owned(), m["digest"].as_str()?.to_owned()));
    manifests.iter().map(|m| name(m).context("a manifest without name").with_context(attempted)).collect()
}

/// The directory as a tar stream: sorted, owned by root, dated 1970.
fn layer(root: &Path) -> anyhow::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    archive.follow_symlinks(false);
    add_dir(&mut archive, root, Path::new(""))?;
    archive.into_inner().context("a layer")
}

fn add_dir(archive: &mut tar::Builder<Vec<u8>>, root: &Path, dir: &Path) -> anyhow::Result<()> {
    let here = root.join(dir);
    let mut entries = std::fs::read_dir(&here)
        .and_then(|e| e.map(|e| e.map(|e| e.file_name())).collect::<Result<Vec<_>, _>>())
        .with_context(|| format!("reading {}", here.display()))?;
    entries.sort();
    for name in entries {
        let inside = dir.join(name);
        let path = root.join(&inside);
        let attempted = || format!("packing {}", path.display());
        let found = std::fs::symlink_metadata(&path).with_context(attempted)?;
        let mut header = tar::Header::new_gnu();
        header.set_metadata_in_mode(&found, tar::HeaderMode::Complete);
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        if found.is_symlink() {
            header.set_size(0);
            archive.append_link(&mut header, &inside, std::fs::read_link(&path).with_context(attempted)?).with_context(attempted)?;
        } else if found.is_dir() {
            header.set_size(0);
            archive.append_data(&mut header, &inside, std::io::empty()).with_context(attempted)?;
            add_dir(archive, root, &inside)?;
        } else if found.is_file() {
            archive.append_data(&mut header, &inside, File::open(&path).with_context(attempted)?).with_context(attempted)?;
        }
    }
    Ok(())
}

fn append(archive: &mut tar::Builder<File>, name: &str, bytes: &[u8]) -> anyhow::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len().try_into().context("a length")?);
    header.set_mode(0o644);
    header.set_mtime(0);
    archive.append_data(&mut header, name, bytes).with_context(|| format!("writing {name}"))
}

fn digest(bytes: &[u8]) -> String {
    let hash = Sha256::digest(bytes);
    hash.iter().fold("sha256:".to_owned(), |mut text, byte| {
        text += &format!("{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_root_gives_the_same_image() {
        let dir = tempfile::tempdir().expect("a directory");
        let root = dir.path().join("root");
        std::fs::create_dir_all(root.join("bin")).expect("made");
        std::fs::write(root.join("bin/x"), "x").expect("written");
        std::os::unix::fs::symlink("x", root.join("bin/y")).expect("linked");
        let config = Config { names: vec!["a:1".into(), "a:2".into()], ..Config::default() };
        let pack = |name: &str| {
            let path = dir.path().join(name);
            pack(&root, &config, &path).expect("packed");
            names(&path).expect("named")
        };
        let first = pack("1.tar");
        assert_eq!(first, pack("2.tar"));
        assert_eq!(first.iter().map(|(n, _)| n.as_str()).collect::<Vec<_>>(), ["a:1", "a:2"]);
        std::fs::write(root.join("bin/x"), "z").expect("written");
        assert_ne!(first, pack("3.tar"));
    }
}
