//! Carrying datagrams to the kernel and back.

use std::io;
use std::os::fd::AsFd;

use netlink_sys::{Socket, SocketAddr};
use nix::libc;
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};

/// How long an answer may take. The kernel has done its work by the time `send` returns, so this is met only when an
/// acknowledgement was lost.
const ANSWER_LIMIT_SECONDS: i64 = 10;

/// Enough for nearly every answer, so that receiving seldom takes a larger buffer.
const USUAL_ANSWER: usize = 32 * 1024;

/// What carries netlink datagrams: the kernel's socket, or a recording one in tests.
pub trait Transport: Send {
    /// Sends one datagram of one or more whole messages.
    fn send(&mut self, datagram: &[u8]) -> io::Result<()>;

    /// The next datagram from the kernel, whole. `WouldBlock` when none comes.
    fn receive(&mut self) -> io::Result<Vec<u8>>;
}

/// A netlink socket, bound to the network namespace of the thread that opens it.
pub(crate) struct KernelSocket {
    socket: Socket,
}

impl KernelSocket {
    /// Opens one of this protocol (`NETLINK_ROUTE`, `NETLINK_GENERIC`) in the calling thread's network namespace.
    pub(crate) fn open(protocol: isize) -> io::Result<Self> {
        let mut socket = Socket::new(protocol)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        // Reasons in words, without the request echoed in front of them.
        socket.set_ext_ack(true)?;
        socket.set_cap_ack(true)?;
        // The kernel shall check and honour the filters of what we ask to be listed. Older ones (before 4.20) cannot.
        match socket.set_netlink_get_strict_chk(true) {
            Err(error) if error.raw_os_error() != Some(libc::ENOPROTOOPT) => return Err(error),
            _ => {}
        }
        setsockopt(&socket.as_fd(), sockopt::ReceiveTimeout, &TimeVal::seconds(ANSWER_LIMIT_SECONDS))?;
        Ok(Self { socket })
    }
}

impl Transport for KernelSocket {
    fn send(&mut self, datagram: &[u8]) -> io::Result<()> {
        let sent = retry_interrupted(|| self.socket.send(datagram, 0))?;
        if sent == datagram.len() {
            Ok(())
        } else {
            Err(io::Error::other("the kernel took only a part of it"))
        }
    }

    fn receive(&mut self) -> io::Result<Vec<u8>> {
        // The length first: an answer that does not fit the buffer would be cut off and lost.
        let mut datagram: Vec<u8> = Vec::with_capacity(USUAL_ANSWER);
        let length = retry_interrupted(|| {
            datagram.clear();
            self.socket.recv(&mut datagram, libc::MSG_PEEK | libc::MSG_TRUNC)
        })?;
        datagram.clear();
        datagram.reserve(length);
        let received = retry_interrupted(|| self.socket.recv(&mut datagram, libc::MSG_TRUNC))?;
        if received == datagram.len() {
            Ok(datagram)
        } else {
            Err(io::Error::other("the kernel's answer was cut off"))
        }
    }
}

fn retry_interrupted<T>(mut attempt: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match attempt() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s32_a_call_that_a_signal_interrupts_is_made_again_and_others_fail() {
        let mut results = [io::ErrorKind::Interrupted, io::ErrorKind::Interrupted].into_iter();
        let attempt = || results.next().map_or(Ok(7), |kind| Err(kind.into()));
        assert_eq!(retry_interrupted(attempt).unwrap(), 7);
        let refused = retry_interrupted(|| Err::<(), _>(io::ErrorKind::PermissionDenied.into()));
        assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::PermissionDenied);
    }
}
