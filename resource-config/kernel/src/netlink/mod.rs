//! The netlink protocol itself: sending requests, matching answers to them, and the kernel's reasons for refusing.
//!
//! What the messages mean is in [`crate::route`].

mod attributes;
mod error;
mod exchange;
mod frame;
mod generic;
#[cfg(any(test, feature = "recording"))]
pub mod recording;
mod transport;

pub use error::{Failure, NetlinkError};
pub use transport::Transport;

pub(crate) use attributes::{attributes, ip, nested, text, u8_of, u16_of, u32_at, u32_of};
pub(crate) use exchange::Exchange;
#[cfg(test)]
pub(crate) use exchange::encode;
pub(crate) use frame::frames;
pub(crate) use generic::{GenericMessage, HEADER as GENERIC_HEADER};
pub(crate) use transport::KernelSocket;
