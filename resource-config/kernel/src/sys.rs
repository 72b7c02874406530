//! Every line of `unsafe` in the workspace: kernel calls for which nix has no safe form.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::libc;
use nix::sys::socket::{LinkAddr, SockaddrLike};

/// Kernel `include/uapi/linux/nsfs.h`: `NS_GET_NSTYPE` is `_IO(0xb7, 0x3)`.
const NSFS_IOCTL_TYPE: u8 = 0xb7;
const NS_GET_NSTYPE: u8 = 0x3;

mod raw {
    use vfio_bindings::bindings::vfio::{VFIO_BASE, VFIO_TYPE, vfio_group_status};

    nix::ioctl_none!(ns_get_nstype, super::NSFS_IOCTL_TYPE, super::NS_GET_NSTYPE);
    nix::ioctl_none!(vfio_get_api_version, VFIO_TYPE, VFIO_BASE);
    // Declared in the kernel without a size, although it takes a structure: hence the `_bad` form.
    nix::ioctl_readwrite_bad!(
        vfio_group_get_status,
        nix::request_code_none!(VFIO_TYPE, VFIO_BASE + 3),
        vfio_group_status
    );
}

/// A number that names a socket's network namespace for as long as the machine runs (Linux 5.14).
#[expect(unsafe_code, reason = "nix does not know SO_NETNS_COOKIE")]
pub(crate) fn netns_cookie(socket: BorrowedFd<'_>) -> io::Result<u64> {
    let mut cookie = 0_u64;
    let mut length = libc::socklen_t::try_from(size_of::<u64>()).map_err(io::Error::other)?;
    // SAFETY: The descriptor is borrowed; both pointers are to live variables of ours, and `length` tells the kernel
    // the size of the one that it fills.
    // JUSTIFICATION: Inode numbers of namespaces are used again; only the cookie tells a namespace from a later one.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    nix::errno::Errno::result(result)?;
    Ok(cookie)
}

/// Which kind of namespace a namespace file stands for, as a `CLONE_NEW*` value.
#[expect(unsafe_code, reason = "nix has no safe form of NS_GET_NSTYPE")]
pub(crate) fn namespace_type(namespace: BorrowedFd<'_>) -> io::Result<libc::c_int> {
    // SAFETY: The file descriptor is open for the whole call (it is borrowed), and this request takes no argument, so
    // the kernel neither reads nor writes memory of ours. On a file that is no namespace it returns an error.
    // JUSTIFICATION: setns alone would tell too, but only after a thread was made for it, and not which kind it is.
    unsafe { raw::ns_get_nstype(namespace.as_raw_fd()) }.map_err(io::Error::from)
}

/// The version of the VFIO interface behind an open `/dev/vfio/vfio`.
#[expect(unsafe_code, reason = "nix has no safe form of VFIO's requests")]
pub(crate) fn vfio_api_version(container: BorrowedFd<'_>) -> io::Result<libc::c_int> {
    // SAFETY: As above: a borrowed descriptor and a request without argument.
    // JUSTIFICATION: VFIO has no other interface than ioctl.
    unsafe { raw::vfio_get_api_version(container.as_raw_fd()) }.map_err(io::Error::from)
}

/// The status flags of an open `/dev/vfio/<group>`.
#[expect(unsafe_code, reason = "nix has no safe form of VFIO's requests")]
pub(crate) fn vfio_group_flags(group: BorrowedFd<'_>) -> io::Result<u32> {
    use vfio_bindings::bindings::vfio::vfio_group_status;
    let mut status =
        vfio_group_status { argsz: u32::try_from(size_of::<vfio_group_status>()).unwrap_or(0), flags: 0 };
    // SAFETY: The descriptor is borrowed; `status` is the structure that this request fills, it lives for the whole
    // call, and `argsz` tells the kernel its size, which bounds what it writes.
    // JUSTIFICATION: VFIO has no other interface than ioctl.
    unsafe { raw::vfio_group_get_status(group.as_raw_fd(), &raw mut status) }.map_err(io::Error::from)?;
    Ok(status.flags)
}

/// Gives pages that the allocator holds and nobody uses back to the system.
///
/// The C library keeps what was freed between what is still used, and does so in a heap of its own for each thread: after work
/// that takes much for a moment, a process that runs for months keeps all of it.
#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "nix does not know malloc_trim")]
pub fn give_back_memory() {
    // SAFETY: It takes a number, locks the allocator itself, and touches nothing that is in use.
    // JUSTIFICATION: There is no other way to tell glibc's allocator, short of another allocator.
    unsafe { libc::malloc_trim(0) };
}

/// Gives pages that the allocator holds back to the system, where the C library can: this one cannot.
#[cfg(not(target_env = "gnu"))]
pub fn give_back_memory() {}

/// Has all threads share one heap, and what is free at its end given back early. For processes that need little memory more than
/// threads that allocate at the same time; to be called before there are any.
#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "nix does not know mallopt")]
pub fn share_one_heap() {
    // SAFETY: Both parameters take any number, and nothing is allocated or freed by setting them.
    // JUSTIFICATION: There is no other way to tell glibc's allocator, short of variables that whoever starts the process sets.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 128 << 10);
    }
}

/// Has all threads share one heap, where the C library has several: this one does not.
#[cfg(not(target_env = "gnu"))]
pub fn share_one_heap() {}

/// Where a packet socket sends: this interface, this Ethernet address, this protocol.
#[expect(unsafe_code, reason = "nix can only make this address from a raw one")]
pub(crate) fn link_address(index: u32, protocol: u16, destination: [u8; 6]) -> io::Result<LinkAddr> {
    let mut address = libc::sockaddr_ll {
        sll_family: u16::try_from(libc::AF_PACKET).unwrap_or(0),
        sll_protocol: protocol.to_be(),
        sll_ifindex: i32::try_from(index).map_err(io::Error::other)?,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 6,
        sll_addr: [0; 8],
    };
    address.sll_addr[..6].copy_from_slice(&destination);
    let length = libc::socklen_t::try_from(size_of::<libc::sockaddr_ll>()).map_err(io::Error::other)?;
    // SAFETY: `address` is a complete sockaddr_ll of the family that `from_raw` checks for, `length` is its size, and
    // `from_raw` copies it before returning.
    // JUSTIFICATION: A packet socket is told its interface in no other way.
    unsafe { LinkAddr::from_raw((&raw const address).cast(), Some(length)) }
        .ok_or_else(|| io::Error::other("the address of the packet socket was not accepted"))
}
