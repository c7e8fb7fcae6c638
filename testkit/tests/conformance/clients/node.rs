//! The official JavaScript client.

use super::super::framework::{Behaviour, Framework, test};
use super::programs::{node, run, sources};

pub const BEHAVIOURS: &[Behaviour] = &[
    Behaviour::new("clients: JavaScript keeps an informer, patches and applies", test!(objects)),
    Behaviour::new("clients: JavaScript runs commands over WebSocket v5, forwards ports and follows logs", test!(streams)),
];

/// Scripts find their packages beside themselves.
async fn script(f: &Framework, name: &str) -> anyhow::Result<()> {
    let dir = node().await?;
    let own = dir.join(format!("{}-{name}", f.namespace));
    std::fs::copy(sources("node").join(name), &own)?;
    let outcome = run(f, "node".as_ref(), &[&own.display().to_string()]).await;
    std::fs::remove_file(own)?;
    outcome
}

async fn objects(f: Framework) -> anyhow::Result<()> {
    script(&f, "objects.mjs").await
}

async fn streams(f: Framework) -> anyhow::Result<()> {
    f.served().await;
    script(&f, "streams.mjs").await
}
