//! Vendor and device names, for display only: nothing is decided by them.
//!
//! The system's list is the newer one where there is one; else the list that is compiled in (feature `pci-names`) serves.

use std::collections::HashMap;
use std::fs;
use std::sync::OnceLock;

use fairlead_resource_config::PciId;

/// Where distributions put the list: Debian's pciutils, and hwdata.
const SYSTEM_LISTS: [&str; 3] =
    ["/usr/share/misc/pci.ids", "/usr/share/hwdata/pci.ids", "/usr/share/pci.ids"];

/// What a device is called: its names where they are known, and its identifiers.
pub(crate) fn device(vendor: Option<PciId>, device: Option<PciId>) -> String {
    static SYSTEM: OnceLock<List> = OnceLock::new();
    let text = |id: Option<PciId>| id.map_or_else(|| "????".to_owned(), |id| id.to_string());
    let ids = format!("[{}:{}]", text(vendor), text(device));
    let known = vendor.and_then(|vendor| {
        let system = SYSTEM.get_or_init(List::of_system);
        better(system.name(vendor, device), || compiled_in(vendor, device))
    });
    known.map_or_else(|| ids.clone(), |name| format!("{} {ids}", name.text))
}

/// A name, and whether it is the device's or its vendor's alone.
#[derive(Debug, PartialEq, Eq)]
struct Name {
    text: String,
    is_complete: bool,
}

/// The first that is complete, else the first.
fn better(first: Option<Name>, second: impl FnOnce() -> Option<Name>) -> Option<Name> {
    match first {
        Some(name) if name.is_complete => Some(name),
        Some(name) => Some(second().filter(|second| second.is_complete).unwrap_or(name)),
        None => second(),
    }
}

/// The names in a `pci.ids` file.
#[derive(Debug, Default)]
struct List {
    vendors: HashMap<u16, String>,
    devices: HashMap<(u16, u16), String>,
}

impl List {
    fn of_system() -> Self {
        let text = SYSTEM_LISTS.iter().find_map(|path| fs::read(path).ok());
        text.map(|bytes| Self::parse(&String::from_utf8_lossy(&bytes))).unwrap_or_default()
    }

    /// Vendors stand at the beginning of a line, devices after a tab, subsystems after two; classes, with a `C` in front, end
    /// the part that matters here.
    fn parse(text: &str) -> Self {
        let mut list = Self::default();
        let mut vendor = None;
        for line in text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty()) {
            if line.starts_with("C ") {
                break;
            }
            match (line.strip_prefix('\t'), vendor) {
                (Some(rest), Some(vendor)) => {
                    if let Some((device, name)) = entry(rest) {
                        list.devices.insert((vendor, device), name);
                    }
                }
                (Some(_), None) => {}
                (None, _) => {
                    let found = entry(line);
                    vendor = found.as_ref().map(|(id, _)| *id);
                    list.vendors.extend(found);
                }
            }
        }
        list
    }

    fn name(&self, vendor: PciId, device: Option<PciId>) -> Option<Name> {
        let of_vendor = self.vendors.get(&vendor.0)?;
        let of_device = device.and_then(|device| self.devices.get(&(vendor.0, device.0)));
        Some(match of_device {
            Some(name) => Name { text: format!("{of_vendor} {name}"), is_complete: true },
            None => Name { text: of_vendor.clone(), is_complete: false },
        })
    }
}

/// Four digits, two blanks, a name.
fn entry(line: &str) -> Option<(u16, String)> {
    let (digits, name) = line.split_once("  ")?;
    let id = u16::from_str_radix(digits, 16).ok().filter(|_| digits.len() == 4)?;
    Some((id, name.trim().to_owned()))
}

#[cfg(feature = "pci-names")]
fn compiled_in(vendor: PciId, device: Option<PciId>) -> Option<Name> {
    use pci_ids::{Device, FromId, Vendor};
    let of_device = device.and_then(|device| Device::from_vid_pid(vendor.0, device.0));
    Some(match of_device {
        Some(device) => {
            Name { text: format!("{} {}", device.vendor().name(), device.name()), is_complete: true }
        }
        None => Name { text: Vendor::from_id(vendor.0)?.name().to_owned(), is_complete: false },
    })
}

#[cfg(not(feature = "pci-names"))]
fn compiled_in(_: PciId, _: Option<PciId>) -> Option<Name> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "# a remark\n\n15b3  Maker One\n\t101e  Virtual Function\n\t\t15b3 0058  A Board\n\t1021  Port\n\
        8086  Maker Two\ntorn\n\t9999  of nobody\nC 02  Network controller\n\t00  Ethernet controller\n";

    fn name(vendor: u16, device: u16) -> Option<String> {
        List::parse(LIST).name(PciId(vendor), Some(PciId(device))).map(|name| name.text)
    }

    #[test]
    fn a_list_is_read_up_to_the_classes() {
        assert_eq!(name(0x15b3, 0x1021).as_deref(), Some("Maker One Port"));
        assert_eq!(name(0x15b3, 0x101e).as_deref(), Some("Maker One Virtual Function"));
        assert_eq!(name(0x8086, 0x9999).as_deref(), Some("Maker Two"), "below a torn line");
        assert_eq!(name(0x0002, 0x0000), None);
    }

    #[test]
    fn a_vendor_alone_gives_way_to_a_complete_name() {
        let named = |text: &str, is_complete| Some(Name { text: text.to_owned(), is_complete });
        let text = |first, second| better(first, || second).map(|name| name.text);
        assert_eq!(text(named("a", false), named("b", true)).as_deref(), Some("b"));
        assert_eq!(text(named("a", true), named("b", true)).as_deref(), Some("a"));
        assert_eq!(text(named("a", false), None).as_deref(), Some("a"));
        assert_eq!(text(None, named("b", false)).as_deref(), Some("b"));
    }
}
