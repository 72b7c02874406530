//! Ports of bridges: what they do with frames, and the VLANs that they are in.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use netlink_packet_core::DefaultNla;
use netlink_packet_route::link::{
    AfSpecBridge, BridgeVlanInfo, BridgeVlanInfoFlags, LinkAttribute, LinkExtentMask, LinkMessage,
    LinkProtoInfoBridge,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use serde::{Deserialize, Serialize};

use super::link::{HEADER, unreadable};
use super::{LinkRef, Request, Route};
use crate::netlink::{NetlinkError, attributes, nested, u8_of, u16_of, u32_of};

/// Kernel `include/uapi/linux/if_link.h` and `if_bridge.h`.
mod ifla {
    pub(super) const AF_SPEC: u16 = 26;
    pub(super) const BRPORT_MODE: u16 = 4;
    pub(super) const BRPORT_ISOLATED: u16 = 33;
    pub(super) const BRIDGE_VLAN_INFO: u16 = 2;
    pub(super) const VLAN_PVID: u16 = 2;
    pub(super) const VLAN_UNTAGGED: u16 = 4;
}

/// What a port does with frames.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BridgePort {
    /// Frames may leave by the port that they came in by.
    pub hairpin: bool,
    /// It exchanges nothing with other isolated ports.
    pub isolated: bool,
}

impl BridgePort {
    /// Reads the attributes of a port.
    pub(super) fn parse(data: &[u8]) -> Self {
        let is_set = |kind| nested(data, kind).and_then(u8_of).is_some_and(|value| value != 0);
        Self { hairpin: is_set(ifla::BRPORT_MODE), isolated: is_set(ifla::BRPORT_ISOLATED) }
    }
}

/// VLANs of a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortVlan {
    /// VLAN numbers, 1 to 4094.
    pub ids: RangeInclusive<u16>,
    /// Frames without a tag belong to it (one VLAN only).
    pub pvid: bool,
    /// Frames of it leave without a tag.
    pub untagged: bool,
}

impl PortVlan {
    /// VLANs whose frames have tags.
    #[must_use]
    pub fn tagged(ids: RangeInclusive<u16>) -> Self {
        Self { ids, pvid: false, untagged: false }
    }

    /// The VLAN of a port that knows nothing of VLANs.
    #[must_use]
    pub fn access(id: u16) -> Self {
        Self { ids: id..=id, pvid: true, untagged: true }
    }

    /// One entry for a single VLAN, two for the ends of a range.
    fn entries(&self) -> Vec<AfSpecBridge> {
        let mut common = BridgeVlanInfoFlags::empty();
        common.set(BridgeVlanInfoFlags::Pvid, self.pvid);
        common.set(BridgeVlanInfoFlags::Untagged, self.untagged);
        let entry = |flags, vid| AfSpecBridge::VlanInfo(BridgeVlanInfo { flags: common | flags, vid });
        let (first, last) = (*self.ids.start(), *self.ids.end());
        if first == last {
            return vec![entry(BridgeVlanInfoFlags::empty(), first)];
        }
        vec![entry(BridgeVlanInfoFlags::RangeBegin, first), entry(BridgeVlanInfoFlags::RangeEnd, last)]
    }

    fn describe(&self) -> String {
        let (first, last) = (self.ids.start(), self.ids.end());
        let ids = if first == last { format!("VLAN {first}") } else { format!("VLANs {first} to {last}") };
        if self.untagged { format!("{ids} untagged") } else { ids }
    }
}

/// What shall be different about a port. Only what is given is sent, all of it in one message; the kernel sets the
/// attributes before the VLANs and stops at the first that it refuses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PortChange {
    /// See [`BridgePort::hairpin`].
    pub hairpin: Option<bool>,
    /// See [`BridgePort::isolated`].
    pub isolated: Option<bool>,
    /// VLANs that it shall be in besides those that it is in.
    pub vlans: Vec<PortVlan>,
}

impl PortChange {
    fn attributes(&self) -> Vec<LinkAttribute> {
        let switch = |kind, on: bool| LinkProtoInfoBridge::Other(DefaultNla::new(kind, vec![u8::from(on)]));
        let port: Vec<LinkProtoInfoBridge> = [
            self.hairpin.map(|on| switch(ifla::BRPORT_MODE, on)),
            self.isolated.map(|on| switch(ifla::BRPORT_ISOLATED, on)),
        ]
        .into_iter()
        .flatten()
        .collect();
        let vlans: Vec<AfSpecBridge> = self.vlans.iter().flat_map(PortVlan::entries).collect();
        let mut attributes = Vec::new();
        if !port.is_empty() {
            attributes.push(LinkAttribute::ProtoInfoBridge(port));
        }
        if !vlans.is_empty() {
            attributes.push(LinkAttribute::AfSpecBridge(vlans));
        }
        attributes
    }

    fn describe(&self) -> String {
        let switched = |value: Option<bool>, what: &str| {
            value.map(|on| format!("{what} {}", if on { "on" } else { "off" }))
        };
        [switched(self.hairpin, "hairpin"), switched(self.isolated, "isolated")]
            .into_iter()
            .flatten()
            .chain(self.vlans.iter().map(PortVlan::describe))
            .collect::<Vec<_>>()
            .join(", ")
    }
}

fn message(index: u32, attributes: Vec<LinkAttribute>) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.interface_family = AddressFamily::Bridge;
    message.header.index = index;
    message.attributes = attributes;
    message
}

impl Request<'_> {
    /// Changes the port of a bridge.
    #[must_use]
    pub fn set_port(port: impl Into<LinkRef>, change: &PortChange) -> Self {
        let port = port.into();
        let operation = format!("set port {port}: {}", change.describe());
        Self::new(operation, RouteNetlinkMessage::SetLink(message(port.index, change.attributes())), 0)
    }

    /// Takes a port out of these VLANs, as far as it is in them.
    #[must_use]
    pub fn del_port_vlans(port: impl Into<LinkRef>, ids: RangeInclusive<u16>) -> Self {
        let port = port.into();
        let vlans = PortVlan::tagged(ids);
        let operation = format!("take port {port} out of {}", vlans.describe());
        let attributes = vec![LinkAttribute::AfSpecBridge(vlans.entries())];
        Self::new(operation, RouteNetlinkMessage::DelLink(message(port.index, attributes)), 0)
    }
}

impl Route {
    /// The VLANs of every port, and of bridges themselves, by index of the link; those that are in none may be absent.
    /// The kernel has no way to ask for one port.
    pub fn port_vlans(&mut self) -> Result<BTreeMap<u32, Vec<PortVlan>>, NetlinkError> {
        let operation = "list the VLANs of bridge ports";
        let question = message(0, vec![LinkAttribute::ExtMask(vec![LinkExtentMask::Brvlan])]);
        let payloads = self.exchange.dump(operation, &RouteNetlinkMessage::GetLink(question))?;
        let vlans: Option<BTreeMap<_, _>> = payloads.iter().map(|payload| parse_vlans(payload)).collect();
        vlans.ok_or_else(|| unreadable(operation))
    }
}

fn parse_vlans(payload: &[u8]) -> Option<(u32, Vec<PortVlan>)> {
    let index = u32_of(payload.get(4..8)?)?;
    let list = nested(payload.get(HEADER..)?, ifla::AF_SPEC).unwrap_or_default();
    let vlan = |(kind, value): (u16, &[u8])| {
        let (flags, id) = (u16_of(value)?, u16_of(value.get(2..)?)?);
        let (pvid, untagged) = (flags & ifla::VLAN_PVID != 0, flags & ifla::VLAN_UNTAGGED != 0);
        (kind == ifla::BRIDGE_VLAN_INFO).then_some(PortVlan { ids: id..=id, pvid, untagged })
    };
    Some((index, attributes(list).filter_map(vlan).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::recording::{Answer, Recording};

    #[test]
    fn vlans_are_read_for_each_port() {
        // struct ifinfomsg, then IFLA_AF_SPEC with VLAN 1 (PVID, untagged) and 100.
        let mut payload = vec![7, 0, 1, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        payload.extend([20, 0, 26, 0, 8, 0, 2, 0, 6, 0, 1, 0, 8, 0, 2, 0, 0, 0, 100, 0]);
        let recording = Recording::default();
        recording.answer(Answer::Messages(vec![(16, payload), (16, vec![0; HEADER])]));
        let vlans = Route::over(Box::new(recording)).port_vlans().unwrap();
        assert_eq!(vlans[&9], [PortVlan::access(1), PortVlan::tagged(100..=100)]);
        assert!(vlans[&0].is_empty());
    }

    #[test]
    fn texts_say_what_is_changed() {
        let change = PortChange {
            isolated: Some(true),
            hairpin: None,
            vlans: vec![PortVlan::access(5), PortVlan::tagged(7..=9)],
        };
        let request = Request::set_port(4, &change);
        assert_eq!(request.operation(), "set port link number 4: isolated on, VLAN 5 untagged, VLANs 7 to 9");
        assert_eq!(Request::del_port_vlans(4, 1..=1).operation(), "take port link number 4 out of VLAN 1");
    }
}
