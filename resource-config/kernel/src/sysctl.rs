//! Kernel settings under `/proc/sys`, by path: the dotted form of a key cannot name an interface with a dot in it.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::netns::{Netns, NetnsError};

const ROOT: &str = "/proc/sys";

/// Why a setting could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum SysctlError {
    /// The kernel has no such setting, or no such interface: callers often may go on.
    #[error("the kernel has no setting {key}")]
    Missing {
        /// Path below `/proc/sys`.
        key: String,
    },
    /// The key leads out of `/proc/sys`.
    #[error("{key:?} is not the path of a kernel setting, such as net/ipv4/conf/eth0/arp_notify")]
    Key {
        /// As it was given.
        key: String,
    },
    /// Reading was refused.
    #[error("cannot read the kernel setting {key}")]
    Read {
        /// Path below `/proc/sys`.
        key: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// Writing was refused.
    #[error("cannot set the kernel setting {key} to {value}")]
    Write {
        /// Path below `/proc/sys`.
        key: String,
        /// What was to be written.
        value: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The namespace could not be entered.
    #[error(transparent)]
    Netns(#[from] NetnsError),
}

impl SysctlError {
    /// The kernel has no such setting, or no such interface.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Missing { .. })
    }
}

/// Reads a setting, in a namespace or in the caller's own. `key` is a path below `/proc/sys`.
pub fn get(netns: Option<&Netns>, key: &str) -> Result<String, SysctlError> {
    within(netns, || read(Path::new(ROOT), key))?
}

/// Sets a setting unless it is so already; tells whether it was changed.
pub fn set(netns: Option<&Netns>, key: &str, value: &str) -> Result<bool, SysctlError> {
    within(netns, || write(Path::new(ROOT), key, value))?
}

/// Sets several, entering the namespace once. All are tried.
pub fn set_all(
    netns: Option<&Netns>,
    settings: &[(&str, &str)],
) -> Result<Vec<Result<bool, SysctlError>>, SysctlError> {
    within(netns, || settings.iter().map(|(key, value)| write(Path::new(ROOT), key, value)).collect())
}

/// As [`set_all`], for what is most likely otherwise: a setting is looked at only when it cannot be set.
pub fn set_new(
    netns: Option<&Netns>,
    settings: &[(&str, &str)],
) -> Result<Vec<Result<(), SysctlError>>, SysctlError> {
    within(netns, || settings.iter().map(|(key, value)| overwrite(Path::new(ROOT), key, value)).collect())
}

/// Reads several, entering the namespace once.
pub fn get_all(
    netns: Option<&Netns>,
    keys: &[&str],
) -> Result<Vec<Result<String, SysctlError>>, SysctlError> {
    within(netns, || keys.iter().map(|key| read(Path::new(ROOT), key)).collect())
}

fn within<T: Send>(netns: Option<&Netns>, work: impl FnOnce() -> T + Send) -> Result<T, SysctlError> {
    match netns {
        Some(netns) => Ok(netns.run(work)?),
        None => Ok(work()),
    }
}

fn path(root: &Path, key: &str) -> Result<PathBuf, SysctlError> {
    let valid = key.split('/').all(|part| !part.is_empty() && part != "." && part != "..");
    if valid { Ok(root.join(key)) } else { Err(SysctlError::Key { key: key.to_owned() }) }
}

fn read(root: &Path, key: &str) -> Result<String, SysctlError> {
    match fs::read_to_string(path(root, key)?) {
        Ok(value) => Ok(value.trim_end_matches('\n').to_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(SysctlError::Missing { key: key.to_owned() })
        }
        Err(source) => Err(SysctlError::Read { key: key.to_owned(), source }),
    }
}

fn write(root: &Path, key: &str, value: &str) -> Result<bool, SysctlError> {
    match read(root, key) {
        Ok(current) if current == value => return Ok(false),
        Err(error @ (SysctlError::Missing { .. } | SysctlError::Key { .. })) => return Err(error),
        // What cannot be read can perhaps be written; if not, that error tells.
        Ok(_) | Err(_) => {}
    }
    overwrite(root, key, value).map(|()| true)
}

/// Sets a setting; one that cannot be set may be right already.
fn overwrite(root: &Path, key: &str, value: &str) -> Result<(), SysctlError> {
    let opened = File::options().write(true).open(path(root, key)?);
    match opened.and_then(|mut file| file.write_all(value.as_bytes())) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(SysctlError::Missing { key: key.to_owned() })
        }
        Err(_) if read(root, key).is_ok_and(|current| current == value) => Ok(()),
        Err(source) => Err(SysctlError::Write { key: key.to_owned(), value: value.to_owned(), source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("net/ipv4/conf/eth0.100")).unwrap();
        fs::write(root.path().join("net/ipv4/conf/eth0.100/arp_notify"), "0\n").unwrap();
        root
    }

    const KEY: &str = "net/ipv4/conf/eth0.100/arp_notify";

    #[test]
    fn a_setting_is_written_only_when_it_differs() {
        let root = root();
        assert!(write(root.path(), KEY, "1").unwrap());
        assert_eq!(read(root.path(), KEY).unwrap(), "1");
        let file = File::open(root.path().join(KEY)).unwrap();
        let mut permissions = file.metadata().unwrap().permissions();
        permissions.set_readonly(true);
        file.set_permissions(permissions).unwrap();
        assert!(!write(root.path(), KEY, "1").unwrap());
        overwrite(root.path(), KEY, "1").unwrap();
    }

    #[test]
    fn a_missing_setting_is_told_as_such_and_not_created() {
        let root = root();
        let key = "net/ipv6/conf/eth0.100/ndisc_notify";
        for error in
            [write(root.path(), key, "1").unwrap_err(), overwrite(root.path(), key, "1").unwrap_err()]
        {
            assert!(error.is_missing());
            assert!(error.to_string().contains(key));
            assert!(!root.path().join(key).exists());
        }
    }

    #[test]
    fn keys_that_lead_elsewhere_are_refused() {
        for key in ["", "/etc/passwd", "net/../../etc/passwd", "net//ipv4", "./net"] {
            assert!(
                matches!(write(&root().path().join("x"), key, "1"), Err(SysctlError::Key { .. })),
                "{key}"
            );
        }
    }
}
