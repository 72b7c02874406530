//! A PF that remembers what is set for its VFs, at the kernel crate's edge: for what the emulated NIC's driver cannot do.

use std::sync::{Arc, Mutex};

use fairlead_kernel::{
    Errno, Netns, Route,
    netlink::recording::{Answer, Recording},
};
use fairlead_resource_config::test_support::SysfsTree;

use crate::drivers::{Host, Pod};

/// Kernel `include/uapi/linux/if_link.h` and `rtnetlink.h`.
const NEW_LINK: u16 = 16;
const GET_LINK: u16 = 18;
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_VFINFO_LIST: u16 = 22;
const VF_INFO: u16 = 1;
const VF_MAC: u16 = 1;
pub(super) const VF_RATE: u16 = 6;
pub(super) const VF_LINK_STATE: u16 = 5;
const VF_VLAN_LIST: u16 = 12;
const VF_VLAN: u16 = 2;
/// The order in which the kernel goes through a change.
const ORDER: [u16; 7] = [VF_MAC, VF_VLAN, VF_VLAN_LIST, VF_RATE, 4, VF_LINK_STATE, 9];

/// One VF: each attribute as it was last set, without the VF's number in front.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Vf(pub(super) std::collections::BTreeMap<u16, Vec<u8>>);

/// The PF's driver.
#[derive(Debug, Default)]
pub(super) struct Driver {
    pub(super) vfs: Vec<Vf>,
    /// Attribute that it refuses.
    pub(super) refuses: Option<u16>,
    /// How often it says that it is busy.
    pub(super) busy: u32,
    /// How many changes came.
    pub(super) changes: usize,
}

/// A node whose VFs are all in user space, in the hands of [`Driver`].
pub(super) struct Node {
    pub(super) driver: Arc<Mutex<Driver>>,
    pub(super) host: Host,
    pub(super) pod: Pod,
    tree: SysfsTree,
}

impl Node {
    pub(super) fn new(vfs: u32) -> Self {
        let tree = SysfsTree::igb(0);
        for index in 0..vfs {
            tree.bind_vfio(&add_vf(&tree, index));
        }
        let driver = Arc::new(Mutex::new(Driver { vfs: (0..vfs).map(vf).collect(), ..Driver::default() }));
        let (host, pod) = hands(&driver, &tree);
        Self { driver, host, pod, tree }
    }

    /// Host and pod as another call of the plugin has them, on the same PF.
    pub(super) fn another_call(&self) -> (Host, Pod) {
        hands(&self.driver, &self.tree)
    }

    /// What is set for every VF.
    pub(super) fn vfs(&self) -> Vec<Vf> {
        self.driver.lock().unwrap().vfs.clone()
    }
}

fn hands(driver: &Arc<Mutex<Driver>>, tree: &SysfsTree) -> (Host, Pod) {
    let recording = Recording::default();
    let driver = Arc::clone(driver);
    recording.rule(move |kind, payload| answer(&mut driver.lock().unwrap(), kind, payload));
    let route = Route::over(Box::new(recording));
    let host = Host { route, netns: Netns::current().unwrap(), sys: tree.root() };
    let pod = Route::over(Box::new(Recording::default()));
    let pod = Pod { route: pod, netns: Netns::current().unwrap(), ipv6: crate::drivers::Ipv6::default() };
    (host, pod)
}

/// The first bus has room for 64 VFs of igb's stride; the next bus takes the others, one after the other.
fn add_vf(tree: &SysfsTree, index: u32) -> String {
    let Some(further) = index.checked_sub(64) else { return tree.igb_vf(index) };
    let address = format!("0000:02:{:02x}.{}", further / 8, further % 8);
    tree.vf("0000:01:00.0", &address, index, "igbvf");
    tree.group(10 + index, &[&address]);
    address
}

/// As ixgbe has a new one: an address, no VLAN, no limits, spoof check, no trust, the link as the PF's.
fn vf(index: u32) -> Vf {
    let mut mac = vec![2, 0, 0, 0];
    mac.extend(u16::try_from(index).unwrap().to_be_bytes());
    mac.resize(32, 0);
    let numbers = |numbers: &[u32]| numbers.iter().flat_map(|n| n.to_ne_bytes()).collect::<Vec<u8>>();
    let untagged = attribute(1, &[numbers(&[index, 0, 0]), vec![0x81, 0, 0, 0]].concat());
    Vf([
        (VF_MAC, mac),
        (VF_VLAN_LIST, untagged),
        (VF_RATE, numbers(&[0, 0])),
        (4, numbers(&[1])),
        (VF_LINK_STATE, numbers(&[0])),
        (9, numbers(&[0])),
    ]
    .into())
}

fn answer(driver: &mut Driver, kind: u16, payload: &[u8]) -> Option<Answer> {
    let link = payload.get(16..)?;
    match kind {
        GET_LINK => Some(Answer::Messages(vec![(NEW_LINK, report(driver))])),
        NEW_LINK => Some(change(driver, find(link, IFLA_VFINFO_LIST)?)),
        _ => None,
    }
}

fn change(driver: &mut Driver, list: &[u8]) -> Answer {
    driver.changes += 1;
    if driver.busy > 0 {
        driver.busy -= 1;
        return Answer::Refused(Errno::EBUSY, None);
    }
    let info = find(list, VF_INFO).unwrap();
    for kind in ORDER {
        let Some(value) = find(info, kind) else { continue };
        if driver.refuses == Some(kind) {
            return Answer::Refused(Errno::EOPNOTSUPP, None);
        }
        // A list of VLANs holds the VF's number one level deeper.
        let (number, rest) = if kind == VF_VLAN_LIST { (&value[4..8], value) } else { value.split_at(4) };
        let vf = &mut driver.vfs[u32::from_ne_bytes(number.try_into().unwrap()) as usize];
        if kind == VF_VLAN {
            let tag = [value, &[0x81, 0, 0, 0]].concat();
            vf.0.insert(VF_VLAN_LIST, attribute(1, &tag));
        } else {
            vf.0.insert(kind, rest.to_vec());
        }
    }
    Answer::Acknowledged
}

fn report(driver: &Driver) -> Vec<u8> {
    let mut payload = vec![0, 0, 1, 0, 2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0];
    payload.extend(attribute(IFLA_ADDRESS, &[2; 6]));
    payload.extend(attribute(IFLA_IFNAME, b"ens1f0\0"));
    payload.extend(attribute(IFLA_MTU, &9000_u32.to_ne_bytes()));
    let mut list = Vec::new();
    for (number, Vf(settings)) in driver.vfs.iter().enumerate() {
        let number = u32::try_from(number).unwrap().to_ne_bytes();
        let info = settings.iter().map(|(kind, value)| {
            let lead: &[u8] = if *kind == VF_VLAN_LIST { &[] } else { &number };
            attribute(*kind, &[lead, value].concat())
        });
        list.extend(attribute(VF_INFO, &info.collect::<Vec<_>>().concat()));
    }
    payload.extend(attribute(IFLA_VFINFO_LIST, &list));
    payload
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = u16::try_from(value.len() + 4).unwrap().to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// The value of the first attribute of this type.
fn find(mut attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    while attributes.len() >= 4 {
        let number = |at: usize| u16::from_ne_bytes([attributes[at], attributes[at + 1]]);
        // Two bits of the type are flags.
        let (length, kind) = (usize::from(number(0)), number(2) & 0x3fff);
        if kind == wanted {
            return attributes.get(4..length);
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
    None
}
