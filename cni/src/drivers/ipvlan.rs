//! ipvlan: more addresses on one interface of the host, told apart by IP address; all have that interface's hardware address.

use fairlead_kernel::{
    LinkKind,
    route::{IpvlanFlag, IpvlanMode},
};

use super::{Host, Request, link, master::Master};
use crate::protocol::error::{CniError, code};

/// Keys:
/// - `master`: What it is made on; absent: the only interface that the plugin before reports, or without such a plugin that
///   of the default route. Of a list the first that is there.
/// - `mode`: `l2` (the default), `l3` or `l3s`.
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
