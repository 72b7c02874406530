//! What a macvlan, ipvlan or vlan is made on.

use fairlead_kernel::{Link, Route};

use super::{Host, Pod, Request, kernel};
use crate::{
    config::Fields,
    protocol::{
        error::{CniError, code},
        result::CniResult,
    },
};

/// Where it is, and how it is found.
///
/// Keys:
/// - `master`: What it is made on. Of a list the first that is there.
/// - `linkInContainer`: `master` is in the pod, not in the host; by default false.
#[derive(Clone, Debug)]
pub(super) enum Master {
    /// An interface of the host.
    Host(Box<Link>),
    /// An interface of the pod (key `linkInContainer`), by one of these names; without any, that of its default route.
    Pod(Vec<String>),
    /// The only interface that the plugin before this one reports; where there is none before, that of the default route.
    Previous {
        /// It is in the pod.
        in_pod: bool,
    },
}

/// A master that was found.
pub(super) struct Found {
    pub(super) link: Link,
    pub(super) in_pod: bool,
}

impl Master {
    /// Key `master`: a name, an alternative name, or a list of such, of which the first that this node has is taken. Nothing
    /// when the key is absent. With `linkInContainer` it is looked for when the pod is worked on.
    ///
    /// # Errors
    /// Code 7 when there is none of that name.
    pub(super) fn named(request: Request<'_>, kind: &str, host: &mut Host) -> Result<Option<Self>, CniError> {
        let names = names(request.fields)?;
        match (names.is_empty(), is_in_pod(request)?) {
            (true, _) => Ok(None),
            (false, true) => Ok(Some(Self::Pod(names))),
            (false, false) => by_name(kind, &names, &mut host.route, "this node")
                .map(|link| Some(Self::Host(Box::new(link)))),
        }
    }

    /// As [`Master::named`], by default the interface of the first default route, IPv4 before IPv6.
    ///
    /// # Errors
    /// Code 7 when there is none.
    pub(super) fn named_or_default(
        request: Request<'_>,
        kind: &str,
        host: &mut Host,
    ) -> Result<Self, CniError> {
        match Self::named(request, kind, host)? {
            Some(master) => Ok(master),
            None if is_in_pod(request)? => Ok(Self::Pod(Vec::new())),
            None => of_default_route(kind, &mut host.route, "host").map(|link| Self::Host(Box::new(link))),
        }
    }

    /// As [`Master::named`], by default that of the plugin before.
    ///
    /// # Errors
    /// Code 7 when there is none of that name.
    pub(super) fn named_or_previous(
        request: Request<'_>,
        kind: &str,
        host: &mut Host,
    ) -> Result<Self, CniError> {
        let in_pod = is_in_pod(request)?;
        Ok(Self::named(request, kind, host)?.unwrap_or(Self::Previous { in_pod }))
    }

    /// The link itself. `previous` is the result of the plugins before.
    ///
    /// # Errors
    /// Code 7 when there is none.
    pub(super) fn find(
        &self,
        kind: &str,
        host: &mut Host,
        pod: &mut Pod,
        previous: &CniResult,
    ) -> Result<Found, CniError> {
        let inside = |link| Found { link, in_pod: true };
        let outside = |link| Found { link, in_pod: false };
        match self {
            Self::Host(link) => Ok(outside(Link::clone(link))),
            Self::Pod(names) if names.is_empty() => of_default_route(kind, &mut pod.route, "pod").map(inside),
            Self::Pod(names) => by_name(kind, names, &mut pod.route, "the pod").map(inside),
            Self::Previous { in_pod } => {
                let (route, place) =
                    if *in_pod { (&mut pod.route, "pod") } else { (&mut host.route, "host") };
                let link = match previous.interfaces.as_slice() {
                    [only] => by_name(kind, std::slice::from_ref(&only.name), route, place),
                    [] if previous.ips.is_empty() => of_default_route(kind, route, place),
                    several => {
                        let text = format!(
                            "{kind}: the plugin before reports {} interfaces, so key \"master\" must name the one to use",
                            several.len()
                        );
                        Err(CniError::new(code::INVALID_CONFIG, text))
                    }
                };
                link.map(|link| Found { link, in_pod: *in_pod })
            }
        }
    }

    /// The link, if it is of the host and so known before the pod is worked on.
    pub(super) fn in_host(&self) -> Option<&Link> {
        match self {
            Self::Host(link) => Some(link),
            Self::Pod(_) | Self::Previous { .. } => None,
        }
    }
}

fn is_in_pod(request: Request<'_>) -> Result<bool, CniError> {
    Ok(request.fields.flag("linkInContainer")?.unwrap_or(false))
}

fn names(fields: &Fields) -> Result<Vec<String>, CniError> {
    match fields.get("master") {
        Some(value) if value.is_array() => fields.texts("master"),
        _ => Ok(fields
            .text("master")?
            .into_iter()
            .filter(|name| !name.is_empty())
            .map(str::to_owned)
            .collect()),
    }
}

fn by_name(kind: &str, names: &[String], route: &mut Route, place: &str) -> Result<Link, CniError> {
    for name in names {
        if let Some(link) = route.link_by_name(name).map_err(kernel)? {
            return Ok(link);
        }
    }
    let text = format!(
        "{kind}: master \"{}\" does not exist in {place}: correct key \"master\"",
        names.join("\", \"")
    );
    Err(CniError::new(code::INVALID_CONFIG, text))
}

fn of_default_route(kind: &str, route: &mut Route, place: &str) -> Result<Link, CniError> {
    let routes = route.default_routes().map_err(kernel)?;
    let index = routes.first().and_then(|route| route.oif);
    let link = index.map(|index| route.link_by_index(index)).transpose().map_err(kernel)?.flatten();
    link.ok_or_else(|| {
        let text = format!(
            "{kind}: key \"master\" is missing, and the {place} has no default route to take an interface from"
        );
        CniError::new(code::INVALID_CONFIG, text)
    })
}
