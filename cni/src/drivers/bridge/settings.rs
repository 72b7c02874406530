//! What a network asks of bridge and port, parsed.

use std::{collections::BTreeSet, ops::RangeInclusive};

use fairlead_kernel::{Mac, route::PortVlan};

use super::super::{Request, ipv6::Dad, veth};
use crate::{
    config::Fields,
    protocol::error::{CniError, code},
};

/// The highest VLAN number (IEEE 802.1Q; 4095 is reserved).
const HIGHEST: u16 = 4094;

/// The VLAN of frames without tag in a trunk, unless the network names another.
const NATIVE: u16 = 1;

/// Which VLANs the port is in. When nothing is asked for, those that the bridge gives new ports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Vlans {
    /// One of which the pod knows nothing.
    pub(super) native: Option<u16>,
    /// Others, with tags.
    pub(super) tagged: Vec<RangeInclusive<u16>>,
}

/// What is wanted, with upstream's defaults.
///
/// Keys:
/// - `bridge`: Name of the bridge, which is made when it is missing; by default `cni0`.
/// - `mac`: Hardware address of the pod's end; see [every plugin](#every-plugin).
/// - `hairpinMode`: What a pod sends may come back to it by the bridge; not with `promiscMode`.
/// - `promiscMode`: The bridge hears everything.
/// - `portIsolation`: Pods do not reach each other by the bridge.
/// - `vlan`: VLAN of frames without tag, 1 to 4094; 0 or absent: none.
/// - `vlanTrunk`: Tagged VLANs: objects with `id`, or `minID` and `maxID`.
/// - `id`, `minID`, `maxID`: In `vlanTrunk`: a VLAN, or the first and the last of several.
/// - `preserveDefaultVlan`: The port stays in the bridge's default VLAN, too.
/// - `isGateway`: The bridge has the gateways' addresses.
/// - `isDefaultGateway`: And the pod's default routes go there.
/// - `forceAddress`: Another address of the bridge in the gateway's network is replaced.
/// - `disableContainerInterface`: The pod's end stays down; not with `ipam`.
/// - `enabledad`: As `dad: wait`.
/// - `dad`: Without it, and without `enabledad`, duplicates are not looked for; see [every plugin](#every-plugin).
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Settings {
    pub(super) bridge: String,
    /// Bytes.
    pub(super) mtu: Option<u32>,
    pub(super) mac: Option<Mac>,
    pub(super) hairpin: bool,
    /// Of the bridge, not of the port.
    pub(super) promisc: bool,
    pub(super) isolated: bool,
    /// Key `vlan`.
    pub(super) vlan: Option<u16>,
    pub(super) vlans: Vlans,
    pub(super) keep_default_vlan: bool,
    /// The bridge has the gateways' addresses.
    pub(super) gateway: bool,
    /// And the pod's default routes go there.
    pub(super) default_gateway: bool,
    pub(super) force_address: bool,
    /// What is done about duplicates of the pod's IPv6 addresses; none where the network says it itself, or upstream does
    /// nothing about it.
    pub(super) dad: Option<Dad>,
    /// The network has addresses.
    pub(super) has_ipam: bool,
    /// The pod's end is left down.
    pub(super) leave_down: bool,
}

impl Settings {
    pub(super) fn parse(request: Request<'_>) -> Result<Self, CniError> {
        let fields = request.fields;
        let flag = |key: &str| Ok::<bool, CniError>(fields.flag(key)?.unwrap_or(false));
        let default_gateway = flag("isDefaultGateway")?;
        let name = fields.text("bridge")?.filter(|name| !name.is_empty());
        let vlan = vlan(fields)?;
        let settings = Self {
            bridge: name.unwrap_or("cni0").to_owned(),
            mtu: veth::mtu("bridge", request)?,
            mac: request.mac()?,
            hairpin: flag("hairpinMode")?,
            promisc: flag("promiscMode")?,
            isolated: flag("portIsolation")?,
            vlan,
            vlans: vlans(vlan, fields)?,
            keep_default_vlan: flag("preserveDefaultVlan")?,
            gateway: default_gateway || flag("isGateway")?,
            default_gateway,
            force_address: flag("forceAddress")?,
            dad: dad(request)?,
            has_ipam: request.has_ipam()?,
            leave_down: flag("disableContainerInterface")?,
        };
        settings.agree()?;
        Ok(settings)
    }

    /// What upstream's plugin refuses to do together.
    fn agree(&self) -> Result<(), CniError> {
        if self.hairpin && self.promisc {
            return Err(invalid("keys \"hairpinMode\" and \"promiscMode\" exclude each other"));
        }
        if self.leave_down && self.has_ipam {
            return Err(invalid(
                "key \"disableContainerInterface\" takes no \"ipam\": the interface stays down",
            ));
        }
        Ok(())
    }

    /// VLANs that the port is put into.
    pub(super) fn port_vlans(&self) -> Vec<PortVlan> {
        let native = self.vlans.native.map(PortVlan::access);
        native.into_iter().chain(self.vlans.tagged.iter().cloned().map(PortVlan::tagged)).collect()
    }

    /// Whether the network asks for VLANs.
    pub(super) fn has_vlans(&self) -> bool {
        self.vlans != Vlans::default()
    }

    /// The link of the host that is the gateway of a VLAN.
    pub(super) fn vlan_gateway(&self) -> Option<String> {
        let id = self.vlan.filter(|_| self.gateway && self.has_ipam)?;
        Some(format!("{}.{id}", self.bridge))
    }
}

/// Upstream's key `enabledad` has it wait for the kernel; without it the kernel does not look for duplicates of addresses that
/// an IPAM plugin gave.
fn dad(request: Request<'_>) -> Result<Option<Dad>, CniError> {
    let waits = request.fields.flag("enabledad")?.unwrap_or(false);
    let is_said = request.fields.get("dad").is_some() || !request.has_ipam()?;
    Ok((!is_said).then_some(if waits { Dad::Wait } else { Dad::Off }))
}

fn invalid(text: impl AsRef<str>) -> CniError {
    CniError::new(code::INVALID_CONFIG, format!("bridge: {}", text.as_ref()))
}

/// `vlan`: 0 is as absent.
fn vlan(fields: &Fields) -> Result<Option<u16>, CniError> {
    let id = fields.number("vlan")?.unwrap_or(0);
    let id = u16::try_from(id).ok().filter(|id| *id <= HIGHEST);
    let id = id.ok_or_else(|| invalid(format!("key \"vlan\" must be from 0 to {HIGHEST}")))?;
    Ok((id != 0).then_some(id))
}

/// `vlan`, `vlanTrunk`, or both: frames without tag belong to the one.
fn vlans(vlan: Option<u16>, fields: &Fields) -> Result<Vlans, CniError> {
    let mut ids = BTreeSet::new();
    for item in fields.objects("vlanTrunk")? {
        ids.extend(trunk_item(&item)?);
    }
    let native = vlan.or((!ids.is_empty()).then_some(NATIVE));
    ids.retain(|id| Some(*id) != native);
    Ok(Vlans { native, tagged: ranges(&ids) })
}

/// `{"minID": a, "maxID": b}`, `{"id": c}`, or both in one.
fn trunk_item(item: &Fields) -> Result<Vec<u16>, CniError> {
    let id = |key: &str| -> Result<Option<u16>, CniError> {
        let Some(number) = item.number(key)? else { return Ok(None) };
        let id = u16::try_from(number).ok().filter(|id| (1..=HIGHEST).contains(id));
        let text =
            || invalid(format!("key \"vlanTrunk\": \"{key}\" must be from 1 to {HIGHEST}, it is {number}"));
        id.map(Some).ok_or_else(text)
    };
    let mut ids: Vec<u16> = match (id("minID")?, id("maxID")?) {
        (Some(first), Some(last)) if first <= last => (first..=last).collect(),
        (Some(_), Some(_)) => return Err(invalid("key \"vlanTrunk\": \"minID\" is above \"maxID\"")),
        (None, None) => Vec::new(),
        _ => return Err(invalid("key \"vlanTrunk\": \"minID\" and \"maxID\" go together")),
    };
    ids.extend(id("id")?);
    Ok(ids)
}

/// Numbers as few ranges.
fn ranges(ids: &BTreeSet<u16>) -> Vec<RangeInclusive<u16>> {
    let mut ranges: Vec<RangeInclusive<u16>> = Vec::new();
    for id in ids {
        match ranges.last_mut() {
            Some(range) if *range.end() + 1 == *id => *range = *range.start()..=*id,
            _ => ranges.push(*id..=*id),
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::protocol::env::CniArgs;

    fn parse(config: Value) -> Result<Settings, CniError> {
        let fields: Fields = serde_json::from_value(config).unwrap();
        let args = CniArgs::parse("MAC=02:00:00:00:00:01").unwrap();
        Settings::parse(Request { fields: &fields, interface: "net1", args: &args })
    }

    #[test]
    fn defaults_are_upstreams() {
        let settings = parse(json!({})).unwrap();
        assert_eq!(
            (settings.bridge.as_str(), settings.mtu, &settings.vlans),
            ("cni0", None, &Vlans::default())
        );
        assert!(
            !settings.gateway && !settings.keep_default_vlan && settings.dad.is_none() && !settings.has_ipam
        );
        assert!(parse(json!({"IsDefaultGateway": true})).unwrap().gateway);
    }

    #[test]
    fn the_address_comes_from_the_runtime_before_arguments_before_the_environment() {
        let mac = |config| parse(config).unwrap().mac.unwrap().to_string();
        let cni = json!({"cni": {"mac": "02:00:00:00:00:02"}});
        assert_eq!(mac(json!({})), "02:00:00:00:00:01");
        assert_eq!(mac(json!({"args": cni})), "02:00:00:00:00:02");
        let runtime = json!({"mac": "02:00:00:00:00:03"});
        assert_eq!(mac(json!({"args": cni, "runtimeConfig": runtime})), "02:00:00:00:00:03");
    }

    #[test]
    fn a_trunk_is_as_few_ranges_as_possible() {
        let trunk = json!([{"minID": 100, "maxID": 102}, {"id": 103}, {"minID": 5, "maxID": 5, "id": 4094}]);
        let settings = parse(json!({"vlanTrunk": trunk})).unwrap();
        assert_eq!(settings.vlans.tagged, [5..=5, 100..=103, 4094..=4094]);
    }

    #[test]
    fn frames_without_tag_have_the_vlan_or_in_a_trunk_number_1() {
        let vlans = |config| parse(config).unwrap().vlans;
        let trunk = json!([{"minID": 1, "maxID": 4}]);
        assert_eq!(vlans(json!({"vlan": 7})), Vlans { native: Some(7), tagged: Vec::new() });
        assert_eq!(vlans(json!({"vlanTrunk": trunk})), Vlans { native: Some(1), tagged: vec![2..=4] });
        assert_eq!(
            vlans(json!({"vlan": 3, "vlanTrunk": trunk})),
            Vlans { native: Some(3), tagged: vec![1..=2, 4..=4] }
        );
    }

    #[test]
    fn only_one_vlan_with_addresses_has_a_gateway_of_its_own() {
        let ipam = json!({"type": "host-local"});
        let name = |config| parse(config).unwrap().vlan_gateway();
        assert_eq!(name(json!({"vlan": 7, "isGateway": true, "ipam": ipam})).as_deref(), Some("cni0.7"));
        assert_eq!(name(json!({"vlan": 7, "isGateway": true})), None);
        assert_eq!(name(json!({"isGateway": true, "ipam": ipam})), None);
        assert_eq!(name(json!({"vlanTrunk": [{"id": 7}], "isGateway": true, "ipam": ipam})), None);
    }

    #[test]
    fn duplicates_are_looked_for_as_the_network_says_or_else_as_upstream_does() {
        let dad =
            |key: &str, value: Value| parse(json!({"ipam": {"type": "static"}, key: value})).unwrap().dad;
        assert_eq!(dad("mtu", json!(0)), Some(Dad::Off));
        assert_eq!(dad("enabledad", json!(true)), Some(Dad::Wait));
        assert_eq!(dad("dad", json!("optimistic")), None);
    }

    #[test]
    fn mistakes_name_their_keys() {
        for (config, words) in [
            (json!({"vlan": 4095}), vec!["vlan", "4094"]),
            (json!({"vlan": -1}), vec!["vlan"]),
            (json!({"vlanTrunk": [{"id": 0}]}), vec!["vlanTrunk", "id"]),
            (json!({"vlanTrunk": [{"minID": 9, "maxID": 8}]}), vec!["minID", "above"]),
            (json!({"vlanTrunk": [{"maxID": 8}]}), vec!["minID", "maxID"]),
            (json!({"hairpinMode": true, "promiscMode": true}), vec!["hairpinMode", "promiscMode"]),
            (
                json!({"disableContainerInterface": true, "ipam": {"type": "static"}}),
                vec!["disableContainerInterface", "ipam"],
            ),
            (json!({"isGateway": 1}), vec!["isGateway"]),
            (json!({"mtu": "big"}), vec!["mtu"]),
            (json!({"mtu": 67}), vec!["mtu", "68"]),
        ] {
            let error = parse(config).unwrap_err();
            assert_eq!(error.code, code::INVALID_CONFIG);
            assert!(words.iter().all(|word| error.msg.contains(word)), "{error}");
        }
    }
}
