//! Carrying out one step, and waiting for what it brings.

use std::path::PathBuf;
use std::time::Duration;

use fairlead_kernel::{LinkChange, Mac};

use super::error::StepError;
use super::family;
use super::step::Step;
use super::system::System;
use crate::pci::PciAddress;
use crate::provision::files;

/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(50);
/// How long VFs may take to appear.
const VFS_LIMIT: Duration = Duration::from_secs(120);
/// How long a driver may take to take a device, and then to make its network device.
const DRIVER_LIMIT: Duration = Duration::from_secs(10);
/// How often a driver is started to get the administrative address: a VF that asks while the PF is busy makes one up.
const STARTS: u32 = 5;

/// The PF that steps are about.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) pf: PciAddress,
    pub(super) netdev: String,
}

/// Carries out one step.
pub(super) fn carry_out(system: &mut dyn System, target: &Target, step: &Step) -> Result<(), StepError> {
    match step {
        Step::LoadModule { module } => load(system, module),
        Step::Noiommu { allowed } => {
            let path = super::node::noiommu_parameter(system.root());
            write(system, path, if *allowed { "Y" } else { "N" }, no_advice)
        }
        Step::PfMtu { to, .. } => {
            set_link(system, &target.netdev, &LinkChange { mtu: Some(*to), ..LinkChange::default() })
        }
        Step::PfUp { up } => {
            set_link(system, &target.netdev, &LinkChange { up: Some(*up), ..LinkChange::default() })
        }
        Step::Autoprobe { on } => {
            let path = system.root().pci_device(&target.pf).join("sriov_drivers_autoprobe");
            write(system, path, if *on { "1" } else { "0" }, no_advice)
        }
        Step::NumVfs { to, .. } => number_of_vfs(system, target, *to),
        Step::Unbind { vf, .. } => {
            let address = vf_address(system, target, *vf)?;
            unbind(system, address)
        }
        Step::VfAdmin { vf, change } => {
            let netdev = &target.netdev;
            let failed = |source| StepError::Change { netdev: netdev.clone(), source };
            system.set_vf(netdev, *vf, change).map_err(failed)
        }
        Step::Bind { vf, driver, mac } => {
            let address = vf_address(system, target, *vf)?;
            match driver {
                Some(driver) => bind_to(system, address, driver),
                None => bind_to_kernel(system, address, *mac),
            }
        }
        Step::Settle => {
            system.settle();
            Ok(())
        }
        Step::VfMtu { vf, to } => {
            let address = vf_address(system, target, *vf)?;
            let netdev = wait_for_netdev(system, address)?;
            set_link(system, &netdev, &LinkChange { mtu: Some(*to), ..LinkChange::default() })
        }
    }
}

/// Modules here are named as their drivers: one that is there needs no modprobe, which containers often lack.
fn load(system: &mut dyn System, module: &str) -> Result<(), StepError> {
    if system.root().path().join("bus/pci/drivers").join(module).exists() {
        return Ok(());
    }
    let advice = family::source_of_module(module);
    system.load_module(module).map_err(|said| StepError::Module { module: module.to_owned(), said, advice })
}

fn set_link(system: &mut dyn System, netdev: &str, change: &LinkChange<'_>) -> Result<(), StepError> {
    let failed = |source| StepError::Change { netdev: netdev.to_owned(), source };
    system.set_link(netdev, change).map_err(failed)
}

/// Writes to sysfs; `advice` says what an error number means here.
fn write(
    system: &mut dyn System,
    path: PathBuf,
    value: &str,
    advice: impl Fn(i32) -> Option<&'static str>,
) -> Result<(), StepError> {
    system.write(&path, value).map_err(|source| {
        let advice = source.raw_os_error().and_then(advice).map(|advice| format!("; {advice}"));
        StepError::Write { path, value: value.to_owned(), advice: advice.unwrap_or_default(), source }
    })
}

fn no_advice(_: i32) -> Option<&'static str> {
    None
}

/// What the kernel's answers to `sriov_numvfs` mean (drivers/pci/iov.c, and what drivers return from their configuration).
fn advice_on_number(errno: i32) -> Option<&'static str> {
    use fairlead_kernel::Errno;
    match Errno::from_raw(errno) {
        Errno::ENOMEM | Errno::ENOSPC => Some(
            "the firmware left too little PCI address space or too few bus numbers for the VFs: boot with pci=realloc (and \
             pci=assign-busses where bus numbers are short), or look for SR-IOV or ARI in the BIOS",
        ),
        Errno::EBUSY => Some(
            "a VF is still in use (assigned to a virtual machine), or somebody else changes the number too",
        ),
        Errno::ENOENT => Some("the PF's driver makes no VFs"),
        Errno::ERANGE => Some("the card's firmware allows fewer: see sriov_totalvfs"),
        Errno::EINVAL | Errno::EPERM | Errno::EIO => {
            Some("the PF's driver or the card's firmware refuses: look at the kernel's log (dmesg)")
        }
        _ => None,
    }
}

fn number_of_vfs(system: &mut dyn System, target: &Target, to: u32) -> Result<(), StepError> {
    let path = system.root().pci_device(&target.pf).join("sriov_numvfs");
    write(system, path, &to.to_string(), advice_on_number)?;
    let wanted = usize::try_from(to).unwrap_or(usize::MAX);
    let mut found = 0;
    let all_there = wait(system, VFS_LIMIT, |system| {
        found = vfs(system, target.pf);
        (found == wanted).then_some(())
    });
    let too_few = StepError::TooFew { pf: target.pf, found, wanted: to, seconds: VFS_LIMIT.as_secs() };
    all_there.ok_or(too_few)
}

/// VFs that are there with all that is needed to set them up.
fn vfs(system: &dyn System, pf: PciAddress) -> usize {
    let dir = system.root().pci_device(&pf);
    let names = files::names(&dir).unwrap_or_default();
    // A link whose target has no `physfn` yet is one whose VF is still being made; one that is left over has none any more.
    names.iter().filter(|name| name.starts_with("virtfn") && dir.join(name).join("physfn").exists()).count()
}

fn vf_address(system: &dyn System, target: &Target, index: u32) -> Result<PciAddress, StepError> {
    let dir = system.root().pci_device(&target.pf);
    let name = files::link_name(&dir, &format!("virtfn{index}"));
    name.and_then(|name| name.parse().ok()).ok_or(StepError::NoVf { pf: target.pf, index })
}

fn driver_of(system: &dyn System, address: PciAddress) -> Option<String> {
    files::link_name(&system.root().pci_device(&address), "driver")
}

fn unbind(system: &mut dyn System, address: PciAddress) -> Result<(), StepError> {
    if driver_of(system, address).is_none() {
        return Ok(());
    }
    let path = system.root().pci_device(&address).join("driver/unbind");
    write(system, path, &address.to_string(), no_advice)?;
    let gone = wait(system, DRIVER_LIMIT, |system| driver_of(system, address).is_none().then_some(()));
    gone.ok_or_else(|| StepError::NotBound {
        address,
        found: driver_of(system, address),
        wanted: "none".to_owned(),
        seconds: DRIVER_LIMIT.as_secs(),
        advice: "somebody binds it again at once (driverctl, another provisioning tool)".to_owned(),
    })
}

/// Binds to a driver that the kernel would not choose. The override stays, so that the kernel's driver does not take the VF
/// when the PF is reset.
fn bind_to(system: &mut dyn System, address: PciAddress, driver: &str) -> Result<(), StepError> {
    unbind(system, address)?;
    let dir = system.root().pci_device(&address);
    write(system, dir.join("driver_override"), driver, no_advice)?;
    probe(system, address)?;
    let bound =
        wait(system, DRIVER_LIMIT, |system| driver_of(system, address).filter(|found| found == driver));
    if bound.is_some() {
        return Ok(());
    }
    let advice = if driver.contains("vfio") && !dir.join("iommu_group").exists() {
        "it has no IOMMU group: boot with intel_iommu=on iommu=pt (AMD: iommu=pt), or set `noiommu: true` in the policy"
    } else if !system.root().path().join("bus/pci/drivers").join(driver).exists() {
        family::source_of_module(driver)
    } else {
        "the driver refuses it: look at the kernel's log (dmesg)"
    };
    Err(StepError::NotBound {
        address,
        found: driver_of(system, address),
        wanted: driver.to_owned(),
        seconds: DRIVER_LIMIT.as_secs(),
        advice: advice.to_owned(),
    })
}

/// Binds to the kernel's driver, and makes sure that it has the administrative address.
fn bind_to_kernel(system: &mut dyn System, address: PciAddress, mac: Option<Mac>) -> Result<(), StepError> {
    let driver_override = system.root().pci_device(&address).join("driver_override");
    let mut start = 1;
    loop {
        unbind(system, address)?;
        write(system, driver_override.clone(), "", no_advice)?;
        probe(system, address)?;
        match (has_address(system, address, mac), start) {
            (Ok(()), _) => return Ok(()),
            // A driver that starts while the PF is busy may come up without a network device, or with another address.
            (Err(StepError::NoNetdev { .. }), 1) | (Err(StepError::OtherMac { .. }), 1..STARTS) => start += 1,
            (Err(error), _) => return Err(error),
        }
        system.pause(Duration::from_secs(1));
    }
}

fn has_address(system: &mut dyn System, address: PciAddress, mac: Option<Mac>) -> Result<(), StepError> {
    let netdev = wait_for_netdev(system, address)?;
    let Some(wanted) = mac.map(|mac| mac.to_string()) else { return Ok(()) };
    // By the device's own folder, since udev may rename what is in it at any moment.
    let folder = system.root().pci_device(&address).join("net");
    let read = |netdev: &str| files::attribute(&folder.join(netdev), "address");
    let renamed = || read(files::names(&folder).ok()?.first()?);
    let found = read(&netdev).or_else(renamed).unwrap_or_else(|| "none".to_owned());
    if found == wanted { Ok(()) } else { Err(StepError::OtherMac { address, found, wanted, tries: STARTS }) }
}

fn probe(system: &mut dyn System, address: PciAddress) -> Result<(), StepError> {
    let path = system.root().path().join("bus/pci/drivers_probe");
    write(system, path, &address.to_string(), no_advice)
}

/// The network device of a VF on a kernel driver, once it is there.
fn wait_for_netdev(system: &mut dyn System, address: PciAddress) -> Result<String, StepError> {
    let seconds = DRIVER_LIMIT.as_secs();
    let Some(driver) = wait(system, DRIVER_LIMIT, |system| driver_of(system, address)) else {
        let advice =
            "no driver of the kernel takes it: is the module for this device there, and not blacklisted?";
        let wanted = "the kernel's driver".to_owned();
        return Err(StepError::NotBound { address, found: None, wanted, seconds, advice: advice.to_owned() });
    };
    let folder = system.root().pci_device(&address).join("net");
    let netdev = wait(system, DRIVER_LIMIT, |_| files::names(&folder).ok()?.into_iter().next());
    netdev.ok_or(StepError::NoNetdev { address, driver, seconds })
}

/// Looks again and again until there is something, for at most so long.
fn wait<T>(
    system: &mut dyn System,
    limit: Duration,
    mut look: impl FnMut(&mut dyn System) -> Option<T>,
) -> Option<T> {
    let mut waited = Duration::ZERO;
    loop {
        if let Some(found) = look(system) {
            return Some(found);
        }
        if waited >= limit {
            return None;
        }
        system.pause(PAUSE);
        waited += PAUSE;
    }
}
