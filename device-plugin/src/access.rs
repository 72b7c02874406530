//! What a container needs to use a device: device nodes, and what `_INFO` says. Read from the running system each time, since
//! the numbers in the names of nodes change when devices are bound again.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use fairlead_resource_config::config::{AdditionalInfo, Resource, VdpaType, VfioMode};
use fairlead_resource_config::inventory::{self, InventoryError, IommuGroup};
use fairlead_resource_config::pools::DeviceId;
use thiserror::Error;

use crate::Node;
use crate::health::Reason;
use crate::member::{self, Member};

/// Where containers have VFIO's container node.
const VFIO_CONTAINER: &str = "/dev/vfio/vfio";

/// What `_INFO` says about a device: keys and values by provider.
pub(crate) type Providers = BTreeMap<&'static str, BTreeMap<String, String>>;

/// A device node of the host, and where the container has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DeviceNode {
    pub(crate) host: String,
    pub(crate) container: String,
}

/// What a container gets for one device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Access {
    pub(crate) nodes: Vec<DeviceNode>,
    pub(crate) info: Providers,
}

/// Why a container cannot use a device.
#[derive(Debug, Error)]
pub(crate) enum AccessError {
    #[error("device {id} is gone: no {path}")]
    Gone { id: DeviceId, path: PathBuf },
    #[error("device {id} is on driver {found}, its pool has it for {wanted}: see {path}")]
    Driver { id: DeviceId, found: String, wanted: String, path: PathBuf },
    #[error("device {id} has no IOMMU group: no {path}; is the IOMMU on (or VFIO's noiommu mode)?")]
    NoGroup { id: DeviceId, path: PathBuf },
    #[error("device {id} cannot be used")]
    Group { id: DeviceId, source: InventoryError },
    #[error(
        "device {id} cannot be used: {member} of its IOMMU group {number} is on the host driver {driver}"
    )]
    NotViable { id: DeviceId, number: u32, member: String, driver: String },
    #[error(
        "device {id} has no VFIO device of its own: nothing in {path}; does the kernel have CONFIG_VFIO_DEVICE_CDEV?"
    )]
    NoCdev { id: DeviceId, path: PathBuf },
    #[error("device {id} has no UIO device: nothing in {path}")]
    NoUio { id: DeviceId, path: PathBuf },
    #[error("device {id} cannot be used: {reason}")]
    Unusable { id: DeviceId, reason: Reason },
    #[error("device {id} cannot be used: its device node {path} is missing")]
    NoNode { id: DeviceId, path: PathBuf },
}

/// Looks at a device anew.
pub(crate) fn of(member: &Member, resource: &Resource, node: &Node) -> Result<Access, AccessError> {
    let mut needs = Needs { id: member.id(), dev: &node.dev, access: Access::default() };
    needs.provide("generic", [("deviceID", member.id().to_string())]);
    let dir = function_dir(member, node)?;
    check_driver(member, &dir)?;
    if matches!(member.id(), DeviceId::Pci(_)) {
        if is_vfio(member, &dir) {
            needs.vfio(&dir, resource.offer.vfio_mode, node)?;
        } else if inventory::is_uio_driver(&member.device.driver) {
            needs.uio(&dir)?;
        }
    }
    let selectors = member::selectors(resource, member);
    if selectors.is_some_and(|selectors| selectors.is_rdma) {
        needs.rdma(member)?;
    }
    if selectors.is_some_and(|selectors| selectors.need_vhost_net) {
        let net_mount = needs.add("vhost-net", "/dev/vhost-net")?;
        let tun_mount = needs.add("net/tun", "/dev/net/tun")?;
        needs.provide("vhost", [("net-mount", net_mount), ("tun-mount", tun_mount)]);
    }
    if let Some(kind) = selectors.and_then(|selectors| selectors.vdpa_type) {
        needs.vdpa(member, kind)?;
    }
    let extra = extra(&resource.additional_info, member);
    if !extra.is_empty() {
        needs.access.info.insert("extra", extra);
    }
    Ok(needs.access)
}

/// The folder of the PCI function that a device is, or is a part of.
fn function_dir(member: &Member, node: &Node) -> Result<PathBuf, AccessError> {
    let own = match member.id() {
        DeviceId::Pci(address) => return Ok(node.sysfs.pci_device(address)),
        DeviceId::Aux(name) => node.sysfs.path().join("bus/auxiliary/devices").join(name),
    };
    match member.address {
        Some(address) if own.exists() => Ok(node.sysfs.pci_device(&address)),
        _ => Err(AccessError::Gone { id: member.id().clone(), path: own }),
    }
}

/// Whether the function is there, on the driver that the pool has it for.
fn check_driver(member: &Member, dir: &Path) -> Result<(), AccessError> {
    let path = dir.join("driver");
    let found = link_name(&path);
    if found.as_deref() == Some(member.device.driver.as_str()) {
        return Ok(());
    }
    let (id, wanted) = (member.id().clone(), member.device.driver.clone());
    if !dir.exists() {
        return Err(AccessError::Gone { id, path: dir.to_owned() });
    }
    Err(AccessError::Driver { id, found: found.unwrap_or_else(|| "none".to_owned()), wanted, path })
}

/// As the inventory decides it: by the driver's name, or the character device of a variant driver.
fn is_vfio(member: &Member, dir: &Path) -> bool {
    member.device.driver.contains("vfio") || dir.join("vfio-dev").is_dir()
}

fn link_name(path: &Path) -> Option<String> {
    Some(fs::read_link(path).ok()?.file_name()?.to_str()?.to_owned())
}

/// The first name in a folder.
fn first(dir: &Path) -> Option<String> {
    let names = fs::read_dir(dir).ok()?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.min()
}

/// The IOMMU group that a device is in now.
fn group(id: &DeviceId, dir: &Path, node: &Node) -> Result<IommuGroup, AccessError> {
    let path = dir.join("iommu_group");
    let number = link_name(&path).and_then(|name| name.parse().ok());
    let number = number.ok_or_else(|| AccessError::NoGroup { id: id.clone(), path })?;
    inventory::read_group(&node.sysfs, number).map_err(|source| AccessError::Group { id: id.clone(), source })
}

/// What the configuration adds for a device: what is for each one, overridden key by key by what is for this one.
fn extra(info: &AdditionalInfo, member: &Member) -> BTreeMap<String, String> {
    let of = |key: &str| info.get(key).cloned().unwrap_or_default();
    let mut extra = of("*");
    extra.extend(member.address.map(|address| of(&address.to_string())).unwrap_or_default());
    extra
}

struct Needs<'a> {
    id: &'a DeviceId,
    dev: &'a Path,
    access: Access,
}

impl Needs<'_> {
    /// Adds the node `name` of `/dev`, which must exist, and returns its path in the container.
    fn add(&mut self, name: &str, container: &str) -> Result<String, AccessError> {
        let path = self.dev.join(name);
        if !path.exists() {
            return Err(AccessError::NoNode { id: self.id.clone(), path });
        }
        let host = format!("/dev/{name}");
        if !self.access.nodes.iter().any(|node| node.host == host) {
            self.access.nodes.push(DeviceNode { host, container: container.to_owned() });
        }
        Ok(container.to_owned())
    }

    /// Adds a node that the container has under the same name.
    fn add_same(&mut self, name: &str) -> Result<String, AccessError> {
        self.add(name, &format!("/dev/{name}"))
    }

    fn provide<const N: usize>(&mut self, provider: &'static str, keys: [(&str, String); N]) {
        let keys = keys.into_iter().map(|(key, value)| (key.to_owned(), value));
        self.access.info.entry(provider).or_default().extend(keys);
    }

    fn vfio(&mut self, dir: &Path, mode: VfioMode, node: &Node) -> Result<(), AccessError> {
        let group = group(self.id, dir, node)?;
        if let Some(member) = group.blocker() {
            let (number, member, driver) =
                (group.number, member.name.clone(), member.driver.clone().unwrap_or_default());
            return Err(AccessError::NotViable { id: self.id.clone(), number, member, driver });
        }
        if mode != VfioMode::Cdev {
            let mount = self.add("vfio/vfio", VFIO_CONTAINER)?;
            let dev_mount = self.add(&group.node_name(), &group.container_node())?;
            self.provide("vfio", [("mount", mount), ("dev-mount", dev_mount)]);
        }
        if mode != VfioMode::Group {
            let path = dir.join("vfio-dev");
            let name = first(&path).ok_or_else(|| AccessError::NoCdev { id: self.id.clone(), path })?;
            let cdev = self.add_same(&format!("vfio/devices/{name}"))?;
            let iommufd = self.add_same("iommu")?;
            self.provide("vfio", [("cdev-mount", cdev), ("iommufd-mount", iommufd)]);
        }
        Ok(())
    }

    fn uio(&mut self, dir: &Path) -> Result<(), AccessError> {
        let path = dir.join("uio");
        let name = first(&path).ok_or_else(|| AccessError::NoUio { id: self.id.clone(), path })?;
        let mount = self.add_same(&name)?;
        self.provide("uio", [("mount", mount)]);
        Ok(())
    }

    /// As upstream, the last of several nodes of a kind is the one that `_INFO` names.
    fn rdma(&mut self, member: &Member) -> Result<(), AccessError> {
        if member.rdma.is_empty() {
            return Err(self.unusable(Reason::NoRdma));
        }
        for device in &member.rdma {
            for name in &device.char_devices {
                let path = self.add_same(name)?;
                if let Some(key) = rdma_key(name) {
                    self.provide("rdma", [(key, path)]);
                }
            }
            self.provide("rdma", [("rdma_dev", device.name.clone())]);
        }
        Ok(())
    }

    fn vdpa(&mut self, member: &Member, kind: VdpaType) -> Result<(), AccessError> {
        let Some(device) = &member.vdpa else { return Err(self.unusable(Reason::NoVdpa(kind))) };
        match (&device.char_device, kind) {
            (Some(name), VdpaType::Vhost) => {
                let mount = self.add_same(name)?;
                self.provide("vdpa", [("mount", mount)]);
            }
            (None, VdpaType::Vhost) => return Err(self.unusable(Reason::NoVdpa(kind))),
            // A network device of the kernel: there is no node.
            (_, VdpaType::Virtio) => self.provide("vdpa", []),
        }
        Ok(())
    }

    fn unusable(&self, reason: Reason) -> AccessError {
        AccessError::Unusable { id: self.id.clone(), reason }
    }
}

/// The kind of an RDMA device node, as `_INFO` names it: `uverbs` for `infiniband/uverbs0`.
fn rdma_key(name: &str) -> Option<&'static str> {
    let file = name.rsplit('/').next()?;
    ["uverbs", "umad", "issm", "rdma_cm"].into_iter().find(|kind| file.starts_with(kind))
}

/// Every device node that a container may have got for a device, whatever the pool said at the time: for telling which of those
/// that it has are another device's now.
pub(crate) fn may_have(member: &Member, node: &Node) -> Vec<String> {
    let mut nodes: Vec<String> =
        ["/dev/vfio/vfio", "/dev/iommu", "/dev/vhost-net", "/dev/net/tun"].map(str::to_owned).into();
    if let Ok(dir) = function_dir(member, node) {
        nodes.extend(group(member.id(), &dir, node).map(|group| format!("/dev/{}", group.node_name())));
        nodes.extend(first(&dir.join("vfio-dev")).map(|name| format!("/dev/vfio/devices/{name}")));
        nodes.extend(first(&dir.join("uio")).map(|name| format!("/dev/{name}")));
    }
    let rdma = member.rdma.iter().flat_map(|rdma| &rdma.char_devices);
    let vdpa = member.vdpa.iter().filter_map(|vdpa| vdpa.char_device.as_ref());
    nodes.extend(rdma.chain(vdpa).map(|name| format!("/dev/{name}")));
    nodes
}
