//! Which command a container runs: its image's, or its own.

use serde_json::{Value, json};

use super::super::pod;
use crate::framework::{Behaviour, Framework, NGINX, test};

pub const BEHAVIOURS: &[Behaviour] = &[
    Behaviour::new("[sig-node] Containers should use the image defaults if command and args are blank [NodeConformance]", test!(defaults)),
    Behaviour::new(
        "[sig-node] Containers should be able to override the image's default arguments (container cmd) [NodeConformance]",
        |f| Box::pin(says(f, json!({"args": ["echo", "override", "arguments"]}), "override arguments\n")),
    ),
    Behaviour::new(
        "[sig-node] Containers should be able to override the image's default command (container entrypoint) [NodeConformance]",
        |f| Box::pin(says(f, json!({"command": ["echo"]}), "\n")),
    ),
    Behaviour::new("[sig-node] Containers should be able to override the image's default command and arguments [NodeConformance]", |f| {
        Box::pin(says(f, json!({"command": ["echo", "override"], "args": ["arguments"]}), "override arguments\n"))
    }),
];

/// A pod of nginx, whose image runs `nginx -g "daemon off;"`, with this and no other command.
fn nginx(container: Value) -> Value {
    let mut pod = pod("p", "", json!({}), json!({"image": NGINX}));
    pod["spec"]["containers"][0].as_object_mut().expect("a container").remove("command");
    super::super::put(&mut pod["spec"]["containers"][0], container);
    pod
}

async fn defaults(f: Framework) -> anyhow::Result<()> {
    f.create_pod(&nginx(json!({}))).await;
    f.until_ready("p").await;
    let said = f.kubectl().ok(&["exec", "p", "--", "sh", "-c", "tr '\\0' ' ' < /proc/1/cmdline"]).await?;
    assert!(said.starts_with("nginx: master process nginx -g daemon off;"), "{said}");
    Ok(())
}

async fn says(f: Framework, container: Value, expected: &str) -> anyhow::Result<()> {
    assert_eq!(f.output_of(&nginx(container)).await, expected);
    Ok(())
}
