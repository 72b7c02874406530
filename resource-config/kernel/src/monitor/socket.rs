//! One netlink socket that only listens.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use netlink_sys::protocols::{NETLINK_KOBJECT_UEVENT, NETLINK_ROUTE};
use netlink_sys::{Socket, SocketAddr};
use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{setsockopt, sockopt};

use super::{Event, LinkEvent, Source, Uevent};

/// Bit of the first multicast group: the kernel's own uevents (the second is udev's), and `RTNLGRP_LINK`.
const FIRST_GROUP: u32 = 1;

/// Room for announcements that nobody has read yet: some thousand. Memory is taken only as they come.
const QUEUE: usize = 4 << 20;

/// An uevent has at most 2 KiB of variables (kernel `UEVENT_BUFFER_SIZE`), a link some kilobytes: VFs are never listed in
/// announcements, but alternative names are.
const DATAGRAM: usize = 32 << 10;

/// A socket with the datagram that it is at.
pub(super) struct EventSocket {
    from: Source,
    socket: Socket,
    buffer: Vec<u8>,
    /// What else the last datagram held.
    pending: Vec<Event>,
}

impl std::fmt::Debug for EventSocket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EventSocket").field("from", &self.from).finish_non_exhaustive()
    }
}

impl EventSocket {
    pub(super) fn open(from: Source) -> io::Result<Self> {
        let protocol = match from {
            Source::Devices => NETLINK_KOBJECT_UEVENT,
            Source::Links => NETLINK_ROUTE,
        };
        let mut socket = Socket::new(protocol)?;
        socket.set_non_blocking(true)?;
        // Beyond the system's limit where that is permitted, else up to it.
        if setsockopt(&socket.as_fd(), sockopt::RcvBufForce, &QUEUE).is_err() {
            setsockopt(&socket.as_fd(), sockopt::RcvBuf, &QUEUE)?;
        }
        socket.bind(&SocketAddr::new(0, FIRST_GROUP))?;
        Ok(Self { from, socket, buffer: Vec::with_capacity(DATAGRAM), pending: Vec::new() })
    }

    pub(super) fn from(&self) -> Source {
        self.from
    }

    /// The next event, if there is one, without waiting. An error means that there will be none any more.
    pub(super) fn receive(&mut self) -> io::Result<Option<Event>> {
        let mut lost = false;
        loop {
            if let Some(event) = self.pending.pop() {
                return Ok(Some(event));
            }
            match self.datagram() {
                // What was kept is from before the loss, which says all that it could say.
                Ok(events) if !lost => self.pending = events,
                Ok(_) | Err(Errno::EINTR) => {}
                // From its first loss on the kernel drops everything until the queue was read to its end, and does not
                // say so again. Only then is a look at the node sure to see what was not announced.
                Err(Errno::ENOBUFS) => lost = true,
                Err(Errno::EAGAIN) => return Ok(lost.then_some(Event::Lost)),
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// The events of the next datagram, the last one first.
    fn datagram(&mut self) -> Result<Vec<Event>, Errno> {
        self.buffer.clear();
        let received = self.socket.recv_from(&mut self.buffer, libc::MSG_TRUNC);
        let (length, sender) =
            received.map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)))?;
        // Processes can send to this socket too; only the kernel's port is 0.
        let is_kernel = sender.port_number() == 0;
        Ok(if is_kernel { decode(self.from, &self.buffer, length) } else { Vec::new() })
    }
}

impl AsFd for EventSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The events of a datagram that was `length` bytes long, the last one first.
fn decode(from: Source, datagram: &[u8], length: usize) -> Vec<Event> {
    if length != datagram.len() {
        return vec![Event::Lost];
    }
    match from {
        Source::Devices => Uevent::parse(datagram).map(Event::Device).into_iter().collect(),
        Source::Links => match LinkEvent::parse(datagram) {
            Ok(events) => events.into_iter().rev().map(Event::Link).collect(),
            Err(_) => vec![Event::Lost],
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datagram_that_was_cut_off_counts_as_lost() {
        let datagram = b"add@/devices/x\0ACTION=add\0SUBSYSTEM=pci\0";
        assert_eq!(decode(Source::Devices, datagram, datagram.len() + 1), [Event::Lost]);
        assert!(matches!(decode(Source::Devices, datagram, datagram.len())[..], [Event::Device(_)]));
    }

    #[test]
    fn what_makes_no_sense_is_passed_over_among_devices_and_a_loss_among_links() {
        // libudev's own messages, which reach this group in containers of old systems.
        assert_eq!(decode(Source::Devices, b"libudev\0\xfe\xed\xca\xfe", 12), []);
        assert_eq!(decode(Source::Links, &[1, 2, 3], 3), [Event::Lost]);
    }
}
