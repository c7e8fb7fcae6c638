//! What is in the images: our own static `pause`, Debian's static busybox, Debian's nginx with the packages it needs.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, bail};

use super::oci::Config;
use crate::{command, files};

/// Changes whenever this file makes other images than before, so that old archives are not taken for new ones.
pub const RECIPE: u32 = 1;

/// The program of the pause image; see `pause/pause.rs`.
const PAUSE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/pause"));
/// Debian's static busybox.
const BUSYBOX: &str = "/bin/busybox";
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:33:www-data:/var/www:/usr/sbin/nologin\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n";
const GROUP: &str = "root:x:0:\nadm:x:4:\nwww-data:x:33:\nnogroup:x:65534:\n";

/// The server that the example shows: what people know from other nginx images.
const SITE: &str = "server {
    listen 80 default_server;
    server_name _;
    root /usr/share/nginx/html;
    index index.html;
}
";

/// An image of one program that waits.
///
/// # Errors
/// A file cannot be written.
pub fn pause(root: &Path) -> anyhow::Result<Config> {
    files::ensure(&root.join("pause"), PAUSE, files::PROGRAM)?;
    Ok(Config { names: super::pause_names(), entrypoint: vec!["/pause".into()], env: vec![PATH.into()], ..Config::default() })
}

/// busybox with a link for each of its commands.
///
/// # Errors
/// Debian's `busybox-static` is not installed, or a file cannot be written.
pub fn busybox(root: &Path) -> anyhow::Result<Config> {
    add_busybox(root)?;
    add_users(root)?;
    add_tmp(root)?;
    Ok(Config {
        names: vec!["docker.io/library/busybox:latest".into()],
        cmd: vec!["sh".into()],
        env: vec![PATH.into()],
        labels: [("org.opencontainers.image.description".into(), "made from Debian's busybox-static".into())].into(),
        ..Config::default()
    })
}

/// nginx and what it needs from Debian, with busybox beside it for a shell.
///
/// # Errors
/// The packages cannot be downloaded or unpacked, or a file cannot be written.
pub fn nginx(root: &Path) -> anyhow::Result<Config> {
    // In Debian of today /bin and the like are links into /usr; packages unpack through them.
    for dir in ["bin", "sbin", "lib", "lib64"] {
        files::ensure_dir(&root.join("usr").join(dir))?;
        symlink(format!("usr/{dir}"), root.join(dir)).with_context(|| format!("linking /{dir}"))?;
    }
    let version = unpack_with_dependencies("nginx", root)?;
    for dir in ["usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/lintian", "etc/nginx/sites-enabled", "etc/init.d"] {
        files::remove(&root.join(dir))?;
    }
    add_users(root)?;
    add_tmp(root)?;
    add_busybox(root)?;
    files::ensure(&root.join("etc/nginx/conf.d/default.conf"), SITE.as_bytes(), files::PUBLIC)?;
    files::ensure_dir(&root.join("run"))?;
    // So that `kubectl logs` shows the requests.
    for (name, target) in [("access.log", "/dev/stdout"), ("error.log", "/dev/stderr")] {
        let path = root.join("var/log/nginx").join(name);
        files::remove(&path)?;
        symlink(target, &path).with_context(|| format!("linking {}", path.display()))?;
    }
    let short: String = version.splitn(3, '.').take(2).collect::<Vec<_>>().join(".");
    let names = ["latest", &short, &version].iter().map(|tag| format!("docker.io/library/nginx:{tag}")).collect();
    Ok(Config {
        names,
        cmd: ["nginx", "-g", "daemon off;"].map(str::to_owned).to_vec(),
        env: vec![PATH.into()],
        ports: vec!["80/tcp".into()],
        stop_signal: Some("SIGQUIT"),
        labels: [("org.opencontainers.image.description".into(), format!("nginx {version}, made from Debian's packages"))].into(),
        ..Config::default()
    })
}

/// Downloads a Debian package with all that it depends on, as if nothing was installed, and unpacks it. Gives its upstream version.
fn unpack_with_dependencies(package: &str, root: &Path) -> anyhow::Result<String> {
    let work = tempfile::tempdir_in(root.parent().unwrap_or(root)).context("a directory for packages")?;
    let archives = match download(package, work.path()) {
        Err(first) => {
            // What the lists of an older day name may be gone from the archive.
            command::run("apt-get", ["update", "-qq"])
                .with_context(|| format!("{first:#}; and updating apt's lists did not work either"))?;
            download(package, work.path())?
        }
        archives => archives?,
    };
    for entry in std::fs::read_dir(work.path()).context("reading the downloaded packages")? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "deb") {
            let mut unpack = Command::new("sh");
            // Not `dpkg-deb --extract`: tar must keep the links that stand for /bin and the like.
            unpack.arg("-c").arg("dpkg-deb --fsys-tarfile \"$1\" | tar --extract --keep-directory-symlink --directory \"$2\"");
            unpack.arg("sh").arg(&path).arg(root);
            command::output(unpack).with_context(|| format!("unpacking {}", path.display()))?;
        }
    }
    let version = archives.iter().find_map(|a| a.strip_prefix(format!("{package}_").as_str())).and_then(|rest| rest.split('_').next());
    let version = version.context("the package has no version")?;
    let version = version.rsplit("%3a").next().unwrap_or(version);
    Ok(version.split('-').next().unwrap_or(version).to_owned())
}

/// Puts the archives of a package and of all that it depends on into `work`. Gives their names. What this machine has installed does not
/// count: it may be newer than anything that can be downloaded.
fn download(package: &str, work: &Path) -> anyhow::Result<Vec<String>> {
    let nothing = work.join("status");
    std::fs::write(&nothing, "").context("an empty list of installed packages")?;
    let status = format!("Dir::State::status={}", nothing.display());
    let plan = command::run("apt-get", ["install", "--print-uris", "-qq", "--yes", "--no-install-recommends", "-o", &status, package])
        .with_context(|| format!("asking apt what {package} needs"))?;
    let archives: Vec<String> = plan.lines().filter_map(|l| l.split_whitespace().nth(1)).map(str::to_owned).collect();
    let names: Vec<&str> = archives.iter().filter_map(|a| a.split('_').next()).collect();
    if !names.contains(&package) {
        bail!("apt does not know the package {package}: are its sources complete?");
    }
    let mut download = Command::new("apt-get");
    download.args(["download", "-q", "-o", "APT::Sandbox::User=root", "-o", &status]).args(&names).current_dir(work);
    command::output(download).context("downloading Debian packages (is the network up?)")?;
    Ok(archives)
}

fn add_busybox(root: &Path) -> anyhow::Result<()> {
    let program = std::fs::read(BUSYBOX).with_context(|| format!("reading {BUSYBOX}: install the package busybox-static"))?;
    files::ensure(&root.join("bin/busybox"), &program, files::PROGRAM)?;
    for applet in command::run(BUSYBOX, ["--list"])?.lines() {
        let path = root.join("bin").join(applet);
        if applet != "busybox" && std::fs::symlink_metadata(&path).is_err() {
            symlink("busybox", &path).with_context(|| format!("linking {}", path.display()))?;
        }
    }
    Ok(())
}

fn add_users(root: &Path) -> anyhow::Result<()> {
    files::ensure(&root.join("etc/passwd"), PASSWD.as_bytes(), files::PUBLIC)?;
    files::ensure(&root.join("etc/group"), GROUP.as_bytes(), files::PUBLIC)?;
    files::ensure_dir(&root.join("root")).map(|_| ())
}

fn add_tmp(root: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let tmp = root.join("tmp");
    files::ensure_dir(&tmp)?;
    std::fs::set_permissions(&tmp, std::fs::Permissions::from_mode(0o1777)).with_context(|| format!("permissions of {}", tmp.display()))
}
