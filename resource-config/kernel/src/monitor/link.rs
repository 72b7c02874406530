//! Announcements of rtnetlink's link group.

use nix::libc;

use crate::netlink::frames;
use crate::route::Link;

/// What the kernel announced about a network link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkEvent {
    /// It is gone from this namespace: deleted, or moved to another.
    pub removed: bool,
    /// The link as it is now, or was at its end.
    pub link: Box<Link>,
}

impl LinkEvent {
    /// Reads a datagram; an error when it is torn.
    ///
    /// The same group carries what bridges say of their ports (family `AF_BRIDGE`), which looks like a link without
    /// kind; that is left out, since the link itself is announced as well.
    pub(super) fn parse(datagram: &[u8]) -> Result<Vec<Self>, String> {
        let event = |kind: u16, payload: &[u8]| {
            let removed = match kind {
                libc::RTM_NEWLINK => false,
                libc::RTM_DELLINK => true,
                _ => return None,
            };
            let is_link = payload.first().is_some_and(|family| i32::from(*family) == libc::AF_UNSPEC);
            Link::parse(payload).filter(|_| is_link).map(|link| Self { removed, link: Box::new(link) })
        };
        Ok(frames(datagram)?.into_iter().filter_map(|frame| event(frame.kind, frame.payload)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A message of `kind` about the link of this index and name, in the layout of `struct ifinfomsg`.
    fn message(kind: u16, family: u8, index: u32, name: &str) -> Vec<u8> {
        let mut payload = vec![family, 0, 1, 0];
        payload.extend(index.to_ne_bytes());
        payload.extend([0; 8]);
        payload.extend(u16::try_from(4 + name.len() + 1).unwrap().to_ne_bytes());
        payload.extend(3_u16.to_ne_bytes());
        payload.extend(name.as_bytes());
        payload.push(0);
        while !payload.len().is_multiple_of(4) {
            payload.push(0);
        }
        let mut bytes = u32::try_from(16 + payload.len()).unwrap().to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend([0; 10]);
        bytes.extend(payload);
        bytes
    }

    #[test]
    fn links_that_come_and_go_are_told_apart() {
        let datagram =
            [message(libc::RTM_NEWLINK, 0, 4, "ens1f0"), message(libc::RTM_DELLINK, 0, 5, "ens1f1")].concat();
        let events = LinkEvent::parse(&datagram).unwrap();
        let seen: Vec<_> = events.iter().map(|e| (e.removed, e.link.index, e.link.name.as_str())).collect();
        assert_eq!(seen, [(false, 4, "ens1f0"), (true, 5, "ens1f1")]);
    }

    #[test]
    fn a_bridges_port_messages_and_other_kinds_are_left_out() {
        let family = u8::try_from(libc::AF_BRIDGE).unwrap();
        let datagram =
            [message(libc::RTM_DELLINK, family, 4, "ens1f0"), message(libc::RTM_NEWADDR, 0, 4, "x")].concat();
        assert_eq!(LinkEvent::parse(&datagram).unwrap(), []);
    }

    #[test]
    fn a_torn_datagram_is_an_error() {
        let whole = message(libc::RTM_NEWLINK, 0, 4, "ens1f0");
        for length in 1..whole.len() {
            assert!(LinkEvent::parse(&whole[..length]).is_err(), "{length} bytes");
        }
    }
}
