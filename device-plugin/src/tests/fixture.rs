//! A node and a plugin for tests.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use fairlead_resource_config::config::{self, Config};
use fairlead_resource_config::inventory::{Inventory, Scanner};
use fairlead_resource_config::pools;
use fairlead_resource_config::test_support::SysfsTree;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::kubelet::within;
use crate::in_use::InUse;
use crate::plan::{Memory, View, plan};
use crate::pool::Listing;
use crate::{ConfigSource, Node, Options, Registration, StartError, Stop, run};

/// Two pools as people have them: VFs on the kernel driver, and VFs on vfio-pci.
pub(crate) const TWO_POOLS: &str = r#"{"resourceList":[
    {"resourceName":"sriov","selectors":{"drivers":["igbvf"]}},
    {"resourceName":"sriov_dpdk","excludeTopology":true,"selectors":{"drivers":["vfio-pci"]},
     "additionalInfo":{"*":{"token":"a","rack":"7"},"0000:01:10.4":{"token":"b"}}}]}"#;

pub(crate) const KERNEL_SOCKET: &str = "intel.com_sriov.sock";
pub(crate) const DPDK_SOCKET: &str = "intel.com_sriov_dpdk.sock";

/// A node with four VFs, two of them on vfio-pci.
pub(crate) struct Fixture {
    pub(crate) tree: SysfsTree,
    dir: tempfile::TempDir,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        Self::of(tree(), TWO_POOLS)
    }

    pub(crate) fn of(tree: SysfsTree, config: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("kubelet/device-plugins")).unwrap();
        fs::create_dir_all(dir.path().join("config")).unwrap();
        let fixture = Self { tree, dir };
        fixture.configure(config);
        fixture
    }

    pub(crate) fn config_file(&self) -> PathBuf {
        self.dir.path().join("config/config.json")
    }

    /// Replaces the configuration.
    pub(crate) fn configure(&self, text: &str) {
        fs::write(self.config_file(), text).unwrap();
    }

    pub(crate) fn node(&self) -> Node {
        Node {
            kubelet_root: self.dir.path().join("kubelet"),
            sysfs: self.tree.root(),
            proc: self.tree.proc(),
            dev: self.tree.dev(),
            devinfo_dir: self.devinfo(),
            run_dir: self.run_dir(),
        }
    }

    pub(crate) fn options(&self) -> Options {
        Options {
            config: ConfigSource {
                path: self.config_file(),
                default_prefix: config::DEFAULT_PREFIX.to_owned(),
            },
            node: self.node(),
            rescan_interval: Duration::from_millis(20),
            registration: Registration::Auto,
            cdi: false,
            cdi_dir: self.dir.path().join("cdi"),
            http: None,
        }
    }

    pub(crate) fn kubelet_root(&self) -> PathBuf {
        self.dir.path().join("kubelet")
    }

    pub(crate) fn sockets(&self) -> PathBuf {
        self.kubelet_root().join("device-plugins")
    }

    pub(crate) fn registry(&self) -> PathBuf {
        self.kubelet_root().join("plugins_registry")
    }

    pub(crate) fn devinfo(&self) -> PathBuf {
        self.dir.path().join("devinfo/dp")
    }

    pub(crate) fn run_dir(&self) -> PathBuf {
        self.dir.path().join("run")
    }

    pub(crate) fn config(&self) -> Config {
        config::load(&self.config_file(), config::DEFAULT_PREFIX).unwrap().config
    }

    pub(crate) fn inventory(&self) -> Inventory {
        Scanner::sysfs(self.tree.root().path()).with_proc(&self.tree.proc()).scan().unwrap()
    }

    /// What the pools list now, in the order of the configuration.
    pub(crate) fn listings(&self) -> Vec<Listing> {
        let (config, inventory) = (self.config(), self.inventory());
        let view = View {
            inventory: &inventory,
            config: &config,
            in_use: &InUse::default(),
            provisioning: &BTreeSet::new(),
            now: Instant::now(),
        };
        let mut plan = plan(&view, pools::assign(&inventory, &config), &mut Memory::default());
        let listing = |resource: &config::Resource| plan.pools.remove(&resource.name.to_string()).unwrap();
        config.resources.iter().map(listing).collect()
    }

    pub(crate) fn start_plugin(&self) -> Plugin {
        Plugin::start(self.options())
    }
}

/// Four VFs, two of them on vfio-pci.
pub(crate) fn tree() -> SysfsTree {
    let tree = SysfsTree::igb(4);
    tree.bind_vfio("0000:01:10.4");
    tree.bind_vfio("0000:01:10.6");
    tree
}

/// A running plugin.
pub(crate) struct Plugin {
    stop: Stop,
    pub(crate) reload: Arc<Notify>,
    task: JoinHandle<Result<(), StartError>>,
}

impl Plugin {
    pub(crate) fn start(options: Options) -> Self {
        let (stop, reload) = (Stop::default(), Arc::new(Notify::new()));
        let task = tokio::spawn(run(options, stop.clone(), reload.clone()));
        Self { stop, reload, task }
    }

    pub(crate) async fn stop(self) {
        self.stop.stop();
        within(self.task).await.unwrap().unwrap();
    }
}

/// Gives a function an RDMA device of this number, with a character device.
pub(crate) fn add_rdma(tree: &SysfsTree, address: &str, number: u32) {
    let device = tree.device(address);
    fs::create_dir_all(device.join(format!("infiniband/mlx5_{number}"))).unwrap();
    fs::create_dir_all(device.join(format!("infiniband_verbs/uverbs{number}"))).unwrap();
    let nodes = tree.dev().join("infiniband");
    fs::create_dir_all(&nodes).unwrap();
    for name in [format!("uverbs{number}"), "rdma_cm".to_owned()] {
        fs::write(nodes.join(name), "").unwrap();
    }
}

/// Gives a function a vDPA device of this number on `vhost_vdpa`.
pub(crate) fn add_vdpa(tree: &SysfsTree, address: &str, number: u32) {
    let device = tree.device(address).join(format!("vdpa{number}"));
    fs::create_dir_all(device.join(format!("vhost-vdpa-{number}"))).unwrap();
    let bus = tree.root().path().join("bus/vdpa");
    for folder in ["drivers/vhost_vdpa", "devices"] {
        fs::create_dir_all(bus.join(folder)).unwrap();
    }
    std::os::unix::fs::symlink(bus.join("drivers/vhost_vdpa"), device.join("driver")).unwrap();
    std::os::unix::fs::symlink(&device, bus.join(format!("devices/vdpa{number}"))).unwrap();
    fs::write(tree.dev().join(format!("vhost-vdpa-{number}")), "").unwrap();
}
