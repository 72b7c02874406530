//! Reading the attributes of one PCI function.

use std::collections::BTreeMap;
use std::io;

use super::attributes::Attributes;
use super::class::{self, Class};
use super::iommu::is_vfio_driver;
use super::node::{Detail, Node};
use super::stack::Edges;
use super::{Function, Kind, PfRole, Role, VfRole, auxiliary, netdev, rdma};
use crate::pci::{PciAddress, PciId};
use crate::sysfs::last_part;
use crate::tree::Folder;

/// What became of reading one function.
pub(super) enum Outcome {
    /// It belongs into the inventory.
    Wanted(Box<Read>),
    /// It is of a class that nobody asks for.
    OtherClass,
    /// Its folder cannot be read.
    Unreadable(io::Error),
}

/// A function, and what else its folder says. A VF's index and PF network device are left for the caller.
pub(super) struct Read {
    pub(super) function: Function,
    /// It is of a class that nobody asks for.
    is_other_class: bool,
    /// Names of auxiliary devices in its folder.
    pub(super) aux_devices: Vec<String>,
    /// What is stacked on its network devices.
    pub(super) edges: Edges,
}

/// Reads what is in the function's own folder, if it is of a wanted class.
pub(super) fn read(node: &Node<'_>, address: PciAddress) -> Outcome {
    let folder = match node.devices.open(&address.to_string()) {
        Ok(folder) => folder,
        Err(error) => return Outcome::Unreadable(error),
    };
    let class = read_class(&folder);
    if matches!(&class, Ok(class) if class.kind().is_none()) {
        return Outcome::OtherClass;
    }
    match read_opened(node, address, class, &folder) {
        // Its class is unreadable, and its modalias tells that it is of no interest.
        Ok(read) if read.is_other_class => Outcome::OtherClass,
        Ok(read) => Outcome::Wanted(Box::new(read)),
        Err(error) => Outcome::Unreadable(error),
    }
}

/// Reads a function of whatever class.
pub(super) fn read_any(node: &Node<'_>, address: PciAddress) -> io::Result<Read> {
    let folder = node.devices.open(&address.to_string())?;
    read_opened(node, address, read_class(&folder), &folder)
}

fn read_opened(
    node: &Node<'_>,
    address: PciAddress,
    class: Result<Class, String>,
    folder: &Folder,
) -> io::Result<Read> {
    let links = Links { driver: folder.link("driver"), physfn: folder.link("physfn") };
    let listed = if class.is_ok() && links.is_usual_vf() && node.vdpa.are_placed() {
        None
    } else {
        Some(folder.names(|name| is_wanted(node, name))?)
    };
    let mut notes = Vec::new();
    let mut attributes = match &listed {
        Some(names) => Attributes::new(folder, names, "", &mut notes),
        None => Attributes::unlisted(folder, links.never_there(), &mut notes),
    };
    let class = match class {
        Ok(class) => Some(class),
        Err(problem) => {
            attributes.note("class", &problem);
            attributes.text("modalias").and_then(|modalias| Class::from_modalias(&modalias))
        }
    };
    let kind = class.map_or_else(|| evident_kind(&attributes), Class::kind);
    let mut read = read_details(node, address, links, &mut attributes);
    read.is_other_class = class.is_some() && kind.is_none();
    read.function.kind = kind;
    read.function.notes = notes;
    Ok(read)
}

/// Links that tell how to go on.
struct Links {
    driver: io::Result<String>,
    physfn: io::Result<String>,
}

impl Links {
    /// Whether it is a VF with nothing in its folder that only a listing shows: that VFs are many, and listing costs as much
    /// as all the rest, is why this is told apart. virtio puts a folder of its own between a function and its network device.
    fn is_usual_vf(&self) -> bool {
        let is_virtio = |target: &String| last_part(target) == "virtio-pci";
        let is_address = |target: &String| last_part(target).parse::<PciAddress>().is_ok();
        self.physfn.as_ref().is_ok_and(is_address) && !self.driver.as_ref().is_ok_and(is_virtio)
    }

    /// What the driver rules out: VFIO makes nothing but its own device, and nobody else makes that.
    fn never_there(&self) -> &'static [&'static str] {
        match &self.driver {
            Ok(target) if is_vfio_driver(last_part(target)) => &["infiniband", "net"],
            _ => &["vfio-dev"],
        }
    }
}

/// The class, or what is wrong with it.
fn read_class(folder: &Folder) -> Result<Class, String> {
    match folder.text("class") {
        Ok(text) => text.parse().map_err(|problem: String| {
            format!("found {:?}: {problem}", text.chars().take(80).collect::<String>())
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err("missing".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// What the function is for, where only its parts tell.
fn evident_kind(attributes: &Attributes<'_>) -> Option<Kind> {
    (attributes.has("net") || attributes.has("infiniband")).then_some(Kind::Network)
}

/// Which names in a function's folder are looked at. The rest is neither read nor recorded.
fn is_wanted(node: &Node<'_>, name: &str) -> bool {
    matches!(
        name,
        "acpi_index"
            | "device"
            | "driver"
            | "driver_override"
            | "infiniband"
            | "infiniband_cm"
            | "infiniband_mad"
            | "infiniband_verbs"
            | "iommu_group"
            | "label"
            | "modalias"
            | "net"
            | "numa_node"
            | "physfn"
            | "sriov_numvfs"
            | "sriov_totalvfs"
            | "uio"
            | "vendor"
            | "vfio-dev"
    ) || name.starts_with("virtfn")
        || name.starts_with("virtio")
        || auxiliary::is_one(name)
        || node.vdpa.is_one(name)
}

fn read_details(node: &Node<'_>, address: PciAddress, links: Links, attributes: &mut Attributes<'_>) -> Read {
    let name = address.to_string();
    let (vendor, device) = identifiers(attributes);
    let role = role(links.physfn, attributes);
    let mut function = Function {
        address,
        kind: None,
        vendor,
        device,
        driver: attributes.link_target("driver", links.driver),
        netdevs: Vec::new(),
        numa_node: attributes.optional::<i64>("numa_node").and_then(|node| u32::try_from(node).ok()),
        acpi_index: attributes.text("acpi_index"),
        label: None,
        driver_override: None,
        iommu_group: attributes.parsed_link("iommu_group"),
        vfio_cdev: None,
        uio: None,
        rdma: rdma::read_all(node, attributes),
        vdpa: node.vdpa.read_all(&node.root, &name, attributes),
        ddp_profile: None,
        role,
        notes: Vec::new(),
    };
    if node.detail == Detail::Full || function.as_vf().is_none() {
        // The kernel's word for none.
        function.driver_override = attributes.text("driver_override").filter(|driver| driver != "(null)");
    }
    if function.as_vf().is_none() {
        function.label = attributes.text("label").or_else(|| node.slot(&name).cloned());
    }
    // Whoever the driver is: what is there can be used.
    function.vfio_cdev = attributes.first_in("vfio-dev");
    if function.is_uio() {
        function.uio = attributes.first_in("uio");
    }
    let mut edges = Edges::default();
    let is_vf = function.as_vf().is_some();
    function.netdevs = netdev::read_all(node, attributes, is_vf, &mut edges);
    let aux_devices = attributes.names.iter().filter(|name| auxiliary::is_one(name)).cloned().collect();
    Read { function, is_other_class: false, aux_devices, edges }
}

fn identifiers(attributes: &mut Attributes<'_>) -> (Option<PciId>, Option<PciId>) {
    let (vendor, device) = (attributes.required("vendor"), attributes.required("device"));
    if vendor.is_some() && device.is_some() {
        return (vendor, device);
    }
    let told = attributes.text("modalias").and_then(|modalias| class::identifiers(&modalias));
    let other = told.map(|(vendor, device)| (PciId(vendor), PciId(device)));
    (vendor.or(other.map(|(vendor, _)| vendor)), device.or(other.map(|(_, device)| device)))
}

fn role(physfn: io::Result<String>, attributes: &mut Attributes<'_>) -> Role {
    let pf = attributes.link_target("physfn", physfn);
    if let Some(pf_address) = pf.and_then(|pf| attributes.parse("physfn", &pf)) {
        return Role::Vf(VfRole { pf_address, index: None, pf_netdev: None, representor: None });
    }
    let vfs = vfs(attributes);
    if vfs.is_empty() && !attributes.has("sriov_totalvfs") {
        return Role::Plain;
    }
    let total_vfs = attributes.optional("sriov_totalvfs");
    let num_vfs = attributes.optional("sriov_numvfs");
    if let Some(n) = num_vfs.filter(|n| usize::try_from(*n).is_ok_and(|n| n != vfs.len())) {
        attributes.notes.push(format!("sriov_numvfs says {n}, and there are {} virtfn links", vfs.len()));
    }
    Role::Pf(PfRole { total_vfs, num_vfs, vfs, eswitch_mode: None })
}

fn vfs(attributes: &mut Attributes<'_>) -> BTreeMap<u32, PciAddress> {
    let mut vfs = BTreeMap::new();
    for name in attributes.names.iter().filter(|name| name.starts_with("virtfn")) {
        let Some(index) = vf_index(name) else {
            attributes.note(name, &"its name does not end in the index of a VF");
            continue;
        };
        if let Some(address) = attributes.parsed_link(name) {
            vfs.insert(index, address);
        }
    }
    vfs
}

fn vf_index(name: &str) -> Option<u32> {
    name.strip_prefix("virtfn")?.parse().ok()
}

/// The VF index of `address` below its PF, and the network devices of the PF: what a VF's own folder does not tell.
pub(super) fn read_pf(
    node: &Node<'_>,
    pf: &PciAddress,
    address: &PciAddress,
    notes: &mut Vec<String>,
) -> (Option<u32>, Vec<netdev::Netdev>) {
    let opened = node.devices.open(&pf.to_string());
    let listed = opened.and_then(|folder| {
        let names = folder.names(|name| is_wanted(node, name))?;
        Ok((folder, names))
    });
    let Ok((folder, names)) = listed else { return (None, Vec::new()) };
    let mut attributes = Attributes::new(&folder, &names, "", notes);
    let index = vfs(&mut attributes).into_iter().find(|(_, vf)| vf == address).map(|(index, _)| index);
    (index, netdev::read_all(node, &mut attributes, false, &mut Edges::default()))
}
