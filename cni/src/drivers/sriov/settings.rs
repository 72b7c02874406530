//! What a network asks of a VF: parsed, and turned into the change that the PF is to make.

use fairlead_kernel::{
    Link, Mac,
    route::{VfChange, VfLinkState, VfRate, VfState, VfVlan, VlanProtocol},
};

use serde::{Deserialize, Serialize};

use super::Request;
use crate::{
    config::Fields,
    protocol::error::{CniError, code},
};

/// Requested settings; what is absent is left as it is. `vlan: 0` asks for "no VLAN" and differs from an absent one.
///
/// Keys:
/// - `deviceID`: PCI address of the VF. Written by the agent for a network of a resource; needed otherwise.
/// - `vlan`: VLAN that the PF's switch puts the VF into, 0 to 4094; 0 takes a VLAN away.
/// - `vlanQoS`: Priority in that VLAN, 0 to 7; by default 0.
/// - `vlanProto`: `802.1q` (the default) or `802.1ad`.
/// - `mac`: Hardware address; see [every plugin](#every-plugin).
/// - `spoofchk`: Frames with another source address than the VF's are dropped.
/// - `trust`: The VF may do what affects others, such as promiscuous mode.
/// - `link_state`: `auto` (as the PF's), `enable` or `disable`.
/// - `min_tx_rate`: Least rate in Mbit/s; either rate alone means 0 for the other.
/// - `max_tx_rate`: Highest rate in Mbit/s; 0: unlimited.
/// - `mtu`: Bytes, of the VF's network device, at most the PF's; in user space only reported. Not upstream's.
/// - `promisc`: The VF's network device hears everything; needs trust. Not upstream's.
/// - `allmulti`: It hears all multicast; needs trust. Not upstream's.
/// - `guid`, `infinibandGUID`: Refused: a network of type `ib-sriov` is for them.
/// - `sriovCniDir`: Of a plugin that is called as `sriov`: where upstream's sriov-cni noted what it did; by default
///   `/var/lib/cni/sriov`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Settings {
    pub(super) vlan: Option<VfVlan>,
    pub(super) mac: Option<Mac>,
    pub(super) spoof_check: Option<bool>,
    pub(super) trust: Option<bool>,
    pub(super) link_state: Option<VfLinkState>,
    pub(super) rate: Option<VfRate>,
    /// Bytes.
    pub(super) mtu: Option<u32>,
    pub(super) listening: Listening,
}

/// What the VF's network device hears beyond its own frames. Most drivers do so for a trusted VF only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Listening {
    /// Everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) promisc: Option<bool>,
    /// All multicast.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) allmulti: Option<bool>,
}

impl Listening {
    /// The key that asks for more than the VF's own frames.
    pub(super) fn beyond_own(self) -> Option<&'static str> {
        match self {
            Self { promisc: Some(true), .. } => Some("promisc"),
            Self { allmulti: Some(true), .. } => Some("allmulti"),
            _ => None,
        }
    }

    /// As a link has it.
    pub(super) fn of(link: &Link) -> Self {
        Self { promisc: Some(link.promisc), allmulti: Some(link.allmulti) }
    }

    /// What is asked for and not so.
    pub(super) fn beyond(self, now: Self) -> Self {
        Self {
            promisc: self.promisc.filter(|on| now.promisc != Some(*on)),
            allmulti: self.allmulti.filter(|on| now.allmulti != Some(*on)),
        }
    }
}

impl Settings {
    pub(super) fn parse(request: Request<'_>) -> Result<Self, CniError> {
        let fields = request.fields;
        refuse_infiniband(request)?;
        Ok(Self {
            vlan: vlan(fields)?,
            mac: request.mac()?,
            spoof_check: switch(fields, "spoofchk")?,
            trust: switch(fields, "trust")?,
            link_state: link_state(fields)?,
            rate: rate(fields)?,
            mtu: fields.number("mtu")?.filter(|mtu| *mtu != 0),
            listening: Listening { promisc: fields.flag("promisc")?, allmulti: fields.flag("allmulti")? },
        })
    }

    /// The part of the request that differs from what the VF has.
    pub(super) fn change(&self, now: &VfState) -> VfChange {
        VfChange {
            mac: self.mac.filter(|mac| now.mac != Some(*mac)),
            vlan: self.vlan.filter(|vlan| vlan_of(now) != Some(*vlan)),
            rate: self.rate.filter(|rate| rate_of(now) != Some(*rate)),
            spoof_check: self.spoof_check.filter(|on| now.spoof_check != Some(*on)),
            link_state: self.link_state.filter(|state| now.link_state != Some(*state)),
            trust: self.trust.filter(|on| now.trust != Some(*on)),
        }
    }
}

/// The change that takes `change` back, to what the VF had; its hardware address is left out. What the kernel did not tell then
/// cannot be put back, and what is as it was is left alone: a driver that refused a setting refuses to have it put back, too.
pub(super) fn undo(change: &VfChange, before: &VfState, now: &VfState) -> VfChange {
    VfChange {
        mac: None,
        vlan: change.vlan.and(vlan_of(before)).filter(|vlan| vlan_of(now) != Some(*vlan)),
        rate: change.rate.and(rate_of(before)).filter(|rate| rate_of(now) != Some(*rate)),
        spoof_check: change.spoof_check.and(before.spoof_check).filter(|on| now.spoof_check != Some(*on)),
        link_state: change.link_state.and(before.link_state).filter(|state| now.link_state != Some(*state)),
        trust: change.trust.and(before.trust).filter(|on| now.trust != Some(*on)),
    }
}

/// The key that the driver refused: the kernel goes through a change in this order and stops at the first refusal.
pub(super) fn refused(change: &VfChange, now: &VfState) -> Option<&'static str> {
    let unmet = [
        ("mac", change.mac.is_some_and(|mac| now.mac != Some(mac))),
        ("vlan", change.vlan.is_some_and(|vlan| vlan_of(now) != Some(vlan))),
        ("min_tx_rate and max_tx_rate", change.rate.is_some_and(|rate| rate_of(now) != Some(rate))),
        ("spoofchk", change.spoof_check.is_some_and(|on| now.spoof_check != Some(on))),
        ("link_state", change.link_state.is_some_and(|state| now.link_state != Some(state))),
        ("trust", change.trust.is_some_and(|on| now.trust != Some(on))),
    ];
    unmet.into_iter().find(|(_, is_unmet)| *is_unmet).map(|(key, _)| key)
}

/// What of a change is not, or no longer, so. What the driver does not report cannot be told.
pub(super) fn differences(change: &VfChange, now: &VfState) -> Vec<String> {
    let mut found = Vec::new();
    compare(&mut found, "administrative hardware address", change.mac, now.mac);
    compare(&mut found, "vlan", change.vlan, vlan_of(now));
    compare(&mut found, "rates", change.rate, rate_of(now));
    compare(&mut found, "spoofchk", change.spoof_check, now.spoof_check);
    compare(&mut found, "link_state", change.link_state, now.link_state);
    compare(&mut found, "trust", change.trust, now.trust);
    found
}

fn compare<T: PartialEq + std::fmt::Debug>(
    found: &mut Vec<String>,
    what: &str,
    set: Option<T>,
    now: Option<T>,
) {
    if let (Some(set), Some(now)) = (set, now)
        && set != now
    {
        found.push(format!("{what} is {now:?}, it was set to {set:?}"));
    }
}

/// The VLAN that a VF has, in the form that it is set in.
fn vlan_of(state: &VfState) -> Option<VfVlan> {
    let proto = state.vlan_proto.unwrap_or(VlanProtocol::Dot1Q);
    state.vlan.map(|id| VfVlan { id, qos: state.qos.unwrap_or(0), proto })
}

fn rate_of(state: &VfState) -> Option<VfRate> {
    state.max_tx_rate.map(|max| VfRate { min: state.min_tx_rate.unwrap_or(0), max })
}

/// GUIDs are for upstream's ib-sriov; here they would be passed over in silence.
fn refuse_infiniband(request: Request<'_>) -> Result<(), CniError> {
    let runtime = request.fields.object("runtimeConfig")?.unwrap_or_default();
    let key = if runtime.get("infinibandGUID").is_some() {
        "infinibandGUID"
    } else if request.fields.get("guid").is_some() || request.args.get("guid").is_some() {
        "guid"
    } else {
        return Ok(());
    };
    Err(invalid(format!(
        "sriov: \"{key}\" is for InfiniBand: use a network of type ib-sriov, this one is for Ethernet"
    )))
}

fn invalid(text: String) -> CniError {
    CniError::new(code::INVALID_CONFIG, text)
}

/// `vlan`, `vlanQoS` and `vlanProto`, with upstream's rules: the latter two need the first, and other than default ones a
/// VLAN that is not 0.
fn vlan(fields: &Fields) -> Result<Option<VfVlan>, CniError> {
    let qos = fields.number("vlanQoS")?;
    let protocol = fields.text("vlanProto")?.filter(|text| !text.is_empty());
    let Some(id) = fields.number("vlan")? else {
        if qos.is_some() || protocol.is_some() {
            return Err(invalid("sriov: keys \"vlanQoS\" and \"vlanProto\" need key \"vlan\"".into()));
        }
        return Ok(None);
    };
    let id = u16::try_from(id)
        .ok()
        .filter(|id| *id <= 4094)
        .ok_or_else(|| invalid(format!("sriov: vlan {id} is not from 0 (no VLAN) to 4094")))?;
    let qos = qos.unwrap_or(0);
    let qos = u8::try_from(qos)
        .ok()
        .filter(|qos| *qos <= 7)
        .ok_or_else(|| invalid(format!("sriov: vlanQoS {qos} is not from 0 to 7")))?;
    let protocol = match protocol.map(str::to_ascii_lowercase).as_deref() {
        None | Some("802.1q") => VlanProtocol::Dot1Q,
        Some("802.1ad") => VlanProtocol::Dot1Ad,
        Some(other) => {
            return Err(invalid(format!("sriov: vlanProto \"{other}\" is neither 802.1q nor 802.1ad")));
        }
    };
    if id == 0 && (qos != 0 || protocol != VlanProtocol::Dot1Q) {
        return Err(invalid("sriov: vlan 0 takes no vlanQoS and no vlanProto 802.1ad".into()));
    }
    Ok(Some(VfVlan { id, qos, proto: protocol }))
}

/// `on` or `off`. Upstream takes anything but `on` for `off`, which hides typing errors.
fn switch(fields: &Fields, key: &str) -> Result<Option<bool>, CniError> {
    match fields.text(key)?.map(str::to_ascii_lowercase).as_deref() {
        None | Some("") => Ok(None),
        Some("on") => Ok(Some(true)),
        Some("off") => Ok(Some(false)),
        Some(other) => Err(invalid(format!("sriov: {key} \"{other}\" is neither on nor off"))),
    }
}

fn link_state(fields: &Fields) -> Result<Option<VfLinkState>, CniError> {
    match fields.text("link_state")?.map(str::to_ascii_lowercase).as_deref() {
        None | Some("") => Ok(None),
        Some("auto") => Ok(Some(VfLinkState::Auto)),
        Some("enable") => Ok(Some(VfLinkState::Enable)),
        Some("disable") => Ok(Some(VfLinkState::Disable)),
        Some(other) => {
            Err(invalid(format!("sriov: link_state \"{other}\" is none of auto, enable, disable")))
        }
    }
}

/// `min_tx_rate` and `max_tx_rate`: either alone means 0, unlimited, for the other (upstream).
fn rate(fields: &Fields) -> Result<Option<VfRate>, CniError> {
    let (min, max) = (fields.number("min_tx_rate")?, fields.number("max_tx_rate")?);
    if min.is_none() && max.is_none() {
        return Ok(None);
    }
    let (min, max) = (min.unwrap_or(0), max.unwrap_or(0));
    if max != 0 && min > max {
        return Err(invalid(format!("sriov: min_tx_rate {min} is above max_tx_rate {max}")));
    }
    Ok(Some(VfRate { min, max }))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::protocol::env::CniArgs;

    fn parse_with(fields: Value, args: &str) -> Result<Settings, CniError> {
        let fields: Fields = serde_json::from_value(fields).unwrap();
        let args = CniArgs::parse(args).unwrap();
        Settings::parse(Request { fields: &fields, interface: "net1", args: &args })
    }

    fn parse(fields: Value) -> Result<Settings, CniError> {
        parse_with(fields, "")
    }

    fn state() -> VfState {
        VfState {
            mac: Some("02:00:00:00:00:01".parse().unwrap()),
            vlan: Some(0),
            qos: Some(0),
            vlan_proto: Some(VlanProtocol::Dot1Q),
            spoof_check: Some(true),
            trust: Some(false),
            ..VfState::default()
        }
    }

    #[test]
    fn s6_nothing_asked_for_changes_nothing() {
        assert_eq!(parse(json!({})).unwrap().change(&state()), VfChange::default());
    }

    #[test]
    fn s3_s7_only_what_differs_is_changed_and_exactly_that_is_undone() {
        let asked = parse(json!({"vlan": 100, "vlanQoS": 3, "spoofchk": "on", "trust": "on"})).unwrap();
        let change = asked.change(&state());
        assert_eq!(change.vlan, Some(VfVlan { id: 100, qos: 3, proto: VlanProtocol::Dot1Q }));
        assert_eq!((change.spoof_check, change.trust, change.mac), (None, Some(true), None));
        let now = VfState { vlan: Some(100), qos: Some(3), trust: Some(true), ..state() };
        let back = undo(&change, &state(), &now);
        assert_eq!(back.vlan, Some(VfVlan { id: 0, qos: 0, proto: VlanProtocol::Dot1Q }));
        assert_eq!((back.spoof_check, back.trust, back.mac), (None, Some(false), None));
    }

    #[test]
    fn s8_what_a_driver_refused_is_named_and_not_put_back() {
        let asked = json!({"vlan": 100, "max_tx_rate": 50, "link_state": "enable", "trust": "on"});
        let before = VfState {
            link_state: Some(VfLinkState::Auto),
            max_tx_rate: Some(0),
            min_tx_rate: Some(0),
            ..state()
        };
        let change = parse(asked).unwrap().change(&before);
        // The VLAN and the rate were done when the link state was refused; trust comes after it.
        let now = VfState { vlan: Some(100), max_tx_rate: Some(50), ..before.clone() };
        assert_eq!(refused(&change, &now), Some("link_state"));
        let back = undo(&change, &before, &now);
        assert_eq!((back.vlan.map(|vlan| vlan.id), back.rate), (Some(0), Some(VfRate { min: 0, max: 0 })));
        assert_eq!((back.link_state, back.trust), (None, None));
    }

    #[test]
    fn s34_what_differs_from_what_was_set_is_named_and_nothing_else() {
        let change = parse(json!({"vlan": 100, "trust": "on"})).unwrap().change(&state());
        let mut now = VfState { vlan: Some(100), trust: Some(true), mac: None, ..state() };
        assert_eq!(differences(&change, &now), Vec::<String>::new());
        now.vlan = Some(7);
        now.trust = None;
        let found = differences(&change, &now);
        assert!(found.len() == 1 && found[0].starts_with("vlan is") && found[0].contains("100"), "{found:?}");
    }

    #[test]
    fn s6_vlan_0_is_a_request() {
        let tagged = VfState { vlan: Some(7), ..state() };
        let change = parse(json!({"vlan": 0})).unwrap().change(&tagged);
        assert_eq!(change.vlan.map(|vlan| vlan.id), Some(0));
        assert_eq!(parse(json!({"vlan": 0})).unwrap().change(&state()), VfChange::default());
    }

    #[test]
    fn s9_one_rate_alone_leaves_the_other_unlimited() {
        assert_eq!(parse(json!({"max_tx_rate": 100})).unwrap().rate, Some(VfRate { min: 0, max: 100 }));
        assert_eq!(parse(json!({"min_tx_rate": 5})).unwrap().rate, Some(VfRate { min: 5, max: 0 }));
    }

    #[test]
    fn s10_the_capability_beats_the_arguments_and_those_the_configuration() {
        let mac =
            |fields: Value, args: &str| parse_with(fields, args).unwrap().mac.map(|mac| mac.to_string());
        let (a, b, c) = ("02:00:00:00:00:0a", "02:00:00:00:00:0b", "02:00:00:00:00:0c");
        let arg = format!("MAC={b}");
        assert_eq!(mac(json!({"mac": c, "runtimeConfig": {"mac": a}}), &arg).as_deref(), Some(a));
        assert_eq!(mac(json!({"MAC": c}), &arg).as_deref(), Some(b));
        assert_eq!(mac(json!({"MAC": c}), "").as_deref(), Some(c));
    }

    #[test]
    fn s5_s7_s8_s10_bad_values_are_refused_with_key_and_what_is_allowed() {
        for (fields, words) in [
            (json!({"vlan": 4095}), ["4095", "4094"]),
            (json!({"vlanQoS": 1}), ["vlanQoS", "vlan"]),
            (json!({"vlan": 5, "vlanQoS": 8}), ["vlanQoS 8", "7"]),
            (json!({"vlan": 5, "vlanProto": "802.3"}), ["802.3", "802.1ad"]),
            (json!({"vlan": 0, "vlanProto": "802.1ad"}), ["vlan 0", "802.1ad"]),
            (json!({"trust": "yes"}), ["trust", "on nor off"]),
            (json!({"link_state": "up"}), ["link_state", "enable"]),
            (json!({"min_tx_rate": 9, "max_tx_rate": 5}), ["9", "5"]),
            (json!({"mac": "ff:ff:ff:ff:ff:ff"}), ["ff:ff:ff:ff:ff:ff", "unicast"]),
            (json!({"mac": "zz"}), ["zz", "mac"]),
            (json!({"vlan": -1}), ["vlan", "-1"]),
            (json!({"promisc": "sometimes"}), ["promisc", "true or false"]),
            (
                json!({"runtimeConfig": {"infinibandGUID": "c2:11:22:33:44:55:66:77"}}),
                ["infinibandGUID", "ib-sriov"],
            ),
            (
                json!({"mac": "80:00:00:48:fe:80:00:00:00:00:00:00:02:11:22:33:44:55:66:77"}),
                ["Ethernet", "80:00"],
            ),
            (json!({"spoofchk": true}), ["spoofchk", "text"]),
        ] {
            let error = parse(fields.clone()).unwrap_err();
            assert_eq!(error.code, code::INVALID_CONFIG, "{fields}");
            assert!(words.iter().all(|word| error.msg.contains(word)), "{fields}: {error}");
        }
    }
}
