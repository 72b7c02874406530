//! The last look before a container starts, and starts again.
//!
//! kubelet asks for an allocation once, and plays the answer back whenever the container starts: after a reboot too, when the
//! numbers in the names of device nodes may belong to other devices.

use std::collections::BTreeSet;

use fairlead_kubelet_api::checkpoint;
use thiserror::Error;
use tonic::Status;

use crate::Node;
use crate::access::{self, AccessError};
use crate::allocate::{self, AllocateError};
use crate::cdi::Specs;
use crate::pool::Listing;

/// Why a container must not start.
#[derive(Debug, Error)]
pub(crate) enum PreStartError {
    #[error(transparent)]
    Device(#[from] AllocateError),
    #[error(
        "kubelet gives the container {node}, which belongs to other devices than {devices} since the node was started or they were \
         made anew: delete the pod, so that it is made again"
    )]
    Stale { node: String, devices: String },
}

impl From<PreStartError> for Status {
    fn from(error: PreStartError) -> Self {
        match error {
            PreStartError::Device(error) => error.into(),
            stale @ PreStartError::Stale { .. } => Self::failed_precondition(stale.to_string()),
        }
    }
}

/// Makes sure that the devices can be used, and that what kubelet plays back is theirs.
pub(crate) fn check(
    listing: &Listing,
    ids: &[String],
    node: &Node,
    specs: Option<&Specs>,
) -> Result<(), PreStartError> {
    let members = allocate::members(listing, ids)?;
    let (mut allowed, mut seen) = (BTreeSet::new(), Vec::new());
    for member in &members {
        match access::of(member, &listing.resource, node) {
            // RDMA devices are not to be seen from here once they are in the pod's network namespace.
            Err(AccessError::Unusable { .. }) if member.in_use => {}
            result => seen.push((*member, result.map_err(AllocateError::from)?)),
        }
        allowed.extend(access::may_have(member, node));
    }
    if let Some(specs) = specs {
        let wanted: Vec<_> = seen.iter().map(|(member, access)| (*member, access)).collect();
        specs.ensure(listing, &wanted, node).map_err(AllocateError::from)?;
    }
    // Without a checkpoint there is nothing to compare with.
    let entries = checkpoint::read(&node.device_plugins()).unwrap_or_default();
    let resource = listing.resource.name.to_string();
    let is_asked = |entry: &&checkpoint::Entry| {
        entry.resource == resource
            && entry.ids.len() == ids.len()
            && entry.ids.iter().all(|id| ids.contains(id))
    };
    let answers: Vec<_> = entries.iter().filter(is_asked).filter_map(checkpoint::Entry::answer).collect();
    // Init containers have entries of their own, perhaps older ones: one that fits is enough.
    let mut stale = None;
    for answer in &answers {
        match answer.devices.iter().find(|spec| !allowed.contains(&spec.host_path)) {
            Some(spec) => stale = Some(spec.host_path.clone()),
            None => return Ok(()),
        }
    }
    match stale {
        Some(node) => Err(PreStartError::Stale {
            node,
            devices: crate::pool::joined(members.iter().map(|member| member.id())),
        }),
        None => Ok(()),
    }
}
