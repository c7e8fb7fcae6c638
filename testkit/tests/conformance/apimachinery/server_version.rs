//! The version that the server says it is of.

use crate::framework::{Behaviour, Framework, test};

pub const BEHAVIOURS: &[Behaviour] =
    &[Behaviour::new("[sig-api-machinery] server version should find the server version", test!(server_version))];

async fn server_version(f: Framework) -> anyhow::Result<()> {
    let version = f.wire.get("/version").await.expect(200);
    for part in ["major", "minor"] {
        let text = version[part].as_str().unwrap_or("");
        anyhow::ensure!(!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()), "{part} is no integer: {version}");
    }
    Ok(())
}
