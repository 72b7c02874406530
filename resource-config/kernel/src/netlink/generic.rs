//! Messages of generic netlink families.

use netlink_packet_core::NetlinkSerializable;

use super::frame::align;

/// Bytes of the header that such messages begin with (kernel `struct genlmsghdr`).
pub(crate) const HEADER: usize = 4;

/// Bytes of an attribute's header.
const ATTRIBUTE_HEADER: usize = 4;

/// A question to a generic netlink family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GenericMessage {
    /// The family's number, which the kernel gives out when the family appears.
    pub(crate) family: u16,
    /// What is asked.
    pub(crate) command: u8,
    /// Texts that say about what, each by the number of its attribute.
    pub(crate) texts: Vec<(u16, String)>,
}

impl GenericMessage {
    /// The payload: header, then the texts, each with its NUL.
    fn bytes(&self) -> Vec<u8> {
        // The version of every family that is asked here is 1.
        let mut bytes = vec![self.command, 1, 0, 0];
        for (kind, text) in &self.texts {
            let length = ATTRIBUTE_HEADER + text.len() + 1;
            bytes.extend(u16::try_from(length).unwrap_or(u16::MAX).to_ne_bytes());
            bytes.extend(kind.to_ne_bytes());
            bytes.extend(text.bytes());
            bytes.push(0);
            bytes.resize(align(bytes.len()), 0);
        }
        bytes
    }
}

impl NetlinkSerializable for GenericMessage {
    fn message_type(&self) -> u16 {
        self.family
    }

    fn buffer_len(&self) -> usize {
        self.bytes().len()
    }

    fn serialize(&self, buffer: &mut [u8]) {
        buffer.copy_from_slice(&self.bytes());
    }
}
