//! What can go wrong.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::pci::PciAddress;
use crate::tree::TreeError;

/// Why the node or a device could not be read.
#[derive(Debug, Error)]
pub enum InventoryError {
    /// The list of PCI functions is not readable.
    #[error("cannot list the PCI functions in {path}; is sysfs mounted there?")]
    List {
        /// The folder that was to be listed.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The tree file is not readable.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// The node has no such function.
    #[error("PCI function {address} does not exist: no {path}")]
    NoSuchFunction {
        /// The function asked for.
        address: PciAddress,
        /// Where it would be.
        path: PathBuf,
    },
    /// The folder of a function is not readable.
    #[error("cannot read PCI function {address} in {path}")]
    Function {
        /// The function asked for.
        address: PciAddress,
        /// Its folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A VF was asked for, and the function is none.
    #[error("PCI function {address} is not a virtual function: it has no physfn link")]
    NotVf {
        /// The function asked for.
        address: PciAddress,
    },
    /// The PF has no link to the VF.
    #[error("PF {pf_address} has no virtfn link to {address}, so its VF index is unknown")]
    NoVfIndex {
        /// The VF.
        address: PciAddress,
        /// Its PF.
        pf_address: PciAddress,
    },
    /// The PF has no network device here.
    #[error(
        "PF {pf_address} of VF {address} has no network device in this network namespace; bind the PF to its kernel driver"
    )]
    NoPfNetdev {
        /// The VF.
        address: PciAddress,
        /// Its PF.
        pf_address: PciAddress,
    },
    /// An IOMMU group is not readable.
    #[error("cannot read the members of IOMMU group {number} in {path}")]
    Group {
        /// The number of the group.
        number: u32,
        /// The folder that was to be listed.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}
