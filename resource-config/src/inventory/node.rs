//! What the devices of a node are read with: open folders, and what is read once for all of them.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::OnceLock;

use super::{rdma, vdpa};
use crate::network::{Link, Network};
use crate::sysfs::{PCI_DEVICES, SysRoot};
use crate::tree::Folder;

/// How much is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Detail {
    /// Everything.
    Full,
    /// What decides about pools: there may be thousands of VFs, and some of what is known of them is for people only.
    Pools,
}

pub(super) struct Node<'a> {
    pub(super) detail: Detail,
    /// The root of sysfs.
    pub(super) root: Folder,
    /// Where the PCI functions are.
    pub(super) devices: Folder,
    /// What netlink knows.
    pub(super) network: &'a Network,
    links: HashMap<&'a str, &'a Link>,
    pub(super) vdpa: vdpa::Places,
    rdma: OnceLock<rdma::CharDevices>,
    slots: OnceLock<BTreeMap<String, String>>,
}

impl<'a> Node<'a> {
    pub(super) fn open(root: &SysRoot, network: &'a Network, detail: Detail) -> io::Result<Self> {
        let root = root.open()?;
        Ok(Self {
            detail,
            devices: root.open(PCI_DEVICES)?,
            vdpa: vdpa::Places::read(&root),
            links: network.links.iter().map(|link| (link.name.as_str(), link)).collect(),
            network,
            rdma: OnceLock::new(),
            slots: OnceLock::new(),
            root,
        })
    }

    /// What netlink knows of a network device.
    pub(super) fn link(&self, name: &str) -> Option<&'a Link> {
        self.links.get(name).copied()
    }

    /// The character devices of RDMA devices.
    pub(super) fn rdma(&self) -> &rdma::CharDevices {
        self.rdma.get_or_init(|| rdma::CharDevices::read(&self.root))
    }

    /// The name of the slot that a function is in.
    pub(super) fn slot(&self, address: &str) -> Option<&String> {
        // A slot has all functions of a device: its address ends before their numbers.
        let (device, _) = address.rsplit_once('.')?;
        self.slots.get_or_init(|| slots(&self.root)).get(device)
    }
}

/// The names of PCI slots, by their addresses.
fn slots(root: &Folder) -> BTreeMap<String, String> {
    let listed =
        root.open("bus/pci/slots").and_then(|folder| folder.names(|_| true).map(|names| (folder, names)));
    let Ok((folder, names)) = listed else { return BTreeMap::new() };
    let slot = |name: String| Some((folder.text(&format!("{name}/address")).ok()?, name));
    names.into_iter().filter_map(slot).collect()
}
