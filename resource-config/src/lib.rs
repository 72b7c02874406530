//! Which devices a node has, and which resource each belongs to.
//!
//! [`inventory::Scanner`] reads a node into plain data, [`pools`] divides it; only [`provision`] changes the system.

mod columns;
mod document;
mod network;
mod pci;
mod sysfs;
mod tree;

pub mod config;
pub mod import;
pub mod inventory;
pub mod pools;
pub mod provision;
#[cfg(any(test, feature = "test-support"))]
pub mod test_support;
pub mod watch;

pub use columns::columns;
pub use pci::{InvalidPciAddress, InvalidPciId, PciAddress, PciId};
pub use sysfs::SysRoot;
pub use tree::TreeError;

/// An error with everything that caused it, on one line.
#[must_use]
pub fn error_text(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
