//! Stand-ins for a cluster on the emulated node: an API server, a kubelet with its scheduler, a small kubectl, and container
//! images made from what the node has. Each behaves as the real one does, errors and disorder included, as far as it goes;
//! what it does not do it refuses by name.

pub mod apiserver;
pub mod cri;
pub mod files;
pub mod images;
pub mod kubectl;
pub mod kubelet;
pub mod multus;
pub mod random;
pub mod scenario;
pub mod time;

/// The Kubernetes version that the stand-ins behave like.
pub const VERSION: &str = "v1.33.0-fairlead-testbed";
