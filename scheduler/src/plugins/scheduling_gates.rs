//! A pod with scheduling gates waits until others have removed them all (KEP-3521).

use super::Plugin;
use crate::pod::Pod;

pub struct SchedulingGates;

impl Plugin for SchedulingGates {
    fn name(&self) -> &'static str {
        "SchedulingGates"
    }

    fn pre_enqueue(&self, pod: &Pod) -> Result<(), String> {
        if pod.gates.is_empty() { Ok(()) } else { Err(format!("waiting for scheduling gates: [{}]", pod.gates.join(" "))) }
    }
}
