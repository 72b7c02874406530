//! Reading one entry of the resource list.

use std::collections::BTreeMap;

use super::name::InvalidName;
use super::{AdditionalInfo, DeviceType, Resource, ResourceName, keys, offer, selectors};
use crate::document::{self, Node, Place, Report};
use crate::pci::PciAddress;

/// Reads an entry; `None` when it has no usable name, which is reported.
pub(super) fn read(
    value: &Node,
    index: usize,
    default_prefix: &str,
    report: &mut Report,
) -> Option<(Place, Resource)> {
    let place = Place::entry("resourceList", index, name_of(value));
    let fields = document::fields(value, &keys::names(keys::RESOURCE), &place, report);
    let device_type = device_type(fields.get("deviceType").copied(), &place.key("deviceType"), report);
    let selectors = fields.get("selectors").copied();
    let resource = Resource {
        device_type: device_type.unwrap_or_default(),
        exclude_topology: fields
            .get("excludeTopology")
            .is_some_and(|value| document::boolean(value, &place.key("excludeTopology"), report)),
        selectors: selectors::read(selectors, device_type, &place.key("selectors"), report),
        additional_info: fields
            .get("additionalInfo")
            .map(|value| additional_info(value, &place.key("additionalInfo"), report))
            .unwrap_or_default(),
        offer: offer::read(&fields, &place, report),
        name: name(&fields, default_prefix, value, &place, report)?,
    };
    Some((place, resource))
}

/// The name of an entry, for messages about it.
fn name_of(value: &Node) -> Option<&str> {
    let (_, name) = value.as_map()?.iter().find(|(key, _)| key.eq_ignore_ascii_case("resourceName"))?;
    name.as_text()
}

fn name(
    fields: &BTreeMap<&str, &Node>,
    default_prefix: &str,
    entry: &Node,
    place: &Place,
    report: &mut Report,
) -> Option<ResourceName> {
    // What is no object has been reported.
    entry.as_map()?;
    let prefix = match fields.get("resourcePrefix") {
        // An empty one is upstream's "not given".
        Some(value) => document::string(value, &place.key("resourcePrefix"), report)?,
        None => "",
    };
    let prefix = if prefix.is_empty() { default_prefix } else { prefix };
    let Some(name) = fields.get("resourceName") else {
        report.problem(&place.key("resourceName"), "nothing", InvalidName::Name.allowed());
        return None;
    };
    let name = document::string(name, &place.key("resourceName"), report)?;
    let invalid = match ResourceName::new(prefix, name) {
        Ok(name) => return Some(name),
        Err(invalid) => invalid,
    };
    let (key, found) = match invalid {
        InvalidName::Prefix => ("resourcePrefix", prefix),
        InvalidName::Name => ("resourceName", name),
    };
    report.problem(&place.key(key), format!("{found:?}"), invalid.allowed());
    None
}

/// `None` for a type that does not exist, which is reported.
fn device_type(value: Option<&Node>, place: &Place, report: &mut Report) -> Option<DeviceType> {
    let Some(value) = value else { return Some(DeviceType::default()) };
    let text = value.as_text();
    // An empty one is upstream's "not given".
    if text.is_some_and(str::is_empty) {
        return Some(DeviceType::default());
    }
    let found = DeviceType::ALL.iter().find(|kind| text == Some(kind.as_str())).copied();
    if found.is_none() {
        let names: Vec<&str> = DeviceType::ALL.iter().map(|kind| kind.as_str()).collect();
        report.problem(place, document::describe(value), names.join(", "));
    }
    found
}

fn additional_info(value: &Node, place: &Place, report: &mut Report) -> AdditionalInfo {
    let mut info = AdditionalInfo::new();
    let Some(devices) = value.as_map() else {
        report.problem(place, document::describe(value), "an object of \"*\" or PCI addresses");
        return info;
    };
    for (device, value) in devices.iter().filter(|(_, value)| *value != Node::Null) {
        let place = place.key(&format!("{device:?}"));
        let Some(device) = info_key(device) else {
            report.problem(&place, format!("{device:?}"), "\"*\" or a PCI address");
            continue;
        };
        let Some(texts) = value.as_map() else {
            report.problem(&place, document::describe(value), "an object of texts");
            continue;
        };
        let of_device = info.entry(device).or_default();
        for (key, value) in texts.iter().filter(|(_, value)| *value != Node::Null) {
            if let Some(text) = document::string(value, &place.key(key), report) {
                of_device.insert(key.clone(), text.to_owned());
            }
        }
    }
    info
}

/// `*`, or a PCI address in its full form.
fn info_key(text: &str) -> Option<String> {
    if text == "*" {
        return Some(text.to_owned());
    }
    text.parse::<PciAddress>().ok().map(|address| address.to_string())
}
