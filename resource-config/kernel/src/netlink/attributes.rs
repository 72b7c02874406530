//! Looking at attributes one by one. An attribute that is malformed counts as absent: the kernel does not send such,
//! and none of them is worth hiding the rest of the message.

use std::net::IpAddr;

use netlink_packet_core::{NLA_HEADER_SIZE, NLA_TYPE_MASK, NlasIterator};

/// The attributes in a stretch of bytes, as (type, value), up to the first that does not fit.
pub(crate) fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut position = 0_usize;
    NlasIterator::new(bytes).map_while(Result::ok).map(move |attribute| {
        // Taken from `bytes`: the library's accessor gives a value that lives only as long as this item.
        let length = NLA_HEADER_SIZE + attribute.value_length();
        let value = bytes.get(position + NLA_HEADER_SIZE..position + length).unwrap_or_default();
        position += super::frame::align(length);
        (attribute.kind() & NLA_TYPE_MASK, value)
    })
}

/// The first attribute of this type within a nested one.
pub(crate) fn nested(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find_map(|(found, value)| (found == kind).then_some(value))
}

pub(crate) fn u8_of(value: &[u8]) -> Option<u8> {
    value.first().copied()
}

pub(crate) fn u16_of(value: &[u8]) -> Option<u16> {
    Some(u16::from_ne_bytes(value.get(..2)?.try_into().ok()?))
}

pub(crate) fn u32_of(value: &[u8]) -> Option<u32> {
    Some(u32::from_ne_bytes(value.get(..4)?.try_into().ok()?))
}

/// The number at this place of a structure made of numbers.
pub(crate) fn u32_at(value: &[u8], place: usize) -> Option<u32> {
    u32_of(value.get(place.checked_mul(4)?..)?)
}

/// A text that ends at its NUL. Names and aliases need not be UTF-8; what is not is replaced.
pub(crate) fn text(value: &[u8]) -> String {
    let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
    String::from_utf8_lossy(value.get(..end).unwrap_or(value)).into_owned()
}

pub(crate) fn ip(value: &[u8]) -> Option<IpAddr> {
    match value.len() {
        4 => <[u8; 4]>::try_from(value).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(value).ok().map(IpAddr::from),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_read_up_to_the_first_that_does_not_fit() {
        let bytes = [5, 0, 3, 0, b'a', 0, 0, 0, 8, 0, 4, 0x80, 1, 2, 3, 4, 40, 0, 1, 0];
        let read: Vec<_> = attributes(&bytes).collect();
        assert_eq!(read, [(3, &b"a"[..]), (4, &[1, 2, 3, 4][..])]);
        assert_eq!(nested(&bytes, 4), Some(&[1, 2, 3, 4][..]));
        assert_eq!(nested(&bytes, 1), None);
    }

    #[test]
    fn short_values_are_absent() {
        assert_eq!(u32_of(&[1, 2, 3]), None);
        assert_eq!(u32_at(&[0; 8], 1), Some(0));
        assert_eq!(u32_at(&[0; 7], 1), None);
        assert_eq!(ip(&[1, 2, 3]), None);
        assert_eq!(text(b"eth0\0\0"), "eth0");
        assert_eq!(text(b"eth0"), "eth0");
    }
}
