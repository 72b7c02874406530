//! vDPA devices.

use std::collections::{BTreeMap, BTreeSet};

use super::VdpaDevice;
use super::attributes::Attributes;
use crate::sysfs::last_part;
use crate::tree::Folder;

/// Where vDPA devices are listed.
const DEVICES: &str = "bus/vdpa/devices";

/// Character devices of vDPA devices on `vhost_vdpa`.
const CHAR_DEVICE: &str = "vhost-vdpa-";

/// Which device each vDPA device was made on.
pub(super) struct Places {
    /// Names of vDPA devices, by the name of the PCI function or auxiliary device that they are on.
    by_parent: BTreeMap<String, Vec<String>>,
    /// All names: they are free to choose, so that a function's folder does not tell which of its folders is one.
    names: BTreeSet<String>,
}

impl Places {
    pub(super) fn read(root: &Folder) -> Self {
        let mut places = Self { by_parent: BTreeMap::new(), names: BTreeSet::new() };
        let Ok(folder) = root.open(DEVICES) else { return places };
        for name in folder.names(|_| true).unwrap_or_default() {
            // .../0000:01:00.2/vdpa0
            let target = folder.link(&name).unwrap_or_default();
            if let Some((parents, _)) = target.rsplit_once('/') {
                places.by_parent.entry(last_part(parents).to_owned()).or_default().push(name.clone());
            }
            places.names.insert(name);
        }
        places
    }

    /// Whether the bus tells of every vDPA device where it is; else functions' folders have to be searched.
    pub(super) fn are_placed(&self) -> bool {
        self.by_parent.values().map(Vec::len).sum::<usize>() == self.names.len()
    }

    /// Whether a name in a device's folder is a vDPA device.
    pub(super) fn is_one(&self, name: &str) -> bool {
        self.names.contains(name)
            || name
                .strip_prefix("vdpa")
                .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit()))
    }

    /// The vDPA devices of a device, given its name.
    pub(super) fn read_all(
        &self,
        root: &Folder,
        parent: &str,
        attributes: &Attributes<'_>,
    ) -> Vec<VdpaDevice> {
        let below = attributes.names.iter().filter(|name| self.is_one(name));
        let listed = self.by_parent.get(parent).into_iter().flatten();
        let all: BTreeSet<&String> = below.chain(listed).collect();
        all.into_iter().map(|name| read(root, attributes.folder, name)).collect()
    }
}

fn read(root: &Folder, parent: &Folder, name: &str) -> VdpaDevice {
    let folder = root.open(&format!("{DEVICES}/{name}")).or_else(|_| parent.open(name));
    let Ok(folder) = folder else { return VdpaDevice { name: name.to_owned(), ..VdpaDevice::default() } };
    let children = folder.names(|name| name.starts_with(CHAR_DEVICE)).unwrap_or_default();
    VdpaDevice {
        name: name.to_owned(),
        bus_driver: folder.link("driver").ok().map(|target| last_part(&target).to_owned()),
        char_device: children.into_iter().next(),
    }
}
