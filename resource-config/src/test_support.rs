//! A made-up sysfs in a temporary folder, for tests. Laid out as the kernel does: folders below `devices`, links elsewhere.
#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a test that cannot write its tree has to fail"
)]

mod metrics;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::{PciAddress, SysRoot};

pub use metrics::table_differences;

/// A sysfs tree, and beside it a `/dev` and a `/proc`, removed when dropped.
#[derive(Debug)]
pub struct SysfsTree {
    dir: tempfile::TempDir,
}

impl Default for SysfsTree {
    fn default() -> Self {
        Self::new()
    }
}

impl SysfsTree {
    /// An empty tree.
    #[must_use]
    pub fn new() -> Self {
        let tree = Self { dir: tempfile::tempdir().unwrap() };
        for folder in
            ["sys/bus/pci/devices", "sys/class/net", "sys/kernel/iommu_groups", "dev/vfio", "proc/net"]
        {
            fs::create_dir_all(tree.dir.path().join(folder)).unwrap();
        }
        tree
    }

    /// An igb port at `0000:01:00.0`, network device `ens1f0`, with `vfs` VFs `0000:01:10.0`, `.2`, `.4`, ... on igbvf, each in
    /// an IOMMU group of its own (10, 11, ...) with a network device `ens1f0v0`, `ens1f0v1`, ...
    #[must_use]
    pub fn igb(vfs: u32) -> Self {
        let tree = Self::new();
        tree.pf("0000:01:00.0", "igb", 7);
        tree.add_netdev("0000:01:00.0", "ens1f0");
        for index in 0..vfs {
            tree.igb_vf(index);
        }
        tree
    }

    /// Adds the VF of this index to the port made by [`SysfsTree::igb`], and returns its address.
    pub fn igb_vf(&self, index: u32) -> String {
        let address = format!("0000:01:{:02x}.{}", 0x10 + index / 4, index % 4 * 2);
        self.vf("0000:01:00.0", &address, index, "igbvf");
        self.add_netdev(&address, &format!("ens1f0v{index}"));
        self.group(10 + index, &[&address]);
        address
    }

    /// Where sysfs is.
    #[must_use]
    pub fn root(&self) -> SysRoot {
        SysRoot::new(self.dir.path().join("sys"))
    }

    /// Where `/dev` is.
    #[must_use]
    pub fn dev(&self) -> PathBuf {
        self.dir.path().join("dev")
    }

    /// Where `/proc` is.
    #[must_use]
    pub fn proc(&self) -> PathBuf {
        self.dir.path().join("proc")
    }

    /// The folder of a function.
    #[must_use]
    pub fn device(&self, address: &str) -> PathBuf {
        self.root().path().join("devices/pci0000:00").join(address)
    }

    /// A function of the network class without SR-IOV.
    pub fn function(&self, address: &str, vendor_device: &str, driver: &str) {
        let dir = self.device(address);
        fs::create_dir_all(&dir).unwrap();
        let root = self.root();
        symlink(&dir, root.pci_device(&address.parse::<PciAddress>().unwrap())).unwrap();
        let (vendor, device) = vendor_device.split_once(':').unwrap();
        self.set(address, "vendor", &format!("0x{vendor}"));
        self.set(address, "device", &format!("0x{device}"));
        self.set(address, "class", "0x020000");
        self.set(address, "numa_node", "0");
        self.bind(address, driver);
    }

    /// A PF without VFs.
    pub fn pf(&self, address: &str, driver: &str, total_vfs: u32) {
        self.function(address, "8086:10c9", driver);
        self.set(address, "sriov_totalvfs", &total_vfs.to_string());
        self.set(address, "sriov_numvfs", "0");
    }

    /// A VF of `pf`, which must have the VFs of lower index already.
    pub fn vf(&self, pf: &str, address: &str, index: u32, driver: &str) {
        self.function(address, "8086:10ca", driver);
        symlink(format!("../{pf}"), self.device(address).join("physfn")).unwrap();
        symlink(format!("../{address}"), self.device(pf).join(format!("virtfn{index}"))).unwrap();
        self.set(pf, "sriov_numvfs", &(index + 1).to_string());
    }

    /// Writes an attribute of a function; `attribute` may name one of its network devices, as in `net/ens1f0/type`.
    pub fn set(&self, address: &str, attribute: &str, value: &str) {
        fs::write(self.device(address).join(attribute), format!("{value}\n")).unwrap();
    }

    /// Removes an attribute or a link of a function.
    pub fn unset(&self, address: &str, attribute: &str) {
        fs::remove_file(self.device(address).join(attribute)).unwrap();
    }

    /// Binds a function to a driver (empty: to none). Network devices stay; see [`SysfsTree::bind_vfio`].
    pub fn bind(&self, address: &str, driver: &str) {
        let link = self.device(address).join("driver");
        remove(&link);
        if !driver.is_empty() {
            let target = self.root().path().join("bus/pci/drivers").join(driver);
            fs::create_dir_all(&target).unwrap();
            symlink(target, link).unwrap();
        }
    }

    /// Binds a function to vfio-pci: its network devices go and the node of its group appears in `/dev`.
    pub fn bind_vfio(&self, address: &str) {
        remove_tree(&self.device(address).join("net"));
        self.bind(address, "vfio-pci");
        let group = fs::read_link(self.device(address).join("iommu_group")).unwrap();
        fs::write(self.dev().join("vfio/vfio"), "").unwrap();
        fs::write(self.dev().join("vfio").join(group.file_name().unwrap()), "").unwrap();
    }

    /// Gives a function a network device in the host's network namespace.
    pub fn add_netdev(&self, address: &str, name: &str) {
        let dir = self.device(address).join("net").join(name);
        fs::create_dir_all(&dir).unwrap();
        symlink(&dir, self.root().netdev(name)).unwrap();
        for (attribute, value) in [
            ("address", "02:00:00:00:00:01"),
            ("mtu", "1500"),
            ("operstate", "up"),
            ("carrier", "1"),
            ("type", "1"),
            ("dev_port", "0"),
        ] {
            fs::write(dir.join(attribute), format!("{value}\n")).unwrap();
        }
    }

    /// Takes a network device away, as when it moves into a pod.
    pub fn remove_netdev(&self, address: &str, name: &str) {
        remove_tree(&self.device(address).join("net").join(name));
        remove(&self.root().netdev(name));
    }

    /// Stacks the network device `upper` on `lower`, as its master or not.
    pub fn stack(&self, lower: &str, upper: &str, is_master: bool) {
        let target = self.root().netdev(upper);
        fs::create_dir_all(&target).unwrap();
        let dir = self.root().netdev(lower);
        symlink(&target, dir.join(format!("upper_{upper}"))).unwrap();
        if is_master {
            symlink(&target, dir.join("master")).unwrap();
        }
    }

    /// Gives the host an IPv4 default route over a network device.
    pub fn default_route(&self, netdev: &str) {
        let header = "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT";
        let route = format!("{netdev} 00000000 0101A8C0 0003 0 0 0 00000000 0 0 0");
        fs::write(self.proc().join("net/route"), format!("{header}\n{route}\n")).unwrap();
    }

    /// Puts functions into an IOMMU group.
    pub fn group(&self, number: u32, addresses: &[&str]) {
        let dir = self.root().path().join(format!("kernel/iommu_groups/{number}"));
        fs::create_dir_all(dir.join("devices")).unwrap();
        for address in addresses {
            let link = self.device(address).join("iommu_group");
            remove(&link);
            symlink(&dir, link).unwrap();
            symlink(self.device(address), dir.join("devices").join(address)).unwrap();
        }
    }

    /// Makes a group one of VFIO's mode without IOMMU, with the node that this has.
    pub fn noiommu(&self, number: u32) {
        let dir = self.root().path().join(format!("kernel/iommu_groups/{number}"));
        fs::write(dir.join("name"), "vfio-noiommu\n").unwrap();
        remove(&self.dev().join(format!("vfio/{number}")));
        fs::write(self.dev().join(format!("vfio/noiommu-{number}")), "").unwrap();
    }

    /// Removes a function, but not its PF's link to it.
    pub fn remove(&self, address: &str) {
        remove(&self.root().pci_device(&address.parse::<PciAddress>().unwrap()));
        remove_tree(&self.device(address));
    }
}

fn remove(path: &Path) {
    if path.symlink_metadata().is_ok() {
        fs::remove_file(path).unwrap();
    }
}

fn remove_tree(path: &Path) {
    if path.exists() {
        fs::remove_dir_all(path).unwrap();
    }
}
