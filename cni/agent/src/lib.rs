//! The node's agent: it knows the networks of the cluster and the pods of its node, plans a pod's attachments for the CNI
//! executable, and publishes what was attached. It changes nothing on the host but its own socket.

pub mod agent;
mod backoff;
mod cache;
mod errors;
mod events;
pub mod http;
pub mod kubelet;
pub mod local;
mod metrics;
mod nads;
mod pending;
mod pods;
mod report;
mod resolve;
mod rights;
pub mod server;
pub mod shadow;
pub mod socket;
#[cfg(test)]
mod testing;
