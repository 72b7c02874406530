//! Looking at VFIO groups, for preflight checks and diagnosis. Opening a group keeps everybody else out while it is
//! open, so nothing that runs beside pods may call this on a group that is handed out.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use nix::libc;
use vfio_bindings::bindings::vfio::{
    VFIO_API_VERSION, VFIO_GROUP_FLAGS_CONTAINER_SET, VFIO_GROUP_FLAGS_VIABLE,
};

use crate::sys;

/// What a group says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupStatus {
    /// Every device of the group is bound to vfio-pci or to nothing, so it can be handed out.
    pub viable: bool,
    /// It is in use.
    pub container_set: bool,
}

/// Why VFIO could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum VfioError {
    /// The device node is not there: no such group, or the vfio module is not loaded.
    #[error("{} does not exist; is the vfio-pci module loaded and a device of the group bound to it?", path.display())]
    Missing {
        /// The device node.
        path: PathBuf,
    },
    /// Somebody has it open.
    #[error("{} is in use", path.display())]
    InUse {
        /// The device node.
        path: PathBuf,
    },
    /// It could not be opened.
    #[error("cannot open {}", path.display())]
    Open {
        /// The device node.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// It did not answer as VFIO does.
    #[error("{} does not answer as a VFIO device does", path.display())]
    Ask {
        /// The device node.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The kernel speaks another version of the interface.
    #[error("{} speaks version {version} of the VFIO interface, not {VFIO_API_VERSION}", path.display())]
    Version {
        /// The device node.
        path: PathBuf,
        /// What it speaks.
        version: i32,
    },
}

/// Makes sure that the kernel's VFIO (`/dev/vfio/vfio`) speaks the version that DPDK and QEMU expect.
pub fn check_interface(container: &Path) -> Result<(), VfioError> {
    let file = open(container)?;
    let version = sys::vfio_api_version(file.as_fd())
        .map_err(|source| VfioError::Ask { path: container.to_owned(), source })?;
    if u32::try_from(version) == Ok(VFIO_API_VERSION) {
        Ok(())
    } else {
        Err(VfioError::Version { path: container.to_owned(), version })
    }
}

/// The status of a group (`/dev/vfio/<number>`).
pub fn group_status(group: &Path) -> Result<GroupStatus, VfioError> {
    let file = open(group)?;
    let flags = sys::vfio_group_flags(file.as_fd())
        .map_err(|source| VfioError::Ask { path: group.to_owned(), source })?;
    Ok(GroupStatus {
        viable: flags & VFIO_GROUP_FLAGS_VIABLE != 0,
        container_set: flags & VFIO_GROUP_FLAGS_CONTAINER_SET != 0,
    })
}

fn open(path: &Path) -> Result<File, VfioError> {
    let path_owned = || path.to_owned();
    File::options().read(true).write(true).open(path).map_err(|source| match source.raw_os_error() {
        Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => VfioError::Missing { path: path_owned() },
        Some(libc::EBUSY) => VfioError::InUse { path: path_owned() },
        _ => VfioError::Open { path: path_owned(), source },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_group_says_what_to_look_at() {
        let folder = tempfile::tempdir().unwrap();
        let error = group_status(&folder.path().join("7")).unwrap_err();
        assert!(matches!(error, VfioError::Missing { .. }));
        assert!(error.to_string().contains("vfio-pci"), "{error}");
    }

    #[test]
    fn a_file_that_is_no_group_is_told() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(matches!(group_status(file.path()).unwrap_err(), VfioError::Ask { .. }));
        assert!(matches!(check_interface(file.path()).unwrap_err(), VfioError::Ask { .. }));
    }
}
