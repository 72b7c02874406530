//! host-local: addresses from ranges, kept track of on this node.

use std::{collections::BTreeSet, fs, net::IpAddr, path::PathBuf, time::Duration};

use serde_json::{Map, Value};

use super::{
    IpamError, Left, Owner, Request, block, fits_version, keys,
    range::{Range, RangeSet},
    resolv_conf,
    store::{Place, Store},
};
use crate::{
    config::Fields,
    protocol::{
        gc::AttachmentId,
        result::{CniResult, Ip, Route},
    },
};

/// Where upstream keeps its stores.
pub const DATA_DIR: &str = "/var/lib/cni/networks";

/// So many addresses are tried one by one before the whole folder is listed.
const DIRECT_TRIES: usize = 16;

/// More free addresses than these are not counted.
const COUNTED: usize = 1000;

/// A validated configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct HostLocal {
    place: Place,
    /// A set, and the address of it that is asked for.
    sets: Vec<(RangeSet, Option<IpAddr>)>,
    routes: Vec<Route>,
    resolv_conf: Option<PathBuf>,
}

impl HostLocal {
    /// Capability `ipRanges` comes before `subnet`, and that before `ranges`. Addresses may be asked for by `CNI_ARGS` key `IP`,
    /// `args.cni.ips` and capability `ips`.
    ///
    /// Keys:
    /// - `ranges`: A list of sets; an interface gets one address of each set. A set is a list of objects with the next four keys.
    /// - `subnet`: A network, such as `10.1.2.0/24`. Here, beside `ranges`, it is one more set.
    /// - `rangeStart`: First address that is given; by default the network's first.
    /// - `rangeEnd`: Last address that is given; by default the network's last but broadcast.
    /// - `gateway`: Gateway of those addresses, never given; by default the network's first.
    /// - `routes`: Routes of the result: objects with `dst`, and `gw`, `mtu`, `advmss`, `priority`, `table`, `scope`.
    /// - `dataDir`: Where reservations are; by default `/var/lib/cni/networks`.
    /// - `resolvConf`: A resolver file on the node, of which the result gets name servers and search domains.
    /// - `ipRanges`: A capability, not a key of `ipam`: further sets.
    pub(super) fn parse(request: &Request<'_>) -> Result<Self, IpamError> {
        let ipam = block(request.fields)?;
        let sets = range_sets(request.fields, &ipam)?;
        fits_version(request.version, sets.iter().map(RangeSet::is_ipv4))?;
        Ok(Self {
            place: place(request.fields)?,
            sets: with_requests(sets, requested(request)?)?,
            routes: keys::routes(&ipam)?,
            resolv_conf: keys::text(&ipam, "resolvConf")?.map(PathBuf::from),
        })
    }

    pub(super) fn add(&self, owner: &Owner, limit: Duration) -> Result<CniResult, IpamError> {
        let dns = self.dns()?;
        let mut store = Store::open(&self.place, limit)?;
        let mut ips = Vec::new();
        for place in 0..self.sets.len() {
            match self.take(place, &mut store, owner) {
                Ok(ip) => ips.push(ip),
                Err(error) => {
                    let taken: Vec<IpAddr> = ips.iter().map(|ip: &Ip| ip.address.addr()).collect();
                    // The first failure is what is told; what stays behind goes with the next DEL.
                    let _ = store.give_back(owner, &taken);
                    return Err(error);
                }
            }
        }
        Ok(CniResult { ips, routes: self.routes.clone(), dns, ..CniResult::default() })
    }

    pub(super) fn left(&self, limit: Duration) -> Result<Vec<Left>, IpamError> {
        let taken = match Store::open_existing(&self.place, limit)? {
            Some(store) => store.taken()?,
            None => BTreeSet::new(),
        };
        let left = |(set, wanted): &(RangeSet, Option<IpAddr>)| Left {
            ranges: set.to_string(),
            free: set.candidates(None).filter(|(address, _)| !taken.contains(address)).take(COUNTED).count(),
            wanted: wanted
                .map(|address| (address, set.range_of(address).is_some() && !taken.contains(&address))),
        };
        Ok(self.sets.iter().map(left).collect())
    }

    fn dns(&self) -> Result<Map<String, Value>, IpamError> {
        let Some(path) = &self.resolv_conf else { return Ok(Map::new()) };
        let text = fs::read_to_string(path)
            .map_err(|source| IpamError::ResolvConf { path: path.clone(), source })?;
        Ok(resolv_conf::parse(&text))
    }

    /// Takes one address of a set.
    fn take(&self, place: usize, store: &mut Store, owner: &Owner) -> Result<Ip, IpamError> {
        let (set, wanted) = &self.sets[place];
        if let Some(address) = store.of(owner)?.into_iter().find(|address| set.range_of(*address).is_some()) {
            return Err(IpamError::Duplicate {
                set: place,
                address,
                container: owner.container_id.clone(),
                interface: owner.interface.clone(),
            });
        }
        let (address, range) = match wanted {
            Some(address) => self.take_exactly(*address, place, store, owner)?,
            None => take_next(set, place, store, owner)?
                .ok_or_else(|| IpamError::Exhausted { set: place, ranges: set.to_string() })?,
        };
        Ok(Ip { interface: None, address: range.with_prefix(address), gateway: Some(range.gateway()) })
    }

    fn take_exactly(
        &self,
        address: IpAddr,
        place: usize,
        store: &mut Store,
        owner: &Owner,
    ) -> Result<(IpAddr, &Range), IpamError> {
        let (set, _) = &self.sets[place];
        match set.range_of(address) {
            Some(range) if store.reserve(owner, address, place)? => Ok((address, range)),
            _ => Err(IpamError::Taken { address, set: place, ranges: set.to_string() }),
        }
    }
}

/// Takes the next free address after the one that was given last.
fn take_next<'a>(
    set: &'a RangeSet,
    place: usize,
    store: &mut Store,
    owner: &Owner,
) -> Result<Option<(IpAddr, &'a Range)>, IpamError> {
    let mut taken = None;
    for (count, (address, range)) in set.candidates(store.last(place)).enumerate() {
        if count == DIRECT_TRIES {
            taken = Some(store.taken()?);
        }
        let free = taken.as_ref().is_none_or(|taken| !taken.contains(&address));
        if free && store.reserve(owner, address, place)? {
            return Ok(Some((address, range)));
        }
    }
    Ok(None)
}

/// Every set in upstream's order: capability, old single range, `ranges`.
fn range_sets(fields: &Fields, ipam: &Fields) -> Result<Vec<RangeSet>, IpamError> {
    let mut lists = sets_of(&fields.object("runtimeConfig")?.unwrap_or_default(), "ipRanges")?;
    if ipam.get("subnet").is_some() {
        lists.push(vec![ipam.clone()]);
    }
    lists.extend(sets_of(ipam, "ranges")?);
    if lists.is_empty() {
        let text = "no IP ranges specified: host-local needs key \"ranges\" or \"subnet\"";
        return Err(IpamError::Config(text.into()));
    }
    let set = |(place, list): (usize, Vec<Fields>)| {
        let ranges = list.iter().map(Range::parse).collect::<Result<_, _>>();
        ranges
            .and_then(RangeSet::new)
            .map_err(|error| IpamError::Config(format!("invalid range set {place}: {error}")))
    };
    let sets: Vec<RangeSet> = lists.into_iter().enumerate().map(set).collect::<Result<_, _>>()?;
    for (place, set) in sets.iter().enumerate() {
        if let Some(other) = (place + 1..sets.len()).find(|other| set.overlaps(&sets[*other])) {
            return Err(IpamError::Config(format!("range set {place} overlaps with {other}")));
        }
    }
    Ok(sets)
}

/// A list of lists of ranges.
fn sets_of(fields: &Fields, key: &str) -> Result<Vec<Vec<Fields>>, IpamError> {
    let Some(value) = fields.get(key) else { return Ok(Vec::new()) };
    let ranges = |set: &Value| -> Option<Vec<Fields>> {
        set.as_array()?.iter().map(|range| Some(Fields(range.as_object()?.clone()))).collect()
    };
    let sets = value.as_array().and_then(|sets| sets.iter().map(ranges).collect::<Option<_>>());
    sets.ok_or_else(|| {
        IpamError::Config(format!("key \"{key}\" must be a list of lists of ranges, it is {value}"))
    })
}

/// Every address that is asked for, each once.
fn requested(request: &Request<'_>) -> Result<Vec<IpAddr>, IpamError> {
    let from_args = request.args.get("IP").unwrap_or_default();
    let mut addresses = Vec::new();
    for text in from_args.split(',').filter(|text| !text.trim().is_empty()) {
        addresses.push(keys::requested("IP", text)?);
    }
    for text in keys::requested_lists(request.fields)?.iter().flatten() {
        addresses.push(keys::requested("ips", text)?);
    }
    let mut unique: Vec<IpAddr> = Vec::new();
    for address in addresses {
        if !unique.contains(&address) {
            unique.push(address);
        }
    }
    Ok(unique)
}

/// Gives each set the first requested address that is in it. No request may be left over.
fn with_requests(
    sets: Vec<RangeSet>,
    mut requested: Vec<IpAddr>,
) -> Result<Vec<(RangeSet, Option<IpAddr>)>, IpamError> {
    let mut with = Vec::new();
    for (place, set) in sets.into_iter().enumerate() {
        let at = requested.iter().position(|address| set.range_of(*address).is_some());
        let wanted = at.map(|at| requested.remove(at));
        let gateway = wanted.and_then(|address| set.range_of(address)).map(Range::gateway);
        if let Some(address) = wanted.filter(|address| gateway == Some(*address)) {
            let text =
                format!("failed to allocate for range {place}: requested ip {address} is subnet's gateway");
            return Err(IpamError::Config(text));
        }
        with.push((set, wanted));
    }
    if requested.is_empty() {
        return Ok(with);
    }
    let texts: Vec<String> = requested.iter().map(ToString::to_string).collect();
    Err(IpamError::Config(format!(
        "failed to allocate all requested IPs: {} (in no range of the network, or more than one in the same range set)",
        texts.join(" ")
    )))
}

/// Where host-local's store is. This much a configuration must still tell when all the rest of it is wrong.
///
/// # Errors
/// When it has no name, or `dataDir` is no text.
pub fn place(fields: &Fields) -> Result<Place, IpamError> {
    let network =
        keys::text(fields, "name")?.ok_or_else(|| IpamError::Config("missing network name".into()))?;
    let ipam = fields.object("ipam")?.unwrap_or_default();
    let data_dir = keys::text(&ipam, "dataDir")?.unwrap_or(DATA_DIR);
    Ok(Place { data_dir: data_dir.into(), network: network.to_owned() })
}

pub(super) fn release(fields: &Fields, owner: &Owner, limit: Duration) -> Result<(), IpamError> {
    match Store::open_existing(&place(fields)?, limit)? {
        Some(mut store) => store.release(owner),
        None => Ok(()),
    }
}

pub(super) fn check(fields: &Fields, owner: &Owner, limit: Duration) -> Result<(), IpamError> {
    let place = place(fields)?;
    let has_any = match Store::open_existing(&place, limit)? {
        Some(store) => store.has_any(owner)?,
        None => false,
    };
    if has_any {
        return Ok(());
    }
    Err(IpamError::Unreserved {
        network: place.network,
        container: owner.container_id.clone(),
        interface: owner.interface.clone(),
    })
}

pub(super) fn collect(fields: &Fields, valid: &[AttachmentId], limit: Duration) -> Result<(), IpamError> {
    let Some(mut store) = Store::open_existing(&place(fields)?, limit)? else { return Ok(()) };
    let lives = |owner: &Owner| {
        let same = |id: &&AttachmentId| id.container_id == owner.container_id;
        valid.iter().filter(same).any(|id| owner.interface.is_empty() || id.interface == owner.interface)
    };
    for owner in store.owners()?.iter().filter(|owner| !lives(owner)) {
        let addresses = store.of(owner)?;
        store.give_back(owner, &addresses)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
