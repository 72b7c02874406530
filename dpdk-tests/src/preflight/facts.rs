//! The facts, gathered below roots that are passed in.

use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use fairlead_kernel::vfio::{self, VfioError};
use fairlead_resource_config::inventory::{self, Function, Inventory, IommuGroup};
use fairlead_resource_config::{PciAddress, SysRoot, error_text};

use super::hugepages::Hugepages;
use super::process::ProcessFacts;

/// The names under which distributions install testpmd.
const PROGRAMS: [&str; 2] = ["dpdk-testpmd", "testpmd"];

/// Where shells look when there is no `PATH`, as in a container whose image sets none.
const USUAL_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Where to look.
#[derive(Debug, Clone)]
pub struct Roots {
    /// sysfs.
    pub sys: SysRoot,
    /// proc.
    pub proc: PathBuf,
    /// Device nodes.
    pub dev: PathBuf,
    /// Folders with programs, as `PATH` lists them.
    pub path: OsString,
}

impl Default for Roots {
    /// Of this machine.
    fn default() -> Self {
        let path = std::env::var_os("PATH").filter(|path| !path.is_empty()).unwrap_or(USUAL_PATH.into());
        Self { sys: SysRoot::default(), proc: "/proc".into(), dev: "/dev".into(), path }
    }
}

/// A device node of VFIO.
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
    /// The group's node in the container.
    pub node: PathBuf,
    /// How that is.
    pub node_state: NodeState,
}

/// Everything that is judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The two devices.
    pub devices: [DeviceFacts; 2],
    /// Why sysfs could not be read.
    pub sysfs_error: Option<String>,
    /// `/dev/vfio/vfio`.
    pub vfio: PathBuf,
    /// How that is.
    pub vfio_state: NodeState,
    /// Huge pages.
    pub hugepages: Hugepages,
    /// This process.
    pub process: ProcessFacts,
    /// testpmd, or what was looked for.
    pub testpmd: Result<PathBuf, String>,
}

impl Facts {
    /// Gathers. The group nodes are opened for a moment: they belong to this pod.
    #[must_use]
    pub fn gather(roots: &Roots, devices: [PciAddress; 2], testpmd: Option<&Path>) -> Self {
        let scanned = inventory::scan(&roots.sys, None);
        let sysfs_error = scanned.as_ref().err().map(|error| error_text(error));
        let inventory = scanned.unwrap_or_default();
        let vfio = roots.dev.join("vfio/vfio");
        let vfio_state = state(vfio::check_interface(&vfio).map(|()| true));
        Self {
            devices: devices.map(|address| device(roots, &inventory, address)),
            sysfs_error,
            vfio,
            vfio_state,
            hugepages: Hugepages::gather(roots.sys.path(), &roots.proc),
            process: ProcessFacts::gather(&roots.proc),
            testpmd: program(testpmd, &roots.path),
        }
    }
}

fn device(roots: &Roots, inventory: &Inventory, address: PciAddress) -> DeviceFacts {
    let function = inventory.function(&address).cloned();
    let number = function.as_ref().and_then(|function| function.iommu_group);
    let group = number.and_then(|number| inventory.iommu_groups.get(&number)).cloned();
    let node = number.map_or_else(PathBuf::new, |number| node(&roots.dev, number));
    let node_state = match number {
        None => NodeState::Missing,
        Some(_) => state(vfio::group_status(&node).map(|status| status.viable)),
    };
    let exists = roots.sys.pci_device(&address).exists();
    DeviceFacts { address, exists, function, group, node, node_state }
}

/// The group's node, where DPDK looks too: the device plugin gives groups without IOMMU the plain name, the host does not.
fn node(dev: &Path, number: u32) -> PathBuf {
    let plain = dev.join(format!("vfio/{number}"));
    let noiommu = dev.join(format!("vfio/noiommu-{number}"));
    if !plain.exists() && noiommu.exists() { noiommu } else { plain }
}

fn state(answer: Result<bool, VfioError>) -> NodeState {
    match answer {
        Ok(viable) => NodeState::Opens { viable },
        Err(VfioError::Missing { .. }) => NodeState::Missing,
        Err(VfioError::InUse { .. }) => NodeState::InUse,
        Err(error) => NodeState::Bad(error_text(&error)),
    }
}

fn program(given: Option<&Path>, path: &OsString) -> Result<PathBuf, String> {
    let runs = |path: &Path| {
        path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    };
    if let Some(given) = given {
        return if runs(given) {
            Ok(given.to_owned())
        } else {
            Err(format!("{} is not a program that can be run", given.display()))
        };
    }
    let folders: Vec<PathBuf> = std::env::split_paths(path).collect();
    PROGRAMS
        .iter()
        .flat_map(|name| folders.iter().map(move |folder| folder.join(name)))
        .find(|path| runs(path))
        .ok_or_else(|| format!("neither {} is in PATH ({})", PROGRAMS.join(" nor "), path.display()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use fairlead_resource_config::test_support::SysfsTree;

    use super::*;

    fn roots(tree: &SysfsTree) -> Roots {
        Roots { sys: tree.root(), proc: tree.proc(), dev: tree.dev(), path: OsString::new() }
    }

    fn gather(tree: &SysfsTree, devices: [&str; 2]) -> Facts {
        Facts::gather(&roots(tree), devices.map(|text| text.parse().unwrap()), None)
    }

    #[test]
    fn devices_are_looked_up_with_group_and_node() {
        let tree = SysfsTree::igb(2);
        tree.bind_vfio("0000:01:10.0");
        let facts = gather(&tree, ["0000:01:10.0", "0000:01:10.2"]);
        let [a, b] = &facts.devices;
        assert!(a.exists && a.function.as_ref().unwrap().is_vfio());
        assert_eq!(a.group.as_ref().unwrap().number, 10);
        assert_eq!(a.node, tree.dev().join("vfio/10"));
        // The made-up node is an ordinary file, which does not answer as VFIO does.
        assert!(matches!(&a.node_state, NodeState::Bad(why) if why.contains("VFIO")), "{:?}", a.node_state);
        assert!(matches!(facts.vfio_state, NodeState::Bad(_)));
        assert_eq!(b.node_state, NodeState::Missing);
        assert!(!b.function.as_ref().unwrap().is_vfio());
    }

    #[test]
    fn groups_without_iommu_have_another_node_on_the_host() {
        let tree = SysfsTree::igb(2);
        tree.bind_vfio("0000:01:10.0");
        tree.noiommu(10);
        let facts = gather(&tree, ["0000:01:10.0", "0000:01:10.2"]);
        assert!(facts.devices[0].group.as_ref().unwrap().noiommu);
        assert_eq!(facts.devices[0].node, tree.dev().join("vfio/noiommu-10"));
    }

    #[test]
    fn a_missing_device_and_a_missing_sysfs_are_facts_too() {
        let tree = SysfsTree::igb(1);
        let facts = gather(&tree, ["0000:01:10.0", "0000:05:00.0"]);
        assert!(!facts.devices[1].exists && facts.sysfs_error.is_none());
        let nowhere = Roots { sys: SysRoot::new(tree.dev().join("nowhere")), ..roots(&tree) };
        let device = "0000:01:10.0".parse().unwrap();
        assert!(Facts::gather(&nowhere, [device, device], None).sysfs_error.is_some());
    }

    #[test]
    fn testpmd_is_looked_for_on_the_path() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().as_os_str().to_owned();
        let file = folder.path().join("testpmd");
        assert!(program(None, &path).unwrap_err().contains("dpdk-testpmd"));
        fs::write(&file, "").unwrap();
        assert!(program(None, &path).is_err());
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(program(None, &path), Ok(file.clone()));
        assert_eq!(program(Some(&file), &OsString::new()), Ok(file));
        assert!(
            program(Some(Path::new("/nowhere/testpmd")), &path).unwrap_err().contains("/nowhere/testpmd")
        );
    }
}
