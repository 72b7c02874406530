//! Why a pod has no plan.

use thiserror::Error;

use super::super::nad::NadError;

/// A pod's networks cannot be attached.
#[derive(Debug, Error)]
pub enum PlanError {
    /// A network does not exist.
    #[error(
        "pod {pod} asks for network {network}, but there is no such NetworkAttachmentDefinition {looked_in}: create it, \
         or correct the pod's annotation"
    )]
    NoDefinition {
        /// `namespace/name` of the pod.
        pod: String,
        /// `namespace/name` of the network.
        network: String,
        /// Where it was looked for.
        looked_in: String,
    },
    /// A network has no usable configuration.
    #[error("pod {pod} asks for a network that cannot be used")]
    Config {
        /// `namespace/name` of the pod.
        pod: String,
        /// Why not.
        source: NadError,
    },
    /// Two networks of a pod are to have one interface name.
    #[error(
        "pod {pod} asks for two interfaces {interface}: networks {} and {} (a network without `interface` gets net1, \
         net2, ... by its place): give one of them another name", networks.0, networks.1
    )]
    DuplicateInterface {
        /// `namespace/name` of the pod.
        pod: String,
        /// The interface.
        interface: String,
        /// The two networks.
        networks: (String, String),
    },
    /// A network is to have the primary interface's name.
    #[error(
        "pod {pod} asks for network {network} as interface {interface}, which is its primary interface: name another"
    )]
    PrimaryInterface {
        /// `namespace/name` of the pod.
        pod: String,
        /// The network.
        network: String,
        /// The interface.
        interface: String,
    },
    /// Several networks are to have the default route of one family.
    #[error(
        "pod {pod} asks for more than one IPv{family} default route: through {}: name one gateway of each family in all \
         `default-route` keys together", gateways.join(" and ")
    )]
    DefaultRoutes {
        /// `namespace/name` of the pod.
        pod: String,
        /// 4 or 6.
        family: u8,
        /// Gateway and network of each.
        gateways: Vec<String>,
    },
    /// The pod has fewer devices than its networks take.
    #[error(
        "pod {pod} asks for {} {resource} but {}: raise the container's limit or drop a network{}",
        amount(*given), needs(networks), without(*given)
    )]
    TooFewDevices {
        /// `namespace/name` of the pod.
        pod: String,
        /// The resource.
        resource: String,
        /// How many devices kubelet allocated.
        given: usize,
        /// The networks that take one each.
        networks: Vec<String>,
    },
    /// The annotation names a device that is not the pod's.
    #[error(
        "pod {pod} asks for device {device} with network {network}, which is not allocated to it{}: leave `deviceID` \
         out, or name a device of the pod (it has {})", under(resource.as_deref()), devices_text(devices)
    )]
    NotAllocated {
        /// `namespace/name` of the pod.
        pod: String,
        /// The network.
        network: String,
        /// The device.
        device: String,
        /// The resource that the network takes, if it names one.
        resource: Option<String>,
        /// The pod's devices.
        devices: Vec<String>,
    },
    /// Two networks name one device.
    #[error("pod {pod} asks for device {device} with networks {} and {}: name another for one of them", networks.0, networks.1)]
    DuplicateDevice {
        /// `namespace/name` of the pod.
        pod: String,
        /// The device.
        device: String,
        /// The two networks.
        networks: (String, String),
    },
    /// The author of a network named a device that another pod has.
    #[error(
        "pod {pod} asks for network {network}, whose configuration names device {device}, but kubelet allocated that to \
         {owner}: take it out of the configuration, or out of the device plugin's pools"
    )]
    OthersDevice {
        /// `namespace/name` of the pod.
        pod: String,
        /// The network.
        network: String,
        /// The device.
        device: String,
        /// Who has it.
        owner: String,
    },
}

fn amount(given: usize) -> String {
    if given == 0 { "no".into() } else { given.to_string() }
}

/// kubelet admits a pod without devices of a resource that it does not know (pkg/kubelet/cm/devicemanager/manager.go), as before the
/// plugin has registered with a new kubelet, and never allocates them later. Seen with 1.20.
fn without(given: usize) -> &'static str {
    if given == 0 {
        "; if it does ask for it, kubelet has admitted it without, as just after its start: delete the pod"
    } else {
        ""
    }
}

fn needs(networks: &[String]) -> String {
    match networks {
        [network] => format!("network {network} needs 1"),
        _ => format!("networks {} need {}", networks.join(", "), networks.len()),
    }
}

fn under(resource: Option<&str>) -> String {
    resource.map(|resource| format!(" under {resource}")).unwrap_or_default()
}

fn devices_text(devices: &[String]) -> String {
    if devices.is_empty() { "none".into() } else { devices.join(", ") }
}
