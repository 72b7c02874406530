//! The IPAM plugins that are done in process: host-local and static.
//!
//! As with the drivers, a configuration is checked before anything is touched ([`Spec::parse`]); giving back needs no valid
//! configuration, only the place of the store ([`Kind::release`]).

mod host_local;
mod keys;
mod owners;
mod range;
mod resolv_conf;
mod static_addresses;
mod store;
mod store_lock;

use std::{collections::BTreeSet, io, net::IpAddr, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    config::Fields,
    protocol::{
        env::CniArgs,
        error::{CniError, code},
        gc::AttachmentId,
        result::CniResult,
    },
};

pub use self::{
    host_local::{DATA_DIR, place},
    store::Place,
};

/// Whose a reservation is. The interface is empty where an oldest version wrote none down.
pub use crate::protocol::gc::AttachmentId as Owner;

/// How long a call waits for a store that another process works on.
const LIMIT: Duration = Duration::from_secs(20);

/// Why there is no address, or none given back.
#[derive(Debug, thiserror::Error)]
pub enum IpamError {
    /// The configuration is wrong.
    #[error("{0}")]
    Config(String),
    /// Every address of a set is taken.
    #[error("failed to allocate for range {set}: no IP addresses available in range set: {ranges}")]
    Exhausted {
        /// Its place in the configuration.
        set: usize,
        /// Its ranges.
        ranges: String,
    },
    /// A requested address is somebody else's.
    #[error(
        "failed to allocate for range {set}: requested IP address {address} is not available in range set {ranges}"
    )]
    Taken {
        /// The address.
        address: IpAddr,
        /// Place of the set in the configuration.
        set: usize,
        /// Its ranges.
        ranges: String,
    },
    /// The interface has an address of the set already.
    #[error(
        "failed to allocate for range {set}: {address} has been allocated to {container} for interface {interface}, \
         duplicate allocation is not allowed"
    )]
    Duplicate {
        /// Place of the set in the configuration.
        set: usize,
        /// The address that it has.
        address: IpAddr,
        /// The container.
        container: String,
        /// The interface.
        interface: String,
    },
    /// CHECK: the interface has no address here.
    #[error(
        "host-local: no address of network {network} is reserved for container {container}, interface {interface}"
    )]
    Unreserved {
        /// Name of the network.
        network: String,
        /// The container.
        container: String,
        /// The interface.
        interface: String,
    },
    /// CHECK: the result's gateway is another one than the configuration's.
    #[error("static: address {address} goes with another gateway in prevResult than in the configuration")]
    OtherGateway {
        /// The address.
        address: IpAddr,
    },
    /// Another process works on the store.
    #[error("{} is held by {holder} for longer than {seconds} s; the runtime will try again", path.display())]
    Locked {
        /// The lock.
        path: PathBuf,
        /// Who holds it.
        holder: String,
        /// How long was waited.
        seconds: u64,
    },
    /// A file of the store, or the folder.
    #[error("{what} {}", path.display())]
    Store {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The index beside the store.
    #[error("index of the reservations in {}", path.display())]
    Index {
        /// The store's folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file named by key "resolvConf".
    #[error("key \"resolvConf\": read {}", path.display())]
    ResolvConf {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl IpamError {
    /// Whether it helps when somebody gives back an address.
    pub fn is_shortage(&self) -> bool {
        matches!(self, Self::Exhausted { .. } | Self::Taken { .. })
    }
}

impl From<CniError> for IpamError {
    /// A key of the wrong type.
    fn from(error: CniError) -> Self {
        Self::Config(error.msg)
    }
}

impl From<IpamError> for CniError {
    fn from(error: IpamError) -> Self {
        let code = match error {
            IpamError::Config(_) => code::INVALID_CONFIG,
            IpamError::Locked { .. } => code::TRY_AGAIN,
            IpamError::Store { .. } | IpamError::Index { .. } | IpamError::ResolvConf { .. } => code::IO,
            _ => code::OTHER,
        };
        Self::new(code, fairlead_resource_config::error_text(&error))
    }
}

/// Which IPAM plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Addresses from ranges, kept track of on this node.
    HostLocal,
    /// Addresses that the configuration names.
    Static,
}

impl Kind {
    /// The plugin of that name, if it is done in process.
    pub fn named(name: &str) -> Option<Self> {
        [Self::HostLocal, Self::Static].into_iter().find(|kind| kind.name() == name)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::HostLocal => "host-local",
            Self::Static => "static",
        }
    }

    /// Keys of `CNI_ARGS` that it knows.
    pub fn known_args(self) -> &'static [&'static str] {
        match self {
            Self::HostLocal => &["IP"],
            Self::Static => &["IP", "GATEWAY"],
        }
    }

    /// Gives back what an interface has. The configuration need not be valid any more. May be repeated.
    ///
    /// # Errors
    /// When the store is locked for too long or cannot be written.
    pub fn release(self, fields: &Fields, owner: &Owner) -> Result<(), IpamError> {
        match self {
            Self::HostLocal => host_local::release(fields, owner, LIMIT),
            Self::Static => Ok(()),
        }
    }

    /// Compares what is with what the configuration and the result of ADD say. host-local can do without a result.
    ///
    /// # Errors
    /// The first difference.
    pub fn check(
        self,
        request: &Request<'_>,
        owner: &Owner,
        result: Option<&CniResult>,
    ) -> Result<(), IpamError> {
        match (self, result) {
            (Self::HostLocal, _) => host_local::check(request.fields, owner, LIMIT),
            (Self::Static, Some(result)) => static_addresses::Static::parse(request)?.check(result),
            (Self::Static, None) => Err(IpamError::Config("Required prevResult missing".into())),
        }
    }

    /// Gives back what none of the valid attachments has.
    ///
    /// # Errors
    /// As [`Kind::release`].
    pub fn collect(self, fields: &Fields, valid: &[AttachmentId]) -> Result<(), IpamError> {
        match self {
            Self::HostLocal => host_local::collect(fields, valid, LIMIT),
            Self::Static => Ok(()),
        }
    }
}

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The network's configuration as a plugin gets it, with `ipam` in it.
    pub fields: &'a Fields,
    /// `CNI_ARGS`.
    pub args: &'a CniArgs,
    /// Version that the result is rendered in: the two oldest have room for one address of each family.
    pub version: &'a str,
}

/// A validated configuration.
#[derive(Clone, Debug, PartialEq)]
pub enum Spec {
    /// See [`Kind::HostLocal`].
    HostLocal(host_local::HostLocal),
    /// See [`Kind::Static`].
    Static(static_addresses::Static),
}

impl Spec {
    /// Checks a configuration. Nothing is changed.
    ///
    /// # Errors
    /// Which key is wrong, and why.
    pub fn parse(kind: Kind, request: &Request<'_>) -> Result<Self, IpamError> {
        match kind {
            Kind::HostLocal => host_local::HostLocal::parse(request).map(Self::HostLocal),
            Kind::Static => static_addresses::Static::parse(request).map(Self::Static),
        }
    }

    /// Which plugin it is of.
    pub fn kind(&self) -> Kind {
        match self {
            Self::HostLocal(_) => Kind::HostLocal,
            Self::Static(_) => Kind::Static,
        }
    }

    /// The addresses that are left, by set of ranges.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn left(&self) -> Result<Vec<Left>, IpamError> {
        match self {
            Self::HostLocal(spec) => spec.left(LIMIT),
            Self::Static(_) => Ok(Vec::new()),
        }
    }

    /// Gives an interface its addresses: all that it is to get, or none.
    ///
    /// # Errors
    /// Why there is none; see [`IpamError::is_shortage`].
    pub fn add(&self, owner: &Owner) -> Result<CniResult, IpamError> {
        match self {
            Self::HostLocal(spec) => spec.add(owner, LIMIT),
            Self::Static(spec) => Ok(spec.result()),
        }
    }
}

/// What is left of a set of ranges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    /// The ranges.
    pub ranges: String,
    /// Free addresses; a thousand are counted.
    pub free: usize,
    /// The address that is asked for, and whether it is free.
    pub wanted: Option<(IpAddr, bool)>,
}

/// Everybody who has an address in a store.
///
/// # Errors
/// As [`Kind::release`].
pub fn owners(place: &Place) -> Result<BTreeSet<Owner>, IpamError> {
    match store::Store::open_existing(place, LIMIT)? {
        Some(store) => store.owners(),
        None => Ok(BTreeSet::new()),
    }
}

/// The configuration's `ipam` block.
fn block(fields: &Fields) -> Result<Fields, IpamError> {
    fields.object("ipam")?.ok_or_else(|| IpamError::Config("IPAM config missing 'ipam' key".into()))
}

/// Refuses what the two oldest versions of the protocol have no room for.
fn fits_version(version: &str, families: impl Iterator<Item = bool>) -> Result<(), IpamError> {
    let (v4, v6): (Vec<bool>, Vec<bool>) = families.partition(|is_ipv4| *is_ipv4);
    if (v4.len() > 1 || v6.len() > 1) && !crate::protocol::version::at_least(version, "0.3.0") {
        let text = format!("CNI version {version} does not support more than 1 address per family");
        return Err(IpamError::Config(text));
    }
    Ok(())
}
