//! Which MAC address each port should have, as the PF set it, and whether it has.

use std::collections::BTreeMap;

use fairlead_kernel::{Mac, Route};
use fairlead_resource_config::PciAddress;
use fairlead_resource_config::inventory::Inventory;

use super::{Check, InterfaceFacts};
use crate::network_status::Attachment;
use crate::station::About;

/// The address that a port should have, and who says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// The address.
    pub mac: Mac,
    /// Who says so.
    pub source: &'static str,
}

/// Gathers what ports should have, by PCI address or interface: from the command line (in the order of the ports), else from
/// the pod's network-status, else from the PF, which only the host's network namespace has.
#[must_use]
pub fn expected(
    devices: &[PciAddress],
    interfaces: &[InterfaceFacts],
    given: &[Mac],
    status: &[Attachment],
    inventory: &Inventory,
) -> BTreeMap<String, Expected> {
    let mut expected = BTreeMap::new();
    let mut note = |port: String, mac: Option<Mac>, source: &'static str| {
        // Zero is the PF's word for none.
        if let Some(mac) = mac.filter(|mac| !mac.is_zero()) {
            expected.entry(port).or_insert(Expected { mac, source });
        }
    };
    let ports = devices.iter().map(ToString::to_string).chain(interfaces.iter().map(|i| i.name.clone()));
    for (port, mac) in ports.zip(given) {
        note(port, Some(*mac), "--expect-mac");
    }
    for attachment in status {
        if let Some(address) = attachment.pci_address {
            note(address.to_string(), attachment.mac, "network-status");
        }
        note(attachment.interface.clone(), attachment.mac, "network-status");
    }
    for address in devices {
        note(address.to_string(), administrative(*address, inventory), "the PF");
    }
    expected
}

/// What the PF has set for its VF.
fn administrative(address: PciAddress, inventory: &Inventory) -> Option<Mac> {
    let vf = inventory.function(&address)?.as_vf()?;
    let (netdev, index) = (vf.pf_netdev.as_deref()?, vf.index?);
    let mut route = Route::open().ok()?;
    let link = route.link_by_name(netdev).ok()??;
    route.vf(link.index, index).ok()?.mac
}

/// Compares the ports, now that DPDK has them. A wrong address fails: the PF lets no such frames out (spoof check), or nothing in.
#[must_use]
pub fn inspect(abouts: &[About], expected: &BTreeMap<String, Expected>) -> Vec<Check> {
    abouts
        .iter()
        .filter(|about| !about.device.starts_with("peer"))
        .map(|about| {
            let what = format!("MAC of {}", about.device);
            match expected.get(&about.device) {
                None => Check::ok(what, format!("{}; nobody says what it should be", about.mac)),
                Some(Expected { mac, source }) if *mac == about.mac => {
                    Check::ok(what, format!("{mac}, as {source} says"))
                }
                Some(Expected { mac, source }) => Check::fail(
                    what,
                    format!("{}, but {source} says {mac}", about.mac),
                    "set the address by the PF before the VF is bound (the network's \"mac\", or ip link set PF vf N mac), have \
                     the PF up (without it a VF makes an address up), and start the pod again",
                ),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preflight::Verdict;

    fn mac(text: &str) -> Mac {
        text.parse().unwrap()
    }

    fn about(device: &str, address: &str) -> About {
        About { device: device.into(), mac: mac(address), dpdk_version: "DPDK".into(), speed: None }
    }

    #[test]
    fn the_command_line_wins_over_network_status() {
        let device: PciAddress = "0000:01:10.0".parse().unwrap();
        let attachment = Attachment {
            network: "default/net".into(),
            interface: "net1".into(),
            mac: Some(mac("02:00:00:00:00:01")),
            pci_address: Some(device),
        };
        let none = Inventory::default();
        let found = expected(&[device], &[], &[], std::slice::from_ref(&attachment), &none);
        assert_eq!(found["0000:01:10.0"].source, "network-status");
        assert_eq!(found["net1"].mac, mac("02:00:00:00:00:01"));
        let found = expected(&[device], &[], &[mac("02:00:00:00:00:02")], &[attachment], &none);
        assert_eq!(found["0000:01:10.0"], Expected { mac: mac("02:00:00:00:00:02"), source: "--expect-mac" });
        let zero = expected(&[device], &[], &[mac("00:00:00:00:00:00")], &[], &none);
        assert!(zero.is_empty());
    }

    #[test]
    fn a_wrong_address_fails_and_an_unknown_one_does_not() {
        let device = "0000:01:10.0";
        let wanted = Expected { mac: mac("02:00:00:00:00:01"), source: "the PF" };
        let known = BTreeMap::from([(device.to_owned(), wanted)]);
        let [right] = inspect(&[about(device, "02:00:00:00:00:01")], &known).try_into().unwrap();
        assert_eq!(right.verdict, Verdict::Ok);
        let [wrong] = inspect(&[about(device, "02:00:00:00:00:09")], &known).try_into().unwrap();
        assert_eq!(wrong.verdict, Verdict::Fail);
        assert!(wrong.found.contains("02:00:00:00:00:09, but the PF says 02:00:00:00:00:01"), "{wrong}");
        let checks = inspect(
            &[about("0000:01:10.2", "02:00:00:00:00:09"), about("peer:x", "02:00:00:00:00:0a")],
            &known,
        );
        assert_eq!(checks.len(), 1);
        assert_eq!(checks[0].verdict, Verdict::Ok);
    }
}
