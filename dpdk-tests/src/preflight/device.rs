//! Facts about a PCI device.

use std::fs::File;
use std::path::{Path, PathBuf};

use fairlead_kernel::vfio::{self, VfioError};
use fairlead_resource_config::inventory::{Function, Inventory, IommuGroup};
use fairlead_resource_config::{PciAddress, error_text};

use super::{Check, Roots};

/// Drivers that stay while DPDK uses the device through verbs: no VFIO, but the netdev and an uverbs node in the pod.
const BIFURCATED: [&str; 2] = ["mlx5_core", "mlx4_core"];

/// A device node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeState {
    /// It opens and answers; for a group, `viable` says whether the kernel hands it out.
    Opens {
        /// Every device of the group is bound to vfio-pci or to nothing.
        viable: bool,
    },
    /// Not there.
    Missing,
    /// Somebody else has it open.
    InUse,
    /// It does not open, or does not answer as it should.
    Bad(String),
}

/// One device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceFacts {
    /// Its address.
    pub address: PciAddress,
    /// Whether sysfs knows it.
    pub exists: bool,
    /// What sysfs says, if it is a network or accelerator device.
    pub function: Option<Function>,
    /// Its IOMMU group.
    pub group: Option<IommuGroup>,
    /// The group's node in the container, or the uverbs node of a device with a bifurcated driver.
    pub node: PathBuf,
    /// How that is.
    pub node_state: NodeState,
}

impl DeviceFacts {
    /// Gathers. The group's node is opened for a moment: it belongs to this pod.
    #[must_use]
    pub fn gather(roots: &Roots, inventory: &Inventory, address: PciAddress) -> Self {
        let function = inventory.function(&address).cloned();
        let number = function.as_ref().and_then(|function| function.iommu_group);
        let group = number.and_then(|number| inventory.iommu_groups.get(&number)).cloned();
        let exists = roots.sys.pci_device(&address).exists();
        let mut facts =
            Self { address, exists, function, group, node: PathBuf::new(), node_state: NodeState::Missing };
        if facts.is_bifurcated() {
            let nodes =
                facts.function.iter().flat_map(|function| &function.rdma).flat_map(|rdma| &rdma.char_devices);
            if let Some(name) = nodes.into_iter().find(|name| name.contains("uverbs")) {
                facts.node = roots.dev.join(name);
                facts.node_state = plain_state(&facts.node);
            }
        } else if let Some(number) = number {
            facts.node = node(&roots.dev, number);
            facts.node_state = state(vfio::group_status(&facts.node).map(|status| status.viable));
        }
        facts
    }

    /// Whether it stays on its kernel driver.
    #[must_use]
    pub fn is_bifurcated(&self) -> bool {
        self.driver().is_some_and(|driver| BIFURCATED.contains(&driver))
    }

    /// The bound driver.
    #[must_use]
    pub fn driver(&self) -> Option<&str> {
        self.function.as_ref()?.driver.as_deref()
    }

    /// Whether its group was made up by VFIO's mode without an IOMMU.
    #[must_use]
    pub fn is_noiommu(&self) -> bool {
        self.group.as_ref().is_some_and(|group| group.noiommu)
    }
}

/// The group's node, where DPDK looks too: the device plugin gives groups without IOMMU the plain name, the host does not.
fn node(dev: &Path, number: u32) -> PathBuf {
    let plain = dev.join(format!("vfio/{number}"));
    let noiommu = dev.join(format!("vfio/noiommu-{number}"));
    if !plain.exists() && noiommu.exists() { noiommu } else { plain }
}

/// What VFIO's answer means.
pub(super) fn state(answer: Result<bool, VfioError>) -> NodeState {
    match answer {
        Ok(viable) => NodeState::Opens { viable },
        Err(VfioError::Missing { .. }) => NodeState::Missing,
        Err(VfioError::InUse { .. }) => NodeState::InUse,
        Err(error) => NodeState::Bad(error_text(&error)),
    }
}

fn plain_state(node: &Path) -> NodeState {
    match File::options().read(true).write(true).open(node) {
        Ok(_) => NodeState::Opens { viable: true },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => NodeState::Missing,
        Err(error) => NodeState::Bad(format!("cannot open {}: {error}", node.display())),
    }
}

/// Whether the devices are free again after a run: the groups can be opened, which is the kernel's word for that nobody has them,
/// and which resets a device at its last close.
#[must_use]
pub fn released(facts: &[DeviceFacts]) -> Vec<Check> {
    let on_vfio = facts
        .iter()
        .filter(|device| matches!(device.node_state, NodeState::Opens { .. }) && !device.is_bifurcated());
    on_vfio
        .map(|device| {
            let (what, node) = (device.address.to_string(), device.node.display());
            match state(vfio::group_status(&device.node).map(|status| status.viable)) {
                NodeState::Opens { .. } => Check::ok(what, format!("free again: {node} opens")),
                NodeState::InUse => Check::fail(
                    what,
                    format!("{node} is still in use"),
                    "look for a testpmd that was left behind and end it",
                ),
                NodeState::Missing => Check::fail(what, format!("{node} is gone"), "restart the pod"),
                NodeState::Bad(why) => Check::fail(what, why, "see the kernel's log on the node"),
            }
        })
        .collect()
}
