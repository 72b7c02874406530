//! VFs of the emulated node's port, shared out among the tests.

use std::{
    fs,
    panic::AssertUnwindSafe,
    path::{Path, PathBuf},
    process::Command,
    sync::{Condvar, Mutex, OnceLock, PoisonError},
    thread,
    time::{Duration, Instant},
};

use fairlead_kernel::{
    Link, LinkChange, Route,
    route::{OperState, VfChange, VfState, VfVlan, VlanProtocol},
};
use serde_json::{Value, json};

use crate::support::{Bed, Namespace, skip};

/// As many as igb has.
pub(crate) const VFS: usize = 7;
/// How long a test waits for VFs that others have, and for the node to settle.
const LIMIT: Duration = Duration::from_secs(300);

/// VFs that nobody has.
static FREE: (Mutex<Vec<String>>, Condvar) = (Mutex::new(Vec::new()), Condvar::new());
static SETUP: OnceLock<()> = OnceLock::new();

/// A VF as the host sees it: its network device, if it has one there, and what the PF has set.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct State {
    pub(crate) link: Option<Link>,
    pub(crate) vf: VfState,
}

/// The node, with VFs for one test.
pub(crate) struct Node {
    pub(crate) bed: Bed,
    /// PCI addresses.
    pub(crate) vfs: Vec<String>,
    before: Vec<State>,
}

impl Node {
    /// `None`, and said, where there is no port for this.
    pub(crate) fn new(test: &str, count: usize) -> Option<Self> {
        let Ok(pf) = std::env::var("FAIRLEAD_TEST_PF") else {
            skip(&format!("{test} needs VFs of FAIRLEAD_TEST_PF"));
            return None;
        };
        SETUP.get_or_init(|| set_up(&pf));
        let (free, returned) = &FREE;
        let limit = Instant::now() + LIMIT;
        let mut free = free.lock().unwrap_or_else(PoisonError::into_inner);
        while free.len() < count {
            let left = limit.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "there are no {count} clean VFs left");
            free = returned.wait_timeout(free, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        let rest = free.len() - count;
        let vfs = free.split_off(rest);
        drop(free);
        let before = vfs.iter().map(|vf| state(vf)).collect();
        Some(Self { bed: Bed::of_node(), vfs, before })
    }

    /// A network for the VF of this place, with these keys.
    pub(crate) fn config(&self, place: usize, keys: &Value) -> Value {
        let mut config =
            json!({"cniVersion": "1.1.0", "name": "net", "type": "sriov", "deviceID": self.vfs[place]});
        for (key, value) in keys.as_object().unwrap() {
            config[key] = value.clone();
        }
        config
    }

    pub(crate) fn add(&self, container: &str, pod: &Namespace, config: &Value) -> Result<Value, Value> {
        self.bed.call("sriov", "ADD", config, container, &pod.path())
    }

    pub(crate) fn del(&self, container: &str, pod: &Namespace, config: &Value) {
        assert_eq!(self.bed.call("sriov", "DEL", config, container, &pod.path()), Ok(Value::Null));
    }

    /// The VF of this place as it is now.
    pub(crate) fn state(&self, place: usize) -> State {
        state(&self.vfs[place])
    }

    /// As it was at first.
    pub(crate) fn before(&self, place: usize) -> State {
        self.before[place].clone()
    }

    /// Name of the VF's network device in the host at first.
    pub(crate) fn name(&self, place: usize) -> String {
        self.before[place].link.as_ref().unwrap().name.clone()
    }

    /// Changes the VF's network device in the host.
    pub(crate) fn set(&self, place: usize, change: &LinkChange<'_>) {
        let mut route = Route::open().unwrap();
        let name = self.state(place).link.unwrap().name;
        let link = route.link_by_name(&name).unwrap().unwrap();
        route.set_link(&link, change).unwrap();
    }

    /// Gives the VF of this place its network device anew, whatever has become of that: udev names it as at first, and it gets
    /// the address that it had, since a driver that is bound anew takes another one where the PF has none for it.
    pub(crate) fn rebind(&self, place: usize) {
        bind(&self.vfs[place], "none");
        bind(&self.vfs[place], "igbvf");
        self.set(place, &LinkChange { mac: self.before(place).link.unwrap().mac, ..LinkChange::default() });
    }

    /// Whether the VF of this place is as it was. udev may still be at work on a device that came home by itself.
    fn becomes_clean(&self, place: usize) -> bool {
        let limit = Instant::now() + Duration::from_secs(10);
        while self.state(place) != self.before[place] {
            if Instant::now() > limit {
                return false;
            }
            thread::sleep(Duration::from_millis(100));
        }
        true
    }

    /// Fails unless the VFs and our stores are as they were.
    pub(crate) fn assert_clean(&self) {
        for (place, vf) in self.vfs.iter().enumerate() {
            assert!(
                self.becomes_clean(place),
                "{vf}: {:?} and not {:?}",
                self.state(place),
                self.before[place]
            );
        }
        for folder in ["state/attachments", "state/devices", "networks/net"] {
            let left = fs::read_dir(self.bed.dir.path().join(folder)).into_iter().flatten().flatten();
            let left: Vec<PathBuf> = left.map(|entry| entry.path()).collect();
            let is_known = |path: &PathBuf| path.ends_with("lock") || path.ends_with(".fairlead");
            assert!(
                left.iter().all(|path| is_known(path) || path.to_string_lossy().contains("last_reserved_ip")),
                "{left:?}"
            );
        }
    }
}

/// What a test that failed has left of a VF is put right, as far as it goes: the others still need it.
impl Drop for Node {
    fn drop(&mut self) {
        for place in 0..self.vfs.len() {
            if thread::panicking() && !self.becomes_clean(place) {
                let _ = std::panic::catch_unwind(AssertUnwindSafe(|| self.start_afresh(place)));
            }
        }
        let (free, returned) = &FREE;
        free.lock().unwrap_or_else(PoisonError::into_inner).append(&mut self.vfs);
        returned.notify_all();
    }
}

impl Node {
    fn start_afresh(&self, place: usize) {
        let VfState { spoof_check, trust, .. } = self.before[place].vf;
        let vlan = Some(VfVlan { id: 0, qos: 0, proto: VlanProtocol::Dot1Q });
        let (pf, index) = vf_place(&self.vfs[place]);
        let change = VfChange { vlan, spoof_check, trust, ..VfChange::default() };
        Route::open().unwrap().set_vf(pf.index, index, &change).unwrap();
        self.rebind(place);
    }
}

/// Makes the VFs, as an operator does.
fn set_up(pf: &str) {
    let device = Path::new("/sys/bus/pci/devices").join(pf);
    let name = fs::read_dir(device.join("net")).unwrap().next().unwrap().unwrap().file_name();
    let mut route = Route::open().unwrap();
    let link = route.link_by_name(name.to_str().unwrap()).unwrap().unwrap();
    route.set_link(&link, &LinkChange { up: Some(true), ..LinkChange::default() }).unwrap();
    // Fresh ones, whatever was done with the node before.
    fs::write(device.join("sriov_numvfs"), "0").unwrap();
    fs::write(device.join("sriov_numvfs"), VFS.to_string()).unwrap();
    assert!(Command::new("udevadm").arg("settle").status().unwrap().success());
    let vfs = (0..VFS).map(|index| {
        let target = fs::read_link(device.join(format!("virtfn{index}"))).unwrap();
        target.file_name().unwrap().to_str().unwrap().to_owned()
    });
    FREE.0.lock().unwrap().extend(vfs);
}

/// The PF's link and the VF's number on it.
fn vf_place(vf: &str) -> (Link, u32) {
    let device = Path::new("/sys/bus/pci/devices").join(vf).join("physfn");
    let name = fs::read_dir(device.join("net")).unwrap().next().unwrap().unwrap().file_name();
    let link = Route::open().unwrap().link_by_name(name.to_str().unwrap()).unwrap().unwrap();
    let is_ours = |index: &u32| fs::read_link(device.join(format!("virtfn{index}"))).unwrap().ends_with(vf);
    (link, (0..).find(is_ours).unwrap())
}

/// Without what changes by itself: its number, whether there is carrier, and what igbvf takes for the permanent address when it
/// has been reset.
fn state(vf: &str) -> State {
    let mut route = Route::open().unwrap();
    let links = route.links().unwrap();
    let mut link = links.into_iter().find(|link| link.device.as_deref() == Some(vf));
    if let Some(link) = &mut link {
        (link.index, link.running, link.carrier, link.oper_state) = (0, false, None, OperState::Unknown);
        link.permanent_mac = None;
    }
    let (pf, index) = vf_place(vf);
    State { link, vf: route.vf(&pf, index).unwrap() }
}

/// Binds a VF to another driver.
pub(crate) fn bind(vf: &str, driver: &str) {
    let device = Path::new("/sys/bus/pci/devices").join(vf);
    fs::write(device.join("driver_override"), format!("{driver}\n")).unwrap();
    if device.join("driver").exists() {
        fs::write(device.join("driver/unbind"), vf).unwrap();
    }
    if driver != "none" {
        fs::write("/sys/bus/pci/drivers_probe", vf).unwrap();
        assert!(device.join("driver").exists(), "{vf} does not take {driver}");
    }
    assert!(Command::new("udevadm").arg("settle").status().unwrap().success());
}
