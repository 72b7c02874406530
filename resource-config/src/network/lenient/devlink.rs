//! `devlink`: as `devlink -j dev eswitch show` and `devlink -j dev info` print, together or apart, or by hand.

use serde_json::{Map, Value};

use super::{FILE, entries, field, text};
use crate::inventory::EswitchMode;
use crate::network::Network;
use crate::pci::PciAddress;

/// The version whose value is the name of a DDP package.
const DDP_PACKAGE: &str = "fw.app.name";

/// How deep answers may be nested in each other: `{"devlink": {"dev": {"pci/0000:03:00.0": ...}}}` has one level to spare.
const DEEPEST: usize = 4;

pub(super) fn read(value: &Value, network: &mut Network) {
    read_level(value, DEEPEST, network);
}

fn read_level(value: &Value, levels: usize, network: &mut Network) {
    for (key, value) in entries(value) {
        match key.and_then(address).or_else(|| named(value)) {
            Some(address) => device(address, value, network),
            None if levels > 0 => read_level(value, levels - 1, network),
            None => {}
        }
    }
}

/// `pci/0000:03:00.0`, or the address alone.
fn address(handle: &str) -> Option<PciAddress> {
    handle.strip_prefix("pci/").unwrap_or(handle).parse().ok()
}

/// The device of an entry that has it inside.
fn named(value: &Value) -> Option<PciAddress> {
    let object = value.as_object()?;
    address(&text(object, &["handle", "dev", "device", "name", "address", "pci"])?)
}

fn device(address: PciAddress, value: &Value, network: &mut Network) {
    // A handle with the mode alone.
    let mode = value.as_str().map(str::to_owned).or_else(|| value.as_object().and_then(mode));
    let told = network.devlink.entry(address).or_default();
    match mode.as_deref().map(str::to_lowercase).as_deref() {
        Some("legacy") => told.eswitch_mode = Some(EswitchMode::Legacy),
        Some("switchdev") => told.eswitch_mode = Some(EswitchMode::Switchdev),
        Some(other) => network.notes.push(format!(
            "{FILE}: devlink: {address}: found eswitch mode {other:?}, wanted legacy or switchdev"
        )),
        None => {}
    }
    if let Some(package) = package(value, DEEPEST) {
        told.ddp_profile = Some(package);
    }
}

fn mode(object: &Map<String, Value>) -> Option<String> {
    let inner = field(object, &["eswitch"]);
    text(object, &["mode", "eswitchmode", "eswitch"])
        .or_else(|| text(inner?.as_object()?, &["mode", "eswitchmode"]))
}

/// What runs; what is merely stored does not count.
fn package(value: &Value, levels: usize) -> Option<String> {
    let object = match value {
        Value::Object(object) => object,
        Value::Array(versions) => {
            return versions.iter().filter_map(Value::as_object).find_map(|version| {
                let is_it = text(version, &["name"]).as_deref() == Some(DDP_PACKAGE);
                is_it.then(|| text(version, &["value", "version"]))?
            });
        }
        _ => return None,
    };
    if let Some(package) = text(object, &[DDP_PACKAGE]) {
        return Some(package);
    }
    let levels = levels.checked_sub(1)?;
    ["running", "versions", "info"].iter().find_map(|name| package(field(object, &[name])?, levels))
}
