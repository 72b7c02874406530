//! What is different between two inventories, for people.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;

use super::settled::host_traffic;
use crate::inventory::{AuxDevice, Function, Inventory, Netdev, Role};

/// What became of one device, or of the node as such.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    /// The PCI address or the name of the device; `node` for what belongs to none.
    pub device: String,
    /// What became of it.
    pub change: ChangeKind,
    /// For a new device what it is, for a changed one what it was and is now.
    pub details: Vec<String>,
}

/// What became of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum ChangeKind {
    /// It was not there before.
    Added,
    /// It is no longer there.
    Removed,
    /// Something about it is different.
    Changed,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = match self.change {
            ChangeKind::Added => '+',
            ChangeKind::Removed => '-',
            ChangeKind::Changed => '~',
        };
        let separator = if self.details.is_empty() { "" } else { "  " };
        write!(f, "{sign} {}{separator}{}", self.device, self.details.join(", "))
    }
}

/// Everything that is different, by device.
#[must_use]
pub fn changes(before: &Inventory, now: &Inventory) -> Vec<Change> {
    let (old, new) = (described(before), described(now));
    let devices: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    devices.into_iter().filter_map(|device| change(device, old.get(device), new.get(device))).collect()
}

/// What can be said of a device, each with the word for it, the most wanted first. Values that are empty are not worth a word.
type Facts = Vec<(&'static str, String)>;

fn value<'a>(facts: &'a Facts, word: &str) -> Option<&'a str> {
    facts.iter().find(|(found, _)| *found == word).map(|(_, value)| value.as_str())
}

fn change(device: &str, before: Option<&Facts>, now: Option<&Facts>) -> Option<Change> {
    let device = device.to_owned();
    let (before, now) = match (before, now) {
        (None, Some(now)) => {
            let details = now.iter().map(|(word, value)| format!("{word} {value}")).collect();
            return Some(Change { device, change: ChangeKind::Added, details });
        }
        (Some(_), None) => {
            return Some(Change { device, change: ChangeKind::Removed, details: Vec::new() });
        }
        (Some(before), Some(now)) => (before, now),
        (None, None) => return None,
    };
    let gone = before.iter().filter(|(word, _)| value(now, word).is_none());
    let details: Vec<String> = now
        .iter()
        .chain(gone)
        .map(|(word, _)| (word, value(before, word), value(now, word)))
        .filter(|(_, before, now)| before != now)
        .map(|(word, before, now)| {
            format!("{word} {} -> {}", before.unwrap_or("none"), now.unwrap_or("none"))
        })
        .collect();
    (!details.is_empty()).then_some(Change { device, change: ChangeKind::Changed, details })
}

fn described(inventory: &Inventory) -> BTreeMap<String, Facts> {
    let functions = inventory
        .functions
        .iter()
        .map(|function| (function.address.to_string(), of_function(inventory, function)));
    let aux = inventory.aux_devices.iter().map(|device| (device.name.clone(), of_aux(device)));
    let node = [
        ("host traffic", host_traffic(inventory).into_iter().collect::<Vec<_>>().join(" and ")),
        ("notes", inventory.notes.join("; ")),
    ];
    functions.chain(aux).chain([("node".to_owned(), worth_saying(node))]).collect()
}

fn worth_saying<const N: usize>(facts: [(&'static str, String); N]) -> Facts {
    facts.into_iter().filter(|(_, value)| !value.is_empty()).collect()
}

fn of_function(inventory: &Inventory, function: &Function) -> Facts {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let number = |number: Option<u32>| number.map(|number| number.to_string()).unwrap_or_default();
    let (mut vfs, mut vf, mut eswitch, mut representor) = Default::default();
    match &function.role {
        Role::Pf(pf) => {
            vfs = format!("{} of {}", pf.vfs.len(), pf.total_vfs.map_or("?".to_owned(), |n| n.to_string()));
            eswitch = pf.eswitch_mode.map(|mode| format!("{mode:?}").to_lowercase()).unwrap_or_default();
        }
        Role::Vf(role) => {
            let index = role.index.map_or("?".to_owned(), |index| index.to_string());
            let pf = role.pf_netdev.clone().unwrap_or_else(|| role.pf_address.to_string());
            vf = format!("{index} of {pf}");
            representor = text(&role.representor);
        }
        Role::Plain => {}
    }
    let mut facts = worth_saying([
        ("VFs", vfs),
        ("eswitch mode", eswitch),
        ("VF", vf),
        ("driver", text(&function.driver)),
    ]);
    facts.extend(of_netdevs(&function.netdevs));
    facts.extend(worth_saying([
        ("representor", representor),
        ("driver_override", text(&function.driver_override)),
        ("vfio device", text(&function.vfio_cdev)),
        ("uio device", text(&function.uio)),
        ("RDMA", names(function.rdma.iter().map(|rdma| &rdma.name))),
        ("vDPA", names(function.vdpa.iter().map(|vdpa| &vdpa.name))),
        ("IOMMU group", function.iommu_group.map(|number| group(inventory, number)).unwrap_or_default()),
        ("NUMA node", number(function.numa_node)),
        ("DDP profile", text(&function.ddp_profile)),
        ("ACPI index", text(&function.acpi_index)),
        ("label", text(&function.label)),
        ("vendor", function.vendor.map(|id| id.to_string()).unwrap_or_default()),
        ("device", function.device.map(|id| id.to_string()).unwrap_or_default()),
        ("notes", function.notes.join("; ")),
    ]));
    facts
}

fn of_aux(device: &AuxDevice) -> Facts {
    let mut facts = worth_saying([
        ("kind", device.kind.clone()),
        ("number", device.sfnum.map(|number| number.to_string()).unwrap_or_default()),
        ("parent", device.parent.to_string()),
        ("driver", device.driver.clone().unwrap_or_default()),
        ("notes", device.notes.join("; ")),
        ("RDMA", names(device.rdma.iter().map(|rdma| &rdma.name))),
        ("vDPA", names(device.vdpa.iter().map(|vdpa| &vdpa.name))),
    ]);
    facts.extend(of_netdevs(&device.netdevs));
    facts
}

fn of_netdevs(netdevs: &[Netdev]) -> Facts {
    let each = |value: &dyn Fn(&Netdev) -> Option<String>| names(netdevs.iter().filter_map(value));
    worth_saying([
        ("netdev", names(netdevs.iter().map(|netdev| &netdev.name))),
        ("altnames", each(&|netdev| (!netdev.altnames.is_empty()).then(|| netdev.altnames.join("/")))),
        ("state", each(&|netdev| netdev.operstate.clone())),
        ("MAC", each(&|netdev| netdev.mac.clone())),
        ("MTU", each(&|netdev| netdev.mtu.map(|mtu| mtu.to_string()))),
        ("link type", each(&|netdev| netdev.link_type.clone().filter(|kind| kind != "ether"))),
        ("master", each(&|netdev| netdev.master.clone())),
        ("stacked below", each(&|netdev| Some(names(&netdev.uppers)).filter(|names| !names.is_empty()))),
    ])
}

/// Its number, and who keeps VFIO from handing it out where the group is not the device's own.
fn group(inventory: &Inventory, number: u32) -> String {
    let group = inventory.iommu_groups.get(&number);
    let others = group.filter(|group| group.members.len() > 1);
    match others.map(|group| (group.members.len(), group.blocker())) {
        Some((count, Some(blocker))) => {
            format!("{number} with {count} members, not viable for {}", blocker.name)
        }
        Some((count, None)) => format!("{number} with {count} members"),
        None => number.to_string(),
    }
}

fn names(names: impl IntoIterator<Item = impl ToString>) -> String {
    names.into_iter().map(|name| name.to_string()).collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::Scanner;
    use crate::test_support::SysfsTree;

    fn scanned(tree: &SysfsTree) -> Inventory {
        Scanner::sysfs(tree.root().path()).scan().unwrap()
    }

    /// The lines that a step makes.
    fn lines(tree: &SysfsTree, step: impl FnOnce()) -> Vec<String> {
        let before = scanned(tree);
        step();
        changes(&before, &scanned(tree)).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_stays_the_same_is_no_change() {
        let tree = SysfsTree::igb(2);
        assert_eq!(lines(&tree, || {}), [""; 0]);
    }

    #[test]
    fn a_vf_comes_changes_and_goes() {
        let tree = SysfsTree::igb(1);
        let made = lines(&tree, || drop(tree.igb_vf(1)));
        assert_eq!(made[0], "~ 0000:01:00.0  VFs 1 of 7 -> 2 of 7");
        assert!(
            made[1].starts_with("+ 0000:01:10.2  VF 1 of ens1f0, driver igbvf, netdev ens1f0v1"),
            "{made:?}"
        );
        for part in ["state up", "MTU 1500", "IOMMU group 11"] {
            assert!(made[1].contains(part), "{made:?}");
        }
        let bound = lines(&tree, || tree.bind_vfio("0000:01:10.2"));
        assert_eq!(bound.len(), 1);
        for part in ["~ 0000:01:10.2", "driver igbvf -> vfio-pci", "netdev ens1f0v1 -> none"] {
            assert!(bound[0].contains(part), "{bound:?}");
        }
        let gone = lines(&tree, || {
            tree.remove("0000:01:10.2");
            tree.unset("0000:01:00.0", "virtfn1");
            tree.set("0000:01:00.0", "sriov_numvfs", "1");
        });
        assert_eq!(gone, ["~ 0000:01:00.0  VFs 2 of 7 -> 1 of 7", "- 0000:01:10.2"]);
    }

    #[test]
    fn what_the_host_uses_is_told() {
        let tree = SysfsTree::igb(0);
        let before = scanned(&tree);
        let mut now = before.clone();
        now.addressed_netdevs.insert("ens1f0".to_owned(), vec!["10.0.0.5/24".parse().unwrap()]);
        let told: Vec<String> = changes(&before, &now).iter().map(ToString::to_string).collect();
        assert_eq!(told, ["~ node  host traffic none -> 10.0.0.5/24 on ens1f0"]);
    }

    #[test]
    fn a_neighbour_that_makes_a_group_unusable_is_told() {
        let tree = SysfsTree::igb(2);
        tree.bind_vfio("0000:01:10.0");
        let told = lines(&tree, || tree.group(10, &["0000:01:10.2"]));
        assert_eq!(
            told[0],
            "~ 0000:01:10.0  IOMMU group 10 -> 10 with 2 members, not viable for 0000:01:10.2"
        );
    }
}
