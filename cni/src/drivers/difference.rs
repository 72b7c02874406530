//! What CHECK sees.

use std::fmt;

use fairlead_kernel::Link;

use crate::protocol::{error::CniError, result::Interface};

/// Something that is not as it was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// What is different.
    pub text: String,
    /// Whether the attachment is lost or somebody else's. What else differs may be the pod's own doing: routers change their
    /// links, and a runtime ends a pod whose CHECK fails.
    pub is_fatal: bool,
}

impl Difference {
    /// The attachment is lost, in the wrong place, or somebody else's.
    pub fn fatal(text: String) -> Self {
        Self { text, is_fatal: true }
    }

    /// Anything else.
    pub fn other(text: String) -> Self {
        Self { text, is_fatal: false }
    }

    /// What a plugin on disk, or an IPAM plugin, says.
    pub fn from_error(error: &CniError) -> Self {
        Self::other(error.to_string())
    }

    /// What the pod's link has else than was reported at ADD.
    pub(super) fn of_link(link: &Link, made: &Interface) -> Vec<Self> {
        let name = &made.name;
        let mut found = Vec::new();
        let mac = link.mac.map(|mac| mac.to_string());
        if made.mac.is_some() && mac != made.mac {
            found.push(format!(
                "{name} has the hardware address {}, it was made with {}",
                said(&mac),
                said(&made.mac)
            ));
        }
        if let Some(mtu) = made.mtu.filter(|mtu| *mtu != link.mtu) {
            found.push(format!("{name} has MTU {}, it was made with {mtu}", link.mtu));
        }
        if !link.up {
            found.push(format!("{name} is down"));
        }
        found.into_iter().map(Self::other).collect()
    }
}

fn said(text: &Option<String>) -> &str {
    text.as_deref().unwrap_or("none")
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
