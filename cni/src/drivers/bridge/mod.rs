//! bridge: the pod's interface is one end of a pair of links, the other end is a port of a bridge of the host.
//!
//! The bridge is made when it is missing, and stays when its last pod goes, as upstream's plugin has it. One that is there
//! already is used as it is. ADDs that make the same bridge at once do not wait for each other: the kernel lets one of them
//! make it. Only an ADD that is undone takes away what it made itself, which it knows by the hardware address that it chose,
//! and only if nobody else uses it.

mod gateway;
mod lan;
mod settings;

use fairlead_kernel::{Link, Mac, Request as Change, route::PortChange};
use serde::{Deserialize, Serialize};

use self::settings::Settings;
use super::{
    Attached, Difference, Host, Pod, Request, kernel,
    veth::{self, Ends, Pair},
};
use crate::protocol::{
    env::check_interface,
    error::{CniError, code},
    result::{CniResult, Interface},
};

/// Keys of the upstream plugin that this driver does not do: a configuration with one of them is executed from disk.
pub(super) const LEFT_OUT: &[&str] = &["ipMasq", "macspoofchk"];

/// Place of the pod's end in the result.
const POD: usize = 2;

/// How often a bridge that others remove under our hands is made again.
const TRIES: usize = 5;

/// A validated configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    interface: String,
    settings: Settings,
}

/// What undoing needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Original {
    /// The pod's end and the port.
    pub pair: Pair,
    /// Name of the bridge.
    pub bridge: String,
    /// Hardware address that the bridge has if this attachment made it.
    pub bridge_mac: Mac,
    /// The link of the host that is the gateway of the pod's VLAN: its name, and the address that it has if this attachment
    /// made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan_gateway: Option<(String, Mac)>,
}

/// Keys: `bridge`, `mtu`, `mac`, `hairpinMode`, `promiscMode`, `portIsolation`, `vlan`, `vlanTrunk`, `preserveDefaultVlan`,
/// `isGateway`, `isDefaultGateway`, `forceAddress`, `enabledad`, `dad`, `accept_ra`,
/// `disableContainerInterface`, `dns`.
///
/// # Errors
/// Code 7, naming the key.
pub(super) fn validate(request: Request<'_>, host: &mut Host) -> Result<Spec, CniError> {
    let mut settings = Settings::parse(request)?;
    let invalid = |text: String| CniError::new(code::INVALID_CONFIG, format!("bridge: {text}"));
    match host.route.link_by_name(&settings.bridge).map_err(kernel)? {
        Some(link) if lan::is_bridge(&link) => {
            lan::advise(&link, &settings);
            settings.bridge = link.name;
        }
        Some(_) => {
            let text =
                format!("{} is there already and is no bridge: correct key \"bridge\"", settings.bridge);
            return Err(invalid(text));
        }
        None => check_interface(&settings.bridge)
            .map_err(|error| invalid(format!("key \"bridge\": {}", error.msg)))?,
    }
    if let Some(name) = settings.vlan_gateway() {
        check_interface(&name).map_err(|error| {
            invalid(format!("the gateway of the VLAN would be {name}: {}: shorten key \"bridge\"", error.msg))
        })?;
    }
    Ok(Spec { interface: request.interface.to_owned(), settings })
}

impl Spec {
    pub(super) fn prepare(&self) -> Original {
        Original {
            pair: Pair::choose(&self.interface),
            bridge: self.settings.bridge.clone(),
            bridge_mac: veth::random_mac(),
            vlan_gateway: self.settings.vlan_gateway().map(|name| (name, veth::random_mac())),
        }
    }

    pub(super) fn attach(
        &self,
        original: &Original,
        host: &mut Host,
        pod: &mut Pod,
    ) -> Result<Attached, CniError> {
        self.connect(original, host, pod).map_err(|error| self.label(error))
    }

    fn label(&self, error: CniError) -> CniError {
        error.context(format_args!("bridge {}", self.settings.bridge))
    }

    fn connect(&self, original: &Original, host: &mut Host, pod: &mut Pod) -> Result<Attached, CniError> {
        let bridge = self.join(original, host, pod)?;
        let port = original.pair.host_end(host)?;
        self.set_port(&port, host)?;
        if !self.settings.leave_down {
            original.pair.bring_up(self.settings.dad, pod)?;
        }
        let [outside, inside] = original.pair.interfaces(host, pod)?;
        let link = Some(original.pair.in_pod(pod)?.index);
        Ok(Attached { interfaces: vec![veth::reported(&bridge), outside, inside], main: POD, link })
    }

    /// Makes the pair with its port in the bridge, and the bridge if need be. Whoever made the bridge may have to take it away
    /// again in the meantime.
    fn join(&self, original: &Original, host: &mut Host, pod: &Pod) -> Result<Link, CniError> {
        let mut tries = 0;
        loop {
            let bridge = lan::find_or_make(&self.settings, original, host)?;
            let ends =
                Ends { mtu: self.settings.mtu, pod_mac: self.settings.mac, master: Some(bridge.index) };
            let Err(error) = original.pair.make(ends, host, pod) else { return Ok(bridge) };
            tries += 1;
            if tries == TRIES || host.route.link_by_index(bridge.index).map_err(kernel)?.is_some() {
                return Err(kernel(error));
            }
        }
    }

    fn set_port(&self, port: &Link, host: &mut Host) -> Result<(), CniError> {
        let mut changes = Vec::new();
        if self.settings.has_vlans() && !self.settings.keep_default_vlan {
            changes.push(lan::leave_all_vlans(port));
        }
        let change = PortChange {
            hairpin: self.settings.hairpin.then_some(true),
            isolated: self.settings.isolated.then_some(true),
            vlans: self.settings.port_vlans(),
        };
        if change != PortChange::default() {
            changes.push(Change::set_port(port, &change));
        }
        host.route.batch(&changes).into_iter().collect::<Result<(), _>>().map_err(kernel)
    }

    /// Fills in gateways and default routes.
    pub(super) fn complete(&self, result: &mut CniResult) -> Result<(), CniError> {
        gateway::complete(&self.settings, result)
    }

    /// Makes the bridge the gateway, and makes sure that frames pass.
    pub(super) fn finish(
        &self,
        original: &Original,
        result: &mut CniResult,
        host: &mut Host,
    ) -> Result<(), CniError> {
        self.serve(original, result, host).map_err(|error| self.label(error))
    }

    fn serve(&self, original: &Original, result: &mut CniResult, host: &mut Host) -> Result<(), CniError> {
        let port = match self.settings.leave_down {
            true => original.pair.host_end(host)?,
            false => original.pair.await_up(host)?,
        };
        let mut bridge = match lan::of_port(&port, &self.settings.bridge, host)? {
            Some(bridge) => bridge,
            None => {
                let text = format!("{} was taken out of it; the runtime will try again", port.name);
                return Err(CniError::new(code::TRY_AGAIN, text));
            }
        };
        // Before it had the port. A bridge whose last port has gone has none.
        let mac = result.interfaces.first().and_then(|bridge| bridge.mac.as_ref()?.parse().ok());
        let mac = mac.filter(|mac: &Mac| !mac.is_zero());
        let addresses = gateway::addresses(result);
        if self.settings.gateway && !addresses.is_empty() {
            let has = |v4: bool| addresses.iter().any(|net| net.addr().is_ipv4() == v4);
            veth::enable_forwarding(has(true), has(false))?;
            let link = match &original.vlan_gateway {
                Some((name, mac)) => {
                    let link = lan::vlan_gateway(&self.settings, name, *mac, &bridge, host)?;
                    result.interfaces.push(veth::reported(&link));
                    link
                }
                None => Link { mac: mac.or(bridge.mac), ..bridge.clone() },
            };
            gateway::serve(&link, &addresses, self.settings.force_address, host)?;
        }
        // A bridge that others made may have another address since it has the port, unless it was given its own back.
        if mac != bridge.mac {
            bridge = lan::of_port(&port, &self.settings.bridge, host)?.unwrap_or(bridge);
        }
        if let Some(reported) = result.interfaces.first_mut() {
            *reported = veth::reported(&bridge);
        }
        Ok(())
    }
}

impl Original {
    pub(super) fn check(
        &self,
        made: &Interface,
        host: &mut Host,
        pod: &mut Pod,
    ) -> Result<Vec<Difference>, CniError> {
        let mut found = self.pair.check(made, host, pod)?;
        if let Some(port) = self.pair.in_host(host)?
            && lan::of_port(&port, &self.bridge, host)?.is_none()
        {
            found.push(Difference::fatal(format!(
                "{} is no port of bridge {} any more",
                port.name, self.bridge
            )));
        }
        Ok(found)
    }

    pub(super) fn detach(&self, host: &mut Host, pod: Option<&mut Pod>) -> Vec<CniError> {
        self.pair.detach(host, pod)
    }

    /// Takes away what was made for all pods of the network, if this attachment made it and no other uses it: for an ADD that
    /// is undone.
    pub(super) fn unmake(&self, host: &mut Host) -> Result<(), CniError> {
        lan::unmake(self, host)
    }
}
