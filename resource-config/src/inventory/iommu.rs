//! IOMMU groups: the unit that VFIO hands out.

use std::io;

use serde::Serialize;

use super::InventoryError;
use crate::sysfs::{SysRoot, last_part};
use crate::tree::Folder;

/// The name of the groups that VFIO makes up where there is no IOMMU.
const NOIOMMU_NAME: &str = "vfio-noiommu";

/// One IOMMU group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct IommuGroup {
    /// Its number, not stable over reboots or re-creation of VFs.
    pub number: u32,
    /// Made up by VFIO's unsafe mode without an IOMMU.
    pub noiommu: bool,
    /// Everything in it.
    pub members: Vec<GroupMember>,
}

/// A device of an IOMMU group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GroupMember {
    /// Its name, for PCI its address.
    pub name: String,
    /// The bound driver.
    pub driver: Option<String>,
}

impl IommuGroup {
    /// The member that keeps VFIO from handing the group out, because a driver of the host uses it.
    ///
    /// The kernel's rule: every member is unbound, bound to a VFIO driver, or to one of the few drivers that do no DMA
    /// on their own (`pci-stub`, the PCIe port driver).
    #[must_use]
    pub fn blocker(&self) -> Option<&GroupMember> {
        let harmless = |driver: &str| is_vfio_driver(driver) || matches!(driver, "pci-stub" | "pcieport");
        self.members.iter().find(|member| member.driver.as_deref().is_some_and(|driver| !harmless(driver)))
    }

    /// The name of the group's device node below the host's `/dev`: `vfio/7`, or `vfio/noiommu-7`.
    #[must_use]
    pub fn node_name(&self) -> String {
        let prefix = if self.noiommu { "noiommu-" } else { "" };
        format!("vfio/{prefix}{}", self.number)
    }

    /// Where the node is in the container: `/dev/vfio/7`, for a noiommu group too, as applications expect.
    #[must_use]
    pub fn container_node(&self) -> String {
        format!("/dev/vfio/{}", self.number)
    }
}

/// Whether a driver belongs to VFIO: `vfio-pci` or one of its vendor variants, which all carry it in their names.
pub(super) fn is_vfio_driver(driver: &str) -> bool {
    driver.contains("vfio")
}

/// Reads one IOMMU group.
///
/// # Errors
/// The group does not exist or its members cannot be listed.
pub fn read_group(root: &SysRoot, number: u32) -> Result<IommuGroup, InventoryError> {
    let failed = |source| InventoryError::Group { number, path: root.path().join(folder_of(number)), source };
    read(&root.open().map_err(failed)?, number, |_| None).map_err(failed)
}

/// Reads one IOMMU group; `driver_of` has the drivers of members that were read already.
pub(super) fn read(
    root: &Folder,
    number: u32,
    driver_of: impl Fn(&str) -> Option<Option<String>>,
) -> io::Result<IommuGroup> {
    let devices = root.open(&folder_of(number))?;
    let names = devices.names(|_| true)?;
    let member = |name: String| {
        let driver = driver_of(&name).unwrap_or_else(|| {
            let target = devices.link(&format!("{name}/driver")).ok();
            target.map(|target| last_part(&target).to_owned())
        });
        GroupMember { name, driver }
    };
    let members: Vec<GroupMember> = names.into_iter().map(member).collect();
    // VFIO makes groups up for those devices only that it gets.
    let is_vfio = |member: &GroupMember| member.driver.as_deref().is_some_and(is_vfio_driver);
    let noiommu = members.iter().any(is_vfio)
        && root.text(&format!("kernel/iommu_groups/{number}/name")).is_ok_and(|name| name == NOIOMMU_NAME);
    Ok(IommuGroup { number, noiommu, members })
}

/// Where the members of a group are listed.
fn folder_of(number: u32) -> String {
    format!("kernel/iommu_groups/{number}/devices")
}
