//! Values that configurations name.

use std::fmt;
use std::str::FromStr;

/// `deviceType` of a pool.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DeviceType {
    /// A network function, on its kernel driver or on vfio-pci.
    #[default]
    NetDevice,
    /// A processing accelerator.
    Accelerator,
    /// A part of a network function with a device of its own: a scalable function.
    AuxNetDevice,
}

impl DeviceType {
    pub(super) const ALL: &[Self] = &[Self::NetDevice, Self::Accelerator, Self::AuxNetDevice];

    /// The name in configurations.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NetDevice => "netDevice",
            Self::Accelerator => "accelerator",
            Self::AuxNetDevice => "auxNetDevice",
        }
    }
}

/// `vdpaType` of a selector: the bus driver of a vDPA device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VdpaType {
    /// `vhost_vdpa`: a character device for user space.
    Vhost,
    /// `virtio_vdpa`: a network device of the kernel.
    Virtio,
}

impl VdpaType {
    pub(super) const ALL: &[Self] = &[Self::Vhost, Self::Virtio];

    /// The name in configurations.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Vhost => "vhost",
            Self::Virtio => "virtio",
        }
    }

    /// The bus driver that makes a vDPA device one of this type.
    #[must_use]
    pub fn bus_driver(self) -> &'static str {
        match self {
            Self::Vhost => "vhost_vdpa",
            Self::Virtio => "virtio_vdpa",
        }
    }
}

/// An InfiniBand partition key, membership bit included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PKey(u16);

impl FromStr for PKey {
    type Err = ();

    /// One to four hexadecimal digits of either case, with or without `0x`.
    fn from_str(text: &str) -> Result<Self, ()> {
        let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")).unwrap_or(text);
        let valid = (1..=4).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_hexdigit());
        valid.then(|| u16::from_str_radix(digits, 16).ok()).flatten().map(Self).ok_or(())
    }
}

/// As sysfs writes it.
impl fmt::Display for PKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#06x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partition_keys_are_read_in_any_spelling_and_printed_as_in_sysfs() {
        for (text, printed) in
            [("0x8001", "0x8001"), ("0XABCD", "0xabcd"), ("7fff", "0x7fff"), ("1", "0x0001")]
        {
            assert_eq!(text.parse::<PKey>().unwrap().to_string(), printed);
        }
        for text in ["", "0x", "0x12345", "key", "+1"] {
            assert!(text.parse::<PKey>().is_err(), "{text}");
        }
    }
}
