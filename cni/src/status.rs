//! The `k8s.v1.cni.cncf.io/network-status` annotation: one entry for each interface of the pod.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Key of the annotation that tells the pod its interfaces (multi-network specification, section 4.1).
pub const STATUS_ANNOTATION: &str = "k8s.v1.cni.cncf.io/network-status";

/// One interface of the pod, as the annotation lists it.
///
/// Field names and which of them are always present follow what readers of the annotation know: `name` and `dns` always,
/// the rest only when there is something to say.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct NetworkStatus {
    /// `namespace/name` of the network's definition; for the primary network the name in its CNI configuration.
    pub name: String,
    /// Name of the interface inside the pod.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub interface: String,
    /// Addresses without prefix length.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ips: Vec<String>,
    /// Hardware address; of a VF in user space, the administrative one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub mac: String,
    /// MTU in bytes; 0 when unknown.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub mtu: u32,
    /// Whether this is the pod's primary network.
    #[serde(default, skip_serializing_if = "is_false")]
    pub default: bool,
    /// Name service settings that the network's plugin reported, as CNI spells them.
    #[serde(default)]
    pub dns: Map<String, Value>,
    /// What stands behind the interface (device-information specification 1.1.0).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_info: Option<Value>,
    /// Gateways of the default routes that the network brought.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gateway: Vec<String>,
}

fn is_zero(value: &u32) -> bool {
    *value == 0
}

fn is_false(value: &bool) -> bool {
    !value
}
