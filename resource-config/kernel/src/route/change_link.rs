//! Changing links.

use std::os::fd::{AsFd, AsRawFd};

use netlink_packet_core::{DefaultNla, Emitable, NLA_F_NESTED};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};

use super::link::ifla;
use super::{LinkRef, Request, Route};
use crate::mac::Mac;
use crate::netlink::NetlinkError;
use crate::netns::Netns;

/// What shall be different about a link. Only what is given is sent, all of it in one message.
///
/// The kernel goes through it in its own order (namespace, address, MTU, name, alias, group, up or down, master) and
/// stops at the first that it refuses, with the earlier ones done. In particular it moves first: when the rest fails,
/// the link **is in the target namespace already**, under its old name unless that was taken there.
#[derive(Debug, Clone, Default)]
pub struct LinkChange<'fd> {
    /// Name. Together with `netns` it is the name in the target, so a name that is taken there does not prevent the
    /// move, and no udev in the host sees a rename.
    pub name: Option<String>,
    /// Address.
    pub mac: Option<Mac>,
    /// Bytes.
    pub mtu: Option<u32>,
    /// Packets that may wait to be sent.
    pub tx_queue_len: Option<u32>,
    /// Switched on or off.
    pub up: Option<bool>,
    /// Free text; an empty one removes it.
    pub alias: Option<String>,
    /// The namespace to move it to. The link is closed for this: it loses its addresses and is down, unless `up` is
    /// given too.
    pub netns: Option<&'fd Netns>,
    /// Link group.
    pub group: Option<u32>,
    /// Index of the bridge, bond or vrf that it shall belong to; 0 for none.
    pub master: Option<u32>,
    /// Receive everything.
    pub promisc: Option<bool>,
    /// Receive all multicast.
    pub allmulti: Option<bool>,
    /// Tell neighbours of its IPv4 addresses whenever it is brought up or its hardware address is set (`arp_notify`).
    pub arp_notify: Option<bool>,
}

impl<'fd> LinkChange<'fd> {
    fn attributes(&self) -> Vec<LinkAttribute> {
        let mut attributes = Vec::new();
        // In the order in which iproute2 writes them, for the comparison in the tests; the kernel does not mind.
        attributes.extend(self.mac.map(|mac| LinkAttribute::Address(mac.as_bytes().to_vec())));
        attributes.extend(self.mtu.map(LinkAttribute::Mtu));
        attributes.extend(self.tx_queue_len.map(LinkAttribute::TxQueueLen));
        attributes.extend(self.netns.map(|netns| LinkAttribute::NetNsFd(netns.as_fd().as_raw_fd())));
        attributes.extend(self.alias.as_deref().map(alias));
        attributes.extend(self.group.map(LinkAttribute::Group));
        attributes.extend(self.master.map(LinkAttribute::Controller));
        attributes.extend(self.name.clone().map(LinkAttribute::IfName));
        attributes.extend(self.arp_notify.map(arp_notify));
        attributes
    }

    /// The flags' new values, and which of them are given.
    fn flags(&self) -> (LinkFlags, LinkFlags) {
        let (mut values, mut given) = (LinkFlags::empty(), LinkFlags::empty());
        let wanted = [
            (self.up, LinkFlags::Up),
            (self.promisc, LinkFlags::Promisc),
            (self.allmulti, LinkFlags::Allmulti),
        ];
        for (value, flag) in wanted {
            given.set(flag, value.is_some());
            values.set(flag, value == Some(true));
        }
        (values, given)
    }

    /// The change in words, for error texts.
    fn describe(&self, link: &LinkRef) -> String {
        let switched = |value: Option<bool>, on: &str, off: &str| {
            value.map(|value| if value { on } else { off }.to_owned())
        };
        let parts: Vec<String> = [
            self.netns.map(|netns| format!("move to {}", netns.path().display())),
            self.name.as_ref().map(|name| format!("name {name}")),
            self.mac.map(|mac| format!("MAC {mac}")),
            self.mtu.map(|mtu| format!("MTU {mtu}")),
            self.tx_queue_len.map(|length| format!("transmit queue of {length} packets")),
            self.alias.as_ref().map(|alias| format!("alias {alias:?}")),
            self.group.map(|group| format!("group {group}")),
            self.master.map(|master| format!("master {master}")),
            switched(self.promisc, "promiscuous on", "promiscuous off"),
            switched(self.allmulti, "all multicast on", "all multicast off"),
            switched(self.arp_notify, "ARP notifications on", "ARP notifications off"),
            switched(self.up, "up", "down"),
        ]
        .into_iter()
        .flatten()
        .collect();
        match (self.netns, parts.as_slice()) {
            (Some(netns), [_]) => format!("move {link} to {}", netns.path().display()),
            _ => format!("set {link}: {}", parts.join(", ")),
        }
    }
}

/// netlink-packet-route ends an alias with a NUL, which the kernel would take for a part of it, and an empty alias for
/// one of one byte instead of none.
fn alias(text: &str) -> LinkAttribute {
    LinkAttribute::Other(DefaultNla::new(ifla::IFALIAS, text.as_bytes().to_vec()))
}

/// A setting of the link for IPv4. netlink-packet-route leaves out the ones that are 0, and so could switch none off.
fn arp_notify(on: bool) -> LinkAttribute {
    let setting = DefaultNla::new(ifla::ARP_NOTIFY, u32::from(on).to_ne_bytes().to_vec());
    let ipv4 = nest(ifla::INET_CONF, &setting);
    LinkAttribute::Other(nest(ifla::AF_SPEC, &nest(ifla::AF_INET, &ipv4)))
}

fn nest(kind: u16, inner: &DefaultNla) -> DefaultNla {
    let mut bytes = vec![0; inner.buffer_len()];
    inner.emit(&mut bytes);
    DefaultNla::new(kind | NLA_F_NESTED, bytes)
}

impl Route {
    /// Changes a link in one message.
    pub fn set_link(
        &mut self,
        link: impl Into<LinkRef>,
        change: &LinkChange<'_>,
    ) -> Result<(), NetlinkError> {
        self.send(Request::set_link(link, change))
    }
}

impl<'fd> Request<'fd> {
    /// See [`Route::set_link`].
    #[must_use]
    pub fn set_link(link: impl Into<LinkRef>, change: &LinkChange<'fd>) -> Self {
        let link = link.into();
        let mut message = LinkMessage::default();
        message.header.index = link.index;
        (message.header.flags, message.header.change_mask) = change.flags();
        message.attributes = change.attributes();
        Self::new(change.describe(&link), RouteNetlinkMessage::NewLink(message), 0)
    }
}
