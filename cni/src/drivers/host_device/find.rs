//! Which device of the host a configuration means.

use std::path::{Path, PathBuf};

use fairlead_kernel::{Link, Mac};
use fairlead_resource_config::{PciAddress, SysRoot};

use crate::{
    config::Fields,
    protocol::error::{CniError, code},
};

/// Drivers that take a function to user space (as upstream's plugin knows them).
const USER_SPACE: [&str; 3] = ["vfio-pci", "uio_pci_generic", "igb_uio"];

/// Buses whose devices may be network devices, as far as networks can name them.
const PCI: &str = "pci";
const AUXILIARY: &str = "auxiliary";

/// How a network names a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Key `device`: a name, or an alternative one.
    Name(String),
    /// Key `hwaddr`.
    Mac(Mac),
    /// Key `kernelpath`: a folder below `/sys/devices`, as path below sysfs.
    Folder(PathBuf),
    /// Key `pciBusID` or a device's ID: bus and device.
    Device(&'static str, String),
}

/// A device that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Name of its network device.
    Netdev(String),
    /// It is in user space.
    UserSpace(PciAddress),
}

impl Wanted {
    /// The first key that is given. A device's ID that a device plugin chose comes before `pciBusID`.
    ///
    /// Keys:
    /// - `device`: Name of a network device of the host, alternative ones too.
    /// - `hwaddr`: Its hardware address.
    /// - `kernelpath`: Its folder below `/sys/devices`.
    /// - `pciBusID`: PCI address, or the name of an auxiliary device. The device that kubelet gave the pod comes before it.
    /// - `deviceID`: The same; written by the agent for a network of a resource.
    ///
    /// # Errors
    /// Code 7, naming the key.
    pub(super) fn parse(fields: &Fields, sys: &SysRoot) -> Result<Self, CniError> {
        let given = |key: &str| Ok::<_, CniError>(fields.text(key)?.filter(|text| !text.is_empty()));
        if let Some(name) = given("device")? {
            return Ok(Self::Name(name.to_owned()));
        }
        if let Some(text) = given("hwaddr")? {
            let mac =
                text.parse().map_err(|error| invalid(format!("key \"hwaddr\": \"{text}\": {error}")))?;
            return Ok(Self::Mac(mac));
        }
        if let Some(path) = given("kernelpath")? {
            return folder(path).map(Self::Folder);
        }
        match device_id(fields)? {
            Some((key, id)) => on_a_bus(sys, key, &id),
            None => {
                // Upstream's words.
                let text = "specify either \"device\", \"hwaddr\", \"kernelpath\" or \"pciBusID\"";
                Err(CniError::new(code::INVALID_CONFIG, text).details(
                    "a network whose definition has the annotation k8s.v1.cni.cncf.io/resourceName gets the device from the \
                     pod's resources",
                ))
            }
        }
    }

    /// What it is; none when the host has no such device, or no network device of it.
    ///
    /// # Errors
    /// When sysfs cannot be read.
    pub(super) fn find(&self, links: &[Link], sys: &SysRoot) -> Result<Option<Found>, CniError> {
        let is_link = |name: &String| links.iter().any(|link| link.name == *name);
        let name = match self {
            Self::Name(name) => {
                let is_it = |link: &&Link| link.name == *name || link.altnames.contains(name);
                links.iter().find(is_it).map(|link| link.name.clone())
            }
            Self::Mac(mac) => links.iter().find(|link| link.mac == Some(*mac)).map(|link| link.name.clone()),
            Self::Folder(path) => names_below(&sys.path().join(path)).into_iter().find(is_link),
            Self::Device(bus, id) => {
                let device = device_folder(sys, bus, id);
                if let Some(address) = in_user_space(&device, id) {
                    return Ok(Some(Found::UserSpace(address)));
                }
                names_below(&device).into_iter().chain(names_of_virtio(&device)).find(is_link)
            }
        };
        Ok(name.map(Found::Netdev))
    }

    /// The device in words, with the key that names it.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Name(name) => format!("device {name}"),
            Self::Mac(mac) => format!("device with hwaddr {mac}"),
            Self::Folder(path) => format!("device at kernelpath /sys/{}", path.display()),
            Self::Device(_, id) => format!("device {id}"),
        }
    }
}

/// Key `runtimeConfig.deviceID`, `deviceID` (where the meta plugin puts it) or `pciBusID`.
fn device_id(fields: &Fields) -> Result<Option<(&'static str, String)>, CniError> {
    let runtime = fields.object("runtimeConfig")?.unwrap_or_default();
    let keys = [(&runtime, "deviceID"), (fields, "pciBusID"), (fields, "deviceID")];
    for (fields, key) in keys {
        if let Some(id) = fields.text(key)?.filter(|id| !id.is_empty()) {
            return Ok(Some((key, id.to_owned())));
        }
    }
    Ok(None)
}

fn on_a_bus(sys: &SysRoot, key: &str, id: &str) -> Result<Wanted, CniError> {
    if id.contains('/') || id == "." || id == ".." {
        return Err(invalid(format!("key \"{key}\": {id} is no device's ID")));
    }
    let bus = [PCI, AUXILIARY].into_iter().find(|bus| device_folder(sys, bus, id).exists());
    bus.map(|bus| Wanted::Device(bus, id.to_owned())).ok_or_else(|| {
        invalid(format!("key \"{key}\": there is no device {id} on the PCI bus or on the auxiliary bus"))
    })
}

fn device_folder(sys: &SysRoot, bus: &str, id: &str) -> PathBuf {
    sys.path().join("bus").join(bus).join("devices").join(id)
}

fn folder(path: &str) -> Result<PathBuf, CniError> {
    let below = path.strip_prefix("/sys/devices/").filter(|path| !path.split('/').any(|part| part == ".."));
    below.map(|below| Path::new("devices").join(below)).ok_or_else(|| {
        invalid(format!("key \"kernelpath\": {path} must be absolute and begin with /sys/devices/"))
    })
}

fn in_user_space(device: &Path, id: &str) -> Option<PciAddress> {
    let driver = std::fs::read_link(device.join("driver")).ok()?;
    let is_known = USER_SPACE.iter().any(|name| driver.ends_with(name));
    is_known.then(|| id.parse().ok()).flatten()
}

/// Names of the network devices of a device, in the order of names.
fn names_below(device: &Path) -> Vec<String> {
    entries(&device.join("net"))
}

/// Those of a virtio device: they are one floor lower.
fn names_of_virtio(device: &Path) -> Vec<String> {
    let children = entries(device).into_iter().filter(|name| name.starts_with("virtio"));
    children.flat_map(|name| names_below(&device.join(name))).collect()
}

/// Names in a folder; none when there is no such folder: its device has no driver, or no network device.
fn entries(folder: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut names: Vec<String> =
        entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    names.sort();
    names
}

/// Whether a device still has a driver that makes network devices of it, wherever these are now.
pub(super) fn has_netdevs(sys: &SysRoot, device: &str) -> bool {
    entries(&sys.path().join("bus")).iter().any(|bus| device_folder(sys, bus, device).join("net").exists())
}

fn invalid(text: impl std::fmt::Display) -> CniError {
    CniError::new(code::INVALID_CONFIG, format!("host-device: {text}"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use serde_json::{Value, json};

    use super::*;

    /// A PCI device `net`, a virtio one, one in user space, one without driver, and a scalable function.
    fn tree() -> (tempfile::TempDir, SysRoot) {
        let dir = tempfile::tempdir().unwrap();
        for path in [
            "devices/pci0/0000:01:00.0/net/ens1",
            "bus/pci/devices/0000:01:00.0/net/ens1",
            "bus/pci/devices/0000:02:00.0/virtio0/net/ens2",
            "bus/pci/devices/0000:03:00.0",
            "bus/pci/devices/0000:04:00.0",
            "bus/pci/drivers/vfio-pci",
            "bus/auxiliary/devices/mlx5_core.sf.4/net/ens4",
        ] {
            std::fs::create_dir_all(dir.path().join(path)).unwrap();
        }
        symlink("../../drivers/vfio-pci", dir.path().join("bus/pci/devices/0000:03:00.0/driver")).unwrap();
        let sys = SysRoot::new(dir.path());
        (dir, sys)
    }

    fn links() -> Vec<Link> {
        let link = |index, name: &str, mac: &str| Link {
            index,
            name: name.to_owned(),
            altnames: vec![format!("{name}-alt")],
            mac: Some(mac.parse().unwrap()),
            ..Link::default()
        };
        vec![
            link(1, "ens1", "02:00:00:00:00:01"),
            link(2, "ens2", "02:00:00:00:00:02"),
            link(4, "ens4", "02:00:00:00:00:04"),
        ]
    }

    fn find(config: Value, sys: &SysRoot) -> Result<Option<Found>, CniError> {
        let fields: Fields = serde_json::from_value(config).unwrap();
        Wanted::parse(&fields, sys)?.find(&links(), sys)
    }

    #[test]
    fn d1_d3_d4_a_device_is_named_in_every_way_and_the_first_key_counts() {
        let (_dir, sys) = tree();
        for (config, wanted) in [
            (json!({"device": "ens1", "hwaddr": "02:00:00:00:00:02"}), "ens1"),
            (json!({"device": "ens2-alt"}), "ens2"),
            (json!({"hwaddr": "02:00:00:00:00:02", "pciBusID": "0000:01:00.0"}), "ens2"),
            (json!({"kernelpath": "/sys/devices/pci0/0000:01:00.0"}), "ens1"),
            (json!({"pciBusID": "0000:01:00.0"}), "ens1"),
            (json!({"pciBusID": "0000:02:00.0"}), "ens2"),
            (json!({"pciBusID": "0000:01:00.0", "runtimeConfig": {"deviceID": "0000:02:00.0"}}), "ens2"),
            (json!({"runtimeConfig": {"DeviceID": "mlx5_core.sf.4"}}), "ens4"),
            (json!({"pciBusID": "mlx5_core.sf.4", "deviceID": "mlx5_core.sf.4"}), "ens4"),
        ] {
            assert_eq!(find(config, &sys).unwrap(), Some(Found::Netdev(wanted.into())), "{wanted}");
        }
    }

    #[test]
    fn d2_a_device_in_user_space_is_one_and_one_without_driver_is_none() {
        let (_dir, sys) = tree();
        let address = "0000:03:00.0".parse().unwrap();
        assert_eq!(find(json!({"pciBusID": "0000:03:00.0"}), &sys).unwrap(), Some(Found::UserSpace(address)));
        assert_eq!(find(json!({"pciBusID": "0000:04:00.0"}), &sys).unwrap(), None);
        assert_eq!(find(json!({"device": "ens9"}), &sys).unwrap(), None);
    }

    #[test]
    fn mistakes_are_named() {
        let (_dir, sys) = tree();
        for (config, word) in [
            (json!({}), "specify either"),
            (json!({"hwaddr": "nonsense"}), "hwaddr"),
            (json!({"kernelpath": "/sys/class/net"}), "kernelpath"),
            (json!({"kernelpath": "/sys/devices/../class"}), "kernelpath"),
            (json!({"pciBusID": "0000:09:00.0"}), "0000:09:00.0"),
            (json!({"runtimeConfig": {"deviceID": "../../x"}}), "deviceID"),
            (json!({"device": 5}), "device"),
        ] {
            let error = find(config, &sys).unwrap_err();
            assert!(error.msg.contains(word), "{error}");
        }
    }

    #[test]
    fn a_device_without_driver_has_no_netdevs_to_wait_for() {
        let (_dir, sys) = tree();
        assert!(has_netdevs(&sys, "0000:01:00.0") && has_netdevs(&sys, "mlx5_core.sf.4"));
        assert!(!has_netdevs(&sys, "0000:03:00.0") && !has_netdevs(&sys, "gone"));
    }
}
