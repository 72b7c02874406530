//! Looking at the node: everything that a plan is made from.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::choice;
use super::drop_ins;
use super::error::ProvisionError;
use super::lock;
use super::plan::NodeState;
use super::policy::{NodeIdentity, Policy};
use super::port::Port;
use super::system::System;
use super::usage::{Usage, UsageSources};
use crate::SysRoot;
use crate::inventory::{Function, Inventory, PfRole, pf_netdev};
use crate::pci::PciAddress;
use crate::provision::files;

/// The folders of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folders {
    /// Where to look for users of devices.
    pub usage: UsageSources,
    /// Results are written here.
    pub state_dir: PathBuf,
    /// Locks are here; below `/run`, as they mean nothing after a boot.
    pub run_dir: PathBuf,
    /// udev's rules.
    pub udev_rules: PathBuf,
}

/// VFIO's switch for working without an IOMMU.
pub(super) fn noiommu_parameter(root: &SysRoot) -> PathBuf {
    root.path().join("module/vfio/parameters/enable_unsafe_noiommu_mode")
}

/// Looks at the running node.
///
/// # Errors
/// The devices cannot be listed, or a PF that the policy is about cannot be read.
pub fn look(
    system: &mut dyn System,
    folders: &Folders,
    policy: &Policy,
    node: &NodeIdentity,
) -> Result<NodeState, ProvisionError> {
    let inventory = system.scan()?;
    let mut ports = BTreeMap::new();
    for chosen in choice::choose(policy, &inventory, node).chosen {
        if let Some(port) = read_port(system, chosen.pf, &folders.run_dir)? {
            ports.insert(chosen.pf.address, port);
        }
    }
    let drop_ins = drop_ins::read(&folders.udev_rules)
        .map_err(|source| ProvisionError::DropIns { path: folders.udev_rules.clone(), source })?;
    let usage = Usage::read(&folders.usage, &inventory);
    Ok(NodeState { noiommu: noiommu(system.root()), inventory, ports, usage, drop_ins })
}

/// A PF with a network device; without one there is nothing to read.
pub(super) fn read_port(
    system: &mut dyn System,
    pf: &Function,
    run_dir: &Path,
) -> Result<Option<Port>, ProvisionError> {
    let Some(netdev) = pf_netdev(&pf.netdevs).map(|netdev| netdev.name.as_str()) else { return Ok(None) };
    let failed = |source| ProvisionError::Port { pf: pf.address, netdev: netdev.to_owned(), source };
    let link = system.link(netdev).map_err(failed)?;
    let has_vfs = pf.as_pf().is_some_and(PfRole::has_vfs);
    Ok(Some(Port {
        up: link.up,
        mtu: link.mtu,
        mac: link.permanent_mac.or(link.mac),
        vfs: if has_vfs { system.vfs(netdev).map_err(failed)? } else { Some(Vec::new()) },
        autoprobe: autoprobe(system.root(), pf.address),
        autoprobe_before: lock::autoprobe_before(run_dir, pf.address),
    }))
}

/// A node that was recorded, or a directory laid out as `/sys`: what only the kernel's network side tells is not known.
#[must_use]
pub fn of_inventory(inventory: Inventory, root: Option<&SysRoot>) -> NodeState {
    let port = |pf: &Function| {
        let netdev = pf_netdev(&pf.netdevs)?;
        let autoprobe = root.map_or(Some(true), |root| autoprobe(root, pf.address));
        let port = Port {
            up: netdev.operstate.as_deref() != Some("down"),
            mtu: netdev.mtu.unwrap_or(0),
            mac: netdev.mac.as_deref().and_then(|mac| mac.parse().ok()),
            vfs: None,
            autoprobe,
            autoprobe_before: None,
        };
        Some((pf.address, port))
    };
    let ports =
        inventory.functions.iter().filter(|function| function.as_pf().is_some()).filter_map(port).collect();
    let usage = Usage::of_inventory(&inventory);
    NodeState { noiommu: root.and_then(noiommu), inventory, ports, usage, drop_ins: BTreeMap::new() }
}

fn autoprobe(root: &SysRoot, pf: PciAddress) -> Option<bool> {
    let text = files::attribute(&root.pci_device(&pf), "sriov_drivers_autoprobe")?;
    Some(text != "0")
}

fn noiommu(root: &SysRoot) -> Option<bool> {
    let path = noiommu_parameter(root);
    let text = files::attribute(path.parent()?, "enable_unsafe_noiommu_mode")?;
    Some(text == "Y" || text == "1")
}
