//! Cutting a datagram into messages.

use netlink_packet_core::NetlinkBuffer;

/// Length of a message's header.
pub(super) const HEADER: usize = 16;

/// One message of a datagram, not decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    pub(crate) kind: u16,
    pub(super) flags: u16,
    pub(super) sequence: u32,
    pub(crate) payload: &'a [u8],
}

/// All messages of a datagram, or what is wrong with it.
pub(crate) fn frames(datagram: &[u8]) -> Result<Vec<Frame<'_>>, String> {
    let mut rest = datagram;
    let mut frames = Vec::new();
    while !rest.is_empty() {
        let message = NetlinkBuffer::new_checked(rest).map_err(|error| error.to_string())?;
        let length = usize::try_from(message.length()).unwrap_or(usize::MAX);
        if length < HEADER {
            return Err(format!("a message claims to be {length} bytes long"));
        }
        frames.push(Frame {
            kind: message.message_type(),
            flags: message.flags(),
            sequence: message.sequence_number(),
            payload: message.payload(),
        });
        rest = rest.get(align(length)..).unwrap_or_default();
    }
    Ok(frames)
}

/// Netlink starts every message and every attribute at a multiple of four bytes.
pub(super) fn align(length: usize) -> usize {
    length.saturating_add(3) & !3
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, sequence: u32, payload: &[u8]) -> Vec<u8> {
        let mut bytes = u32::try_from(HEADER + payload.len()).unwrap().to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend([0, 0]);
        bytes.extend(sequence.to_ne_bytes());
        bytes.extend([0; 4]);
        bytes.extend(payload);
        bytes.resize(align(bytes.len()), 0);
        bytes
    }

    #[test]
    fn messages_are_cut_at_aligned_lengths() {
        let datagram = [message(16, 1, &[1, 2, 3, 4, 5]), message(3, 2, &[9])].concat();
        let frames = frames(&datagram).unwrap();
        assert_eq!(frames.len(), 2);
        assert_eq!((frames[0].kind, frames[0].sequence, frames[0].payload), (16, 1, &[1, 2, 3, 4, 5][..]));
        assert_eq!((frames[1].kind, frames[1].sequence, frames[1].payload), (3, 2, &[9][..]));
    }

    #[test]
    fn a_torn_datagram_is_an_error_not_a_panic() {
        let whole = message(16, 1, &[1, 2, 3, 4]);
        for length in 1..whole.len() {
            assert!(frames(&whole[..length]).is_err(), "{length} bytes");
        }
        let mut short = whole;
        short[0] = 3;
        assert!(frames(&short).is_err());
    }
}
