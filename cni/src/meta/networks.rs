//! Which networks a pod gets: what the agent plans, and what is on the node's disk.

use super::{config::MetaConfig, files, primary};
use crate::{
    agent_client,
    agent_protocol::{Answer, Call as AgentCall, Plan, PlannedAttachment, PodRef, Policy, Resolve},
    config::NetworkConfig,
    engine::Sandbox,
    networks::annotation::{DEFAULT_NETWORK_ANNOTATION, NETWORKS_ANNOTATION},
    protocol::{
        env::{Call, check_interface},
        error::{CniError, code},
        result::CniResult,
    },
};

/// Values that reach a plugin in other ways too, besides the capability: `CNI_ARGS`, or keys of its configuration.
const ALWAYS_TAKEN: [&str; 3] = ["ips", "mac", "deviceID"];

/// A network with its configuration.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) planned: PlannedAttachment,
    pub(super) config: NetworkConfig,
    /// Capabilities that the pod asks of it.
    asked: Vec<String>,
    /// What its first plugin is to go on from.
    pub(super) previous: Option<CniResult>,
    /// It is the node's own primary network: its plugins are executed from disk, except for types that the operator lists.
    is_nodes: bool,
}

/// A pod's networks, the primary one first.
#[derive(Debug)]
pub(super) struct Networks {
    pub(super) all: Vec<Wanted>,
    /// Whether there is more to tell the pod than that it has its primary network.
    pub(super) is_told: bool,
}

/// Finds a pod's networks. A pod that gets nothing but the node's own never waits for the agent.
///
/// # Errors
/// What the agent says, or what is wrong with a configuration.
pub(super) fn find(call: &Call, config: &MetaConfig, sandbox: &Sandbox) -> Result<Networks, CniError> {
    let plan = plan(call, config, sandbox)?;
    let asks_for_primary = plan.primary.is_some();
    let mut all = vec![match plan.primary {
        Some(planned) => with_runtime_config(Wanted::of(*planned, config)?, config),
        None => nodes_own(call, config)?,
    }];
    for (network, number) in config.further_delegates().iter().zip(1..) {
        all.push(Wanted::inline(network, format!("net{number}")));
    }
    for planned in plan.attachments {
        all.push(Wanted::of(planned, config)?);
    }
    let is_told = asks_for_primary || all.len() > 1;
    if let Some(chain) = primary::auxiliary_chain(config)? {
        let is_free = |name: &String| all.iter().all(|wanted| wanted.planned.interface != *name);
        // It makes none, but its plugins are called with the name of one.
        let interface = (all.len()..).map(|number| format!("net{number}")).find(is_free).unwrap_or_default();
        all.push(Wanted { previous: Some(CniResult::default()), ..Wanted::inline(&chain, interface) });
    }
    Ok(Networks { all, is_told })
}

fn plan(call: &Call, config: &MetaConfig, sandbox: &Sandbox) -> Result<Plan, CniError> {
    let annotations = config.annotations()?;
    let policy = config.policy_for(&sandbox.pod.namespace);
    let asks = annotations.as_ref().is_none_or(|all| {
        [NETWORKS_ANNOTATION, DEFAULT_NETWORK_ANNOTATION]
            .iter()
            .any(|key| all.get(*key).is_some_and(|text| !text.trim().is_empty()))
    });
    if sandbox.pod == PodRef::default() || !(asks || needs_definitions(&policy)) {
        return Ok(on_this_node(&policy));
    }
    let resolve = Resolve {
        pod: sandbox.pod.clone(),
        container_id: sandbox.container_id.clone(),
        annotations,
        interface: call.interface.clone(),
        policy,
        deadline_ms: 0,
    };
    let answer = agent_client::call(&config.agent_socket, &AgentCall::Resolve(resolve), config.agent_timeout)
        .map_err(|error| error.context(format_args!("networks of pod {}", sandbox.pod)))?;
    match answer {
        Answer::Plan(plan) => Ok(plan),
        other => {
            let text = format!("the agent answered something else than a plan: {other:?}");
            Err(CniError::new(code::OTHER, text))
        }
    }
}

/// Whether the operator names a network that may have a definition.
fn needs_definitions(policy: &Policy) -> bool {
    policy.cluster_network.iter().chain(&policy.default_networks).any(|reference| !reference.contains('/'))
}

/// The plan of a pod that gets what is on the node's disk only.
fn on_this_node(policy: &Policy) -> Plan {
    let planned = |(reference, number): (&String, usize)| PlannedAttachment {
        interface: format!("net{number}"),
        on_disk: Some(reference.clone()),
        ..PlannedAttachment::default()
    };
    Plan {
        primary: None,
        attachments: policy.default_networks.iter().zip(policy.inline + 1..).map(planned).collect(),
    }
}

/// The node's own primary network gets the capabilities that the runtime passed.
fn nodes_own(call: &Call, config: &MetaConfig) -> Result<Wanted, CniError> {
    let network = primary::load(config)?;
    let planned = PlannedAttachment {
        network: network.name.clone(),
        interface: call.interface.clone(),
        ..PlannedAttachment::default()
    };
    let wanted = Wanted { planned, config: network, asked: Vec::new(), previous: None, is_nodes: true };
    Ok(with_runtime_config(wanted, config))
}

/// A primary network gets what the runtime passed; what the pod asks for of this network comes before it.
fn with_runtime_config(mut wanted: Wanted, config: &MetaConfig) -> Wanted {
    let mut values = config.runtime_config.clone();
    values.extend(std::mem::take(&mut wanted.planned.capability_args));
    wanted.planned.capability_args = values;
    wanted
}

impl Wanted {
    /// A network that stands in our own configuration.
    fn inline(network: &NetworkConfig, interface: String) -> Self {
        let planned =
            PlannedAttachment { network: network.name.clone(), interface, ..PlannedAttachment::default() };
        Self { planned, config: network.clone(), asked: Vec::new(), previous: None, is_nodes: false }
    }

    pub(super) fn of(mut planned: PlannedAttachment, meta: &MetaConfig) -> Result<Self, CniError> {
        let on_disk = planned.on_disk.take();
        let label = |error: CniError| match planned.network.as_str() {
            "" => error.context(format_args!("network for interface {}", planned.interface)),
            name => error.context(format_args!("network {name}")),
        };
        check_interface(&planned.interface).map_err(label)?;
        let config = match &on_disk {
            Some(reference) => files::find(reference, &meta.conf_dir),
            None => NetworkConfig::parse(&planned.config),
        };
        let config = config.map_err(label)?;
        if planned.network.is_empty() {
            planned.network.clone_from(&config.name);
        }
        let asked = planned.capability_args.keys().cloned().collect();
        Ok(Self { planned, config, asked, previous: None, is_nodes: false })
    }

    /// Whether it is the node's own primary network.
    pub(super) fn is_nodes(&self) -> bool {
        self.is_nodes
    }

    /// Whether a plugin type is done in process in this network.
    pub(super) fn is_in_process(&self, kind: &str, meta: &MetaConfig) -> bool {
        if self.is_nodes { meta.is_listed(kind) } else { meta.is_built_in(kind) }
    }

    /// What the pod asks of the network, and none of its plugins takes. What the runtime passes to a primary network is nobody's
    /// wish: some do port mappings without being told.
    pub(super) fn vain_requests(&self) -> Option<String> {
        let is_vain = |key: &&str| !ALWAYS_TAKEN.contains(key) && !self.config.takes(key);
        let keys: Vec<&str> = self.asked.iter().map(String::as_str).filter(is_vain).collect();
        if keys.is_empty() {
            return None;
        }
        let plugins: Vec<&str> = self.config.plugins.iter().map(|plugin| plugin.kind.as_str()).collect();
        Some(format!(
            "network {} for interface {}: the pod asks for {}, but no plugin of the network ({}) declares that \
             capability, so it has no effect: add the plugin that does it, or its \"capabilities\", to the network's \
             configuration, or take it out of the pod's annotation",
            self.planned.network,
            self.planned.interface,
            keys.join(", "),
            plugins.join(", ")
        ))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn meta(more: &serde_json::Value) -> MetaConfig {
        let mut config = json!({"cniVersion": "1.0.0", "name": "f", "type": "fairlead"});
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        MetaConfig::parse(&config.to_string()).unwrap()
    }

    fn planned(capabilities: &serde_json::Value) -> PlannedAttachment {
        PlannedAttachment {
            network: "default/a".into(),
            interface: "net1".into(),
            config: json!({"cniVersion": "1.0.0", "name": "a", "plugins": [
                {"type": "macvlan", "capabilities": {"ips": true}},
                {"type": "bandwidth", "capabilities": {"bandwidth": true, "portMappings": false}}]})
            .to_string(),
            capability_args: capabilities.as_object().unwrap().clone(),
            ..PlannedAttachment::default()
        }
    }

    #[test]
    fn a_capability_that_no_plugin_takes_is_named_but_not_those_with_another_way() {
        let meta = meta(&json!({}));
        let vain = |capabilities: serde_json::Value| {
            Wanted::of(planned(&capabilities), &meta).unwrap().vain_requests()
        };
        assert_eq!(
            vain(json!({"mac": "02::1", "ips": ["10.0.0.1"], "deviceID": "x", "bandwidth": {}})),
            None
        );
        let text = vain(json!({"portMappings": [1], "infinibandGUID": "g", "bandwidth": {}})).unwrap();
        assert!(
            text.contains("network default/a for interface net1")
                && text.contains("asks for portMappings, infinibandGUID, but")
                && text.contains("(macvlan, bandwidth)"),
            "{text}"
        );
    }

    #[test]
    fn a_primary_network_gets_what_the_runtime_passed_and_that_is_nobodys_wish() {
        let meta = meta(&json!({"runtimeConfig": {"portMappings": [1], "bandwidth": 2}}));
        let wanted = Wanted::of(planned(&json!({"bandwidth": 3, "ips": ["10.0.0.1"]})), &meta).unwrap();
        let wanted = with_runtime_config(wanted, &meta);
        assert_eq!(
            serde_json::Value::from(wanted.planned.capability_args.clone()),
            json!({"portMappings": [1], "bandwidth": 3, "ips": ["10.0.0.1"]})
        );
        assert_eq!(wanted.vain_requests(), None);
    }

    #[test]
    fn only_names_may_have_definitions() {
        let policy = |cluster: &str, others: &[&str]| Policy {
            cluster_network: Some(cluster.into()),
            default_networks: others.iter().map(|one| (*one).to_owned()).collect(),
            ..Policy::default()
        };
        assert!(!needs_definitions(&Policy::default()));
        assert!(!needs_definitions(&policy("/a", &["/b"])));
        assert!(needs_definitions(&policy("a", &[])) && needs_definitions(&policy("/a", &["b"])));
        let plan = on_this_node(&policy("/a", &["/b", "/c"]));
        let interfaces: Vec<_> = plan.attachments.iter().map(|one| one.interface.as_str()).collect();
        assert_eq!(interfaces, ["net1", "net2"]);
        assert_eq!(plan.attachments[1].on_disk.as_deref(), Some("/c"));
    }
}
