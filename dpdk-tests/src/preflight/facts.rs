//! The facts, gathered below roots that are passed in.

use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use std::collections::BTreeMap;

use fairlead_kernel::{Mac, vfio};
use fairlead_resource_config::inventory;
use fairlead_resource_config::{PciAddress, SysRoot, error_text};

use super::addresses::{Expected, expected};
use super::device::{DeviceFacts, NodeState, state};
use super::drivers::Drivers;
use super::hugepages::Hugepages;
use super::interface::InterfaceFacts;
use super::numa::{self, NumaNode};
use super::process::ProcessFacts;
use crate::network_status::Attachment;

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
    /// Programs and libraries.
    pub root: PathBuf,
    /// Folders with programs, as `PATH` lists them.
    pub path: OsString,
}

impl Default for Roots {
    /// Of this machine.
    fn default() -> Self {
        let path = std::env::var_os("PATH").filter(|path| !path.is_empty()).unwrap_or(USUAL_PATH.into());
        Self { sys: SysRoot::default(), proc: "/proc".into(), dev: "/dev".into(), root: "/".into(), path }
    }
}

/// What the facts are about.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wanted<'a> {
    /// Devices that DPDK drives.
    pub devices: &'a [PciAddress],
    /// Interfaces of the kernel.
    pub interfaces: &'a [String],
    /// The testpmd to run, if it was named.
    pub testpmd: Option<&'a Path>,
    /// Addresses that the ports should have, in their order.
    pub macs: &'a [Mac],
    /// The pod's attachments.
    pub attachments: &'a [Attachment],
}

/// Everything that is judged.
#[derive(Debug, Clone, PartialEq)]
pub struct Facts {
    /// The devices.
    pub devices: Vec<DeviceFacts>,
    /// The interfaces.
    pub interfaces: Vec<InterfaceFacts>,
    /// Why sysfs could not be read.
    pub sysfs_error: Option<String>,
    /// `/dev/vfio/vfio`.
    pub vfio: PathBuf,
    /// How that is.
    pub vfio_state: NodeState,
    /// Huge pages.
    pub hugepages: Hugepages,
    /// NUMA nodes.
    pub numa: BTreeMap<u32, NumaNode>,
    /// This process.
    pub process: ProcessFacts,
    /// Whether this looks like a pod.
    pub pod: bool,
    /// testpmd, or what was looked for.
    pub testpmd: Result<PathBuf, String>,
    /// Its drivers.
    pub drivers: Drivers,
    /// Addresses that the ports should have.
    pub expected: BTreeMap<String, Expected>,
    /// The pod's attachments.
    pub attachments: Vec<Attachment>,
}

impl Facts {
    /// Gathers. The group nodes are opened for a moment: they belong to this pod.
    #[must_use]
    pub fn gather(roots: &Roots, wanted: &Wanted<'_>) -> Self {
        let scanned = inventory::scan(&roots.sys, None);
        let sysfs_error = scanned.as_ref().err().map(|error| error_text(error));
        let inventory = scanned.unwrap_or_default();
        let vfio = roots.dev.join("vfio/vfio");
        let vfio_state = state(vfio::check_interface(&vfio).map(|()| true));
        let devices = wanted.devices.iter().map(|address| DeviceFacts::gather(roots, &inventory, *address));
        let interfaces: Vec<InterfaceFacts> =
            wanted.interfaces.iter().map(|name| InterfaceFacts::gather(&roots.sys, name)).collect();
        let testpmd = program(wanted.testpmd, &roots.path);
        Self {
            devices: devices.collect(),
            sysfs_error,
            vfio,
            vfio_state,
            hugepages: Hugepages::gather(roots.sys.path(), &roots.proc),
            numa: numa::gather(roots.sys.path()),
            process: ProcessFacts::gather(&roots.proc, roots.sys.path()),
            pod: is_pod(),
            drivers: Drivers::gather(&roots.root, testpmd.as_deref().ok()),
            testpmd,
            expected: expected(wanted.devices, &interfaces, wanted.macs, wanted.attachments, &inventory),
            attachments: wanted.attachments.to_vec(),
            interfaces,
        }
    }
}

/// Whether this is a container that kubelet started: it gives each this variable, if the cluster has a service at all.
#[must_use]
pub(crate) fn is_pod() -> bool {
    std::env::var_os("KUBERNETES_SERVICE_HOST").is_some()
        || std::env::vars_os().any(|(name, _)| name.to_string_lossy().starts_with("PCIDEVICE_"))
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
        let (sys, proc, dev) = (tree.root(), tree.proc(), tree.dev());
        Roots { sys, proc, root: dev.clone(), dev, path: OsString::new() }
    }

    fn gather(tree: &SysfsTree, devices: [&str; 2]) -> Facts {
        let devices = devices.map(|text| text.parse().unwrap());
        Facts::gather(&roots(tree), &Wanted { devices: &devices, ..Wanted::default() })
    }

    #[test]
    fn devices_are_looked_up_with_group_and_node() {
        let tree = SysfsTree::igb(2);
        tree.bind_vfio("0000:01:10.0");
        let facts = gather(&tree, ["0000:01:10.0", "0000:01:10.2"]);
        let [a, b] = facts.devices.as_slice() else { panic!("{facts:?}") };
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
        assert!(Facts::gather(&nowhere, &Wanted::default()).sysfs_error.is_some());
    }

    #[test]
    fn interfaces_are_looked_up_by_name() {
        let tree = SysfsTree::igb(1);
        let names = ["ens1f0v0".to_owned(), "../ens1f0v0".to_owned()];
        let facts = Facts::gather(&roots(&tree), &Wanted { interfaces: &names, ..Wanted::default() });
        let [known, other] = facts.interfaces.as_slice() else { panic!("{facts:?}") };
        assert!(known.exists && known.carrier == Some(true) && known.mtu == Some(1500));
        assert_eq!(known.mac.unwrap().to_string(), "02:00:00:00:00:01");
        assert!(!other.exists);
    }

    #[test]
    fn a_device_with_a_bifurcated_driver_has_an_uverbs_node_instead() {
        let tree = SysfsTree::igb(1);
        tree.bind("0000:01:10.0", "mlx5_core");
        let device = tree.device("0000:01:10.0");
        fs::create_dir_all(device.join("infiniband/mlx5_2")).unwrap();
        fs::create_dir_all(device.join("infiniband_verbs/uverbs2")).unwrap();
        fs::create_dir_all(tree.dev().join("infiniband")).unwrap();
        let before = gather(&tree, ["0000:01:10.0", "0000:01:10.0"]);
        assert!(before.devices[0].is_bifurcated());
        assert_eq!(before.devices[0].node_state, NodeState::Missing);
        fs::write(tree.dev().join("infiniband/uverbs2"), "").unwrap();
        let facts = gather(&tree, ["0000:01:10.0", "0000:01:10.0"]);
        assert_eq!(facts.devices[0].node, tree.dev().join("infiniband/uverbs2"));
        assert_eq!(facts.devices[0].node_state, NodeState::Opens { viable: true });
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
