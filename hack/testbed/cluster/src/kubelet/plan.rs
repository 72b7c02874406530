//! What to do next for a pod: from its spec and what the runtime has of it. Nothing is touched here.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;

use super::observed::{Observed, Seen};
use crate::cri::v1::ContainerState;

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Every container has ended for good.
    Finish,
    /// Stop and remove these sandboxes, then make a new one, numbered.
    NewSandbox { end: Vec<String>, attempt: u32 },
    /// Start these containers in the sandbox that there is: name and attempt.
    Start(Vec<(String, u32)>),
}

/// Decides. `attempt` is the lowest number that the next sandbox may have.
pub(super) fn plan(pod: &Pod, seen: &Seen, attempt: u32) -> Step {
    let names = container_names(pod);
    let latest = seen.latest();
    let over = names
        .iter()
        .all(|name| latest.get(name).is_some_and(|c| ended(c) && !restarts(pod, c.status.exit_code)));
    if over && !names.is_empty() {
        return Step::Finish;
    }
    let Some(sandbox) = seen.ready_sandbox() else {
        let next = seen.sandboxes.iter().map(|s| s.attempt + 1).max().unwrap_or(0).max(attempt);
        return Step::NewSandbox {
            end: seen.sandboxes.iter().map(|s| s.id.clone()).collect(),
            attempt: next,
        };
    };
    let start = names.iter().filter_map(|name| {
        let Some(last) = latest.get(name) else { return Some(((*name).to_string(), 0)) };
        let next = Some(((*name).to_string(), last.attempt + 1));
        match last.state() {
            ContainerState::ContainerRunning if last.sandbox == sandbox.id => None,
            ContainerState::ContainerExited if !restarts(pod, last.status.exit_code) => None,
            // Ended and to be restarted, made but never started, unknown, or left over from an earlier sandbox.
            _ => next,
        }
    });
    Step::Start(start.collect())
}

pub(super) fn container_names(pod: &Pod) -> Vec<&str> {
    pod.spec.iter().flat_map(|s| &s.containers).map(|c| c.name.as_str()).collect()
}

pub(super) fn ended(container: &Observed) -> bool {
    container.state() == ContainerState::ContainerExited
}

/// Whether the pod's restart policy has a container started again that ended like this.
pub(super) fn restarts(pod: &Pod, exit_code: i32) -> bool {
    match pod.spec.as_ref().and_then(|s| s.restart_policy.as_deref()) {
        Some("Never") => false,
        Some("OnFailure") => exit_code != 0,
        _ => true,
    }
}

/// When what failed may be tried again, by name.
#[derive(Debug, Default)]
pub(super) struct BackOff {
    entries: BTreeMap<String, (u64, u64)>,
}

impl BackOff {
    /// Notes a failure at `now` (seconds); the wait starts at `first` and doubles up to `limit`. Returns the wait.
    pub(super) fn failed(&mut self, name: &str, now: u64, first: u64, limit: u64) -> u64 {
        let wait = self.entries.get(name).map_or(first, |(_, last)| (last * 2).min(limit));
        self.entries.insert(name.into(), (now + wait, wait));
        wait
    }

    /// Seconds still to wait.
    pub(super) fn remaining(&self, name: &str, now: u64) -> u64 {
        self.entries.get(name).map_or(0, |(until, _)| until.saturating_sub(now))
    }

    pub(super) fn clear(&mut self, name: &str) {
        self.entries.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::{super::observed::Sandbox, *};
    use crate::cri::v1::ContainerStatus;

    fn pod(policy: &str) -> Pod {
        serde_json::from_value(serde_json::json!({
            "spec": { "restartPolicy": policy, "containers": [{ "name": "a" }, { "name": "b" }] },
        }))
        .unwrap()
    }

    fn container(name: &str, sandbox: &str, attempt: u32, state: ContainerState, exit_code: i32) -> Observed {
        let status = ContainerStatus { state: state.into(), exit_code, ..Default::default() };
        Observed {
            id: format!("{name}{attempt}"),
            name: name.into(),
            sandbox: sandbox.into(),
            attempt,
            status,
        }
    }

    fn sandbox(id: &str, attempt: u32, ready: bool) -> Sandbox {
        Sandbox { id: id.into(), attempt, ready, created: 0 }
    }

    const RUNNING: ContainerState = ContainerState::ContainerRunning;
    const EXITED: ContainerState = ContainerState::ContainerExited;

    fn seen(sandboxes: Vec<Sandbox>, containers: Vec<Observed>) -> Seen {
        Seen { sandboxes, containers, ips: Vec::new() }
    }

    fn start(list: &[(&str, u32)]) -> Step {
        Step::Start(list.iter().map(|(n, a)| ((*n).to_string(), *a)).collect())
    }

    #[test]
    fn a_new_pod() {
        let step = plan(&pod("Always"), &Seen::default(), 0);
        assert_eq!(step, Step::NewSandbox { end: vec![], attempt: 0 });
        let ready = seen(vec![sandbox("s", 0, true)], vec![]);
        assert_eq!(plan(&pod("Always"), &ready, 0), start(&[("a", 0), ("b", 0)]));
    }

    #[test]
    fn sandboxes_that_failed_are_ended_first() {
        let failed = seen(vec![sandbox("s", 2, false)], vec![]);
        let step = plan(&pod("Always"), &failed, 0);
        assert_eq!(step, Step::NewSandbox { end: vec!["s".into()], attempt: 3 });
        let step = plan(&pod("Always"), &Seen::default(), 5);
        assert_eq!(step, Step::NewSandbox { end: vec![], attempt: 5 });
    }

    #[test]
    fn restart_policies() {
        let half = |exit: i32| {
            seen(
                vec![sandbox("s", 0, true)],
                vec![container("a", "s", 0, RUNNING, 0), container("b", "s", 1, EXITED, exit)],
            )
        };
        assert_eq!(plan(&pod("Always"), &half(0), 0), start(&[("b", 2)]));
        assert_eq!(plan(&pod("OnFailure"), &half(0), 0), start(&[]));
        assert_eq!(plan(&pod("OnFailure"), &half(1), 0), start(&[("b", 2)]));
        assert_eq!(plan(&pod("Never"), &half(1), 0), start(&[]));
    }

    #[test]
    fn a_pod_that_has_ended_gets_no_new_sandbox() {
        let over = seen(
            vec![sandbox("s", 0, false)],
            vec![container("a", "s", 0, EXITED, 0), container("b", "s", 0, EXITED, 3)],
        );
        assert_eq!(plan(&pod("Never"), &over, 0), Step::Finish);
        assert_eq!(plan(&pod("OnFailure"), &over, 0), Step::NewSandbox { end: vec!["s".into()], attempt: 1 });
    }

    #[test]
    fn containers_of_an_earlier_sandbox_start_again() {
        let seen = seen(
            vec![sandbox("new", 1, true), sandbox("old", 0, false)],
            vec![container("a", "old", 0, EXITED, 137), container("b", "old", 0, EXITED, 137)],
        );
        assert_eq!(plan(&pod("Always"), &seen, 0), start(&[("a", 1), ("b", 1)]));
    }

    #[test]
    fn back_off_doubles() {
        let mut back_off = BackOff::default();
        assert_eq!(back_off.remaining("c", 100), 0);
        assert_eq!(back_off.failed("c", 100, 10, 30), 10);
        assert_eq!(back_off.remaining("c", 104), 6);
        assert_eq!(back_off.failed("c", 110, 10, 30), 20);
        assert_eq!(back_off.failed("c", 130, 10, 30), 30);
        back_off.clear("c");
        assert_eq!(back_off.remaining("c", 0), 0);
    }
}
