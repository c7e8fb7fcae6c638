//! Makes the images that no registry need provide, and imports them into every node.

use std::time::Duration;

use anyhow::Context as _;
use futures::future::try_join_all;

use super::Outcome;
use crate::images::{self, Image};
use crate::paths;
use crate::up::Up;

/// containerd listens a moment after it started; in a node in namespaces, after the node did.
const LISTENS_WITHIN: Duration = Duration::from_secs(60);

/// # Errors
/// An image cannot be made or imported.
pub async fn run(up: &Up) -> anyhow::Result<Outcome> {
    let mut imported = install(up, &images::PAUSE).await?;
    for image in images::EXAMPLE {
        match install(up, image).await {
            Ok(done) => imported.extend(done),
            // The example needs them; an empty cluster is only nicer to try with them.
            Err(error) if !up.example => up.say("images", &format!("without {}: {error:#}", image.name)),
            Err(error) => return Err(error),
        }
    }
    let what = if imported.is_empty() { "all there".to_owned() } else { imported.join(", ") };
    Ok(Outcome::of(!imported.is_empty(), what))
}

async fn install(up: &Up, image: &'static Image) -> anyhow::Result<Vec<String>> {
    let cache = up.cache.clone();
    if !image.is_made(&cache) {
        up.say("images", &format!("making {} from Debian's packages", image.name));
    }
    let archive = tokio::task::spawn_blocking(move || image.archive(&cache)).await.context("the thread that makes an image")??;
    let each = up.cluster.nodes.iter().map(|node| {
        let (archive, socket) = (&archive, node.file(paths::CONTAINERD_SOCKET));
        async move {
            let listens = || async { Ok(std::os::unix::net::UnixStream::connect(&socket).is_ok().then_some(())) };
            up.wait(&format!("containerd of {}", node.name), LISTENS_WITHIN, listens).await?;
            images::import(&socket, archive).await.with_context(|| format!("importing {} into {}", image.name, node.name))
        }
    });
    let imported = try_join_all(each).await?;
    Ok(if imported.contains(&true) { vec![image.name.to_owned()] } else { Vec::new() })
}
