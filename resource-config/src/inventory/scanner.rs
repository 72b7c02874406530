//! Where inventories come from.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::node::Detail;
use super::{Inventory, InventoryError, scan};
use crate::network::{self, Live, Network, default_route_netdevs};
use crate::pci::{PciAddress, PciId};
use crate::sysfs::SysRoot;
use crate::tree::Recorder;

/// The file that has what netlink knows, in a directory laid out as `/sys`.
const NETLINK_FILE: &str = "netlink.json";

/// Intel: the only vendor whose drivers tell of DDP packages. Others are not asked, since the question may go to the firmware.
const INTEL: PciId = PciId(0x8086);

/// Scans one node again and again.
#[derive(Debug)]
pub struct Scanner {
    root: SysRoot,
    netlink: Netlink,
    proc: Option<PathBuf>,
    detail: Detail,
}

/// Where to learn what netlink knows.
#[derive(Debug)]
enum Netlink {
    /// From the kernel.
    Live(Box<Live>),
    /// From a file in the root.
    File,
    /// It is known.
    Known(Box<Network>),
}

impl Scanner {
    /// The running system: `/sys`, and netlink in the caller's network namespace.
    #[must_use]
    pub fn system() -> Self {
        Self::live(SysRoot::default(), Path::new("/proc"))
    }

    /// The running system, with its sysfs and proc mounted elsewhere. Of proc is read only what netlink cannot tell.
    #[must_use]
    pub fn live(sysfs: SysRoot, proc: &Path) -> Self {
        Self {
            root: sysfs,
            netlink: Netlink::Live(Box::default()),
            proc: Some(proc.to_owned()),
            detail: Detail::Full,
        }
    }

    /// A directory laid out as `/sys`; what only netlink knows in a `netlink.json` in it. Without that, stacking follows from
    /// what sysfs shows, and nothing is known of addresses and routes.
    #[must_use]
    pub fn sysfs(dir: impl Into<PathBuf>) -> Self {
        Self::of(SysRoot::new(dir), None)
    }

    /// A file that `fairlead-config record` wrote.
    ///
    /// # Errors
    /// The file cannot be read, or is no such file.
    pub fn tree(file: impl AsRef<Path>) -> Result<Self, InventoryError> {
        let (root, netlink) = SysRoot::tree(file.as_ref())?;
        let network = netlink.map(|text| network::parse(&text)).unwrap_or_default();
        Ok(Self { root, netlink: Netlink::Known(Box::new(network)), proc: None, detail: Detail::Full })
    }

    pub(super) fn of(root: SysRoot, proc: Option<&Path>) -> Self {
        Self { root, netlink: Netlink::File, proc: proc.map(Path::to_owned), detail: Detail::Full }
    }

    /// Whether it reads a running system, of which the kernel announces what happens.
    #[must_use]
    pub fn is_live(&self) -> bool {
        matches!(self.netlink, Netlink::Live(_))
    }

    /// Waits until the kernel is through with the VFs that it makes or removes now, on the PFs of an earlier inventory.
    ///
    /// Since Linux 5.13 it answers a question for the number of VFs only then. Others answer at once.
    pub(crate) fn wait_for_vfs(&self, inventory: &Inventory) {
        for pf in inventory.functions.iter().filter(|function| function.as_pf().is_some()) {
            // The scan reads it again, and tells what is wrong with it.
            let _ = fs::read(self.root.pci_device(&pf.address).join("sriov_numvfs"));
        }
    }

    /// Takes default routes from a directory laid out as `/proc`, too.
    #[must_use]
    pub fn with_proc(mut self, proc: &Path) -> Self {
        self.proc = Some(proc.to_owned());
        self
    }

    /// Reads only what decides about pools, which is much less where there are many VFs: of VFs' and scalable functions' network
    /// devices no addresses, MTUs and states, of VFs no `driver_override`, of IOMMU groups those alone that VFIO uses. What
    /// netlink tells anyway is there all the same. Recordings are not concerned.
    #[must_use]
    pub fn for_pools(mut self) -> Self {
        self.detail = Detail::Pools;
        self
    }

    /// Reads the node as it is now.
    ///
    /// # Errors
    /// The PCI functions cannot be listed.
    pub fn scan(&mut self) -> Result<Inventory, InventoryError> {
        let root = self.root.clone();
        self.scan_at(&root, self.detail).map(|(inventory, _)| inventory)
    }

    /// Reads the node as it is now; gives the text of a tree file with all that was read. [`Scanner::tree`] makes the same
    /// inventory of it.
    ///
    /// # Errors
    /// The PCI functions cannot be listed.
    pub fn record(&mut self) -> Result<String, InventoryError> {
        let recorder = Arc::new(Recorder::default());
        let root = self.root.recorded(&recorder);
        let (_, network) = self.scan_at(&root, Detail::Full)?;
        let mut tree = root.in_memory().cloned().unwrap_or_else(|| recorder.tree());
        tree.netlink = Some(network.to_json());
        Ok(tree.text())
    }

    fn scan_at(&mut self, root: &SysRoot, detail: Detail) -> Result<(Inventory, Network), InventoryError> {
        let mut network = self.network();
        let inventory = scan::read(root, &network, detail)?;
        if let Netlink::Live(live) = &mut self.netlink {
            let functions: Vec<(PciAddress, bool)> = inventory
                .functions
                .iter()
                .map(|function| (function.address, function.vendor == Some(INTEL)))
                .collect();
            network.devlink = live.devlink(&functions, &mut network.notes);
        }
        Ok((scan::finish(inventory, &network), network))
    }

    fn network(&mut self) -> Network {
        let mut notes = Vec::new();
        let told = match &mut self.netlink {
            Netlink::Live(live) => live.network(&mut notes),
            Netlink::File => Some(read_file(&self.root.path().join(NETLINK_FILE))),
            Netlink::Known(network) => Some((**network).clone()),
        };
        let mut network = told.unwrap_or_default();
        network.notes.append(&mut notes);
        // The kernel's own word is complete.
        if let Some(proc) = self.proc.as_ref().filter(|_| !network.is_complete) {
            let routed = default_route_netdevs(proc, &mut network.notes);
            network.default_routes.extend(routed);
        }
        network
    }
}

fn read_file(path: &Path) -> Network {
    match fs::read(path) {
        Ok(bytes) => network::parse(&String::from_utf8_lossy(&bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Network::default(),
        Err(error) => {
            let notes = vec![format!("{NETLINK_FILE}: {error}; nothing of it is used")];
            Network { notes, ..Network::default() }
        }
    }
}
