//! The ground floor: netlink, network namespaces, sysctl, link-layer announcements and VFIO.
//!
//! Nothing above this crate opens a netlink socket, enters a namespace or holds `unsafe`. Everything here blocks and
//! knows nothing of CNI, Kubernetes or configuration: callers say what the kernel shall do, and get back what it said.
//!
//! - [`Netns`]: a network namespace, kept open. Work in it is done on a throw-away thread; the caller's never moves.
//! - [`Route`]: one rtnetlink socket. It stays in the namespace it was opened in, so one is held for the host and one
//!   for the pod, and no operation has to enter anything.
//! - [`Request`]: what a change of links, addresses or routes is made of; [`Route::batch`] sends many at once.
//! - [`devlink::Devlink`]: what drivers tell of whole devices: the mode of the embedded switch, versions.
//! - [`monitor`]: what the kernel announces by itself, about devices and links.
//! - [`sysctl`], [`announce`], [`vfio`]: the few things that are not netlink.
//! - [`share_one_heap`], [`give_back_memory`]: for processes that run for months.
//!
//! # Where netlink-packet-route is not followed
//!
//! Messages are built with netlink-packet-route (compared byte for byte with iproute2 in the tests) and framed with
//! netlink-packet-core. Read back they are by ourselves, attribute by attribute, because of these limits of 0.34.0:
//!
//! - One attribute that it cannot decode makes the whole message unreadable, so a newer kernel or an odd driver hides
//!   a link. Here only attributes that are asked for are looked at.
//! - "The driver does not report this" (all ones in spoof check and trust) is read as "off". Here it is `None`.
//! - An alias is sent with a NUL, which the kernel takes for a part of it; so an alias could not be removed either.
//! - A link's kind is sent with a NUL too: harmless, but not what iproute2 sends.
//! - A long name to look a link up by is only known within a list of properties, where the kernel does not look.
//! - Extended acknowledgements are not decoded: the kernel's reason text stays in the raw bytes (`netlink::error`).
//! - An interrupted dump (`NLM_F_DUMP_INTR`) is not noticed. Here it is repeated, a bounded number of times.
//! - `netlink-sys`' full-size receive asserts on the second length; the socket here checks it and returns an error.

mod announce_frames;
mod mac;
mod netns;
mod sys;

pub mod announce;
pub mod devlink;
pub mod monitor;
pub mod netlink;
pub mod route;
pub mod sysctl;
pub mod vfio;

pub use mac::{Mac, MacError};
pub use netlink::NetlinkError;
pub use netns::{Netns, NetnsError, NetnsId};
/// The kernel's error numbers, as [`NetlinkError::errno`] gives them.
pub use nix::errno::Errno;
pub use route::{Link, LinkChange, LinkKind, LinkRef, NewLink, Request, Route, RouteOpenError};
pub use sys::{give_back_memory, share_one_heap};
