//! A node in memory and in a made-up sysfs, which does what the kernel does with the writes of provisioning.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use fairlead_kernel::route::{VfChange, VfState};
use fairlead_kernel::{Link, LinkChange, Mac};

use super::error::KernelError;
use super::node::Folders;
use super::plan::Request;
use super::policy::{self, Policy};
use super::system::System;
use super::usage::UsageSources;
use super::{Apply, Report};
use crate::SysRoot;
use crate::inventory::{Inventory, InventoryError, Scanner};
use crate::test_support::SysfsTree;

pub(super) const PF: &str = "0000:01:00.0";
const PF2: &str = "0000:02:00.0";
const PF_MAC: &str = "52:54:00:fa:01:00";

/// An igb port that can have seven VFs, `0000:01:00.0`, `ens1f0`; at first it is down.
pub(super) struct FakeNode {
    pub(super) tree: SysfsTree,
    root: SysRoot,
    scratch: tempfile::TempDir,
    links: BTreeMap<String, Link>,
    admin: BTreeMap<u32, VfState>,
    /// Modules that modprobe has.
    pub(super) modules: BTreeSet<String>,
    /// The write, by what its path ends with and by its value, that fails, and how.
    pub(super) fails: Option<(String, String, i32)>,
    /// How many changes still go well before one fails, once.
    pub(super) fails_after: Option<usize>,
    /// How long was waited.
    pub(super) paused: Duration,
    /// A second port that appears after so long.
    pub(super) late: Option<Duration>,
    /// All that was changed, in words.
    pub(super) log: Vec<String>,
}

impl FakeNode {
    pub(super) fn new(vfs: u32) -> Self {
        let tree = SysfsTree::igb(0);
        tree.set(PF, "sriov_drivers_autoprobe", "1");
        tree.set(PF, "sriov_numvfs", "0");
        tree.group(1, &[PF]);
        fs::write(tree.root().path().join("bus/pci/drivers_probe"), "").unwrap();
        let mut node = Self {
            root: tree.root(),
            tree,
            scratch: tempfile::tempdir().unwrap(),
            links: BTreeMap::new(),
            admin: BTreeMap::new(),
            modules: ["vfio-pci", "igbvf", "uio_pci_generic"].map(str::to_owned).into(),
            fails: None,
            fails_after: None,
            paused: Duration::ZERO,
            late: None,
            log: Vec::new(),
        };
        let link = Link {
            name: "ens1f0".to_owned(),
            mtu: 1500,
            mac: PF_MAC.parse().ok(),
            permanent_mac: PF_MAC.parse().ok(),
            ..Link::default()
        };
        node.links.insert(link.name.clone(), link);
        for index in 0..vfs {
            node.add_vf(index);
            node.probe(&vf(index));
        }
        node.log.clear();
        node
    }

    /// A second port, `0000:02:00.0`, `ens2f0`.
    pub(super) fn add_second_port(&mut self) {
        self.tree.pf(PF2, "igb", 7);
        self.tree.add_netdev(PF2, "ens2f0");
        let mac = "52:54:00:fa:02:00".parse().ok();
        let link = Link { name: "ens2f0".to_owned(), mtu: 1500, mac, permanent_mac: mac, ..Link::default() };
        self.links.insert(link.name.clone(), link);
    }

    /// With VFs that got no driver, since automatic probing is off.
    pub(super) fn with_unprobed_vfs(vfs: u32) -> Self {
        let mut node = Self::new(0);
        node.tree.set(PF, "sriov_drivers_autoprobe", "0");
        for index in 0..vfs {
            node.add_vf(index);
        }
        node
    }

    pub(super) fn folders(&self) -> Folders {
        let dir = self.scratch.path();
        Folders {
            usage: UsageSources {
                kubelet_root: dir.join("kubelet"),
                attachments: dir.join("attachments"),
                proc: self.tree.proc(),
                dev: self.tree.dev(),
            },
            state_dir: dir.join("state"),
            run_dir: dir.join("run"),
            udev_rules: dir.join("rules.d"),
        }
    }

    /// Applies a policy, given as YAML.
    pub(super) fn apply(&mut self, text: &str) -> Report {
        self.apply_with(text, &Request::default())
    }

    pub(super) fn apply_with(&mut self, text: &str, request: &Request) -> Report {
        let policy = policy(text);
        self.log.clear();
        let folders = self.folders();
        let report = Report::new(&request.node.name, Path::new("policy.yaml"));
        let wait = Duration::from_secs(3);
        Apply { policy: &policy, request, folders: &folders, system: self, wait, progress: &mut |_| () }
            .run(report)
    }

    /// Everything that provisioning changes, as text.
    pub(super) fn snapshot(&self) -> String {
        let pf = ["sriov_numvfs", "sriov_drivers_autoprobe"].map(|name| self.attribute(PF, name));
        let port = self.link_named("ens1f0");
        let mut lines = vec![format!("{pf:?} {} {}", port.up, port.mtu)];
        for (index, admin) in &self.admin {
            let netdev = self.links.get(&format!("ens1f0v{index}")).map(|link| link.mtu);
            lines.push(format!("{index} {:?} {netdev:?} {admin:?}", self.driver(*index)));
        }
        lines.join("\n")
    }

    fn fails_now(&mut self) -> bool {
        let left = self.fails_after;
        self.fails_after = left.and_then(|left| left.checked_sub(1));
        left == Some(0)
    }

    pub(super) fn driver(&self, index: u32) -> Option<String> {
        super::files::link_name(&self.tree.device(&vf(index)), "driver")
    }

    pub(super) fn attribute(&self, address: &str, name: &str) -> String {
        fs::read_to_string(self.tree.device(address).join(name)).unwrap().trim().to_owned()
    }

    pub(super) fn admin(&self, index: u32) -> &VfState {
        &self.admin[&index]
    }

    pub(super) fn link_named(&self, name: &str) -> &Link {
        &self.links[name]
    }

    fn autoprobe(&self) -> bool {
        // Kernels without the switch always probe.
        super::files::attribute(&self.tree.device(PF), "sriov_drivers_autoprobe")
            .is_none_or(|text| text == "1")
    }

    fn add_vf(&mut self, index: u32) {
        let address = vf(index);
        self.tree.vf(PF, &address, index, "");
        self.tree.group(10 + index, &[&address]);
        self.tree.set(&address, "driver_override", "(null)");
        let state = VfState {
            vf: index,
            mac: Some(Mac::ZERO),
            spoof_check: Some(true),
            trust: Some(false),
            ..VfState::default()
        };
        self.admin.insert(index, state);
    }

    fn set_number(&mut self, number: u32) -> io::Result<()> {
        let now: u32 = self.attribute(PF, "sriov_numvfs").parse().unwrap();
        if number > 0 && now > 0 {
            return Err(io::Error::from_raw_os_error(16));
        }
        for index in 0..now {
            self.unbind(&vf(index));
            self.tree.unset(PF, &format!("virtfn{index}"));
            self.tree.remove(&vf(index));
            fs::remove_dir_all(self.root.path().join(format!("kernel/iommu_groups/{}", 10 + index)))?;
            self.admin.remove(&index);
        }
        for index in 0..number {
            self.add_vf(index);
            if self.autoprobe() {
                self.probe(&vf(index));
            }
        }
        self.tree.set(PF, "sriov_numvfs", &number.to_string());
        Ok(())
    }

    /// What the kernel does when it is asked to find a driver.
    fn probe(&mut self, address: &str) {
        let wanted = self.attribute(address, "driver_override");
        let wanted = if wanted == "(null)" { String::new() } else { wanted };
        if wanted.is_empty() && !self.autoprobe() {
            return;
        }
        let index = (0..8).find(|index| vf(*index) == address).unwrap();
        match wanted.as_str() {
            "" => {
                let name = format!("ens1f0v{index}");
                self.tree.bind(address, "igbvf");
                self.tree.add_netdev(address, &name);
                let own: Mac = "02:00:00:00:00:01".parse().unwrap();
                let mac = self.admin[&index].mac.filter(|mac| !mac.is_zero()).unwrap_or(own);
                self.tree.set(address, &format!("net/{name}/address"), &mac.to_string());
                self.links.insert(name.clone(), Link { name, mtu: 1500, mac: Some(mac), ..Link::default() });
            }
            driver if self.modules.contains(driver) => self.tree.bind(address, driver),
            _ => {}
        }
    }

    fn unbind(&mut self, address: &str) {
        let index = (0..8).find(|index| vf(*index) == address).unwrap();
        let name = format!("ens1f0v{index}");
        if self.links.remove(&name).is_some() {
            self.tree.remove_netdev(address, &name);
        }
        self.tree.bind(address, "");
    }
}

impl System for FakeNode {
    fn root(&self) -> &SysRoot {
        &self.root
    }

    fn scan(&mut self) -> Result<Inventory, InventoryError> {
        Scanner::sysfs(self.root.path()).with_proc(&self.tree.proc()).scan()
    }

    fn link(&mut self, netdev: &str) -> Result<Link, KernelError> {
        self.links.get(netdev).cloned().ok_or_else(|| format!("{netdev} does not exist").into())
    }

    fn vfs(&mut self, _: &str) -> Result<Option<Vec<VfState>>, KernelError> {
        Ok(Some(self.admin.values().cloned().collect()))
    }

    fn set_link(&mut self, netdev: &str, change: &LinkChange<'_>) -> Result<(), KernelError> {
        if self.fails_now() {
            return Err("the kernel refuses".into());
        }
        let most = self.links["ens1f0"].mtu;
        let link = self.links.get_mut(netdev).ok_or("no such link")?;
        if let Some(mtu) = change.mtu {
            if mtu > 9216 || (netdev != "ens1f0" && mtu > most) {
                return Err(format!("MTU {mtu} is refused").into());
            }
            self.log.push(format!("{netdev} mtu {mtu}"));
            link.mtu = mtu;
        }
        if let Some(up) = change.up {
            self.log.push(format!("{netdev} {}", if up { "up" } else { "down" }));
            link.up = up;
        }
        let mtu = link.mtu.to_string();
        let address = match netdev {
            "ens1f0" => PF.to_owned(),
            "ens2f0" => PF2.to_owned(),
            vf_netdev => vf(vf_netdev["ens1f0v".len()..].parse()?),
        };
        self.tree.set(&address, &format!("net/{netdev}/mtu"), &mtu);
        Ok(())
    }

    fn set_vf(&mut self, _: &str, vf: u32, change: &VfChange) -> Result<(), KernelError> {
        if self.fails_now() {
            return Err("the kernel refuses".into());
        }
        let state = self.admin.get_mut(&vf).ok_or("no such VF")?;
        self.log.push(format!("admin {vf}"));
        state.mac = change.mac.or(state.mac);
        state.trust = change.trust.or(state.trust);
        state.spoof_check = change.spoof_check.or(state.spoof_check);
        Ok(())
    }

    fn write(&mut self, path: &Path, value: &str) -> io::Result<()> {
        if self.fails_now() {
            return Err(io::Error::from_raw_os_error(5));
        }
        let relative = path.strip_prefix(self.root.path()).unwrap().to_str().unwrap().to_owned();
        if let Some((end, wanted, errno)) = &self.fails
            && relative.ends_with(end.as_str())
            && wanted == value
        {
            return Err(io::Error::from_raw_os_error(*errno));
        }
        let (folder, name) = relative.rsplit_once('/').unwrap();
        self.log.push(format!("{name} {value}"));
        match name {
            "sriov_numvfs" => self.set_number(value.parse().unwrap())?,
            "drivers_probe" => self.probe(value),
            "unbind" => self.unbind(value),
            "sriov_drivers_autoprobe" => self.tree.set(PF, name, value),
            "driver_override" => {
                let address = folder.rsplit('/').next().unwrap();
                self.tree.set(address, name, if value.is_empty() { "(null)" } else { value });
            }
            _ => fs::write(path, value)?,
        }
        Ok(())
    }

    fn load_module(&mut self, module: &str) -> Result<(), String> {
        self.log.push(format!("modprobe {module}"));
        self.modules.contains(module).then_some(()).ok_or_else(|| format!("Module {module} is missing"))
    }

    fn settle(&mut self) {}

    fn reload_rules(&mut self) {
        self.log.push("reload rules".to_owned());
    }

    fn pause(&mut self, time: Duration) {
        self.paused += time;
        if self.late.take_if(|at| self.paused >= *at).is_some() {
            self.add_second_port();
        }
    }
}

/// The address of a VF of the port.
pub(super) fn vf(index: u32) -> String {
    format!("0000:01:{:02x}.{}", 0x10 + index / 4, index % 4 * 2)
}

pub(super) fn policy(text: &str) -> Policy {
    policy::parse(text, Path::new("policy.yaml")).unwrap().policy
}
