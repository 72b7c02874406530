//! Uevents: `ACTION@DEVPATH`, then `KEY=VALUE` texts, each ended by a NUL.

/// What the kernel announced about a device. Unknown variables are passed over, missing ones are empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Uevent {
    /// `add`, `remove`, `change`, `move`, `bind`, `unbind`, `online`, `offline`.
    pub action: String,
    /// The device's folder below `/sys`, with a slash in front: `/devices/pci0000:00/0000:00:01.0`.
    pub devpath: String,
    /// The bus or class of the device: `pci`, `net`, `vfio`, ... Empty where it has none.
    pub subsystem: String,
}

impl Uevent {
    /// Reads a datagram; `None` when it does not begin as the kernel's do.
    pub(super) fn parse(datagram: &[u8]) -> Option<Self> {
        let mut texts = datagram.split(|byte| *byte == 0).map(String::from_utf8_lossy);
        let header = texts.next()?;
        let (action, devpath) = header.split_once('@')?;
        if action.is_empty() || !devpath.starts_with('/') {
            return None;
        }
        let (action, devpath) = (action.to_owned(), devpath.to_owned());
        let subsystem = texts.find_map(|text| text.strip_prefix("SUBSYSTEM=").map(str::to_owned));
        Some(Self { action, devpath, subsystem: subsystem.unwrap_or_default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<Uevent> {
        Uevent::parse(text.replace('|', "\0").as_bytes())
    }

    #[test]
    fn a_function_that_is_added_is_read() {
        let event = read(
            "add@/devices/pci0000:00/0000:00:01.0/0000:01:10.0|ACTION=add|\
             DEVPATH=/devices/pci0000:00/0000:00:01.0/0000:01:10.0|SUBSYSTEM=pci|PCI_CLASS=20000|PCI_ID=8086:10CA|\
             PCI_SLOT_NAME=0000:01:10.0|MODALIAS=pci:v00008086d000010CA|SEQNUM=1234|",
        );
        let expected = Uevent {
            action: "add".to_owned(),
            devpath: "/devices/pci0000:00/0000:00:01.0/0000:01:10.0".to_owned(),
            subsystem: "pci".to_owned(),
        };
        assert_eq!(event, Some(expected));
    }

    #[test]
    fn what_is_odd_is_read_as_far_as_it_goes() {
        let bare = read("bind@/devices/x").unwrap();
        assert_eq!((bare.action.as_str(), bare.subsystem.as_str()), ("bind", ""));
        let odd = read("move@/devices/a@b||=|SUBSYSTEM|SUBSYSTEM=net=x|\u{fffd}").unwrap();
        assert_eq!((odd.devpath.as_str(), odd.subsystem.as_str()), ("/devices/a@b", "net=x"));
        assert!(
            Uevent::parse(b"add@/devices/\xff\0SUBSYSTEM=net\0").unwrap().devpath.starts_with("/devices/")
        );
    }

    #[test]
    fn what_is_no_uevent_is_none() {
        for text in ["", "|", "libudev|", "@/devices/x", "add@", "add@devices/x"] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
