//! Making links.

use std::os::fd::{AsFd, AsRawFd};

use netlink_packet_core::{DefaultNla, NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    InfoBridge, InfoData, InfoIpVlan, InfoMacVlan, InfoVeth, InfoVlan, InfoVrf, IpVlanFlags, LinkAttribute,
    LinkFlags, LinkInfo, LinkMessage,
};
use serde::{Deserialize, Serialize};

use super::vf::VlanProtocol;
use super::{Request, Route};
use crate::mac::Mac;
use crate::netlink::NetlinkError;
use crate::netns::Netns;

/// Kernel `include/uapi/linux/if_link.h`.
const IFLA_INFO_KIND: u16 = 1;

/// A link to be made. Indexes in it are of the namespace that the socket is in, also when the link is made in another.
#[derive(Debug, Clone)]
pub struct NewLink<'fd> {
    /// Its name. Before Linux 6.14 a link of this name in the *socket's* namespace is in the way too, even when the new
    /// one is made in another: give a name that is free in both, and rename it there.
    pub name: String,
    /// What it is.
    pub kind: LinkKind<'fd>,
    /// Bytes; `None` for the kernel's choice, usually the parent's.
    pub mtu: Option<u32>,
    /// `None` for the kernel's choice, usually random.
    pub mac: Option<Mac>,
    /// Link group, by which several links can be removed at once.
    pub group: Option<u32>,
    /// The namespace that it is made in; `None` for the socket's.
    pub netns: Option<&'fd Netns>,
    /// Switched on at once.
    pub up: bool,
    /// Index of the bridge, bond or vrf that it belongs to from the beginning.
    pub master: Option<u32>,
    /// What the other end of a veth pair has besides name and namespace; nothing for other kinds.
    pub peer: PeerEnd,
}

/// The other end of a veth pair, as far as it is not left to the kernel. It is made switched off.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PeerEnd {
    /// Bytes.
    pub mtu: Option<u32>,
    /// Its address.
    pub mac: Option<Mac>,
    /// Its link group.
    pub group: Option<u32>,
}

/// Kinds of links, with what each needs.
#[derive(Debug, Clone)]
pub enum LinkKind<'fd> {
    /// More addresses on one device, told apart by MAC.
    Macvlan {
        /// Index of the device.
        parent: u32,
        /// Who may talk to whom.
        mode: MacvlanMode,
        /// Length of the queue for broadcasts; `None` for the kernel's choice.
        bc_queue_len: Option<u32>,
    },
    /// More addresses on one device, told apart by IP address; all have the device's MAC.
    Ipvlan {
        /// Index of the device.
        parent: u32,
        /// At which layer frames are passed on.
        mode: IpvlanMode,
        /// Who may talk to whom.
        flag: IpvlanFlag,
    },
    /// A pair of links; what goes into one comes out of the other.
    Veth {
        /// The other one's name.
        peer_name: String,
        /// The other one's namespace; `None` for the socket's.
        peer_netns: Option<&'fd Netns>,
    },
    /// An Ethernet bridge.
    Bridge,
    /// An Ethernet bridge that keeps VLANs apart.
    VlanBridge,
    /// A link to nowhere.
    Dummy,
    /// One VLAN of a device.
    Vlan {
        /// Index of the device.
        parent: u32,
        /// VLAN number, 0 to 4094.
        id: u16,
        /// Kind of tag.
        protocol: VlanProtocol,
    },
    /// A routing table of its own for the links that belong to it.
    Vrf {
        /// The routing table.
        table: u32,
    },
}

/// Modes of a macvlan (kernel `enum macvlan_mode`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MacvlanMode {
    /// Its siblings on the same device cannot be reached.
    Private,
    /// Its siblings are reached through the switch outside, which must send frames back.
    Vepa,
    /// Its siblings are reached directly.
    Bridge,
    /// It is alone and takes the device over.
    Passthru,
}

/// Modes of an ipvlan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IpvlanMode {
    /// Frames are passed on by the pod's stack.
    L2,
    /// Packets are routed by the host's stack, not through its netfilter hooks.
    L3,
    /// As L3, and through netfilter.
    L3s,
}

/// Isolation of an ipvlan.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IpvlanFlag {
    /// Its siblings are reached directly.
    #[default]
    Bridge,
    /// Its siblings cannot be reached.
    Private,
    /// Its siblings are reached through the switch outside.
    Vepa,
}

impl<'fd> NewLink<'fd> {
    /// A link with nothing but a name and a kind.
    #[must_use]
    pub fn new(name: impl Into<String>, kind: LinkKind<'fd>) -> Self {
        Self {
            name: name.into(),
            kind,
            mtu: None,
            mac: None,
            group: None,
            netns: None,
            up: false,
            master: None,
            peer: PeerEnd::default(),
        }
    }

    fn message(&self) -> LinkMessage {
        let mut message = LinkMessage::default();
        if self.up {
            (message.header.flags, message.header.change_mask) = (LinkFlags::Up, LinkFlags::Up);
        }
        let attributes = &mut message.attributes;
        attributes.extend(self.mtu.map(LinkAttribute::Mtu));
        attributes.extend(self.mac.map(|mac| LinkAttribute::Address(mac.as_bytes().to_vec())));
        attributes.extend(self.netns.map(in_namespace));
        attributes.extend(self.group.map(LinkAttribute::Group));
        attributes.extend(self.kind.parent().map(LinkAttribute::Link));
        attributes.extend(self.master.map(LinkAttribute::Controller));
        attributes.push(LinkAttribute::IfName(self.name.clone()));
        attributes.push(LinkAttribute::LinkInfo(self.kind.info(&self.peer)));
        message
    }

    fn describe(&self) -> String {
        let place = self.netns.map(|netns| format!(" in {}", netns.path().display())).unwrap_or_default();
        format!("create {} {}{place}", self.kind.name(), self.name)
    }
}

fn in_namespace(netns: &Netns) -> LinkAttribute {
    LinkAttribute::NetNsFd(netns.as_fd().as_raw_fd())
}

impl LinkKind<'_> {
    /// The mode of a macvlan or ipvlan, the number of a VLAN, in the kernel's numbers, as [`super::Link::variant`] gives it.
    #[must_use]
    pub fn variant(&self) -> Option<u32> {
        match self {
            Self::Macvlan { mode, .. } => Some(mode.number()),
            Self::Ipvlan { mode, .. } => Some(mode.number().into()),
            Self::Vlan { id, .. } => Some((*id).into()),
            _ => None,
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Macvlan { .. } => "macvlan",
            Self::Ipvlan { .. } => "ipvlan",
            Self::Veth { .. } => "veth",
            Self::Bridge | Self::VlanBridge => "bridge",
            Self::Dummy => "dummy",
            Self::Vlan { .. } => "vlan",
            Self::Vrf { .. } => "vrf",
        }
    }

    fn parent(&self) -> Option<u32> {
        match self {
            Self::Macvlan { parent, .. } | Self::Ipvlan { parent, .. } | Self::Vlan { parent, .. } => {
                Some(*parent)
            }
            Self::Veth { .. } | Self::Bridge | Self::VlanBridge | Self::Dummy | Self::Vrf { .. } => None,
        }
    }

    fn info(&self, peer: &PeerEnd) -> Vec<LinkInfo> {
        // Without the NUL that netlink-packet-route's own form ends with, as iproute2 sends it.
        let mut info = vec![LinkInfo::Other(DefaultNla::new(IFLA_INFO_KIND, self.name().into()))];
        info.extend(self.data(peer).map(LinkInfo::Data));
        info
    }

    fn data(&self, end: &PeerEnd) -> Option<InfoData> {
        Some(match self {
            Self::Macvlan { mode, bc_queue_len, .. } => {
                let queue = bc_queue_len.map(InfoMacVlan::BcQueueLen);
                InfoData::MacVlan(
                    queue.into_iter().chain([InfoMacVlan::Mode(mode.number().into())]).collect(),
                )
            }
            Self::Ipvlan { mode, flag, .. } => InfoData::IpVlan(vec![
                InfoIpVlan::Mode(mode.number().into()),
                InfoIpVlan::Flags(flag.flags()),
            ]),
            Self::Veth { peer_name, peer_netns } => {
                let mut peer = LinkMessage::default();
                peer.attributes.extend(end.mtu.map(LinkAttribute::Mtu));
                peer.attributes.extend(end.mac.map(|mac| LinkAttribute::Address(mac.as_bytes().to_vec())));
                peer.attributes.extend(peer_netns.map(in_namespace));
                peer.attributes.extend(end.group.map(LinkAttribute::Group));
                peer.attributes.push(LinkAttribute::IfName(peer_name.clone()));
                InfoData::Veth(InfoVeth::Peer(peer))
            }
            Self::Vlan { id, protocol, .. } => {
                InfoData::Vlan(vec![InfoVlan::Protocol(protocol.library()), InfoVlan::Id(*id)])
            }
            Self::Vrf { table } => InfoData::Vrf(vec![InfoVrf::TableId(*table)]),
            Self::VlanBridge => InfoData::Bridge(vec![InfoBridge::VlanFiltering(true)]),
            Self::Bridge | Self::Dummy => return None,
        })
    }
}

impl MacvlanMode {
    fn number(self) -> u32 {
        match self {
            Self::Private => 1,
            Self::Vepa => 2,
            Self::Bridge => 4,
            Self::Passthru => 8,
        }
    }
}

impl IpvlanMode {
    fn number(self) -> u16 {
        match self {
            Self::L2 => 0,
            Self::L3 => 1,
            Self::L3s => 2,
        }
    }
}

impl IpvlanFlag {
    fn flags(self) -> IpVlanFlags {
        IpVlanFlags::from_bits_retain(match self {
            Self::Bridge => 0,
            Self::Private => 1,
            Self::Vepa => 2,
        })
    }
}

impl Route {
    /// Makes a link; `EEXIST` when its name is taken.
    pub fn add_link(&mut self, link: &NewLink<'_>) -> Result<(), NetlinkError> {
        self.send(Request::add_link(link))
    }
}

impl<'fd> Request<'fd> {
    /// See [`Route::add_link`].
    #[must_use]
    pub fn add_link(link: &NewLink<'fd>) -> Self {
        let message = RouteNetlinkMessage::NewLink(link.message());
        Self::new(link.describe(), message, NLM_F_CREATE | NLM_F_EXCL)
    }
}
