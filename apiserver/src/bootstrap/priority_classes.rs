//! The priority classes of pods that the cluster, or a node, cannot do without.

use std::sync::Arc;

use api::status::Status;
use serde_json::{Value, json};

use super::ensure;
use crate::resources::scheduling::priorityclasses::SYSTEM;
use crate::server::Server;

/// The classes as objects.
fn objects() -> impl Iterator<Item = Value> {
    let description = |name: &str| match name {
        "system-node-critical" => "For pods of the system that have to stay on their node.",
        _ => "For pods of the system that the cluster needs, on whichever node.",
    };
    SYSTEM.iter().map(move |(name, value)| {
        json!({
            "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name}, "value": value,
            "description": description(name),
        })
    })
}

/// Makes those that are not there.
///
/// # Errors
/// A write that fails.
pub async fn once(server: &Arc<Server>) -> Result<(), Status> {
    futures::future::try_join_all(objects().map(|object| ensure(server, object))).await.map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::rows_in_tests::errors;
    use crate::resources::scheduling::priorityclasses::row;

    #[test]
    fn the_systems_classes_are_valid() {
        assert_eq!(objects().map(|o| errors(row(), &o.to_string())).collect::<Vec<_>>(), ["", ""]);
    }
}
