//! Device-information files (specification 1.1.0): what the device plugin says of a device, copied to where the attachment's
//! plugins and the pod's status find it, and removed with the attachment.

use std::{
    fs::{self, File, Permissions},
    io::{self, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::protocol::error::{CniError, code};

/// The file of an attachment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceInfo {
    /// What the device plugin wrote; it may have written nothing.
    pub from: Option<PathBuf>,
    /// Where the attachment's is. Its plugins may write there.
    pub to: PathBuf,
}

impl DeviceInfo {
    /// The files of a device for an attachment, in `dir`.
    pub fn of(
        dir: &Path,
        resource: Option<&str>,
        device: &str,
        network: &str,
        container: &str,
        interface: &str,
    ) -> Self {
        let file = |folder: &str, name: String| dir.join(folder).join(name.replace('/', "-"));
        Self {
            from: resource.map(|resource| file("dp", format!("{resource}-{device}-device.json"))),
            to: file("cni", format!("{network}-{container}_{interface}")),
        }
    }

    /// Makes the attachment's file, if the device plugin wrote one.
    pub(super) fn copy(&self) -> Result<(), CniError> {
        let Some(from) = &self.from else { return Ok(()) };
        let bytes = match fs::read(from) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(failed("read", from, &error)),
        };
        write(&self.to, &bytes).map_err(|error| failed("write", &self.to, &error))
    }
}

/// Of a killed call there may be one already, which nobody else uses: the name has the sandbox's ID.
fn write(file: &Path, bytes: &[u8]) -> io::Result<()> {
    fs::create_dir_all(file.parent().unwrap_or(Path::new("/")))?;
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut out = File::create_new(file)?;
    out.write_all(bytes)?;
    out.set_permissions(Permissions::from_mode(0o444))
}

/// What an attachment's file says.
pub fn read(file: &Path) -> Option<Value> {
    serde_json::from_slice(&fs::read(file).ok()?).ok()
}

/// Removes an attachment's file, whoever wrote it.
pub(super) fn remove(file: &Path) -> Result<(), CniError> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", file, &error)),
        _ => Ok(()),
    }
}

fn failed(what: &str, file: &Path, error: &io::Error) -> CniError {
    CniError::new(code::IO, format!("{what} device-information file {}: {error}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(dir: &Path) -> DeviceInfo {
        DeviceInfo::of(dir, Some("intel.com/sriov"), "0000:01:10.0", "default/vf", "c1", "net1")
    }

    #[test]
    fn names_are_upstreams() {
        let info = of(Path::new("/d"));
        assert_eq!(info.from.unwrap(), Path::new("/d/dp/intel.com-sriov-0000:01:10.0-device.json"));
        assert_eq!(info.to, Path::new("/d/cni/default-vf-c1_net1"));
    }

    #[test]
    fn what_the_device_plugin_wrote_is_copied_over_what_a_killed_call_left_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let info = of(dir.path());
        info.copy().unwrap();
        assert!(!info.to.exists(), "without a file of the device plugin there is none");
        fs::create_dir(dir.path().join("dp")).unwrap();
        fs::write(info.from.as_ref().unwrap(), r#"{"type":"pci"}"#).unwrap();
        for _ in 0..2 {
            info.copy().unwrap();
        }
        assert_eq!(read(&info.to).unwrap()["type"], "pci");
        assert_eq!(fs::metadata(&info.to).unwrap().permissions().mode() & 0o777, 0o444);
        for _ in 0..2 {
            remove(&info.to).unwrap();
        }
        assert_eq!(read(&info.to), None);
    }
}
