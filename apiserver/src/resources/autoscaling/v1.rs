//! autoscaling/v1 HorizontalPodAutoscaler: the older form, which knows a share of CPU alone.

use super::{conversion, v2};
use crate::resource::Resource;

/// The row.
#[must_use]
pub fn row() -> Resource {
    Resource::namespaced("autoscaling", "v1", "HorizontalPodAutoscaler", "horizontalpodautoscalers")
        .short(&["hpa"])
        .in_all()
        .status()
        .columns(v2::columns())
        .stored_as("autoscaling", "horizontalpodautoscalers", conversion::to_v2, conversion::to_v1)
        .rules_of(&v2::row())
}
