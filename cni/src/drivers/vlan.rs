//! vlan: one VLAN of an interface of the host.

use fairlead_kernel::{LinkKind, route::VlanProtocol};

use super::{Host, Request, link, master::Master};
use crate::protocol::error::{CniError, code};

/// The highest VLAN number (IEEE 802.1Q; 4095 is reserved).
const HIGHEST: u16 = 4094;

/// Keys:
/// - `master`: What it is made on; needed. Of a list the first that is there.
/// - `vlanId`: 0 to 4094; 0 when it is absent.
///
/// # Errors
/// Code 7, naming key, value and what is allowed.
pub(super) fn validate(request: Request<'_>, host: &mut Host) -> Result<link::Spec, CniError> {
    let invalid = |text: String| CniError::new(code::INVALID_CONFIG, text);
    let id = request.fields.number("vlanId")?.unwrap_or(0);
    let id = u16::try_from(id).ok().filter(|id| *id <= HIGHEST);
    let id = id.ok_or_else(|| invalid(format!("vlan: key \"vlanId\" must be from 0 to {HIGHEST}")))?;
    let master = Master::named(request, "vlan", host)?
        .ok_or_else(|| invalid("vlan: key \"master\" is missing: name an interface of the host".into()))?;
    link::Spec {
        interface: request.interface.to_owned(),
        kind: "vlan",
        link: LinkKind::Vlan { parent: 0, id, protocol: VlanProtocol::Dot1Q },
        mtu: link::mtu(request)?,
        mac: None,
        master: Some(master),
    }
    .checked()
}
