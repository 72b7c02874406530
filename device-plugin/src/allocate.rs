//! What a container gets for the devices that kubelet has given it.

use std::collections::BTreeSet;

use fairlead_kubelet_api::device_plugin as api;
use fairlead_resource_config::config::ResourceName;
use fairlead_resource_config::error_text;
use fairlead_resource_config::pools::DeviceId;
use thiserror::Error;
use tonic::{Code, Status};

use crate::Node;
use crate::access::{self, Access, AccessError, DeviceNode};
use crate::cdi::{CdiError, Specs};
use crate::devinfo::{self, DevinfoError};
use crate::env::{self, Info};
use crate::health::Reason;
use crate::member::Member;
use crate::pool::Listing;

/// Why devices are not handed out.
#[derive(Debug, Error)]
pub(crate) enum AllocateError {
    #[error("device {id:?} is not in pool {pool}")]
    Unknown { id: String, pool: ResourceName },
    #[error("device {id} must not be handed out now: {reason}")]
    Unhealthy { id: DeviceId, reason: Reason },
    #[error(transparent)]
    Access(#[from] AccessError),
    #[error("device {id} cannot be described")]
    Devinfo { id: DeviceId, source: DevinfoError },
    #[error("the container runtime cannot be told of the devices")]
    Cdi(#[from] CdiError),
    #[error("cannot write the description of the devices")]
    Json(#[source] serde_json::Error),
}

impl From<AllocateError> for Status {
    fn from(error: AllocateError) -> Self {
        let code = match error {
            AllocateError::Unknown { .. } => Code::InvalidArgument,
            AllocateError::Json(_) => Code::Internal,
            _ => Code::FailedPrecondition,
        };
        Self::new(code, error_text(&error))
    }
}

/// The devices of a request, each once, sorted: the order in which networks get their devices.
pub(crate) fn members<'a>(listing: &'a Listing, ids: &[String]) -> Result<Vec<&'a Member>, AllocateError> {
    let find = |id: &String| {
        let unknown = || AllocateError::Unknown { id: id.clone(), pool: listing.resource.name.clone() };
        listing.member(id).ok_or_else(unknown)
    };
    let mut members = ids.iter().map(find).collect::<Result<Vec<_>, _>>()?;
    members.sort_by(|a, b| a.id().cmp(b.id()));
    members.dedup_by(|a, b| a.id() == b.id());
    Ok(members)
}

/// Answers for one container: every device is looked at anew, and one that cannot be used refuses the whole request.
pub(crate) fn container(
    listing: &Listing,
    ids: &[String],
    node: &Node,
    specs: Option<&Specs>,
) -> Result<api::ContainerAllocateResponse, AllocateError> {
    let members = members(listing, ids)?;
    let resource = &listing.resource;
    let mut accesses = Vec::with_capacity(members.len());
    for member in &members {
        let access = access::of(member, resource, node)?;
        refuse_unhealthy(member)?;
        devinfo::write(&node.devinfo_dir, resource, member)
            .map_err(|source| AllocateError::Devinfo { id: member.id().clone(), source })?;
        accesses.push(access);
    }
    let mut answer = match specs {
        Some(specs) => {
            let wanted: Vec<_> = members.iter().copied().zip(&accesses).collect();
            by_names(specs.ensure(listing, &wanted, node)?)
        }
        None => by_specs(&accesses),
    };
    let info: Info =
        members.iter().zip(accesses).map(|(m, access)| (m.id().to_string(), access.info)).collect();
    let ids = members.iter().map(|member| member.id());
    answer.envs = env::variables(&resource.name, ids, &info).map_err(AllocateError::Json)?;
    Ok(answer)
}

/// kubelet may have chosen the device before it heard that it is unhealthy. What can be seen of it is checked by looking; this is
/// for the rest.
fn refuse_unhealthy(member: &Member) -> Result<(), AllocateError> {
    match &member.problem {
        Some(reason @ (Reason::Provisioning(_) | Reason::LinkDown(_) | Reason::NotConfigured))
            if !member.in_use =>
        {
            Err(AllocateError::Unhealthy { id: member.id().clone(), reason: reason.clone() })
        }
        _ => Ok(()),
    }
}

fn by_specs(accesses: &[Access]) -> api::ContainerAllocateResponse {
    let mut seen = BTreeSet::new();
    let nodes = accesses.iter().flat_map(|access| &access.nodes).filter(|node| seen.insert(&node.host));
    let spec = |DeviceNode { host, container }: &DeviceNode| api::DeviceSpec {
        container_path: container.clone(),
        host_path: host.clone(),
        permissions: "rw".to_owned(),
    };
    api::ContainerAllocateResponse { devices: nodes.map(spec).collect(), ..Default::default() }
}

fn by_names(names: Vec<String>) -> api::ContainerAllocateResponse {
    let cdi_devices = names.into_iter().map(|name| api::CdiDevice { name }).collect();
    api::ContainerAllocateResponse { cdi_devices, ..Default::default() }
}
