//! macvlan: more addresses on one interface of the host, told apart by hardware address.

use fairlead_kernel::{LinkKind, route::MacvlanMode};

use super::{Host, Request, link, master::Master};
use crate::protocol::error::{CniError, code};

/// Keys:
/// - `master`: What it is made on; absent: the interface of the default route. Of a list the first that is there.
/// - `mode`: `bridge` (the default), `private`, `vepa` or `passthru`.
/// - `bcqueuelen`: Length of the broadcast queue; 0 or absent: the kernel's choice.
/// - `mac`: Hardware address; see [every plugin](#every-plugin).
///
/// # Errors
/// Code 7, naming key, value and what is allowed.
pub(super) fn validate(request: Request<'_>, host: &mut Host) -> Result<link::Spec, CniError> {
    let mode = match request.fields.text("mode")?.unwrap_or("bridge") {
        "bridge" | "" => MacvlanMode::Bridge,
        "private" => MacvlanMode::Private,
        "vepa" => MacvlanMode::Vepa,
        "passthru" => MacvlanMode::Passthru,
        other => {
            let text = format!("macvlan: mode \"{other}\" is none of bridge, private, vepa, passthru");
            return Err(CniError::new(code::INVALID_CONFIG, text));
        }
    };
    let bc_queue_len = request.fields.number("bcqueuelen")?.filter(|length| *length != 0);
    let master = Master::named_or_default(request, "macvlan", host)?;
    link::Spec {
        interface: request.interface.to_owned(),
        kind: "macvlan",
        link: LinkKind::Macvlan { parent: 0, mode, bc_queue_len },
        mtu: link::mtu(request)?,
        mac: request.mac()?,
        master: Some(master),
    }
    .checked()
}
