//! What can go wrong while provisioning.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::inventory::InventoryError;
use crate::pci::PciAddress;

/// What the kernel's network side said.
pub type KernelError = Box<dyn std::error::Error + Send + Sync>;

/// Why the node cannot be looked at or locked.
#[derive(Debug, Error)]
pub enum ProvisionError {
    /// The devices cannot be listed.
    #[error("cannot look at the node's devices")]
    Inventory(#[from] InventoryError),
    /// rtnetlink is not to be had.
    #[error("cannot ask the kernel about network devices")]
    Netlink(#[source] KernelError),
    /// A PF's network device cannot be read.
    #[error("cannot read the settings of {netdev}, the network device of PF {pf}")]
    Port {
        /// The PF.
        pf: PciAddress,
        /// Its network device.
        netdev: String,
        /// What the kernel said.
        source: KernelError,
    },
    /// Drop-in files cannot be read or changed.
    #[error("cannot work on udev's rules in {path}")]
    DropIns {
        /// The folder or file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The lock's file cannot be made.
    #[error("cannot lock PF {pf} with {path}")]
    Lock {
        /// The PF.
        pf: PciAddress,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Somebody else provisions the PF.
    #[error("PF {pf} is being provisioned by {holder}; wait for it to end ({path})")]
    Locked {
        /// The PF.
        pf: PciAddress,
        /// Who does.
        holder: String,
        /// The lock.
        path: PathBuf,
    },
    /// The result cannot be written.
    #[error("cannot write the result to {path}")]
    Result {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Why a step failed.
#[derive(Debug, Error)]
pub enum StepError {
    /// sysfs refuses a value.
    #[error("cannot write {value:?} to {path}{advice}")]
    Write {
        /// The attribute.
        path: PathBuf,
        /// The value.
        value: String,
        /// What to look at, after a semicolon; may be empty.
        advice: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// A module cannot be loaded.
    #[error("cannot load the kernel module {module}: {said}; {advice}")]
    Module {
        /// Its name.
        module: String,
        /// What modprobe said.
        said: String,
        /// Where it comes from.
        advice: &'static str,
    },
    /// The kernel's network side refuses a change.
    #[error("cannot change {netdev}")]
    Change {
        /// The network device.
        netdev: String,
        /// What the kernel said.
        source: KernelError,
    },
    /// Not all VFs came.
    #[error("PF {pf} has {found} of {wanted} VFs after {seconds} s; look at the kernel's log (dmesg)")]
    TooFew {
        /// The PF.
        pf: PciAddress,
        /// How many there are.
        found: usize,
        /// How many there shall be.
        wanted: u32,
        /// How long was waited.
        seconds: u64,
    },
    /// A VF is missing.
    #[error("PF {pf} has no VF {index} (no virtfn{index})")]
    NoVf {
        /// The PF.
        pf: PciAddress,
        /// The VF.
        index: u32,
    },
    /// No driver, or another one, took a VF.
    #[error("VF {address} has {} after {seconds} s, not {wanted}; {advice}", driver(found.as_deref()))]
    NotBound {
        /// The VF.
        address: PciAddress,
        /// The driver that it has.
        found: Option<String>,
        /// The driver that it shall have.
        wanted: String,
        /// How long was waited.
        seconds: u64,
        /// What to look at.
        advice: String,
    },
    /// A VF's network device did not come.
    #[error(
        "VF {address} on driver {driver} has no network device after {seconds} s; look at the kernel's log (dmesg)"
    )]
    NoNetdev {
        /// The VF.
        address: PciAddress,
        /// Its driver.
        driver: String,
        /// How long was waited.
        seconds: u64,
    },
    /// The VF does not have the address that the PF set.
    #[error(
        "VF {address} has MAC {found}, not the administrative {wanted}, after {tries} starts of its driver"
    )]
    OtherMac {
        /// The VF.
        address: PciAddress,
        /// What it has.
        found: String,
        /// What it shall have.
        wanted: String,
        /// How often its driver was started.
        tries: u32,
    },
}

fn driver(found: Option<&str>) -> String {
    found.map_or_else(|| "no driver".to_owned(), |driver| format!("driver {driver}"))
}
