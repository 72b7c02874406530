//! dummy: a link to nowhere, to have addresses on.

use fairlead_kernel::LinkKind;

use super::{Request, link};

/// It has no keys but `ipam`.
pub(super) fn spec(request: Request<'_>) -> link::Spec {
    link::Spec {
        interface: request.interface.to_owned(),
        kind: "dummy",
        link: LinkKind::Dummy,
        master: None,
        mtu: None,
        mac: None,
    }
}
