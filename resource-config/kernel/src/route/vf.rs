//! Settings of virtual functions, read and written through their PF.

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    LinkAttribute, LinkExtentMask, LinkMessage, LinkVfInfo, VfInfo, VfInfoLinkState, VfInfoMac, VfInfoRate,
    VfInfoSpoofCheck, VfInfoTrust, VfInfoVlan, VfVlanInfo,
};
use serde::{Deserialize, Serialize};

use super::link::{HEADER, unreadable};
use super::{LinkRef, Request, Route};
use crate::mac::Mac;
use crate::netlink::{Failure, NetlinkError, attributes, nested, u16_of, u32_at};

/// Kernel `include/uapi/linux/if_link.h`.
mod ifla {
    pub(super) const ADDRESS: u16 = 1;
    pub(super) const VFINFO_LIST: u16 = 22;
    pub(super) const VF_INFO: u16 = 1;
    pub(super) const VF_MAC: u16 = 1;
    pub(super) const VF_VLAN: u16 = 2;
    pub(super) const VF_SPOOFCHK: u16 = 4;
    pub(super) const VF_LINK_STATE: u16 = 5;
    pub(super) const VF_RATE: u16 = 6;
    pub(super) const VF_TRUST: u16 = 9;
    pub(super) const VF_VLAN_LIST: u16 = 12;
    pub(super) const VF_VLAN_INFO: u16 = 1;
}

/// What the kernel reports when the driver does not.
const NOT_REPORTED: u32 = u32::MAX;

/// A VF's settings as its PF's driver reports them. `None`: it does not.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct VfState {
    /// Its number on the PF.
    pub vf: u32,
    /// The administrative MAC; all zero when none is set (some drivers report the VF's own instead).
    pub mac: Option<Mac>,
    /// VLAN number, 0 for none.
    pub vlan: Option<u16>,
    /// VLAN priority, 0 to 7.
    pub qos: Option<u8>,
    /// Kind of VLAN tag.
    pub vlan_proto: Option<VlanProtocol>,
    /// Frames with a foreign source address are dropped.
    pub spoof_check: Option<bool>,
    /// The VF may do what affects others, such as listening to everything.
    pub trust: Option<bool>,
    /// How the VF's link follows the PF's.
    pub link_state: Option<VfLinkState>,
    /// Mbit/s, 0 for none.
    pub min_tx_rate: Option<u32>,
    /// Mbit/s, 0 for no limit.
    pub max_tx_rate: Option<u32>,
}

/// What shall be different about a VF. Only what is given is sent, all of it in one message.
///
/// The kernel goes through it in its own order (MAC, VLAN, rates, spoof check, link state, trust) and stops at the first
/// that the driver refuses, **with the earlier ones done**: read the state again before undoing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct VfChange {
    /// The administrative MAC. All zero hands the choice back to the VF, with drivers that can.
    pub mac: Option<Mac>,
    /// VLAN, priority and kind of tag go together.
    pub vlan: Option<VfVlan>,
    /// Both rates go together.
    pub rate: Option<VfRate>,
    /// Drop frames with a foreign source address.
    pub spoof_check: Option<bool>,
    /// How the VF's link follows the PF's.
    pub link_state: Option<VfLinkState>,
    /// Let the VF do what affects others.
    pub trust: Option<bool>,
}

/// A VLAN that the PF puts a VF into, unseen by the VF.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VfVlan {
    /// 1 to 4094; 0 for none.
    pub id: u16,
    /// Priority, 0 to 7.
    pub qos: u8,
    /// Kind of tag.
    pub proto: VlanProtocol,
}

/// Limits of what a VF may send, in Mbit/s.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VfRate {
    /// Guaranteed; 0 for nothing.
    pub min: u32,
    /// Allowed; 0 for no limit.
    pub max: u32,
}

/// Kinds of VLAN tags.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum VlanProtocol {
    /// The ordinary one, 0x8100.
    #[default]
    #[serde(rename = "802.1q")]
    Dot1Q,
    /// The provider's, 0x88a8.
    #[serde(rename = "802.1ad")]
    Dot1Ad,
}

/// How a VF's link follows the PF's (kernel `enum` of `IFLA_VF_LINK_STATE_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VfLinkState {
    /// Up when the PF's is.
    Auto,
    /// Always up: VFs of one PF reach each other without a cable.
    Enable,
    /// Always down.
    Disable,
}

impl VlanProtocol {
    pub(super) fn library(self) -> netlink_packet_route::link::VlanProtocol {
        match self {
            Self::Dot1Q => netlink_packet_route::link::VlanProtocol::Ieee8021Q,
            Self::Dot1Ad => netlink_packet_route::link::VlanProtocol::Ieee8021Ad,
        }
    }

    /// `ethertype` as in the tag.
    fn from_ethertype(ethertype: u16) -> Option<Self> {
        match ethertype {
            0x8100 => Some(Self::Dot1Q),
            0x88a8 => Some(Self::Dot1Ad),
            _ => None,
        }
    }
}

impl VfLinkState {
    fn from_number(number: u32) -> Option<Self> {
        match number {
            0 => Some(Self::Auto),
            1 => Some(Self::Enable),
            2 => Some(Self::Disable),
            _ => None,
        }
    }

    fn library(self) -> netlink_packet_route::link::VfLinkState {
        match self {
            Self::Auto => netlink_packet_route::link::VfLinkState::Auto,
            Self::Enable => netlink_packet_route::link::VfLinkState::Enable,
            Self::Disable => netlink_packet_route::link::VfLinkState::Disable,
        }
    }
}

impl VfState {
    /// Reads one `IFLA_VF_INFO`. `address_length`: the kernel always gives 32 bytes of MAC, the PF's own tells how many
    /// of them count.
    fn parse(info: &[u8], address_length: usize) -> Option<Self> {
        // Each of its attributes begins with the VF's number; the MAC is always there.
        let mut state = Self { vf: u32_at(nested(info, ifla::VF_MAC)?, 0)?, ..Self::default() };
        for (kind, value) in attributes(info) {
            let setting = u32_at(value, 1);
            let switch = setting.filter(|setting| *setting != NOT_REPORTED).map(|setting| setting != 0);
            match kind {
                ifla::VF_MAC => state.mac = value.get(4..4 + address_length).and_then(Mac::from_bytes),
                ifla::VF_VLAN => state.take_vlan(value),
                ifla::VF_VLAN_LIST => {
                    let Some(first) = nested(value, ifla::VF_VLAN_INFO) else { continue };
                    state.take_vlan(first);
                    let ethertype = first.get(12..).and_then(u16_of).map(u16::from_be);
                    state.vlan_proto = ethertype.and_then(VlanProtocol::from_ethertype);
                }
                ifla::VF_RATE => (state.min_tx_rate, state.max_tx_rate) = (setting, u32_at(value, 2)),
                ifla::VF_SPOOFCHK => state.spoof_check = switch,
                ifla::VF_TRUST => state.trust = switch,
                ifla::VF_LINK_STATE => state.link_state = setting.and_then(VfLinkState::from_number),
                _ => {}
            }
        }
        Some(state)
    }

    /// Both structures that carry a VLAN begin with VF, VLAN, priority.
    fn take_vlan(&mut self, value: &[u8]) {
        self.vlan = u32_at(value, 1).and_then(|vlan| u16::try_from(vlan).ok());
        self.qos = u32_at(value, 2).and_then(|qos| u8::try_from(qos).ok());
    }
}

impl VfChange {
    fn attributes(&self, vf: u32) -> Vec<VfInfo> {
        let mut attributes = Vec::new();
        attributes.extend(self.mac.map(|mac| VfInfo::Mac(VfInfoMac::new(vf, mac.as_bytes()))));
        attributes.extend(self.vlan.map(|vlan| vlan.attribute(vf)));
        attributes.extend(self.spoof_check.map(|on| VfInfo::SpoofCheck(VfInfoSpoofCheck::new(vf, on))));
        attributes.extend(
            self.link_state.map(|state| VfInfo::LinkState(VfInfoLinkState::new(vf, state.library()))),
        );
        attributes.extend(self.trust.map(|on| VfInfo::Trust(VfInfoTrust::new(vf, on))));
        attributes.extend(self.rate.map(|rate| VfInfo::Rate(VfInfoRate::new(vf, rate.min, rate.max))));
        attributes
    }

    /// The change in words, for error texts.
    fn describe(&self) -> String {
        let switch = |on: bool| if on { "on" } else { "off" };
        [
            self.mac.map(|mac| format!("MAC {mac}")),
            self.vlan.map(|vlan| format!("VLAN {} priority {} ({:?})", vlan.id, vlan.qos, vlan.proto)),
            self.rate.map(|rate| format!("rate {} to {} Mbit/s", rate.min, rate.max)),
            self.spoof_check.map(|on| format!("spoof check {}", switch(on))),
            self.link_state.map(|state| format!("link state {state:?}").to_lowercase()),
            self.trust.map(|on| format!("trust {}", switch(on))),
        ]
        .into_iter()
        .flatten()
        .collect::<Vec<_>>()
        .join(", ")
    }
}

impl VfVlan {
    /// The plain form where it suffices: older drivers know only that one.
    fn attribute(self, vf: u32) -> VfInfo {
        let (id, qos) = (u32::from(self.id), u32::from(self.qos));
        match self.proto {
            VlanProtocol::Dot1Q => VfInfo::Vlan(VfInfoVlan::new(vf, id, qos)),
            VlanProtocol::Dot1Ad => VfInfo::VlanList(vec![netlink_packet_route::link::VfVlan::Info(
                VfVlanInfo::new(vf, id, qos, self.proto.library()),
            )]),
        }
    }
}

impl Route {
    /// The settings of all VFs of a PF, by number. The kernel has no way to ask for one; with very many VFs (more than
    /// about 220) they do not fit its answer and it refuses with `EMSGSIZE`.
    pub fn vfs(&mut self, pf: impl Into<LinkRef>) -> Result<Vec<VfState>, NetlinkError> {
        let pf = pf.into();
        let operation = format!("read the VFs of {pf}");
        let mut question = LinkMessage::default();
        question.header.index = pf.index;
        question.attributes =
            vec![LinkAttribute::ExtMask(vec![LinkExtentMask::Vf, LinkExtentMask::SkipStats])];
        let payload = self.exchange.get(&operation, &RouteNetlinkMessage::GetLink(question))?;
        parse_vfs(&payload).ok_or_else(|| unreadable(&operation))
    }

    /// The settings of one VF; as costly as [`Route::vfs`].
    pub fn vf(&mut self, pf: impl Into<LinkRef>, vf: u32) -> Result<VfState, NetlinkError> {
        let pf = pf.into();
        let found = self.vfs(pf.clone())?.into_iter().find(|state| state.vf == vf);
        found.ok_or_else(|| NetlinkError::new(format!("read VF {vf} of {pf}"), Failure::NoSuchVf))
    }

    /// Changes the settings of a VF in one message.
    pub fn set_vf(&mut self, pf: impl Into<LinkRef>, vf: u32, change: &VfChange) -> Result<(), NetlinkError> {
        self.send(Request::set_vf(pf, vf, change))
    }
}

impl Request<'_> {
    /// See [`Route::set_vf`].
    #[must_use]
    pub fn set_vf(pf: impl Into<LinkRef>, vf: u32, change: &VfChange) -> Self {
        let pf = pf.into();
        let mut message = LinkMessage::default();
        message.header.index = pf.index;
        message.attributes = vec![LinkAttribute::VfInfoList(vec![LinkVfInfo(change.attributes(vf))])];
        let operation = format!("set VF {vf} of {pf}: {}", change.describe());
        Self::new(operation, RouteNetlinkMessage::NewLink(message), 0)
    }
}

fn parse_vfs(payload: &[u8]) -> Option<Vec<VfState>> {
    let link = payload.get(HEADER..)?;
    let address_length = nested(link, ifla::ADDRESS).map_or(6, <[u8]>::len);
    let list = nested(link, ifla::VFINFO_LIST).unwrap_or_default();
    let infos = attributes(list).filter(|(kind, _)| *kind == ifla::VF_INFO);
    let mut vfs: Vec<VfState> = infos.filter_map(|(_, info)| VfState::parse(info, address_length)).collect();
    vfs.sort_by_key(|state| state.vf);
    Some(vfs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::recording::{Answer, Recording};

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = u16::try_from(value.len() + 4).unwrap().to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn numbers(kind: u16, numbers: &[u32]) -> Vec<u8> {
        attribute(kind, &numbers.iter().flat_map(|number| number.to_ne_bytes()).collect::<Vec<u8>>())
    }

    /// A VF whose administrative MAC ends in its number, with these attributes besides.
    fn info(vf: u8, more: &[Vec<u8>]) -> Vec<u8> {
        let mut mac = u32::from(vf).to_ne_bytes().to_vec();
        mac.extend([2, 0, 0, 0, 0, vf]);
        mac.resize(36, 0xee);
        attribute(ifla::VF_INFO, &[attribute(ifla::VF_MAC, &mac), more.concat()].concat())
    }

    /// What reading a PF gives that reports these VFs.
    fn read(address_length: usize, infos: &[Vec<u8>]) -> Vec<VfState> {
        let mut payload = vec![0; HEADER];
        payload.extend(attribute(ifla::ADDRESS, &vec![2; address_length]));
        payload.extend(attribute(ifla::VFINFO_LIST, &infos.concat()));
        let recording = Recording::default();
        recording.answer(Answer::Messages(vec![(16, payload)]));
        Route::over(Box::new(recording)).vfs(2).unwrap()
    }

    #[test]
    fn every_setting_is_read() {
        let ethertype = u32::from(0x88a8_u16.to_be());
        let tag = numbers(ifla::VF_VLAN_INFO, &[1, 100, 5, ethertype]);
        let settings = [
            numbers(ifla::VF_VLAN, &[1, 100, 5]),
            attribute(ifla::VF_VLAN_LIST, &tag),
            numbers(ifla::VF_RATE, &[1, 100, 200]),
            numbers(ifla::VF_SPOOFCHK, &[1, 1]),
            numbers(ifla::VF_LINK_STATE, &[1, 2]),
            numbers(ifla::VF_TRUST, &[1, 0]),
        ];
        let expected = VfState {
            vf: 1,
            mac: Some([2, 0, 0, 0, 0, 1].into()),
            vlan: Some(100),
            qos: Some(5),
            vlan_proto: Some(VlanProtocol::Dot1Ad),
            spoof_check: Some(true),
            trust: Some(false),
            link_state: Some(VfLinkState::Disable),
            min_tx_rate: Some(100),
            max_tx_rate: Some(200),
        };
        assert_eq!(read(6, &[info(1, &settings)]), std::slice::from_ref(&expected));
        let json = serde_json::to_string(&expected).unwrap();
        assert_eq!(serde_json::from_str::<VfState>(&json).unwrap(), expected);
    }

    #[test]
    fn what_the_driver_does_not_report_is_none_and_not_off() {
        let settings =
            [numbers(ifla::VF_SPOOFCHK, &[0, NOT_REPORTED]), numbers(ifla::VF_TRUST, &[0, NOT_REPORTED])];
        let state = read(6, &[info(0, &settings)]).remove(0);
        assert_eq!(
            (state.spoof_check, state.trust, state.link_state, state.max_tx_rate),
            (None, None, None, None)
        );
    }

    #[test]
    fn infiniband_addresses_are_read_in_full_length() {
        assert_eq!(read(20, &[info(1, &[])])[0].mac.unwrap().as_bytes().len(), 20);
    }

    #[test]
    fn s31_many_virtual_functions_are_read_whatever_their_order() {
        let infos: Vec<Vec<u8>> = (0..200).rev().map(|vf| info(vf, &[])).collect();
        let states = read(6, &infos);
        assert!(states.iter().map(|state| state.vf).eq(0..200));
    }

    #[test]
    fn only_what_is_given_is_sent_and_named() {
        let change =
            VfChange { trust: Some(true), rate: Some(VfRate { min: 0, max: 50 }), ..VfChange::default() };
        let request = Request::set_vf(2, 7, &change);
        assert_eq!(request.operation(), "set VF 7 of link number 2: rate 0 to 50 Mbit/s, trust on");
        assert_eq!(change.attributes(7).len(), 2);
    }
}
