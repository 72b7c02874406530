//! What upstream's sriov-cni (2.7 to 2.10) notes of the VFs that it hands over, so that its pods can be deleted by us.
//!
//! `<folder>/<container ID>-<interface>` is its configuration with what was there before; `<folder>/pci/<device>` holds the path
//! of the network namespace that has the device. Whether a VF was in user space is not noted: then there was no network device.

use std::{
    fs,
    path::{Path, PathBuf},
};

use fairlead_kernel::{
    Mac,
    route::{VfChange, VfLinkState, VfRate, VfState, VfVlan, VlanProtocol},
};
use serde_json::Value;

use super::{Listening, NetdevState, Original};
use crate::{
    config::Fields,
    disk::{failed, names, remove},
    protocol::error::{CniError, code},
};

/// Tag of 802.1ad as upstream writes it; anything else, 0 included, is 802.1q.
const DOT1AD: u32 = 0x88a8;

/// Upstream's folder.
#[derive(Clone, Debug)]
pub struct States {
    dir: PathBuf,
}

impl Default for States {
    fn default() -> Self {
        Self::new("/var/lib/cni/sriov")
    }
}

/// A file that tells of a VF.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    /// The file.
    pub file: PathBuf,
    /// What undoes it.
    pub original: Original,
}

impl States {
    /// The folder at this path.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// What is noted for a sandbox: for one of its interfaces, or for all. A file that makes no sense (upstream does not write
    /// them in one go) is said on standard error and passed over: it must not keep a pod from being deleted.
    ///
    /// # Errors
    /// Code 5 when the folder cannot be read.
    pub fn of_sandbox(&self, container_id: &str, interface: Option<&str>) -> Result<Vec<State>, CniError> {
        let start = format!("{container_id}-");
        let mut states = self.read(|name| name.starts_with(&start))?;
        states
            .retain(|state| interface.is_none_or(|wanted| state.file.ends_with(format!("{start}{wanted}"))));
        for state in &mut states {
            let name = state.file.file_name().unwrap_or_default().to_string_lossy();
            state.original.interface = name.strip_prefix(&start).unwrap_or_default().to_owned();
        }
        Ok(states)
    }

    /// What is noted of a device, by whomever.
    ///
    /// # Errors
    /// As [`States::of_sandbox`].
    pub fn of_device(&self, device: &str) -> Result<Vec<State>, CniError> {
        let mut states = self.read(|_| true)?;
        states.retain(|state| state.original.address.to_string() == device);
        Ok(states)
    }

    fn read(&self, is_wanted: impl Fn(&str) -> bool) -> Result<Vec<State>, CniError> {
        let mut states = Vec::new();
        for name in names(&self.dir)?.into_iter().filter(|name| is_wanted(name)) {
            let file = self.dir.join(name);
            if !file.is_file() {
                continue;
            }
            match read(&file) {
                Ok(original) => states.push(State { file, original }),
                Err(error) => eprintln!("fairlead: state of sriov-cni: {error}; it is left where it is"),
            }
        }
        Ok(states)
    }

    /// Path of the namespace that has a device, as far as upstream knows.
    pub fn holder(&self, device: &str) -> Option<PathBuf> {
        let text = fs::read_to_string(self.marker(device)).ok()?;
        Some(text.trim().into()).filter(|path: &PathBuf| path.is_absolute())
    }

    /// Removes the note of who has a device.
    ///
    /// # Errors
    /// Code 5, naming the file.
    pub fn release(&self, device: &str) -> Result<(), CniError> {
        remove(&self.marker(device))
    }

    fn marker(&self, device: &str) -> PathBuf {
        self.dir.join("pci").join(device)
    }
}

impl State {
    /// Removes the file: what it tells of is undone.
    ///
    /// # Errors
    /// Code 5, naming the file.
    pub fn remove(&self) -> Result<(), CniError> {
        remove(&self.file)
    }
}

fn read(file: &Path) -> Result<Original, CniError> {
    let bytes = fs::read(file).map_err(|error| failed("read", file, &error))?;
    let broken = |error: serde_json::Error| CniError::new(code::DECODING, error.to_string());
    let original = match serde_json::from_slice(&bytes).map_err(broken) {
        Ok(Value::Object(map)) => original(&Fields(map)),
        Ok(_) => Err(CniError::new(code::DECODING, "no JSON object")),
        Err(error) => Err(error),
    };
    original.map_err(|error| error.context(file.display()))
}

/// What was asked for and what was there before. Upstream puts back what was asked for only, except for the address.
fn original(state: &Fields) -> Result<Original, CniError> {
    let before = state.object("OrigVfState")?.unwrap_or_default();
    let device = state.text("deviceID")?.unwrap_or_default();
    let invalid = |error| CniError::new(code::DECODING, format!("deviceID \"{device}\": {error}"));
    Ok(Original {
        address: device.parse().map_err(invalid)?,
        interface: String::new(),
        change: asked(state)?,
        vf: vf_before(&before, state.number("VFID")?.unwrap_or(0))?,
        netdev: netdev_before(&before)?,
        listening: Listening::default(),
    })
}

fn asked(state: &Fields) -> Result<VfChange, CniError> {
    let is_on = |key: &str| -> Result<Option<bool>, CniError> {
        Ok(state.text(key)?.filter(|text| !text.is_empty()).map(|text| text == "on"))
    };
    let rates = (state.number("min_tx_rate")?, state.number("max_tx_rate")?);
    let link_state = match state.text("link_state")? {
        Some("auto") => Some(VfLinkState::Auto),
        Some("enable") => Some(VfLinkState::Enable),
        Some("disable") => Some(VfLinkState::Disable),
        _ => None,
    };
    let is_provider = state.text("vlanProto")?.is_some_and(|text| text.eq_ignore_ascii_case("802.1ad"));
    let proto = if is_provider { VlanProtocol::Dot1Ad } else { VlanProtocol::Dot1Q };
    Ok(VfChange {
        mac: mac(state, "MAC")?,
        vlan: short(state, "vlan")?.map(|id| VfVlan { id, qos: 0, proto }),
        rate: (rates != (None, None))
            .then(|| VfRate { min: rates.0.unwrap_or(0), max: rates.1.unwrap_or(0) }),
        spoof_check: is_on("spoofchk")?,
        link_state,
        trust: is_on("trust")?,
    })
}

fn vf_before(before: &Fields, vf: u32) -> Result<VfState, CniError> {
    let is_provider = before.number("VlanProto")? == Some(DOT1AD);
    Ok(VfState {
        vf,
        mac: mac(before, "AdminMAC")?,
        vlan: short(before, "Vlan")?,
        qos: short(before, "VlanQoS")?.and_then(|qos| u8::try_from(qos).ok()),
        vlan_proto: Some(if is_provider { VlanProtocol::Dot1Ad } else { VlanProtocol::Dot1Q }),
        spoof_check: before.flag("SpoofChk")?,
        trust: before.flag("Trust")?,
        link_state: before.number("LinkState")?.map(|number| match number {
            1 => VfLinkState::Enable,
            2 => VfLinkState::Disable,
            _ => VfLinkState::Auto,
        }),
        min_tx_rate: before.number("MinTxRate")?,
        max_tx_rate: before.number("MaxTxRate")?,
    })
}

fn netdev_before(before: &Fields) -> Result<Option<NetdevState>, CniError> {
    let Some(name) = before.text("HostIFName")?.filter(|name| !name.is_empty()) else { return Ok(None) };
    Ok(Some(NetdevState {
        name: name.to_owned(),
        altnames: None,
        mac: mac(before, "EffectiveMAC")?,
        mtu: before.number("MTU")?.unwrap_or(0),
        up: false,
        pinned: false,
        listening: Listening::default(),
    }))
}

fn mac(fields: &Fields, key: &str) -> Result<Option<Mac>, CniError> {
    let text = fields.text(key)?.filter(|text| !text.is_empty());
    let invalid = |error| CniError::new(code::DECODING, format!("{key}: {error}"));
    text.map(|text| text.parse().map_err(invalid)).transpose()
}

fn short(fields: &Fields, key: &str) -> Result<Option<u16>, CniError> {
    Ok(fields.number(key)?.and_then(|number| u16::try_from(number).ok()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// As upstream writes it for a VF with everything set.
    fn noted() -> Value {
        json!({
            "cniVersion": "1.0.0", "name": "net", "type": "sriov", "ipam": {"type": "host-local"}, "dns": {},
            "OrigVfState": {
                "HostIFName": "enp1s0v0", "SpoofChk": true, "Trust": false, "AdminMAC": "00:00:00:00:00:00",
                "EffectiveMAC": "4a:a4:42:eb:32:76", "Vlan": 0, "VlanQoS": 0, "VlanProto": 33024,
                "MinTxRate": 0, "MaxTxRate": 0, "LinkState": 0, "MTU": 1500
            },
            "Master": "enp1s0", "MAC": "02:00:00:00:00:05", "vlan": 100, "vlanQoS": 3, "vlanProto": "802.1q",
            "deviceID": "0000:01:10.0", "VFID": 0, "spoofchk": "off", "trust": "on", "runtimeConfig": {}
        })
    }

    fn folder(files: &[(&str, String)]) -> (tempfile::TempDir, States) {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("pci")).unwrap();
        for (name, text) in files {
            fs::write(dir.path().join(name), text).unwrap();
        }
        let states = States::new(dir.path());
        (dir, states)
    }

    #[test]
    fn s21_what_was_asked_for_and_what_was_before_is_read() {
        let (_dir, states) = folder(&[("c1-net1", noted().to_string()), ("c10-net1", noted().to_string())]);
        let found = states.of_sandbox("c1", None).unwrap();
        assert_eq!(found.len(), 1);
        let original = &found[0].original;
        assert_eq!(
            (original.address.to_string().as_str(), original.interface.as_str()),
            ("0000:01:10.0", "net1")
        );
        let change = &original.change;
        assert_eq!(
            (change.vlan.map(|vlan| vlan.id), change.rate, change.link_state),
            (Some(100), None, None)
        );
        assert_eq!((change.spoof_check, change.trust), (Some(false), Some(true)));
        assert_eq!(
            (original.vf.vlan, original.vf.spoof_check, original.vf.trust),
            (Some(0), Some(true), Some(false))
        );
        let netdev = original.netdev.as_ref().unwrap();
        assert_eq!((netdev.name.as_str(), netdev.mtu, &netdev.altnames), ("enp1s0v0", 1500, &None));
        assert_eq!(netdev.mac.unwrap().to_string(), "4a:a4:42:eb:32:76");
        assert!(states.of_sandbox("c1", Some("net2")).unwrap().is_empty());
        assert_eq!(states.of_device("0000:01:10.0").unwrap().len(), 2);
    }

    #[test]
    fn s21_without_a_name_in_the_host_the_device_was_in_user_space() {
        let mut state = noted();
        state["OrigVfState"]["HostIFName"] = json!("");
        let (_dir, states) = folder(&[("c1-net1", state.to_string())]);
        assert_eq!(states.of_sandbox("c1", None).unwrap()[0].original.netdev, None);
    }

    #[test]
    fn a_torn_or_foreign_file_is_passed_over() {
        let torn = noted().to_string()[..50].to_owned();
        let (_dir, states) = folder(&[("c1-net1", torn), ("c1-net2", "[]".into()), ("c1-net3", "{}".into())]);
        assert!(states.of_sandbox("c1", None).unwrap().is_empty());
        assert!(States::new("/nonexistent").of_sandbox("c1", None).unwrap().is_empty());
    }

    #[test]
    fn who_has_a_device_is_read_and_forgotten() {
        let (_dir, states) = folder(&[("pci/0000:01:10.0", "/var/run/netns/a\n".into())]);
        assert_eq!(states.holder("0000:01:10.0"), Some("/var/run/netns/a".into()));
        states.release("0000:01:10.0").unwrap();
        states.release("0000:01:10.0").unwrap();
        assert_eq!(states.holder("0000:01:10.0"), None);
    }
}
