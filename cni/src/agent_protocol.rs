//! What the CNI executable and the agent say to each other.
//!
//! One connection for each call on the agent's socket; each side sends one frame: a 4-byte big-endian length and one JSON
//! document. The request's `version` is spoken by the agent if it is this or the previous one; unknown fields are ignored.

use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
    net::IpAddr,
    time::Duration,
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use crate::{networks::nad::NetworkAttachmentDefinition, protocol::env::CniArgs, status::NetworkStatus};

/// Version of the protocol that this build speaks.
pub const VERSION: u32 = 2;
/// Where the agent listens unless told otherwise.
pub const SOCKET: &str = "/run/fairlead/agent/agent.sock";
/// Upper bound of a frame in bytes: far above a pod's largest plan, far below what would hurt the node.
pub const MAX_FRAME: usize = 4 << 20;

/// The pod that a call is about, as the runtime names it in `CNI_ARGS`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodRef {
    /// Namespace of the pod.
    pub namespace: String,
    /// Name of the pod.
    pub name: String,
    /// UID of the pod; empty when the runtime gave none.
    #[serde(default)]
    pub uid: String,
}

impl PodRef {
    /// The pod of a call; what its `CNI_ARGS` do not tell is empty.
    pub fn of(args: &CniArgs) -> Self {
        let arg = |key: &str| args.get(key).unwrap_or_default().to_owned();
        Self { namespace: arg("K8S_POD_NAMESPACE"), name: arg("K8S_POD_NAME"), uid: arg("K8S_POD_UID") }
    }
}

impl std::fmt::Display for PodRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A request frame.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// Protocol version of the caller.
    pub version: u32,
    /// What is asked.
    #[serde(flatten)]
    pub call: Call,
}

/// What the executable asks of the agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "call", rename_all = "camelCase")]
pub enum Call {
    /// Which attachments does this pod get, with which device each?
    Resolve(Resolve),
    /// These are the pod's interfaces now: publish them.
    Report(Report),
    /// This happened to the pod's networks: tell it on the pod (version 2).
    Notify(Notify),
    /// Is all well with the agent? Operators' tools ask (version 2).
    Health {
        /// Milliseconds that the caller waits for the answer.
        #[serde(rename = "deadlineMs")]
        deadline_ms: u64,
    },
    /// What are the definitions of these networks? Operators' tools ask (version 2).
    Definitions {
        /// `namespace/name` of each.
        networks: Vec<String>,
        /// Milliseconds that the caller waits for the answer.
        #[serde(rename = "deadlineMs")]
        deadline_ms: u64,
    },
}

impl Call {
    /// Sets how long the caller waits for the answer.
    pub fn set_deadline(&mut self, limit: Duration) {
        let milliseconds = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        match self {
            Self::Resolve(resolve) => resolve.deadline_ms = milliseconds,
            Self::Report(report) => report.deadline_ms = milliseconds,
            Self::Notify(notify) => notify.deadline_ms = milliseconds,
            Self::Health { deadline_ms } | Self::Definitions { deadline_ms, .. } => {
                *deadline_ms = milliseconds;
            }
        }
    }

    /// Milliseconds that the caller waits for the answer.
    pub fn deadline_ms(&self) -> u64 {
        match self {
            Self::Resolve(resolve) => resolve.deadline_ms,
            Self::Report(report) => report.deadline_ms,
            Self::Notify(notify) => notify.deadline_ms,
            Self::Health { deadline_ms } | Self::Definitions { deadline_ms, .. } => *deadline_ms,
        }
    }
}

/// Asks for the plan of a pod's secondary networks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Resolve {
    /// The pod.
    pub pod: PodRef,
    /// Sandbox that the attachments are for.
    pub container_id: String,
    /// The pod's annotations as the runtime passed them; absent when it did not, then the agent uses what it knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
    /// Name of the pod's primary interface (version 2).
    #[serde(default = "primary_interface")]
    pub interface: String,
    /// What the node's operator says of networks (version 2).
    #[serde(default)]
    pub policy: Policy,
    /// Milliseconds that the caller waits for the answer.
    pub deadline_ms: u64,
}

fn primary_interface() -> String {
    "eth0".into()
}

/// What the node's operator says of networks, besides what a pod asks for. The keys are Multus'.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Policy {
    /// The primary network: name of a definition in `multus_namespace`, else of a configuration on the node's disk, or a path
    /// there. A pod's annotation comes before it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster_network: Option<String>,
    /// Networks that the pod gets before those that it asks for, each named in the same ways.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub default_networks: Vec<String>,
    /// How many further networks stand in the executable's own configuration, before all these: they count for the names of
    /// interfaces.
    pub inline: usize,
    /// Namespace of those, and of the primary network that a pod asks for without a namespace.
    pub multus_namespace: String,
    /// A pod may use networks of its own namespace and of these only. Absent: of all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub global_namespaces: Option<Vec<String>>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            cluster_network: None,
            default_networks: Vec::new(),
            inline: 0,
            multus_namespace: "kube-system".into(),
            global_namespaces: None,
        }
    }
}

/// Publishes the interfaces of a pod.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The pod.
    pub pod: PodRef,
    /// Sandbox that the interfaces are in.
    pub container_id: String,
    /// One entry for each interface, the primary one first.
    pub networks: Vec<NetworkStatus>,
    /// What the pod asked for and did not get, although all is attached (version 2).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// How long the ADD took, in parts (version 2).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub timings: Vec<Timing>,
    /// Milliseconds that the caller waits for the answer.
    pub deadline_ms: u64,
}

/// Folder beside the agent's socket of reports that wait: `<container ID>.json`, a [`Late`] each. The agent keeps them there, and the
/// executable leaves one there when the agent is away: the next agent publishes them.
pub const PENDING: &str = "pending";

/// A report that waits to be published.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Late {
    /// The report.
    pub report: Report,
    /// UID by which the API server knows the pod; empty when only the agent could tell.
    #[serde(default)]
    pub uid: String,
}

/// How long a part of an ADD or a DEL took.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Timing {
    /// The network that it was for; empty for a part of the whole call.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub network: String,
    /// Of a network: a plugin's type, or `ipam` for addresses, which counts for the plugin too. Of the whole call: `lock`, `resolve`,
    /// `validate`, `attach`, `detach`, `total`.
    pub step: String,
    /// Microseconds.
    pub us: u64,
}

/// Tells what happened to a pod's networks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Notify {
    /// The pod.
    pub pod: PodRef,
    /// Sandbox that the interfaces are, or were, in.
    pub container_id: String,
    /// What happened.
    pub what: Happening,
    /// In words.
    pub message: String,
    /// CNI's code of a failure, else 0 (version 2).
    #[serde(default, skip_serializing_if = "is_zero")]
    pub code: u32,
    /// How long a DEL took, in parts (version 2).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub timings: Vec<Timing>,
    /// Of how many dead sandboxes the same call undid what they had left (version 2).
    #[serde(default, skip_serializing_if = "is_zero")]
    pub swept: u32,
    /// Milliseconds that the caller waits for the answer.
    pub deadline_ms: u64,
}

/// What happened to a pod's networks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Happening {
    /// They could not be attached.
    AddFailed,
    /// Interfaces were removed.
    Removed,
    /// Interfaces could not be removed, or not whole.
    RemoveFailed,
    /// Nothing of this pod, but of dead sandboxes.
    Swept,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// An answer frame.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Response {
    /// Protocol version of the agent.
    pub version: u32,
    /// The answer.
    #[serde(flatten)]
    pub answer: Answer,
}

/// What the agent answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "camelCase")]
pub enum Answer {
    /// The plan of a `Resolve`.
    Plan(Plan),
    /// A `Report` was published.
    Published,
    /// A `Notify` was taken.
    Taken,
    /// How the agent is.
    Health(Health),
    /// Those of the networks that there are.
    Definitions {
        /// In no particular order.
        found: Vec<NetworkAttachmentDefinition>,
    },
    /// The call failed.
    Failed(Failure),
}

/// How the agent is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Health {
    /// What it has yet to receive before it can answer every call.
    pub missing: Vec<String>,
    /// What it must be allowed to do and is not, as in `list pods`.
    pub denied: Vec<String>,
    /// Why the API server could not be asked for that.
    pub unasked: Vec<String>,
}

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// Whether the same call may succeed later without anybody changing the pod, the network or the node: becomes CNI error 11.
    pub retry: bool,
    /// What is wrong and what to do, for people.
    pub message: String,
}

/// The attachments of a pod, in the order in which they are made.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// The primary network, where the pod asks for one or the operator named a definition (version 2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub primary: Option<Box<PlannedAttachment>>,
    /// One for each further network.
    pub attachments: Vec<PlannedAttachment>,
}

/// One network for one interface of the pod.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlannedAttachment {
    /// `namespace/name` of the network's definition.
    pub network: String,
    /// Name of the interface inside the pod.
    pub interface: String,
    /// The network's CNI configuration or configuration list, byte for byte as its author wrote it, with a missing `name`
    /// filled in. `cni-args` are merged and devices filled in by the executable. Empty when it is on the node's disk.
    pub config: String,
    /// The configuration on the node's disk: its `name`, or a path (version 2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_disk: Option<String>,
    /// Device ID that kubelet allocated for it: a PCI address or an auxiliary device name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_id: Option<String>,
    /// Resource that the device belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_name: Option<String>,
    /// Values for the capabilities that the network's plugins declare: `ips`, `mac`, `portMappings`, ...
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub capability_args: Map<String, Value>,
    /// The annotation's `cni-args`, merged into `args.cni` of the configuration.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub cni_args: Map<String, Value>,
    /// Gateways of the default routes that the pod wants over this network; an empty list keeps those that the network brings
    /// (version 2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_route: Option<Vec<IpAddr>>,
}

/// Writes one frame.
///
/// # Errors
/// When the document does not fit a frame or the peer is gone.
pub fn write_frame<T: Serialize>(to: &mut impl Write, document: &T) -> io::Result<()> {
    let body = serde_json::to_vec(document)?;
    let length = frame_length(body.len())?;
    to.write_all(&length.to_be_bytes())?;
    to.write_all(&body)?;
    to.flush()
}

/// Reads one frame.
///
/// # Errors
/// When the peer is gone, sends more than [`MAX_FRAME`] bytes, or sends no such document.
pub fn read_frame<T: DeserializeOwned>(from: &mut impl Read) -> io::Result<T> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length) as usize;
    frame_length(length)?;
    let mut body = vec![0; length];
    from.read_exact(&mut body)?;
    Ok(serde_json::from_slice(&body)?)
}

/// Checks a frame's length.
///
/// # Errors
/// When it is over [`MAX_FRAME`].
pub fn frame_length(bytes: usize) -> io::Result<u32> {
    u32::try_from(bytes).ok().filter(|_| bytes <= MAX_FRAME).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("frame of {bytes} bytes, at most {MAX_FRAME} are taken"),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> Request {
        Request {
            version: VERSION,
            call: Call::Resolve(Resolve {
                pod: PodRef { namespace: "default".into(), name: "router".into(), uid: "1".into() },
                container_id: "c1".into(),
                annotations: None,
                interface: "eth0".into(),
                policy: Policy::default(),
                deadline_ms: 1000,
            }),
        }
    }

    #[test]
    fn a_frame_is_read_as_it_was_written() {
        let mut bytes = Vec::new();
        write_frame(&mut bytes, &request()).unwrap();
        assert_eq!(read_frame::<Request>(&mut bytes.as_slice()).unwrap(), request());
    }

    #[test]
    fn unknown_fields_are_ignored_and_calls_are_told_apart_by_name() {
        let text = r#"{"version":1,"call":"resolve","pod":{"namespace":"a","name":"b","extra":1},"containerId":"c","deadlineMs":5,"new":true}"#;
        let request: Request = serde_json::from_str(text).unwrap();
        assert!(
            matches!(request.call, Call::Resolve(resolve) if resolve.pod.name == "b" && resolve.pod.uid.is_empty())
        );
    }

    #[test]
    fn what_version_1_did_not_have_is_as_if_nothing_was_said() {
        let text = r#"{"version":1,"call":"resolve","pod":{"namespace":"a","name":"b"},"containerId":"c","deadlineMs":5}"#;
        let request: Request = serde_json::from_str(text).unwrap();
        let Call::Resolve(resolve) = request.call else { panic!("another call") };
        assert_eq!((resolve.interface.as_str(), resolve.policy), ("eth0", Policy::default()));
        let plan: Plan =
            serde_json::from_str(r#"{"attachments":[{"network":"a/b","interface":"net1","config":"{}"}]}"#)
                .unwrap();
        assert_eq!((plan.primary, plan.attachments[0].on_disk.clone()), (None, None));
        assert_eq!(plan.attachments[0].default_route, None);
    }

    #[test]
    fn an_answer_survives_the_wire() {
        let response = Response {
            version: VERSION,
            answer: Answer::Failed(Failure { retry: true, message: "kubelet is busy".into() }),
        };
        let text = serde_json::to_string(&response).unwrap();
        assert_eq!(text, r#"{"version":2,"answer":"failed","retry":true,"message":"kubelet is busy"}"#);
        assert_eq!(serde_json::from_str::<Response>(&text).unwrap(), response);
    }

    #[test]
    fn an_oversized_frame_is_refused_before_it_is_read() {
        let mut bytes = u32::MAX.to_be_bytes().to_vec();
        bytes.push(0);
        assert_eq!(
            read_frame::<Request>(&mut bytes.as_slice()).unwrap_err().kind(),
            io::ErrorKind::InvalidData
        );
    }
}
