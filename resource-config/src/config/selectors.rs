//! Reading the selectors of a resource.

use std::collections::BTreeMap;

use super::functions::{self, Functions};
use super::values::{DeviceType, VdpaType};
use super::{Selectors, keys};
use crate::document::{self, Node, Place, Report};
use crate::pci::PciAddress;

/// `selectors`: an object, or a list of such; without any, every device of the type is taken, as documented upstream.
/// `device_type` is `None` where it could not be read.
pub(super) fn read(
    value: Option<&Node>,
    device_type: Option<DeviceType>,
    place: &Place,
    report: &mut Report,
) -> Vec<Selectors> {
    match value {
        None => vec![one(&Node::Map(Vec::new()), device_type, place, report)],
        Some(Node::List(list)) if list.is_empty() => {
            report.problem(place, "an empty list", "an object, or a list with at least one object");
            Vec::new()
        }
        Some(Node::List(list)) => list
            .iter()
            .enumerate()
            .map(|(index, value)| one(value, device_type, &place.index(index), report))
            .collect(),
        Some(value) => vec![one(value, device_type, place, report)],
    }
}

fn one(value: &Node, device_type: Option<DeviceType>, place: &Place, report: &mut Report) -> Selectors {
    let mut fields = document::fields(value, &keys::names(keys::SELECTORS), place, report);
    let needs_aux_types = device_type == Some(DeviceType::AuxNetDevice) && matches!(value, Node::Map(_));
    let lacks_aux_types = needs_aux_types && fields.get("auxTypes").is_none_or(|value| is_unset(value));
    if let Some(device_type) = device_type {
        let foreign = foreign(&mut fields, device_type, place, report);
        // Read all the same, for what is wrong with it.
        values(foreign, place, report);
    }
    let selectors = values(fields, place, report);
    if selectors.is_rdma && selectors.vdpa_type.is_some() {
        let found = "isRdma and vdpaType together";
        report.problem(place, found, "one of the two in an object; a list may have an object with each");
    }
    if lacks_aux_types {
        report.problem(&place.key("auxTypes"), "nothing", "[\"sf\"], which auxNetDevice needs");
    }
    selectors
}

type Values<'a> = BTreeMap<&'static str, &'a Node>;

fn values(values: Values<'_>, place: &Place, report: &mut Report) -> Selectors {
    let mut fields = Fields { fields: values, place, report };
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let ids = "four hexadecimal digits, such as \"8086\"";
    let addresses = "PCI addresses, such as \"0000:3b:02.1\"";
    let address = |text: &str| text.parse::<PciAddress>().ok();
    Selectors {
        vendors: fields.parsed("vendors", ids, |text| text.parse().ok()),
        devices: fields.parsed("devices", ids, |text| text.parse().ok()),
        drivers: fields.parsed("drivers", "names of drivers", text),
        pci_addresses: fields.parsed("pciAddresses", addresses, address),
        acpi_indexes: fields.parsed("acpiIndexes", "ACPI indexes as texts, such as \"101\"", text),
        pf_names: fields.pf_functions("pfNames", functions::netdev),
        root_devices: fields.pf_functions("rootDevices", address),
        link_types: fields.parsed("linkTypes", "link types, such as \"ether\"", text),
        ddp_profiles: fields.parsed("ddpProfiles", "names of DDP packages", text),
        p_keys: fields.parsed("pKeys", "partition keys, such as \"0x8001\"", |text| text.parse().ok()),
        is_rdma: fields.boolean("isRdma"),
        need_vhost_net: fields.boolean("needVhostNet"),
        vdpa_type: fields.vdpa_type(),
        aux_types: fields.parsed("auxTypes", "\"sf\"", |text| (text == "sf").then(|| text.to_owned())),
    }
}

/// Takes out selectors that devices of this type do not have: upstream passes over them too, without a word.
fn foreign<'a>(
    fields: &mut Values<'a>,
    device_type: DeviceType,
    place: &Place,
    report: &mut Report,
) -> Values<'a> {
    let mut taken = Values::new();
    for key in keys::SELECTORS.iter().filter(|key| !key.types.contains(&device_type)) {
        let Some(value) = fields.remove(key.name) else { continue };
        taken.insert(key.name, value);
        if !is_unset(value) {
            let types: Vec<&str> = key.types.iter().map(|kind| kind.as_str()).collect();
            let (of, wanted) = (device_type.as_str(), types.join(" or "));
            report.warning(&place.key(key.name), format!("ignored for deviceType {of}; it is for {wanted}"));
        }
    }
    taken
}

/// Whether a value says the same as leaving the key out; generators write these.
fn is_unset(value: &Node) -> bool {
    match value {
        Node::Null => true,
        Node::Bool(value) => !value,
        Node::Text(text) => text.is_empty(),
        Node::List(list) => list.is_empty(),
        Node::Number(_) | Node::Plain(_) | Node::Map(_) => false,
    }
}

struct Fields<'a> {
    fields: Values<'a>,
    place: &'a Place,
    report: &'a mut Report,
}

impl Fields<'_> {
    fn parsed<T>(&mut self, key: &str, allowed: &str, parse: impl Fn(&str) -> Option<T>) -> Vec<T> {
        let Some(value) = self.fields.get(key) else { return Vec::new() };
        document::parsed(value, &self.place.key(key), self.report, allowed, parse)
    }

    fn boolean(&mut self, key: &str) -> bool {
        let Some(value) = self.fields.get(key) else { return false };
        document::boolean(value, &self.place.key(key), self.report)
    }

    fn vdpa_type(&mut self) -> Option<VdpaType> {
        let value = self.fields.get("vdpaType").filter(|value| value.as_text() != Some(""))?;
        let found = VdpaType::ALL.iter().find(|kind| value.as_text() == Some(kind.as_str()));
        if found.is_none() {
            let allowed = "\"vhost\" or \"virtio\"";
            self.report.problem(&self.place.key("vdpaType"), document::describe(value), allowed);
        }
        found.copied()
    }

    /// A list of PFs with their functions; what is named twice is warned about.
    fn pf_functions<T: PartialEq>(&mut self, key: &str, pf: impl Fn(&str) -> Option<T>) -> Vec<Functions<T>> {
        let read = self.parsed(key, functions::GRAMMAR, |element| Functions::parse(element, &pf));
        for (index, functions) in read.iter().enumerate() {
            let before = read.iter().take(index);
            if let Some((other, twice)) =
                before.filter_map(|other| Some((other, other.overlap(functions)?))).next()
            {
                let text = format!("{:?} repeats {twice} of {:?}", functions.text(), other.text());
                self.report.warning(&self.place.key(key).index(index), text);
            } else if let Some(index_twice) = functions.repeated() {
                let text = format!("{:?} has {index_twice} more than once", functions.text());
                self.report.warning(&self.place.key(key).index(index), text);
            }
        }
        read
    }
}
