//! ipvlan: more addresses on one interface of the host, told apart by IP address; all have that interface's hardware address.

use fairlead_kernel::{
    LinkKind,
    route::{IpvlanFlag, IpvlanMode},
};

use super::{Host, Request, link, master::Master};
use crate::protocol::error::{CniError, code};

/// Keys: `master` (by default the only interface that the plugin before reports, or without one that of the host's default
/// route), `mode`, `mtu`, `linkInContainer` (the master is in the pod).
///
/// # Errors
/// Code 7, naming key, value and what is allowed.
pub(super) fn validate(request: Request<'_>, host: &mut Host) -> Result<link::Spec, CniError> {
    let mode = match request.fields.text("mode")?.unwrap_or("l2") {
        "l2" | "" => IpvlanMode::L2,
        "l3" => IpvlanMode::L3,
        "l3s" => IpvlanMode::L3s,
        other => {
            let text = format!("ipvlan: mode \"{other}\" is none of l2, l3, l3s");
            return Err(CniError::new(code::INVALID_CONFIG, text));
        }
    };
    let master = Master::named_or_previous(request, "ipvlan", host)?;
    link::Spec {
        interface: request.interface.to_owned(),
        kind: "ipvlan",
        link: LinkKind::Ipvlan { parent: 0, mode, flag: IpvlanFlag::Bridge },
        mtu: link::mtu(request)?,
        mac: None,
        master: Some(master),
    }
    .checked()
}
