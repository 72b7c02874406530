//! A pod's status: from its spec and what the runtime has of it.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{
        ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting,
        ContainerStatus, HostIP, Pod, PodCondition, PodIP, PodStatus,
    },
    apimachinery::pkg::apis::meta::v1::Time,
};

use super::{
    observed::{Observed, Seen},
    plan::{ended, restarts},
    sandbox_config::qos_class,
};
use crate::{cri::v1::ContainerState as CriState, time};

/// Why a container is not running yet, or not again: reason and message.
pub(super) type Waiting = BTreeMap<String, (String, String)>;

/// What the status says besides what the runtime has.
pub(super) struct Context<'a> {
    pub(super) host_ip: &'a str,
    pub(super) start: &'a Time,
    pub(super) waiting: &'a Waiting,
    /// The pod is being deleted and everything of it has ended.
    pub(super) terminated: bool,
}

/// The whole status.
pub(super) fn status(pod: &Pod, seen: &Seen, context: &Context<'_>) -> PodStatus {
    let containers: Vec<ContainerStatus> = pod
        .spec
        .iter()
        .flat_map(|s| &s.containers)
        .map(|c| container(pod, c, seen, context.waiting))
        .collect();
    let phase = phase(pod, &containers, context.terminated);
    let host_network = pod.spec.as_ref().and_then(|s| s.host_network) == Some(true);
    let ips = if host_network { vec![context.host_ip.to_string()] } else { seen.ips.clone() };
    let previous = pod.status.as_ref();
    PodStatus {
        conditions: Some(conditions(pod, seen, phase, &containers)),
        phase: Some(phase.into()),
        host_ip: Some(context.host_ip.into()),
        host_ips: Some(vec![HostIP { ip: context.host_ip.into() }]),
        // A pod that has ended keeps the address that it had.
        pod_ip: ips.first().cloned().or_else(|| previous?.pod_ip.clone()),
        pod_ips: match ips.is_empty() {
            true => previous.and_then(|s| s.pod_ips.clone()),
            false => Some(ips.into_iter().map(|ip| PodIP { ip }).collect()),
        },
        start_time: Some(context.start.clone()),
        container_statuses: Some(containers),
        qos_class: Some(qos_class(pod).into()),
        ..PodStatus::default()
    }
}

/// A pod that the node does not take.
pub(super) fn rejected(pod: &Pod, reason: &str, message: &str) -> PodStatus {
    PodStatus {
        phase: Some("Failed".into()),
        reason: Some(reason.into()),
        message: Some(format!("Pod was rejected: {message}")),
        start_time: Some(time::typed_now()),
        qos_class: Some(qos_class(pod).into()),
        ..PodStatus::default()
    }
}

fn container(
    pod: &Pod,
    spec: &k8s_openapi::api::core::v1::Container,
    seen: &Seen,
    waiting: &Waiting,
) -> ContainerStatus {
    let latest = seen.latest().get(spec.name.as_str()).copied();
    let why = |reason: &str| {
        let (reason, message) = waiting.get(&spec.name).cloned().unwrap_or((reason.into(), String::new()));
        let message = Some(message).filter(|m| !m.is_empty());
        let waiting = ContainerStateWaiting { reason: Some(reason), message };
        ContainerState { waiting: Some(waiting), ..ContainerState::default() }
    };
    let mut status = ContainerStatus {
        name: spec.name.clone(),
        image: spec.image.clone().unwrap_or_default(),
        ..ContainerStatus::default()
    };
    let Some(latest) = latest else {
        status.state = Some(why("ContainerCreating"));
        status.started = Some(false);
        return status;
    };
    status.container_id = Some(format!("containerd://{}", latest.id));
    status.image_id.clone_from(&latest.status.image_ref);
    status.restart_count = i32::try_from(latest.attempt).unwrap_or(i32::MAX);
    let running = latest.state() == CriState::ContainerRunning;
    status.ready = running;
    status.started = Some(running);
    match latest.state() {
        CriState::ContainerRunning => {
            let running = ContainerStateRunning { started_at: moment(latest.status.started_at) };
            status.state = Some(ContainerState { running: Some(running), ..ContainerState::default() });
            status.last_state = previous(seen, latest).map(terminated);
        }
        CriState::ContainerExited
            if restarts(pod, latest.status.exit_code) && waiting.contains_key(&spec.name) =>
        {
            status.state = Some(why("CrashLoopBackOff"));
            status.last_state = Some(terminated(latest));
        }
        CriState::ContainerExited => {
            status.state = Some(terminated(latest));
            status.last_state = previous(seen, latest).map(terminated);
        }
        _ => status.state = Some(why("ContainerCreating")),
    }
    status
}

/// The try before this one.
fn previous<'a>(seen: &'a Seen, latest: &Observed) -> Option<&'a Observed> {
    let earlier =
        seen.containers.iter().filter(|c| c.name == latest.name && c.attempt < latest.attempt && ended(c));
    earlier.max_by_key(|c| c.attempt)
}

fn terminated(container: &Observed) -> ContainerState {
    let status = &container.status;
    let text = |text: &String| Some(text.clone()).filter(|t| !t.is_empty());
    let terminated = ContainerStateTerminated {
        container_id: Some(format!("containerd://{}", container.id)),
        exit_code: status.exit_code,
        reason: text(&status.reason),
        message: text(&status.message),
        started_at: moment(status.started_at),
        finished_at: moment(status.finished_at),
        signal: None,
    };
    ContainerState { terminated: Some(terminated), ..ContainerState::default() }
}

/// Nanoseconds since 1970; 0 is never.
fn moment(nanoseconds: i64) -> Option<Time> {
    (nanoseconds > 0).then(|| time::typed(nanoseconds / 1_000_000_000))
}

/// Kubelet's rule for the phase.
fn phase(pod: &Pod, containers: &[ContainerStatus], over: bool) -> &'static str {
    let (mut waiting, mut running, mut failed, mut succeeded) = (0, 0, 0, 0);
    for container in containers {
        let state = container.state.clone().unwrap_or_default();
        let last = container.last_state.as_ref().and_then(|s| s.terminated.as_ref());
        match (state.running, state.terminated.as_ref().or(last)) {
            (Some(_), _) => running += 1,
            (None, Some(t)) if t.exit_code == 0 => succeeded += 1,
            (None, Some(_)) => failed += 1,
            (None, None) => waiting += 1,
        }
    }
    if over {
        return if failed > 0 || waiting > 0 { "Failed" } else { "Succeeded" };
    }
    let policy = pod.spec.as_ref().and_then(|s| s.restart_policy.as_deref()).unwrap_or("Always");
    match (waiting, running, policy) {
        (1.., _, _) => "Pending",
        (0, 1.., _) => "Running",
        (_, _, "Always") if failed + succeeded > 0 => "Running",
        _ if failed == 0 && succeeded > 0 => "Succeeded",
        (_, _, "Never") if failed > 0 => "Failed",
        (_, _, "OnFailure") if failed > 0 => "Running",
        _ => "Pending",
    }
}

fn conditions(pod: &Pod, seen: &Seen, phase: &str, containers: &[ContainerStatus]) -> Vec<PodCondition> {
    let unready: Vec<&str> = containers.iter().filter(|c| !c.ready).map(|c| c.name.as_str()).collect();
    let (ready, reason, message) = match phase {
        "Succeeded" => (false, Some("PodCompleted"), None),
        "Failed" => (false, Some("PodFailed"), None),
        _ if unready.is_empty() => (true, None, None),
        _ => (
            false,
            Some("ContainersNotReady"),
            Some(format!("containers with unready status: [{}]", unready.join(" "))),
        ),
    };
    let sandboxed = seen.ready_sandbox().is_some();
    let wanted = [
        ("PodReadyToStartContainers", sandboxed, None, None),
        ("Initialized", true, (phase == "Succeeded").then_some("PodCompleted"), None),
        ("Ready", ready, reason, message.clone()),
        ("ContainersReady", ready, reason, message),
        ("PodScheduled", true, None, None),
    ];
    let before = pod.status.as_ref().and_then(|s| s.conditions.clone()).unwrap_or_default();
    let mut conditions: Vec<PodCondition> = wanted
        .into_iter()
        .map(|(kind, value, reason, message)| condition(&before, kind, value, reason, message))
        .collect();
    // Others' conditions stay.
    conditions.extend(before.into_iter().filter(|b| !KINDS.contains(&b.type_.as_str())));
    conditions
}

const KINDS: [&str; 5] =
    ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"];

/// A condition; its time of transition stays while its status does.
pub(super) fn condition(
    before: &[PodCondition],
    kind: &str,
    value: bool,
    reason: Option<&str>,
    message: Option<String>,
) -> PodCondition {
    let status = if value { "True" } else { "False" };
    let same = before.iter().find(|b| b.type_ == kind && b.status == status);
    let since = same.and_then(|b| b.last_transition_time.clone()).unwrap_or_else(time::typed_now);
    PodCondition {
        type_: kind.into(),
        status: status.into(),
        reason: reason.map(Into::into),
        message,
        last_transition_time: Some(since),
        ..PodCondition::default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{super::observed::Sandbox, *};
    use crate::cri::v1;

    fn pod(policy: &str) -> Pod {
        serde_json::from_value(json!({
            "metadata": { "name": "p" },
            "spec": { "restartPolicy": policy, "containers": [{ "name": "a", "image": "i" }, { "name": "b", "image": "i" }] },
        }))
        .unwrap()
    }

    fn seen(states: &[(&str, CriState, i32)]) -> Seen {
        let container = |(name, state, exit_code): &(&str, CriState, i32)| Observed {
            id: format!("id-{name}"),
            name: (*name).into(),
            sandbox: "s".into(),
            attempt: 0,
            status: v1::ContainerStatus {
                state: (*state).into(),
                exit_code: *exit_code,
                started_at: 1_000_000_000,
                ..Default::default()
            },
        };
        Seen {
            sandboxes: vec![Sandbox { id: "s".into(), attempt: 0, ready: true, created: 0 }],
            containers: states.iter().map(container).collect(),
            ips: vec!["10.0.0.5".into()],
        }
    }

    fn of(policy: &str, states: &[(&str, CriState, i32)], waiting: &Waiting, terminated: bool) -> PodStatus {
        let start = time::typed(0);
        status(
            &pod(policy),
            &seen(states),
            &Context { host_ip: "1.2.3.4", start: &start, waiting, terminated },
        )
    }

    fn phase_of(policy: &str, states: &[(&str, CriState, i32)]) -> String {
        of(policy, states, &Waiting::new(), false).phase.unwrap()
    }

    const RUNNING: CriState = CriState::ContainerRunning;
    const EXITED: CriState = CriState::ContainerExited;

    #[test]
    fn phases() {
        assert_eq!(phase_of("Always", &[]), "Pending");
        assert_eq!(phase_of("Always", &[("a", RUNNING, 0)]), "Pending");
        assert_eq!(phase_of("Always", &[("a", RUNNING, 0), ("b", RUNNING, 0)]), "Running");
        assert_eq!(phase_of("Never", &[("a", RUNNING, 0), ("b", EXITED, 1)]), "Running");
        assert_eq!(phase_of("Never", &[("a", EXITED, 0), ("b", EXITED, 0)]), "Succeeded");
        assert_eq!(phase_of("Never", &[("a", EXITED, 0), ("b", EXITED, 1)]), "Failed");
        assert_eq!(phase_of("OnFailure", &[("a", EXITED, 0), ("b", EXITED, 1)]), "Running");
        assert_eq!(phase_of("Always", &[("a", EXITED, 0), ("b", EXITED, 0)]), "Running");
        let over = of("Always", &[("a", EXITED, 0), ("b", EXITED, 0)], &Waiting::new(), true);
        assert_eq!(over.phase.unwrap(), "Succeeded");
    }

    #[test]
    fn readiness() {
        let status = of("Always", &[("a", RUNNING, 0)], &Waiting::new(), false);
        let ready = status.conditions.unwrap().into_iter().find(|c| c.type_ == "Ready").unwrap();
        assert_eq!(ready.status, "False");
        assert_eq!(ready.message.unwrap(), "containers with unready status: [b]");
        let containers = status.container_statuses.unwrap();
        assert_eq!(containers[0].container_id.as_deref(), Some("containerd://id-a"));
        let waiting = containers[1].state.clone().unwrap().waiting.unwrap();
        assert_eq!(waiting.reason.as_deref(), Some("ContainerCreating"));
        assert_eq!(status.pod_ip.as_deref(), Some("10.0.0.5"));
    }

    #[test]
    fn crash_loops() {
        let waiting = Waiting::from([("a".into(), ("CrashLoopBackOff".into(), "back-off 10s".into()))]);
        let status = of("Always", &[("a", EXITED, 3), ("b", RUNNING, 0)], &waiting, false);
        assert_eq!(status.phase.as_deref(), Some("Running"));
        let a = &status.container_statuses.unwrap()[0];
        assert_eq!(a.state.clone().unwrap().waiting.unwrap().reason.as_deref(), Some("CrashLoopBackOff"));
        assert_eq!(a.last_state.clone().unwrap().terminated.unwrap().exit_code, 3);
    }

    #[test]
    fn rejection() {
        let status = rejected(&pod("Always"), "OutOfx", "Node didn't have enough resource: x");
        assert_eq!(status.phase.as_deref(), Some("Failed"));
        assert_eq!(status.message.as_deref(), Some("Pod was rejected: Node didn't have enough resource: x"));
    }
}
