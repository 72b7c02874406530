//! Links, addresses, routes and rules, over one rtnetlink socket.
//!
//! A change is a [`Request`]: plain data that can be built and looked at without a kernel. [`Route`] sends one, or
//! many at once. Reading is done by `Route`'s other methods.

mod address;
mod bridge_port;
mod change_link;
mod entry;
#[cfg(test)]
mod golden;
mod link;
mod new_link;
mod request;
mod rule;
mod vf;

use std::io;
use std::path::PathBuf;

use netlink_sys::protocols::NETLINK_ROUTE;

use crate::netlink::{Exchange, Failure, KernelSocket, NetlinkError, Transport};
use crate::netns::{Netns, NetnsError};

pub use address::{Address, AddressFlags};
pub use bridge_port::{BridgePort, PortChange, PortVlan};
pub use change_link::LinkChange;
pub use entry::{MAIN_TABLE, NewRoute, RouteEntry, RouteMode, Scope};
pub use link::{Link, LinkRef, OperState};
pub use new_link::{IpvlanFlag, IpvlanMode, LinkKind, MacvlanMode, NewLink, PeerEnd};
pub use request::Request;
pub use rule::Rule;
pub use vf::{VfChange, VfLinkState, VfRate, VfState, VfVlan, VlanProtocol};

/// One rtnetlink socket. It stays in the network namespace that it was opened in: every index and name given to it is
/// of that namespace.
pub struct Route {
    exchange: Exchange,
}

/// Why no rtnetlink socket could be had.
#[derive(Debug, thiserror::Error)]
pub enum RouteOpenError {
    /// The namespace cannot be entered.
    #[error(transparent)]
    Netns(#[from] NetnsError),
    /// The kernel gave no socket.
    #[error("cannot open a netlink socket in {}", place(netns.as_ref()))]
    Socket {
        /// The namespace's path; `None` for the caller's own.
        netns: Option<PathBuf>,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

fn place(netns: Option<&PathBuf>) -> String {
    netns.map_or_else(|| "this network namespace".to_owned(), |path| path.display().to_string())
}

impl Route {
    /// A socket in the calling thread's network namespace.
    pub fn open() -> Result<Self, RouteOpenError> {
        let socket = KernelSocket::open(NETLINK_ROUTE)
            .map_err(|source| RouteOpenError::Socket { netns: None, source })?;
        Ok(Self::over(Box::new(socket)))
    }

    /// A socket in this namespace, which is entered for it once and by another thread.
    pub fn open_in(netns: &Netns) -> Result<Self, RouteOpenError> {
        let failed = |source| RouteOpenError::Socket { netns: Some(netns.path().to_owned()), source };
        let socket = netns.run(|| KernelSocket::open(NETLINK_ROUTE))?.map_err(failed)?;
        Ok(Self::over(Box::new(socket)))
    }

    /// Over something else than the kernel: for tests.
    #[must_use]
    pub fn over(transport: Box<dyn Transport>) -> Self {
        Self { exchange: Exchange::over(transport) }
    }

    /// Sends one request and waits for its verdict.
    pub fn send(&mut self, request: Request<'_>) -> Result<(), NetlinkError> {
        let operation = request.operation.clone();
        let verdict = self.exchange.acknowledge(&[request]).pop();
        verdict.unwrap_or_else(|| Err(NetlinkError::new(operation, Failure::Unanswered)))
    }

    /// Sends requests that do not depend on each other's success, in few system calls, and gives every verdict, in
    /// order. The kernel carries them out in order and goes on after one that it refuses.
    pub fn batch(&mut self, requests: &[Request<'_>]) -> Vec<Result<(), NetlinkError>> {
        self.exchange.acknowledge(requests)
    }
}
