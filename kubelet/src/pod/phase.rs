//! The phase of a pod, from the statuses of its containers.

use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, PodSpec};

use super::restart::restarts;
use super::{Observed, State, is_being_replaced, is_sidecar};

/// How a container stands, for the phase.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    Waiting,
    Running,
    Ended(i32),
}

fn standing(status: Option<&ContainerStatus>) -> Standing {
    let Some(status) = status else { return Standing::Waiting };
    let ended = |s: &Option<ContainerState>| s.as_ref().and_then(|s| s.terminated.as_ref()).map(|t| Standing::Ended(t.exit_code));
    match &status.state {
        Some(state) if state.running.is_some() => Standing::Running,
        Some(ContainerState { terminated: Some(t), .. }) => Standing::Ended(t.exit_code),
        _ => ended(&status.last_state).unwrap_or(Standing::Waiting),
    }
}

/// The phase that the containers' statuses add up to. `ending` is set when nothing will be started any more.
#[must_use]
pub fn phase(spec: &PodSpec, init: &[ContainerStatus], regular: &[ContainerStatus], ending: bool) -> &'static str {
    let find = |list: &[ContainerStatus], name: &str| standing(list.iter().find(|s| s.name == name));
    let containers: Vec<_> = spec.containers.iter().map(|c| (c, find(regular, &c.name))).collect();
    let any = |wanted: fn(&Standing) -> bool| containers.iter().any(|(_, s)| wanted(s));
    let running = any(|s| *s == Standing::Running);
    let waiting = any(|s| *s == Standing::Waiting);
    let succeeded = containers.iter().all(|(_, s)| *s == Standing::Ended(0));
    if ending && !running {
        return if succeeded { "Succeeded" } else { "Failed" };
    }
    let begun = any(|s| *s != Standing::Waiting);
    let mut initializing = false;
    for container in spec.init_containers.iter().flatten() {
        let standing = find(init, &container.name);
        match standing {
            Standing::Ended(code) if code != 0 && !is_sidecar(container) && !restarts(spec, container, true, code) => return "Failed",
            Standing::Waiting => initializing = true,
            Standing::Running if !is_sidecar(container) => initializing = true,
            Standing::Running => {
                initializing |= !init.iter().any(|s| s.name == container.name && s.started == Some(true));
            }
            Standing::Ended(_) => {}
        }
    }
    if (initializing && !begun) || waiting {
        return "Pending";
    }
    if running {
        return "Running";
    }
    let stays_down = containers.iter().all(|(c, s)| matches!(s, Standing::Ended(code) if !restarts(spec, c, false, *code)));
    match (stays_down, succeeded) {
        (true, true) => "Succeeded",
        (true, false) => "Failed",
        (false, _) => "Running",
    }
}

/// Whether everything that was to run has run and nothing will be started again, so that the pod can be ended.
#[must_use]
pub fn finished(spec: &PodSpec, seen: &Observed) -> bool {
    let stays_down = |name: &str, init: bool| {
        let container = spec.containers.iter().chain(spec.init_containers.iter().flatten()).find(|c| c.name == name);
        match (container, seen.newest(name)) {
            (Some(container), Some(old)) => {
                let again = restarts(spec, container, init, old.exit_code) || is_being_replaced(spec, seen, container, init, old);
                (old.state == State::Exited && !again).then_some(old)
            }
            _ => None,
        }
    };
    let failed_init = spec
        .init_containers
        .iter()
        .flatten()
        .filter(|c| !is_sidecar(c))
        .any(|c| stays_down(&c.name, true).is_some_and(|old| old.exit_code != 0));
    failed_init || (!spec.containers.is_empty() && spec.containers.iter().all(|c| stays_down(&c.name, false).is_some()))
}
