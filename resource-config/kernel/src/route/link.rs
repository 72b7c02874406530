//! Reading links.

use std::fmt;

use netlink_packet_core::{DefaultNla, NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkExtentMask, LinkMessage, Prop};
use nix::libc;
use serde::{Deserialize, Serialize};

use super::{BridgePort, Request, Route};
use crate::mac::Mac;
use crate::netlink::{Failure, NetlinkError, attributes, nested, text, u8_of, u16_of, u32_at, u32_of};

/// Bytes of the header that link messages begin with (kernel `struct ifinfomsg`).
pub(super) const HEADER: usize = 16;

/// Longest name of a link; a longer one can only be an alternative name.
const LONGEST_NAME: usize = 15;

/// Kernel `include/uapi/linux/if_link.h`.
pub(super) mod ifla {
    pub(super) const ADDRESS: u16 = 1;
    pub(super) const IFNAME: u16 = 3;
    pub(super) const MTU: u16 = 4;
    pub(super) const LINK: u16 = 5;
    pub(super) const MASTER: u16 = 10;
    pub(super) const TXQLEN: u16 = 13;
    pub(super) const OPERSTATE: u16 = 16;
    pub(super) const LINKINFO: u16 = 18;
    pub(in crate::route) const IFALIAS: u16 = 20;
    pub(in crate::route) const AF_SPEC: u16 = 26;
    pub(super) const GROUP: u16 = 27;
    pub(super) const CARRIER: u16 = 33;
    pub(super) const PHYS_SWITCH_ID: u16 = 36;
    pub(super) const LINK_NETNSID: u16 = 37;
    pub(super) const PHYS_PORT_NAME: u16 = 38;
    pub(super) const MIN_MTU: u16 = 50;
    pub(super) const MAX_MTU: u16 = 51;
    pub(super) const PROP_LIST: u16 = 52;
    pub(super) const ALT_IFNAME: u16 = 53;
    pub(super) const PERM_ADDRESS: u16 = 54;
    pub(super) const PARENT_DEV_NAME: u16 = 56;
    pub(super) const INFO_KIND: u16 = 1;
    pub(super) const INFO_DATA: u16 = 2;
    /// `IFLA_MACVLAN_MODE`, `IFLA_IPVLAN_MODE`, `IFLA_VLAN_ID`.
    pub(super) const INFO_VARIANT: u16 = 1;
    pub(super) const VRF_TABLE: u16 = 1;
    pub(super) const INFO_SLAVE_KIND: u16 = 4;
    pub(super) const INFO_SLAVE_DATA: u16 = 5;
    pub(super) const BR_VLAN_FILTERING: u16 = 7;
    /// In `AF_SPEC`, of the family `AF_INET` (2): every setting of the link for IPv4, 32 bits each (`IFLA_INET_CONF`).
    pub(in crate::route) const AF_INET: u16 = 2;
    pub(in crate::route) const INET_CONF: u16 = 1;
    /// `arp_notify` among them, from 1 (kernel `include/uapi/linux/ip.h`).
    pub(in crate::route) const ARP_NOTIFY: u16 = 22;
}

/// A link as the kernel reports it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Link {
    /// Its number within its namespace. A link that is moved keeps it unless the number is taken there.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its alternative names, by which it can be looked up too.
    pub altnames: Vec<String>,
    /// `macvlan`, `veth`, `bridge` and so on; `None` for devices (a VF, a physical port) and the loopback.
    pub kind: Option<String>,
    /// Its address now; `None` when it has none (or one of neither 6 nor 20 bytes: tunnels).
    pub mac: Option<Mac>,
    /// The address that its hardware came with.
    pub permanent_mac: Option<Mac>,
    /// Bytes.
    pub mtu: u32,
    /// Bytes; `None` when the driver gives no bound.
    pub min_mtu: Option<u32>,
    /// Bytes; `None` when the driver gives no bound.
    pub max_mtu: Option<u32>,
    /// Packets that may wait to be sent.
    pub tx_queue_len: u32,
    /// Switched on by the administrator (`IFF_UP`).
    pub up: bool,
    /// Up, and its peer or cable too (`IFF_RUNNING`): frames can pass.
    pub running: bool,
    /// The same, in RFC 2863's words.
    pub oper_state: OperState,
    /// It sees a carrier; `None` while it is down.
    pub carrier: Option<bool>,
    /// Receives everything (`IFF_PROMISC`), because somebody asked for it by name.
    pub promisc: bool,
    /// Receives all multicast (`IFF_ALLMULTI`).
    pub allmulti: bool,
    /// Index of the link that it is made on (macvlan, vlan), or of its peer (veth).
    pub parent: Option<u32>,
    /// That index is of another namespace (`IFLA_LINK_NETNSID` is there).
    pub parent_in_other_ns: bool,
    /// Index of the bridge, bond or vrf that it belongs to.
    pub master: Option<u32>,
    /// The routing table of a VRF; `None` for links of another kind.
    pub vrf_table: Option<u32>,
    /// What it does as the port of a bridge; `None` when it is none.
    pub port: Option<BridgePort>,
    /// Whether it, a bridge, keeps VLANs apart; `None` when it is no bridge, or the kernel has no such.
    pub vlan_filtering: Option<bool>,
    /// What its kind leaves open: the mode of a macvlan or ipvlan, the number of a VLAN; see [`super::LinkKind::variant`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variant: Option<u32>,
    /// Free text that somebody put on it.
    pub alias: Option<String>,
    /// Its link group; 0 unless set.
    pub group: u32,
    /// Its neighbours are told of its IPv4 addresses whenever it is brought up or its hardware address is set.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub arp_notify: bool,
    /// Ethernet frames go over it.
    pub is_ether: bool,
    /// Its `ARPHRD_` number: 1 for Ethernet, 32 for InfiniBand.
    pub hardware_type: u16,
    /// The embedded switch that it is a port of, in hexadecimal digits.
    pub phys_switch_id: Option<String>,
    /// The driver's name of the port.
    pub phys_port_name: Option<String>,
    /// The bus address of its device, such as `0000:01:10.0`, in whatever namespace it is (Linux 5.14).
    pub device: Option<String>,
}

/// RFC 2863's operational state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OperState {
    /// The driver does not tell: then `running` says all there is.
    #[default]
    Unknown,
    /// Its device is gone.
    NotPresent,
    /// No frames can pass.
    Down,
    /// What it is made on is down.
    LowerLayerDown,
    /// In a test mode.
    Testing,
    /// Waiting for something outside, such as authentication.
    Dormant,
    /// Frames can pass.
    Up,
}

impl OperState {
    fn from_number(number: u8) -> Self {
        match number {
            1 => Self::NotPresent,
            2 => Self::Down,
            3 => Self::LowerLayerDown,
            4 => Self::Testing,
            5 => Self::Dormant,
            6 => Self::Up,
            _ => Self::Unknown,
        }
    }
}

/// A link that shall be worked on: its index, and its name for error texts where it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkRef {
    /// What the kernel goes by.
    pub index: u32,
    /// What people go by.
    pub name: Option<String>,
}

impl From<u32> for LinkRef {
    fn from(index: u32) -> Self {
        Self { index, name: None }
    }
}

impl From<&Link> for LinkRef {
    fn from(link: &Link) -> Self {
        Self { index: link.index, name: Some(link.name.clone()) }
    }
}

impl fmt::Display for LinkRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "link {name}"),
            None => write!(f, "link number {}", self.index),
        }
    }
}

impl Link {
    /// Reads the payload of an `RTM_NEWLINK` message.
    pub(crate) fn parse(payload: &[u8]) -> Option<Self> {
        let flags = u32_of(payload.get(8..12)?)?;
        let is_set = |flag: libc::c_int| u32::try_from(flag).is_ok_and(|flag| flags & flag != 0);
        let hardware_type = u16_of(payload.get(2..4)?)?;
        let mut link = Self {
            index: u32_of(payload.get(4..8)?)?,
            is_ether: hardware_type == libc::ARPHRD_ETHER,
            hardware_type,
            up: is_set(libc::IFF_UP),
            running: is_set(libc::IFF_RUNNING),
            promisc: is_set(libc::IFF_PROMISC),
            allmulti: is_set(libc::IFF_ALLMULTI),
            ..Self::default()
        };
        for (kind, value) in attributes(payload.get(HEADER..)?) {
            link.take(kind, value);
        }
        if !link.up {
            link.carrier = None;
        }
        Some(link)
    }

    fn take(&mut self, kind: u16, value: &[u8]) {
        match kind {
            ifla::ADDRESS => self.mac = Mac::from_bytes(value),
            ifla::PERM_ADDRESS => self.permanent_mac = Mac::from_bytes(value),
            ifla::IFNAME => self.name = text(value),
            ifla::MTU => self.mtu = u32_of(value).unwrap_or(0),
            // 0: no bound.
            ifla::MIN_MTU => self.min_mtu = u32_of(value).filter(|bound| *bound > 0),
            ifla::MAX_MTU => self.max_mtu = u32_of(value).filter(|bound| *bound > 0),
            // 0: a parent that cannot be told.
            ifla::LINK => self.parent = u32_of(value).filter(|index| *index > 0),
            ifla::LINK_NETNSID => self.parent_in_other_ns = true,
            ifla::TXQLEN => self.tx_queue_len = u32_of(value).unwrap_or(0),
            ifla::MASTER => self.master = u32_of(value),
            ifla::OPERSTATE => self.oper_state = OperState::from_number(u8_of(value).unwrap_or(0)),
            ifla::CARRIER => self.carrier = u8_of(value).map(|carrier| carrier != 0),
            ifla::IFALIAS => self.alias = Some(text(value)),
            ifla::GROUP => self.group = u32_of(value).unwrap_or(0),
            ifla::LINKINFO => self.take_info(value),
            ifla::AF_SPEC => {
                let ipv4 = nested(value, ifla::AF_INET).and_then(|ipv4| nested(ipv4, ifla::INET_CONF));
                let setting = ipv4.and_then(|ipv4| u32_at(ipv4, usize::from(ifla::ARP_NOTIFY) - 1));
                self.arp_notify = setting.is_some_and(|setting| setting != 0);
            }
            ifla::PHYS_SWITCH_ID => {
                self.phys_switch_id = Some(value.iter().map(|byte| format!("{byte:02x}")).collect());
            }
            ifla::PHYS_PORT_NAME => self.phys_port_name = Some(text(value)),
            ifla::PARENT_DEV_NAME => self.device = Some(text(value)),
            ifla::PROP_LIST => {
                let names = attributes(value).filter(|(kind, _)| *kind == ifla::ALT_IFNAME);
                self.altnames = names.map(|(_, name)| text(name)).collect();
            }
            _ => {}
        }
    }

    /// Reads what depends on the kind of the link and of its master.
    fn take_info(&mut self, info: &[u8]) {
        self.kind = nested(info, ifla::INFO_KIND).map(text);
        let data = nested(info, ifla::INFO_DATA).unwrap_or_default();
        let variant = nested(data, ifla::INFO_VARIANT).unwrap_or_default();
        self.variant = match self.kind.as_deref() {
            Some("macvlan") => u32_of(variant),
            Some("ipvlan" | "vlan") => u16_of(variant).map(u32::from),
            _ => None,
        };
        if self.kind.as_deref() == Some("bridge") {
            self.vlan_filtering =
                nested(data, ifla::BR_VLAN_FILTERING).and_then(u8_of).map(|filtering| filtering != 0);
        }
        if self.kind.as_deref() == Some("vrf") {
            self.vrf_table = nested(data, ifla::VRF_TABLE).and_then(u32_of);
        }
        if nested(info, ifla::INFO_SLAVE_KIND).map(text).as_deref() == Some("bridge") {
            self.port = nested(info, ifla::INFO_SLAVE_DATA).map(BridgePort::parse);
        }
    }
}

/// What every question about links carries: no statistics, they cost most and nobody here reads them.
pub(super) fn without_statistics() -> LinkAttribute {
    LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats])
}

fn question(attributes: Vec<LinkAttribute>, index: u32) -> RouteNetlinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.attributes = attributes;
    RouteNetlinkMessage::GetLink(message)
}

/// How a name is given to the kernel: it takes no long one as a link's own.
fn by_name(name: &str) -> LinkAttribute {
    if name.len() <= LONGEST_NAME {
        LinkAttribute::IfName(name.to_owned())
    } else {
        // Bare, where netlink-packet-route knows it only within a list of properties.
        let text = [name.as_bytes(), &[0]].concat();
        LinkAttribute::Other(DefaultNla::new(ifla::ALT_IFNAME, text))
    }
}

impl Route {
    /// The link of this name or alternative name; `None` when there is none.
    pub fn link_by_name(&mut self, name: &str) -> Result<Option<Link>, NetlinkError> {
        self.one_link(
            &format!("look up link {name}"),
            &question(vec![by_name(name), without_statistics()], 0),
        )
    }

    /// The link of this index; `None` when there is none.
    pub fn link_by_index(&mut self, index: u32) -> Result<Option<Link>, NetlinkError> {
        self.one_link(&format!("look up link number {index}"), &question(vec![without_statistics()], index))
    }

    fn one_link(
        &mut self,
        operation: &str,
        question: &RouteNetlinkMessage,
    ) -> Result<Option<Link>, NetlinkError> {
        match self.exchange.get(operation, question) {
            Ok(payload) => Link::parse(&payload).map(Some).ok_or_else(|| unreadable(operation)),
            Err(error) if error.is_missing() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All links, by index.
    pub fn links(&mut self) -> Result<Vec<Link>, NetlinkError> {
        let operation = "list links";
        let payloads = self.exchange.dump(operation, &question(vec![without_statistics()], 0))?;
        let links: Option<Vec<Link>> = payloads.iter().map(|payload| Link::parse(payload)).collect();
        let mut links = links.ok_or_else(|| unreadable(operation))?;
        links.sort_by_key(|link| link.index);
        Ok(links)
    }

    /// Removes a link. Only links that are made (not devices) can be removed.
    pub fn delete_link(&mut self, link: impl Into<LinkRef>) -> Result<(), NetlinkError> {
        self.send(Request::delete_link(link))
    }

    /// Removes all links of a group at once, which is much faster than one by one. Nothing is removed, and the error is
    /// `EOPNOTSUPP`, when a device (such as a VF) is in the group. The kernel says `ENODEV` when the group is empty.
    pub fn delete_group(&mut self, group: u32) -> Result<(), NetlinkError> {
        self.send(Request::delete_group(group))
    }

    /// Gives a link another name to be found by. It travels with the link into other namespaces.
    pub fn add_altname(&mut self, link: impl Into<LinkRef>, altname: &str) -> Result<(), NetlinkError> {
        self.send(Request::add_altname(link, altname))
    }

    /// Takes an alternative name away.
    pub fn del_altname(&mut self, link: impl Into<LinkRef>, altname: &str) -> Result<(), NetlinkError> {
        self.send(Request::del_altname(link, altname))
    }
}

impl Request<'_> {
    /// See [`Route::delete_link`].
    #[must_use]
    pub fn delete_link(link: impl Into<LinkRef>) -> Self {
        let link = link.into();
        let mut message = LinkMessage::default();
        message.header.index = link.index;
        Self::new(format!("delete {link}"), RouteNetlinkMessage::DelLink(message), 0)
    }

    /// See [`Route::delete_group`].
    #[must_use]
    pub fn delete_group(group: u32) -> Self {
        let mut message = LinkMessage::default();
        message.attributes = vec![LinkAttribute::Group(group)];
        Self::new(format!("delete link group {group}"), RouteNetlinkMessage::DelLink(message), 0)
    }

    /// See [`Route::add_altname`].
    #[must_use]
    pub fn add_altname(link: impl Into<LinkRef>, altname: &str) -> Self {
        let link = link.into();
        let operation = format!("give {link} the alternative name {altname}");
        let message = RouteNetlinkMessage::NewLinkProp(properties(&link, altname));
        Self::new(operation, message, NLM_F_CREATE | NLM_F_EXCL | NLM_F_APPEND)
    }

    /// See [`Route::del_altname`].
    #[must_use]
    pub fn del_altname(link: impl Into<LinkRef>, altname: &str) -> Self {
        let link = link.into();
        let operation = format!("take the alternative name {altname} from {link}");
        Self::new(operation, RouteNetlinkMessage::DelLinkProp(properties(&link, altname)), 0)
    }
}

fn properties(link: &LinkRef, altname: &str) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = link.index;
    message.attributes = vec![LinkAttribute::PropList(vec![Prop::AltIfName(altname.to_owned())])];
    message
}

pub(super) fn unreadable(operation: &str) -> NetlinkError {
    NetlinkError::new(operation, Failure::Malformed("a message is too short".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_cut_anywhere_is_read_as_far_as_it_goes_and_never_panics() {
        let mut payload = vec![0, 0, 1, 0, 7, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0];
        payload.extend([9, 0, 3, 0, b'e', b't', b'h', b'0', 0, 0, 0, 0]);
        payload.extend([20, 0, 52, 0x80, 7, 0, 53, 0, b'a', b'b', 0, 0, 6, 0, 53, 0, b'c', 0, 0, 0]);
        payload.extend([16, 0, 18, 0, 11, 0, 1, 0, b'm', b'a', b'c', b'v', b'l', b'a', b'n', 0]);
        let link = Link::parse(&payload).unwrap();
        assert_eq!((link.index, link.name.as_str(), link.up, link.is_ether), (7, "eth0", true, true));
        assert_eq!(
            (link.altnames, link.kind.as_deref()),
            (vec!["ab".to_owned(), "c".to_owned()], Some("macvlan"))
        );
        for length in 0..payload.len() {
            assert_eq!(Link::parse(&payload[..length]).is_some(), length >= HEADER, "{length} bytes");
        }
    }

    #[test]
    fn a_link_survives_json_and_unknown_parts_default() {
        let link = Link { index: 3, name: "eth0".to_owned(), mtu: 1500, ..Link::default() };
        let json = serde_json::to_string(&link).unwrap();
        assert_eq!(serde_json::from_str::<Link>(&json).unwrap(), link);
        assert_eq!(serde_json::from_str::<Link>(r#"{"name": "eth0"}"#).unwrap().index, 0);
    }

    #[test]
    fn texts_name_the_link_as_well_as_is_known() {
        let link = Link { index: 3, name: "eth0".to_owned(), ..Link::default() };
        assert_eq!(Request::delete_link(&link).operation(), "delete link eth0");
        assert_eq!(Request::delete_link(3).operation(), "delete link number 3");
    }
}
