//! Device-information files (specification 1.1.0): what meta plugins read about a device.
//!
//! No file is ever removed here: the device may be in use, and a meta plugin reads it when the pod starts, perhaps after this
//! process has ended.

use std::io;
use std::path::{Path, PathBuf};

use fairlead_resource_config::PciAddress;
use fairlead_resource_config::config::{DeviceType, Resource, VdpaType};
use serde::Serialize;
use thiserror::Error;

use crate::files;
use crate::member::{self, Member};

/// A device-information file that cannot be written.
#[derive(Debug, Error)]
#[error("cannot write the device-information file {path}")]
pub(crate) struct DevinfoError {
    path: PathBuf,
    source: io::Error,
}

#[derive(Serialize)]
struct DeviceInfo<'a> {
    r#type: &'static str,
    version: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pci: Option<Pci<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vdpa: Option<Vdpa<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Pci<'a> {
    pci_address: PciAddress,
    #[serde(skip_serializing_if = "Option::is_none")]
    vhost_net: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rdma_device: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pf_pci_address: Option<PciAddress>,
    #[serde(skip_serializing_if = "Option::is_none")]
    representor_device: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Vdpa<'a> {
    parent_device: &'a str,
    driver: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    pci_address: PciAddress,
    #[serde(skip_serializing_if = "Option::is_none")]
    pf_pci_address: Option<PciAddress>,
    #[serde(skip_serializing_if = "Option::is_none")]
    representor_device: Option<&'a str>,
}

/// Where the file of a device is: `<dir>/<prefix>-<name>-<id>-device.json`.
pub(crate) fn path(dir: &Path, resource: &Resource, member: &Member) -> PathBuf {
    let resource = resource.name.to_string().replace('/', "-");
    dir.join(format!("{resource}-{}-device.json", member.id()))
}

/// Writes the file of a device unless it says the same already. Upstream writes none for accelerators and auxiliary devices.
pub(crate) fn write(dir: &Path, resource: &Resource, member: &Member) -> Result<(), DevinfoError> {
    let Some(address) = member.id().pci_address().filter(|_| resource.device_type == DeviceType::NetDevice)
    else {
        return Ok(());
    };
    let path = path(dir, resource, member);
    let failed = |source| DevinfoError { path: path.clone(), source };
    let text = serde_json::to_vec(&info(resource, member, address)).map_err(|error| failed(error.into()))?;
    files::replace(&path, &text, 0o444).map_err(failed)
}

fn info<'a>(resource: &Resource, member: &'a Member, address: PciAddress) -> DeviceInfo<'a> {
    let selectors = member::selectors(resource, member);
    let kind = selectors.and_then(|selectors| selectors.vdpa_type);
    let (pf, representor) = (member.device.pf_address, member.representor.as_deref());
    if let (Some(kind), Some(vdpa)) = (kind, &member.vdpa) {
        let path = vdpa.char_device.as_ref().filter(|_| kind == VdpaType::Vhost);
        let vdpa = Vdpa {
            parent_device: &vdpa.name,
            driver: kind.as_str(),
            path: path.map(|name| format!("/dev/{name}")),
            pci_address: address,
            pf_pci_address: pf,
            representor_device: representor,
        };
        return DeviceInfo { r#type: "vdpa", version: "1.1.0", pci: None, vdpa: Some(vdpa) };
    }
    let rdma: Vec<&str> = member.rdma.iter().map(|rdma| rdma.name.as_str()).collect();
    let pci = Pci {
        pci_address: address,
        vhost_net: selectors.filter(|selectors| selectors.need_vhost_net).map(|_| "/dev/vhost-net"),
        rdma_device: (!rdma.is_empty()).then(|| rdma.join(",")),
        pf_pci_address: pf,
        representor_device: representor,
    };
    DeviceInfo { r#type: "pci", version: "1.1.0", pci: Some(pci), vdpa: None }
}
