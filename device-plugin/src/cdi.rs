//! Specifications of the Container Device Interface: how a runtime makes the device nodes of a device.
//!
//! One file for each resource, with a class of its own, so that a container can have devices of several. No file goes while a
//! device in it is in use: the runtime reads it again whenever the container is started again.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::{fs, io};

use fairlead_resource_config::config::{NodeAccess, ResourceName};
use fairlead_resource_config::pools::DeviceId;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::access::{self, Access, DeviceNode};
use crate::files::FileId;
use crate::member::Member;
use crate::pool::Listing;
use crate::{Node, files};

/// The lowest version that has all that is used: `hostPath`, and device names that begin with a digit.
const VERSION: &str = "0.5.0";

/// What our files are called.
const PREFIX: &str = "fairlead-";

/// A specification that cannot be written.
#[derive(Debug, Error)]
#[error("cannot write the CDI specification {path}")]
pub(crate) struct CdiError {
    path: PathBuf,
    source: io::Error,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    cdi_version: String,
    kind: String,
    devices: Vec<SpecDevice>,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SpecDevice {
    name: String,
    container_edits: Edits,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Edits {
    device_nodes: Vec<SpecNode>,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SpecNode {
    path: String,
    host_path: String,
    permissions: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    file_mode: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    uid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    gid: Option<u32>,
}

/// Vendor and class of a resource. Both must begin with a letter.
pub(crate) fn kind(resource: &ResourceName) -> String {
    let lettered = |text: &str, letter: &str| {
        let has_letter = text.starts_with(|c: char| c.is_ascii_alphabetic());
        if has_letter { text.to_owned() } else { format!("{letter}{text}") }
    };
    format!("{}/{}", lettered(resource.prefix(), "v"), lettered(resource.name(), "r"))
}

/// Where the file of a resource is.
pub(crate) fn path(dir: &Path, resource: &ResourceName) -> PathBuf {
    dir.join(format!("{PREFIX}{}_{}.json", resource.prefix(), resource.name()))
}

/// The specifications in one folder, and what they said when they were written last: to look at thousands of devices, and to
/// read thousands of specifications, takes too long for each allocation.
#[derive(Debug)]
pub(crate) struct Specs {
    dir: PathBuf,
    written: Mutex<BTreeMap<PathBuf, Written>>,
}

/// What the file of a pool said, and which file that was.
#[derive(Debug)]
struct Written {
    file: Option<FileId>,
    access: NodeAccess,
    devices: BTreeMap<DeviceId, Vec<DeviceNode>>,
}

impl Written {
    /// Whether the file is the one that was written, and says of these devices what is so now.
    fn holds(&self, path: &Path, listing: &Listing, wanted: &[(&Member, &Access)]) -> bool {
        let none = Vec::new();
        let says = |member: &Member| self.devices.get(member.id()).unwrap_or(&none);
        self.file == FileId::of(path)
            && self.access == listing.resource.offer.cdi_access
            && wanted.iter().all(|(member, access)| *says(member) == access.nodes)
    }
}

impl Specs {
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self { dir, written: Mutex::default() }
    }

    fn written(&self) -> MutexGuard<'_, BTreeMap<PathBuf, Written>> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes sure that the file of a pool says what is so now of devices that were just looked at, and returns their full names:
    /// of those that have device nodes.
    pub(crate) fn ensure(
        &self,
        listing: &Listing,
        wanted: &[(&Member, &Access)],
        node: &Node,
    ) -> Result<Vec<String>, CdiError> {
        let name = &listing.resource.name;
        let path = path(&self.dir, name);
        let holds = self.written().get(&path).is_some_and(|written| written.holds(&path, listing, wanted));
        if !holds {
            self.write(listing, node)?;
        }
        let kind = kind(name);
        let with_nodes = wanted.iter().filter(|(_, access)| !access.nodes.is_empty());
        Ok(with_nodes.map(|(member, _)| format!("{kind}={}", member.id())).collect())
    }

    /// Writes the file of a pool unless it says the same already. A device in use that cannot be looked at stays in it as it is.
    pub(crate) fn write(&self, listing: &Listing, node: &Node) -> Result<(), CdiError> {
        let resource = &listing.resource;
        let (path, kind) = (path(&self.dir, &resource.name), kind(&resource.name));
        let failed = |source| CdiError { path: path.clone(), source };
        let before = read(&path);
        let mut spec = Spec { cdi_version: VERSION.to_owned(), kind, devices: Vec::new() };
        let mut devices = BTreeMap::new();
        for member in listing.members.iter() {
            let name = member.id().to_string();
            match access::of(member, resource, node) {
                Ok(access) => {
                    spec.devices.extend(spec_device(&name, &access.nodes, resource.offer.cdi_access));
                    devices.insert(member.id().clone(), access.nodes);
                }
                Err(_) => spec.devices.extend(before.get(&name).filter(|_| member.in_use).cloned()),
            }
        }
        // What a failure leaves there is not known.
        self.written().remove(&path);
        if spec.devices.is_empty() {
            remove(&path).map_err(failed)?;
        } else {
            let text = serde_json::to_vec(&spec).map_err(|error| failed(error.into()))?;
            files::replace(&path, &text, 0o644).map_err(failed)?;
        }
        let written = Written { file: FileId::of(&path), access: resource.offer.cdi_access, devices };
        self.written().insert(path, written);
        Ok(())
    }

    /// Removes our files of resources that are configured no more, unless `is_in_use` says that a device in it is.
    pub(crate) fn sweep<'a>(
        &self,
        configured: impl IntoIterator<Item = &'a ResourceName>,
        is_in_use: impl Fn(&DeviceId) -> bool,
    ) -> Result<(), CdiError> {
        let configured: BTreeSet<PathBuf> =
            configured.into_iter().map(|resource| path(&self.dir, resource)).collect();
        let entries = fs::read_dir(&self.dir).into_iter().flatten();
        for name in entries.filter_map(|entry| Some(entry.ok()?.file_name())) {
            let path = self.dir.join(&name);
            let is_ours =
                name.to_str().is_some_and(|name| name.starts_with(PREFIX) && name.ends_with(".json"));
            let holds = |name: &String| name.parse().is_ok_and(|id| is_in_use(&id));
            if is_ours && !configured.contains(&path) && !read(&path).keys().any(holds) {
                self.written().remove(&path);
                remove(&path).map_err(|source| CdiError { path: path.clone(), source })?;
            }
        }
        Ok(())
    }
}

/// `None` for a device that needs no node: the specification has no place for such.
fn spec_device(name: &str, nodes: &[DeviceNode], access: NodeAccess) -> Option<SpecDevice> {
    let node = |node: &DeviceNode| SpecNode {
        path: node.container.clone(),
        host_path: node.host.clone(),
        permissions: "rw".to_owned(),
        file_mode: access.mode,
        uid: access.uid,
        gid: access.gid,
    };
    let device_nodes: Vec<SpecNode> = nodes.iter().map(node).collect();
    let container_edits = Edits { device_nodes };
    (!nodes.is_empty()).then(|| SpecDevice { name: name.to_owned(), container_edits })
}

/// The devices of a file by name; none where there is no file of ours.
fn read(path: &Path) -> BTreeMap<String, SpecDevice> {
    let spec = fs::read(path).ok().and_then(|text| serde_json::from_slice::<Spec>(&text).ok());
    spec.into_iter().flat_map(|spec| spec.devices).map(|device| (device.name.clone(), device)).collect()
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
