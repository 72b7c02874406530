//! host-device: a network device of the host for the pod, or a device in user space of which only addresses are reported.
//!
//! The record says what the device was. So does, as with upstream's plugin, its alias while it is in the pod: the name that it
//! had in the host. Even a device that the kernel has brought home from a namespace that is gone carries it.

mod find;
mod home;

use fairlead_kernel::{Link, LinkChange};
use fairlead_resource_config::PciAddress;
use serde::{Deserialize, Serialize};

use self::{
    find::{Found, Wanted},
    home::Netdev,
};
use super::{Attached, Difference, Host, Leftover, Pod, Request, ipv6::before_up, kernel, pod_link};
use crate::{
    config::Fields,
    protocol::{
        error::{CniError, code},
        result::Interface,
    },
};

/// A validated configuration.
#[derive(Clone, Debug)]
pub struct Spec {
    interface: String,
    device: Device,
}

#[derive(Clone, Debug)]
enum Device {
    Netdev(Box<Link>),
    UserSpace(PciAddress),
}

/// What was there before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Original {
    /// Name of the interface inside the pod.
    interface: String,
    /// What no two attachments may have at once.
    device: String,
    /// None for a device in user space.
    netdev: Option<Netdev>,
}

impl Spec {
    /// Keys: `device`, `hwaddr`, `kernelpath`, `pciBusID`, and the device's ID by capability.
    ///
    /// # Errors
    /// Code 7, naming the key or the device; code 11 for a device that is not in the host now.
    pub(super) fn validate(request: Request<'_>, host: &mut Host) -> Result<Self, CniError> {
        let wanted = Wanted::parse(request.fields, &host.sys)?;
        let links = host.route.links().map_err(kernel)?;
        let missing = || {
            let text = format!(
                "host-device: the host has no network device for {}: it does not exist, its driver makes none, or another \
                 network namespace has it",
                wanted.describe()
            );
            CniError::new(code::TRY_AGAIN, text)
        };
        let device = match wanted.find(&links, &host.sys)?.ok_or_else(missing)? {
            Found::UserSpace(address) => Device::UserSpace(address),
            Found::Netdev(name) => {
                let link = links.into_iter().find(|link| link.name == name).ok_or_else(missing)?;
                Device::Netdev(Box::new(link))
            }
        };
        Ok(Self { interface: request.interface.to_owned(), device })
    }

    /// The bus address of the device, which is also what sriov goes by; for a link without device its name.
    pub(super) fn device(&self) -> String {
        match &self.device {
            Device::UserSpace(address) => address.to_string(),
            Device::Netdev(link) => link.device.clone().unwrap_or_else(|| format!("netdev-{}", link.name)),
        }
    }

    pub(super) fn prepare(&self, host: &mut Host) -> Result<Original, CniError> {
        let netdev = match &self.device {
            Device::UserSpace(_) => None,
            Device::Netdev(link) => Some(Netdev::read(host, &link.name)?),
        };
        Ok(Original { interface: self.interface.clone(), device: self.device(), netdev })
    }

    pub(super) fn attach(
        &self,
        original: &Original,
        host: &mut Host,
        pod: &mut Pod,
    ) -> Result<Attached, CniError> {
        let mut interface = Interface {
            name: self.interface.clone(),
            sandbox: Some(pod.netns.path().display().to_string()),
            pci_id: original.device.parse::<PciAddress>().ok().map(|address| address.to_string()),
            ..Interface::default()
        };
        let mut index = None;
        if let Some(netdev) = &original.netdev {
            let link = original
                .hand_over(netdev, host, pod)
                .map_err(|error| error.context(format_args!("host-device: {}", netdev.name)))?;
            interface.mac = link.mac.map(|mac| mac.to_string());
            interface.mtu = Some(link.mtu);
            index = Some(link.index);
        }
        Ok(Attached { interfaces: vec![interface], main: 0, link: index })
    }
}

impl Original {
    /// What no two attachments may have at once.
    pub(super) fn device(&self) -> &str {
        &self.device
    }

    /// Whether a configuration means this device, which is not in the host now and so cannot be looked up there.
    pub fn is_meant_by(&self, fields: &Fields, host: &Host) -> bool {
        match Wanted::parse(fields, &host.sys) {
            Ok(Wanted::Device(_, id)) => self.device == id,
            Ok(Wanted::Folder(path)) => path.ends_with(&self.device),
            Ok(Wanted::Name(name)) => self.netdev.as_ref().is_some_and(|netdev| netdev.is_called(&name)),
            Ok(Wanted::Mac(mac)) => self.netdev.as_ref().is_some_and(|netdev| netdev.mac == Some(mac)),
            Err(_) => false,
        }
    }

    /// Moves the device into the pod under its new name, which no program of the host gets to see, and brings it up.
    fn hand_over(&self, netdev: &Netdev, host: &mut Host, pod: &mut Pod) -> Result<Link, CniError> {
        let link = host.route.link_by_name(&netdev.name).map_err(kernel)?.ok_or_else(|| {
            CniError::new(code::TRY_AGAIN, "it vanished from the host; the runtime will try again")
        })?;
        // A device cannot take a name that is an alternative one of its own.
        if link.altnames.contains(&self.interface) {
            host.route.del_altname(&link, &self.interface).map_err(kernel)?;
        }
        let change = LinkChange {
            netns: Some(&pod.netns),
            name: Some(self.interface.clone()),
            alias: Some(netdev.name.clone()),
            ..LinkChange::default()
        };
        host.route.set_link(&link, &change).map_err(kernel)?;
        let link = pod_link(pod, &self.interface, "host-device")?;
        before_up(pod, &self.interface)?;
        pod.route.set_link(&link, &LinkChange { up: Some(true), ..LinkChange::default() }).map_err(kernel)?;
        pod_link(pod, &self.interface, "host-device")
    }

    pub(super) fn check(&self, made: &Interface, pod: &mut Pod) -> Result<Vec<Difference>, CniError> {
        let Some(netdev) = &self.netdev else { return Ok(Vec::new()) };
        let links = pod.route.links().map_err(kernel)?;
        let Some(link) = netdev.in_pod(&links, &self.interface) else {
            return Ok(vec![Difference::fatal(format!("host-device: {} is not in the pod", netdev.name))]);
        };
        let mut found = Difference::of_link(link, made);
        if link.name != self.interface {
            let text = format!("{} is called {} instead of {}", netdev.name, link.name, self.interface);
            found.push(Difference::other(text));
        }
        Ok(found)
    }

    /// Brings the device home and makes it what it was.
    pub(super) fn detach(&self, host: &mut Host, pod: Option<&mut Pod>) -> Vec<CniError> {
        let Some(netdev) = &self.netdev else { return Vec::new() };
        let home = netdev.fetch(&self.interface, host, pod).and_then(|()| netdev.restore(host));
        let context = |error: CniError| error.context(format_args!("host-device: {}", netdev.name));
        home.err().map(context).into_iter().collect()
    }
}

/// What undoes what upstream's plugin did: it keeps no record but the alias.
///
/// # Errors
/// When the kernel refuses to tell.
pub(super) fn of_upstream(left: &Leftover<'_>, pod: &mut Pod) -> Result<Option<Original>, CniError> {
    let link = pod.route.link_by_name(left.interface).map_err(kernel)?;
    let netdev = link.as_ref().and_then(Netdev::by_alias);
    Ok(netdev.map(|netdev| Original {
        interface: left.interface.to_owned(),
        device: link.and_then(|link| link.device).unwrap_or_else(|| format!("netdev-{}", netdev.name)),
        netdev: Some(netdev),
    }))
}
