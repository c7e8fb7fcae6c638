//! A pod rather goes where its images already are, if they are large; less so when few nodes have them, lest all pods of a kind
//! gather there.

use super::{MAX_SCORE, Plugin};
use crate::node::Node;
use crate::pod::Pod;
use crate::snapshot::Snapshot;

pub struct ImageLocality;

/// Images smaller than this together, in bytes, are quickly pulled.
const LEAST: i64 = 23 << 20;
/// More than this a container, in bytes, makes no difference any more.
const MOST_EACH: i64 = 1000 << 20;

impl Plugin for ImageLocality {
    fn name(&self) -> &'static str {
        "ImageLocality"
    }

    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)] // a score of 0 to 100 needs no more
    fn score(&self, pod: &Pod, snapshot: &Snapshot, nodes: &[&Node]) -> Option<Vec<i64>> {
        let shares: Vec<(&str, f64)> = pod
            .images
            .iter()
            .map(|image| (image.as_str(), snapshot.nodes_with_image(image) as f64 / snapshot.len().max(1) as f64))
            .filter(|(_, share)| *share > 0.0)
            .collect();
        if shares.is_empty() {
            return None;
        }
        let most = MOST_EACH.saturating_mul(i64::try_from(pod.images.len()).unwrap_or(i64::MAX));
        let score = |node: &Node| {
            let here = shares.iter().filter_map(|(image, share)| Some(*node.facts.images.get(*image)? as f64 * share));
            ((here.sum::<f64>() as i64).clamp(LEAST, most) - LEAST) * MAX_SCORE / (most - LEAST)
        };
        Some(nodes.iter().map(|n| score(n)).collect())
    }
}
