//! Telling the pod its interfaces: from results to the network-status annotation, which the agent publishes.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::config::MetaConfig;
use crate::{
    agent_client,
    agent_protocol::{Call, Happening, Notify, PodRef, Report, Timing},
    engine::{Sandbox, device_info},
    protocol::{
        error::{CniError, code},
        result::CniResult,
    },
    record::Record,
    say::say,
    status::NetworkStatus,
};

/// The least time that publishing gets, however long the ADD has taken.
const LEAST: Duration = Duration::from_secs(2);
/// How long is waited until the agent has taken something that nobody waits for.
const TELLING: Duration = Duration::from_millis(500);

/// Publishes the pod's interfaces. A failure is said and no more: the pod has its interfaces, and the agent goes on trying.
pub(super) fn publish(
    config: &MetaConfig,
    sandbox: &Sandbox,
    records: &[Record],
    warnings: Vec<String>,
    timings: Vec<Timing>,
    start: Instant,
) {
    let networks = records.iter().flat_map(|record| {
        let device_info = record.device_info.as_deref().and_then(device_info::read);
        let result = record.result.clone().unwrap_or_default();
        statuses(&record.network, record.order == 0, &result, device_info.as_ref())
    });
    let limit = config.agent_timeout.saturating_sub(start.elapsed()).max(LEAST);
    let pod = &sandbox.pod;
    let report = Report {
        pod: pod.clone(),
        container_id: sandbox.container_id.clone(),
        networks: networks.collect(),
        warnings,
        timings,
        deadline_ms: 0,
    };
    let call = Call::Report(report);
    let Err(error) = agent_client::call(&config.agent_socket, &call, limit) else { return };
    say(format_args!("pod {pod}: the network-status annotation is not published yet: {error}"));
    // An agent that was killed at the call may not know of it.
    if let (code::TRY_AGAIN, Call::Report(report)) = (error.code, call)
        && let Err(error) = agent_client::leave(&config.agent_socket, report)
    {
        say(format_args!("pod {pod}: and cannot be left to the next agent: {error}"));
    }
}

/// Has the agent tell on the pod that its networks could not be attached.
pub(super) fn add_failed(config: &MetaConfig, pod: &PodRef, container_id: &str, error: &CniError) {
    let mut notify = of(pod, container_id, Happening::AddFailed);
    (notify.code, notify.message) = (error.code, error.to_string());
    tell(config, notify);
}

/// Tells that a DEL removed these attachments, or why it could not. A pod that had nothing but the node's own network is not
/// told, nor of what made no interface (an auxiliary chain).
pub(super) fn removed(
    config: &MetaConfig,
    records: &[Record],
    failure: Option<&CniError>,
    timings: Vec<Timing>,
    count: u32,
) {
    let Some(any) = records.first() else { return };
    agent_client::forget_left(&config.agent_socket, &any.container_id);
    let is_told = |record: &&Record| !record.result.as_ref().is_some_and(CniResult::is_bare);
    let told: Vec<&Record> = records.iter().filter(is_told).collect();
    if !told.iter().any(|record| record.order > 0 || record.network.contains('/')) {
        return swept(config, &any.pod, &any.container_id, count);
    }
    let mut notify = of(&any.pod, &any.container_id, Happening::Removed);
    (notify.timings, notify.swept) = (timings, count);
    if let Some(error) = failure {
        (notify.what, notify.code, notify.message) = (Happening::RemoveFailed, error.code, error.to_string());
    } else {
        let names: Vec<String> =
            told.iter().map(|record| format!("{} from {}", record.interface, record.network)).collect();
        notify.message = format!("Remove {}", names.join(", "));
    }
    tell(config, notify);
}

/// Tells of dead sandboxes, if there were any, where there is nothing to tell of the call's own.
pub(super) fn swept(config: &MetaConfig, pod: &PodRef, container_id: &str, count: u32) {
    if count > 0 {
        tell(config, Notify { swept: count, ..of(pod, container_id, Happening::Swept) });
    }
}

fn of(pod: &PodRef, container_id: &str, what: Happening) -> Notify {
    Notify {
        pod: pod.clone(),
        container_id: container_id.to_owned(),
        what,
        message: String::new(),
        code: 0,
        timings: Vec::new(),
        swept: 0,
        deadline_ms: 0,
    }
}

/// Without an agent nobody is told.
fn tell(config: &MetaConfig, notify: Notify) {
    agent_client::tell(&config.agent_socket, Call::Notify(notify), TELLING);
}

/// The entries of one attachment: one for each interface that is inside the sandbox. Addresses go to the interface that they
/// name, those that name none to the last.
fn statuses(
    network: &str,
    primary: bool,
    result: &CniResult,
    device_info: Option<&Value>,
) -> Vec<NetworkStatus> {
    let inside: Vec<usize> = result
        .interfaces
        .iter()
        .enumerate()
        .filter(|(_, i)| i.sandbox.is_some())
        .map(|(place, _)| place)
        .collect();
    let gateway: Vec<String> = default_gateways(result);
    let entry = |place: usize, first: bool, last: bool| {
        let interface = &result.interfaces[place];
        let belongs =
            |at: Option<usize>| at == Some(place) || (last && at.is_none_or(|at| !inside.contains(&at)));
        NetworkStatus {
            name: network.to_owned(),
            interface: interface.name.clone(),
            ips: result
                .ips
                .iter()
                .filter(|ip| belongs(ip.interface))
                .map(|ip| ip.address.addr().to_string())
                .collect(),
            mac: interface.mac.clone().unwrap_or_default(),
            mtu: interface.mtu.unwrap_or_default(),
            default: primary && first,
            dns: result.dns.clone(),
            device_info: device_info.cloned(),
            gateway: gateway.clone(),
        }
    };
    let count = inside.len();
    inside.iter().enumerate().map(|(n, place)| entry(*place, n == 0, n + 1 == count)).collect()
}

/// The gateways of the result's default routes. A default route without one has none to tell (upstream prints `<nil>`).
fn default_gateways(result: &CniResult) -> Vec<String> {
    let first = |v4: bool| result.ips.iter().filter_map(|ip| ip.gateway).find(|gw| gw.is_ipv4() == v4);
    let defaults = result.routes.iter().filter(|route| route.dst.prefix_len() == 0);
    let gateways = defaults.filter_map(|route| route.gw.or_else(|| first(route.dst.addr().is_ipv4())));
    gateways.map(|gateway| gateway.to_string()).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn result(document: Value) -> CniResult {
        serde_json::from_value(document).unwrap()
    }

    #[test]
    fn the_primary_networks_entry_has_the_pods_side_and_its_gateway() {
        let result = result(json!({
            "interfaces": [{"name": "cni0"}, {"name": "veth1"}, {"name": "eth0", "mac": "m", "sandbox": "/ns"}],
            "ips": [{"interface": 2, "address": "10.1.0.5/16", "gateway": "10.1.0.1"}],
            "routes": [{"dst": "0.0.0.0/0"}, {"dst": "10.9.0.0/16", "gw": "10.1.0.9"}]
        }));
        let entries = statuses("bridge-net", true, &result, None);
        assert_eq!(
            serde_json::to_value(&entries).unwrap(),
            json!([{"name": "bridge-net", "interface": "eth0", "ips": ["10.1.0.5"], "mac": "m", "default": true,
                    "dns": {}, "gateway": ["10.1.0.1"]}])
        );
    }

    #[test]
    fn addresses_go_to_the_interface_that_they_name_or_to_the_last() {
        let result = result(json!({
            "interfaces": [{"name": "a", "sandbox": "/ns"}, {"name": "b", "sandbox": "/ns"}],
            "ips": [{"interface": 0, "address": "10.0.0.1/8"}, {"address": "10.0.0.2/8"}],
            "routes": [{"dst": "0.0.0.0/0"}]
        }));
        let entries = statuses("n", false, &result, Some(&json!({"type": "pci"})));
        assert_eq!(entries[0].ips, ["10.0.0.1"]);
        assert_eq!(entries[1].ips, ["10.0.0.2"]);
        assert!(entries.iter().all(|entry| !entry.default && entry.gateway.is_empty()));
        assert_eq!(entries[0].device_info, Some(json!({"type": "pci"})));
    }
}
