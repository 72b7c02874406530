//! A change asked of the kernel, as data.

use std::marker::PhantomData;
use std::os::fd::BorrowedFd;

use netlink_packet_route::RouteNetlinkMessage;

/// One change of a link, an address or a route. Made by the functions of this type, sent by [`super::Route::send`] and
/// [`super::Route::batch`]. Borrows the namespaces that it names, since it holds their file numbers.
#[derive(Debug, Clone)]
pub struct Request<'fd> {
    pub(crate) operation: String,
    pub(crate) message: RouteNetlinkMessage,
    /// Beyond "this is a request" and "acknowledge it".
    pub(crate) flags: u16,
    namespaces: PhantomData<BorrowedFd<'fd>>,
}

impl Request<'_> {
    pub(super) fn new(operation: impl Into<String>, message: RouteNetlinkMessage, flags: u16) -> Self {
        Self { operation: operation.into(), message, flags, namespaces: PhantomData }
    }

    /// What it does, as error texts begin: `move link ens1f0v0 to /run/netns/x`.
    #[must_use]
    pub fn operation(&self) -> &str {
        &self.operation
    }
}

#[cfg(test)]
impl Request<'_> {
    /// The message as it is sent, without padding and with sequence number 0, as hexadecimal digits.
    pub(super) fn hex(&self) -> String {
        use netlink_packet_core::{NLM_F_ACK, NLM_F_REQUEST};
        let bytes = crate::netlink::encode(&self.message, NLM_F_REQUEST | NLM_F_ACK | self.flags, 0);
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}
