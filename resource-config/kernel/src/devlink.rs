//! What drivers tell of whole devices through devlink: the mode of the embedded switch, and versions of what runs on
//! the device. Only reading.

use std::io;

use netlink_sys::protocols::NETLINK_GENERIC;
use nix::libc;

use crate::netlink::{
    Exchange, Failure, GENERIC_HEADER, GenericMessage, KernelSocket, NetlinkError, Transport, attributes,
    text, u16_of,
};

/// Kernel `include/uapi/linux/genetlink.h`.
mod ctrl {
    pub(super) const FAMILY: u16 = 16;
    pub(super) const GET_FAMILY: u8 = 3;
    pub(super) const FAMILY_ID: u16 = 1;
    pub(super) const FAMILY_NAME: u16 = 2;
}

/// Kernel `include/uapi/linux/devlink.h`.
mod uapi {
    pub(super) const GET: u8 = 1;
    pub(super) const ESWITCH_GET: u8 = 29;
    pub(super) const INFO_GET: u8 = 51;
    pub(super) const BUS_NAME: u16 = 1;
    pub(super) const DEV_NAME: u16 = 2;
    pub(super) const ESWITCH_MODE: u16 = 25;
    pub(super) const VERSION_FIXED: u16 = 100;
    pub(super) const VERSION_RUNNING: u16 = 101;
    pub(super) const VERSION_STORED: u16 = 102;
    pub(super) const VERSION_NAME: u16 = 103;
    pub(super) const VERSION_VALUE: u16 = 104;
}

/// A device as devlink names it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Handle {
    /// `pci`, `auxiliary`, ...
    pub bus: String,
    /// The device's name on that bus: for PCI its address.
    pub device: String,
}

/// The number of an embedded switch's mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EswitchMode(
    /// The kernel's number.
    pub u16,
);

impl EswitchMode {
    /// By addresses and VLANs.
    pub const LEGACY: Self = Self(0);
    /// By rules between representors.
    pub const SWITCHDEV: Self = Self(1);
}

/// A version of something on a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// Of the hardware, of what runs, or of what is stored and would run after a reset.
    pub state: VersionState,
    /// Of what: `fw`, `fw.app.name`, ... (kernel `Documentation/networking/devlink/devlink-info.rst`).
    pub name: String,
    /// The version.
    pub value: String,
}

/// Where a version is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VersionState {
    /// It never changes.
    Fixed,
    /// In use now.
    Running,
    /// On the device's storage.
    Stored,
}

/// A generic netlink socket that speaks devlink.
pub struct Devlink {
    exchange: Exchange,
    family: u16,
}

/// Why devlink cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum DevlinkOpenError {
    /// The kernel gave no socket.
    #[error("cannot open a generic netlink socket")]
    Socket {
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The kernel does not say which number devlink has.
    #[error(transparent)]
    Family(#[from] NetlinkError),
}

impl Devlink {
    /// A socket in the calling thread's network namespace; `None` when this kernel has no devlink (no driver uses it).
    pub fn open() -> Result<Option<Self>, DevlinkOpenError> {
        let socket =
            KernelSocket::open(NETLINK_GENERIC).map_err(|source| DevlinkOpenError::Socket { source })?;
        Ok(Self::over(Box::new(socket))?)
    }

    /// Over something else than the kernel: for tests.
    pub fn over(transport: Box<dyn Transport>) -> Result<Option<Self>, NetlinkError> {
        let mut exchange = Exchange::over(transport);
        let texts = vec![(ctrl::FAMILY_NAME, "devlink".to_owned())];
        let question = GenericMessage { family: ctrl::FAMILY, command: ctrl::GET_FAMILY, texts };
        let operation = "look up the devlink family";
        let payload = match exchange.get(operation, &question) {
            Err(error) if error.is_missing() => return Ok(None),
            answered => answered?,
        };
        let family = attributes_of(&payload).find(|(kind, _)| *kind == ctrl::FAMILY_ID);
        let family = family.and_then(|(_, value)| u16_of(value)).ok_or_else(|| {
            NetlinkError::new(operation, Failure::Malformed("an answer without its number".to_owned()))
        })?;
        Ok(Some(Self { exchange, family }))
    }

    /// The devices whose drivers speak devlink.
    pub fn devices(&mut self) -> Result<Vec<Handle>, NetlinkError> {
        let question = GenericMessage { family: self.family, command: uapi::GET, texts: Vec::new() };
        let payloads = self.exchange.dump("list the devices of devlink", &question)?;
        Ok(payloads.iter().filter_map(|payload| Handle::parse(payload)).collect())
    }

    /// How the embedded switch of a device works; `None` when it has none, or is no such device.
    pub fn eswitch_mode(&mut self, device: &Handle) -> Result<Option<EswitchMode>, NetlinkError> {
        let operation = format!("ask for the eswitch mode of {}/{}", device.bus, device.device);
        let Some(payload) = self.ask(&operation, uapi::ESWITCH_GET, device)? else { return Ok(None) };
        let mode = attributes_of(&payload).find(|(kind, _)| *kind == uapi::ESWITCH_MODE);
        Ok(mode.and_then(|(_, value)| u16_of(value)).map(EswitchMode))
    }

    /// The versions that the driver of a device tells. It may have to ask the device's firmware: not cheap.
    pub fn versions(&mut self, device: &Handle) -> Result<Vec<Version>, NetlinkError> {
        let operation = format!("ask for the versions of {}/{}", device.bus, device.device);
        let payload = self.ask(&operation, uapi::INFO_GET, device)?.unwrap_or_default();
        Ok(attributes_of(&payload).filter_map(|(kind, value)| Version::parse(kind, value)).collect())
    }

    /// `None` when the device is gone or its driver does not do this.
    fn ask(
        &mut self,
        operation: &str,
        command: u8,
        device: &Handle,
    ) -> Result<Option<Vec<u8>>, NetlinkError> {
        let texts = vec![(uapi::BUS_NAME, device.bus.clone()), (uapi::DEV_NAME, device.device.clone())];
        match self.exchange.get(operation, &GenericMessage { family: self.family, command, texts }) {
            Ok(payload) => Ok(Some(payload)),
            Err(error) if error.is_missing() => Ok(None),
            Err(error) if error.errno().is_some_and(|errno| errno as i32 == libc::EOPNOTSUPP) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl Handle {
    fn parse(payload: &[u8]) -> Option<Self> {
        let of = |wanted| attributes_of(payload).find(|(kind, _)| *kind == wanted);
        Some(Self { bus: text(of(uapi::BUS_NAME)?.1), device: text(of(uapi::DEV_NAME)?.1) })
    }
}

impl Version {
    fn parse(kind: u16, value: &[u8]) -> Option<Self> {
        let state = match kind {
            uapi::VERSION_FIXED => VersionState::Fixed,
            uapi::VERSION_RUNNING => VersionState::Running,
            uapi::VERSION_STORED => VersionState::Stored,
            _ => return None,
        };
        let of = |wanted| attributes(value).find(|(kind, _)| *kind == wanted);
        Some(Self { state, name: text(of(uapi::VERSION_NAME)?.1), value: text(of(uapi::VERSION_VALUE)?.1) })
    }
}

/// The attributes behind the header of a generic netlink message.
fn attributes_of(payload: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    attributes(payload.get(GENERIC_HEADER..).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Errno;
    use crate::netlink::recording::{Answer, Recording};

    const FAMILY: u16 = 21;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = u16::try_from(4 + value.len()).unwrap().to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn message(attributes: &[Vec<u8>]) -> (u16, Vec<u8>) {
        (FAMILY, [vec![1, 1, 0, 0], attributes.concat()].concat())
    }

    fn opened() -> (Recording, Devlink) {
        let recording = Recording::default();
        recording.answer(Answer::Messages(vec![message(&[
            attribute(ctrl::FAMILY_NAME, b"devlink\0"),
            attribute(ctrl::FAMILY_ID, &FAMILY.to_ne_bytes()),
        ])]));
        let devlink = Devlink::over(Box::new(recording.clone())).unwrap().unwrap();
        (recording, devlink)
    }

    fn device() -> Handle {
        Handle { bus: "pci".to_owned(), device: "0000:03:00.0".to_owned() }
    }

    /// The layout of the kernel headers named above: header, then bus and device name.
    #[test]
    fn questions_name_the_family_and_the_device() {
        let (recording, mut devlink) = opened();
        recording.answer(Answer::Messages(vec![message(&[attribute(uapi::ESWITCH_MODE, &[1, 0])])]));
        assert_eq!(devlink.eswitch_mode(&device()).unwrap(), Some(EswitchMode::SWITCHDEV));
        let sent = recording.sent();
        let lookup = [&[3, 1, 0, 0, 12, 0, 2, 0][..], b"devlink\0"].concat();
        assert_eq!((sent[0][4..6].to_vec(), &sent[0][16..]), (vec![16, 0], &lookup[..]));
        let question =
            [&[29, 1, 0, 0, 8, 0, 1, 0][..], b"pci\0", &[17, 0, 2, 0], b"0000:03:00.0\0\0\0\0"].concat();
        assert_eq!((sent[1][4..6].to_vec(), &sent[1][16..]), (vec![21, 0], &question[..]));
    }

    #[test]
    fn devices_and_versions_are_read() {
        let (recording, mut devlink) = opened();
        let handle = [attribute(uapi::BUS_NAME, b"pci\0"), attribute(uapi::DEV_NAME, b"0000:03:00.0\0")];
        recording.answer(Answer::Messages(vec![message(&handle), message(&[])]));
        assert_eq!(devlink.devices().unwrap(), [device()]);
        let version = [
            attribute(uapi::VERSION_NAME, b"fw.app.name\0"),
            attribute(uapi::VERSION_VALUE, b"ICE OS Default Package\0"),
        ];
        let info = [attribute(98, b"ice\0"), attribute(uapi::VERSION_RUNNING, &version.concat())];
        recording.answer(Answer::Messages(vec![message(&info)]));
        let versions = devlink.versions(&device()).unwrap();
        assert_eq!(versions.len(), 1);
        assert_eq!((versions[0].state, versions[0].name.as_str()), (VersionState::Running, "fw.app.name"));
        assert_eq!(versions[0].value, "ICE OS Default Package");
    }

    #[test]
    fn a_driver_that_does_not_do_it_is_no_error() {
        let (recording, mut devlink) = opened();
        recording.answer(Answer::Refused(Errno::EOPNOTSUPP, None));
        assert_eq!(devlink.eswitch_mode(&device()).unwrap(), None);
        recording.answer(Answer::Refused(Errno::ENODEV, None));
        assert_eq!(devlink.versions(&device()).unwrap(), []);
        recording.answer(Answer::Refused(Errno::EPERM, None));
        let error = devlink.eswitch_mode(&device()).unwrap_err().to_string();
        assert!(error.starts_with("ask for the eswitch mode of pci/0000:03:00.0: "), "{error}");
    }

    #[test]
    fn a_kernel_without_devlink_is_no_error() {
        let recording = Recording::default();
        recording.answer(Answer::Refused(Errno::ENOENT, None));
        assert!(Devlink::over(Box::new(recording)).unwrap().is_none());
    }
}
