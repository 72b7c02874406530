//! Reading policy files, JSON or YAML.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fs, io};

use thiserror::Error;

use super::{
    MacPrefix, Pattern, PfSelector, Policy, Section, VfDriver, VfRange, VfRanges, VfSettings, WantedMode,
    mac_prefix, vf_ranges,
};
use crate::document::{self, Invalid, Node, Place, Report, SyntaxError};
use crate::pci::PciAddress;

/// Keys of a section.
///
/// Keys:
/// - `name`: For messages.
/// - `nodes`: Names of nodes, with `*` and `?`; without it every node. A node's name is `--node-name`, else its host name.
/// - `labels`: An object: labels that the node must have (`--label`), with their values.
/// - `pfNames`: PFs by network device, alternative names too. One of this and the next three is needed; a PF must be in each
///   list that is given.
/// - `pciAddresses`: PFs by address. A PF that carries the host's traffic is changed only when it is named so.
/// - `vendors`: Vendor identifiers of PFs, such as 8086.
/// - `devices`: Device identifiers of PFs, such as 1572.
/// - `numVfs`: How many VFs; of an externally managed PF the least that there must be. Absent: as it is.
/// - `externallyManaged`: Somebody else makes the VFs; their number and the PF's own settings are not changed. By default
///   false.
/// - `mtu`: Bytes, 68 to 65535: of the PF, where it is only ever raised; in `vfs` of the VF's network device.
/// - `up`: Whether the PF is switched on; by default true.
/// - `eSwitchMode`: `legacy` or `switchdev`: what the mode must be. It is checked, not changed.
/// - `macPrefix`: Administrative addresses of VFs: this prefix, the PF's last bytes, the VF's index; the same at every boot.
/// - `driver`: Of VFs that no range says otherwise of: `default` (the kernel's), `vfio-pci`, `igb_uio`, `uio_pci_generic`.
///   Absent: a driver that is bound stays.
/// - `trust`: Of VFs that no range says otherwise of; absent: as it is.
/// - `spoofCheck`: Of VFs that no range says otherwise of; absent: as it is.
/// - `vfMtu`: Bytes, of VFs' network devices that no range says otherwise of.
/// - `vfs`: A list of objects with `range`, and `driver`, `trust`, `spoofCheck`, `mtu` for the VFs in it.
/// - `range`: In `vfs`: indexes of VFs, such as `0-3,5`. No VF may be in two ranges.
/// - `noiommu`: VFIO may be used without an IOMMU, and so without protection of the node's memory. By default false.
/// - `networkManager`: `unmanaged`: a udev rule tells NetworkManager to leave the VFs alone. By default `managed`.
/// - `vfNames`: `kernel`: a udev rule keeps udev from renaming the VFs. By default `udev`.
const SECTION_KEYS: &[&str] = &[
    "name",
    "nodes",
    "labels",
    "pfNames",
    "pciAddresses",
    "vendors",
    "devices",
    "numVfs",
    "externallyManaged",
    "mtu",
    "up",
    "eSwitchMode",
    "macPrefix",
    "driver",
    "trust",
    "spoofCheck",
    "vfMtu",
    "vfs",
    "noiommu",
    "networkManager",
    "vfNames",
];

const RANGE_KEYS: &[&str] = &["range", "driver", "trust", "spoofCheck", "mtu"];

const DRIVERS: &[(&str, VfDriver)] = &[
    ("default", VfDriver::Kernel),
    ("vfio-pci", VfDriver::VfioPci),
    ("igb_uio", VfDriver::IgbUio),
    ("uio_pci_generic", VfDriver::UioPciGeneric),
];

/// The bounds that the kernel has for Ethernet (RFC 791's least, and the 16 bits of IP's total length).
const MTUS: std::ops::RangeInclusive<u32> = 68..=65535;
/// The width of `NumVFs` in the SR-IOV capability.
const NUMBERS: std::ops::RangeInclusive<u32> = 0..=65535;

/// A policy that can be used, and what is odd about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadedPolicy {
    /// The policy.
    pub policy: Policy,
    /// For people: each names the file, the section and the key.
    pub warnings: Vec<String>,
}

/// Why a policy cannot be used.
#[derive(Debug, Error)]
pub enum PolicyError {
    /// The file cannot be read.
    #[error("cannot read the policy {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is neither JSON nor YAML.
    #[error("{path}")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where it ceases to be.
        source: SyntaxError,
    },
    /// The file says something that cannot be meant.
    #[error(transparent)]
    Invalid(#[from] Invalid),
}

/// Reads a policy file.
///
/// # Errors
/// The file cannot be read or used.
pub fn load(path: &Path) -> Result<LoadedPolicy, PolicyError> {
    let text =
        fs::read_to_string(path).map_err(|source| PolicyError::Read { path: path.to_owned(), source })?;
    parse(&text, path)
}

/// Reads a policy from the text of the file `path`.
///
/// # Errors
/// The text is neither JSON nor YAML, or says something that cannot be meant.
pub fn parse(text: &str, path: &Path) -> Result<LoadedPolicy, PolicyError> {
    // JSON that is only YAML is as good here: nobody but us reads the file.
    let (root, _) =
        document::parse(text).map_err(|source| PolicyError::Syntax { path: path.to_owned(), source })?;
    let mut report = Report::default();
    let policy = read(&root, &mut report);
    Ok(LoadedPolicy { policy, warnings: report.finish(path)? })
}

fn read(root: &Node, report: &mut Report) -> Policy {
    let top = Place::top();
    let fields = document::fields(root, &["sections"], &top, report);
    let place = top.key("sections");
    let entries =
        fields.get("sections").map(|value| document::list(value, &place, report)).unwrap_or_default();
    if entries.is_empty() && report.problems.is_empty() {
        report.problem(&place, "no section", "a list with at least one section");
    }
    let sections = entries.iter().enumerate().map(|(index, value)| section(value, index, report)).collect();
    Policy { sections }
}

fn section(value: &Node, index: usize, report: &mut Report) -> Section {
    let name = name_of(value);
    let place = Place::entry("sections", index, name);
    let fields = document::fields(value, SECTION_KEYS, &place, report);
    let is_object = value.as_map().is_some();
    let mut fields = Fields { fields, place, report };
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let ids = "four hexadecimal digits, such as 8086";
    let addresses = "PCI addresses of PFs, such as 0000:3b:00.0";
    let section = Section {
        name: name.map_or_else(|| format!("sections[{index}]"), str::to_owned),
        nodes: fields
            .parsed("nodes", "node names, with * and ? as placeholders", |name| text(name).map(Pattern::new)),
        labels: fields.labels(),
        pfs: PfSelector {
            pf_names: fields.parsed("pfNames", "names of network devices", text),
            pci_addresses: fields.parsed("pciAddresses", addresses, |text| text.parse::<PciAddress>().ok()),
            vendors: fields.parsed("vendors", ids, |text| text.parse().ok()),
            devices: fields.parsed("devices", ids, |text| text.parse().ok()),
        },
        num_vfs: fields.number("numVfs", &NUMBERS),
        externally_managed: fields.boolean("externallyManaged").unwrap_or(false),
        mtu: fields.number("mtu", &MTUS),
        up: fields.boolean("up").unwrap_or(true),
        eswitch_mode: fields
            .one_of("eSwitchMode", &[("legacy", WantedMode::Legacy), ("switchdev", WantedMode::Switchdev)]),
        mac_prefix: fields.text("macPrefix", mac_prefix::GRAMMAR, MacPrefix::parse),
        defaults: fields.settings("vfMtu"),
        ranges: fields.ranges(),
        noiommu: fields.boolean("noiommu").unwrap_or(false),
        unmanaged: fields
            .one_of("networkManager", &[("managed", false), ("unmanaged", true)])
            .unwrap_or(false),
        kernel_names: fields.one_of("vfNames", &[("udev", false), ("kernel", true)]).unwrap_or(false),
    };
    if is_object {
        check_section(&section, &mut fields);
    }
    section
}

fn check_section(section: &Section, fields: &mut Fields<'_>) {
    let selects = ["pfNames", "pciAddresses", "vendors", "devices"];
    let is_empty = |list: &&Node| matches!(list, Node::List(items) if items.is_empty());
    // A list that was refused is reported already.
    if !selects.iter().any(|key| fields.fields.get(key).is_some_and(|list| !is_empty(list))) {
        let allowed =
            "at least one of pfNames, pciAddresses, vendors, devices: without, every PF would be changed";
        fields.report.problem(&fields.place, "no PF", allowed);
    }
    if section.externally_managed && section.num_vfs == Some(0) {
        let allowed = "the least number of VFs that there must be, 1 or more, for an externallyManaged PF";
        fields.report.problem(&fields.place.key("numVfs"), "0", allowed);
    }
    let place = fields.place.key("vfs");
    for (index, range) in section.ranges.iter().enumerate() {
        let earlier = section
            .ranges
            .iter()
            .take(index)
            .position(|other| other.indexes.common(&range.indexes).is_some());
        if let Some(earlier) = earlier {
            let found = format!("a VF that vfs[{earlier}] has too");
            fields.report.problem(&place.index(index).key("range"), found, "each VF in one range");
        }
        let highest = range.indexes.highest();
        if let (Some(number), Some(highest)) = (section.num_vfs, highest)
            && highest >= number
            && !section.externally_managed
        {
            let allowed = format!("indexes below numVfs, which is {number}");
            fields.report.problem(&place.index(index).key("range"), format!("VF {highest}"), allowed);
        }
    }
}

/// The name of a section, for messages about it.
fn name_of(value: &Node) -> Option<&str> {
    let (_, name) = value.as_map()?.iter().find(|(key, _)| key.eq_ignore_ascii_case("name"))?;
    name.as_text()
}

/// The fields of a section or range that are given, and where problems with them go.
struct Fields<'a> {
    fields: BTreeMap<&'static str, &'a Node>,
    place: Place,
    report: &'a mut Report,
}

impl Fields<'_> {
    fn parsed<T>(&mut self, key: &str, allowed: &str, parse: impl Fn(&str) -> Option<T>) -> Vec<T> {
        let Some(value) = self.fields.get(key) else { return Vec::new() };
        document::parsed(value, &self.place.key(key), self.report, allowed, parse)
    }

    fn boolean(&mut self, key: &str) -> Option<bool> {
        let value = self.fields.get(key)?;
        Some(document::boolean(value, &self.place.key(key), self.report))
    }

    fn number(&mut self, key: &str, range: &std::ops::RangeInclusive<u32>) -> Option<u32> {
        let value = self.fields.get(key)?;
        let text = match value {
            Node::Number(text) | Node::Plain(text) => text.as_str(),
            _ => "",
        };
        let number = text.parse().ok().filter(|number| range.contains(number));
        if number.is_none() {
            let allowed = format!("a number from {} to {}", range.start(), range.end());
            self.report.problem(&self.place.key(key), document::describe(value), allowed);
        }
        number
    }

    fn text<T>(&mut self, key: &str, allowed: &str, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
        let value = self.fields.get(key)?;
        let text = match value {
            // One VF index is a number as well.
            Node::Number(text) => Some(text.as_str()),
            other => other.as_text(),
        };
        let parsed = text.and_then(parse);
        if parsed.is_none() {
            self.report.problem(&self.place.key(key), document::describe(value), allowed);
        }
        parsed
    }

    fn one_of<T: Copy>(&mut self, key: &str, values: &[(&str, T)]) -> Option<T> {
        let allowed = values.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
        self.text(key, &allowed, |text| {
            values.iter().find(|(name, _)| *name == text).map(|(_, value)| *value)
        })
    }

    fn settings(&mut self, mtu: &str) -> VfSettings {
        VfSettings {
            driver: self.one_of("driver", DRIVERS),
            trust: self.boolean("trust"),
            spoof_check: self.boolean("spoofCheck"),
            mtu: self.number(mtu, &MTUS),
        }
    }

    fn labels(&mut self) -> BTreeMap<String, String> {
        let Some(value) = self.fields.get("labels") else { return BTreeMap::new() };
        let place = self.place.key("labels");
        let Some(entries) = value.as_map() else {
            self.report.problem(&place, document::describe(value), "an object of labels and their values");
            return BTreeMap::new();
        };
        let mut labels = BTreeMap::new();
        for (key, value) in entries {
            if let Some(text) = document::string(value, &place.key(key), self.report) {
                labels.insert(key.clone(), text.to_owned());
            }
        }
        labels
    }

    fn ranges(&mut self) -> Vec<VfRange> {
        let Some(value) = self.fields.get("vfs") else { return Vec::new() };
        let place = self.place.key("vfs");
        let entries = document::list(value, &place, self.report).iter().enumerate();
        entries.filter_map(|(index, value)| range(value, place.index(index), self.report)).collect()
    }
}

fn range(value: &Node, place: Place, report: &mut Report) -> Option<VfRange> {
    let fields = document::fields(value, RANGE_KEYS, &place, report);
    if value.as_map().is_some() && !fields.contains_key("range") {
        report.problem(&place.key("range"), "nothing", vf_ranges::GRAMMAR);
    }
    let mut fields = Fields { fields, place, report };
    let settings = fields.settings("mtu");
    Some(VfRange { indexes: fields.text("range", vf_ranges::GRAMMAR, VfRanges::parse)?, settings })
}
