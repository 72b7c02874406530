//! Ranges of addresses, and sets of them: one pool from which an interface gets one address.

use std::{fmt, net::IpAddr};

use ipnet::IpNet;

use super::{IpamError, keys};
use crate::config::Fields;

/// A run of addresses inside one subnet, first and last included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Range {
    subnet: IpNet,
    start: IpAddr,
    end: IpAddr,
    gateway: IpAddr,
}

impl Range {
    /// Keys: `subnet`, `rangeStart`, `rangeEnd`, `gateway`. Defaults and limits are upstream's: the gateway is the subnet's
    /// first address, the range all of the subnet but network and IPv4 broadcast address.
    ///
    /// # Errors
    /// Which key is wrong, and why.
    pub(super) fn parse(fields: &Fields) -> Result<Self, IpamError> {
        let subnet = keys::network(fields, "subnet")?.ok_or_else(|| {
            IpamError::Config("a range has no key \"subnet\": give it the network in CIDR notation".into())
        })?;
        if subnet.prefix_len() > subnet.max_prefix_len() - 2 {
            return Err(IpamError::Config(format!("Network {subnet} too small to allocate from")));
        }
        if subnet.addr() != subnet.network() {
            return Err(IpamError::Config(format!(
                "Network has host bits set. For a subnet mask of length {} the network address is {}",
                subnet.prefix_len(),
                subnet.network()
            )));
        }
        let first = offset(subnet.network(), 1);
        let last = match subnet.broadcast() {
            IpAddr::V4(broadcast) => offset(broadcast.into(), -1),
            last => last,
        };
        let start = keys::address(fields, "rangeStart")?.unwrap_or(first);
        if !subnet.contains(&start) {
            return Err(IpamError::Config(format!("RangeStart {start} not in network {subnet}")));
        }
        let end = keys::address(fields, "rangeEnd")?.unwrap_or(last);
        if !subnet.contains(&end) || end < start {
            let text = format!("RangeEnd {end} not in network {subnet} at or after RangeStart {start}");
            return Err(IpamError::Config(text));
        }
        let gateway = keys::address(fields, "gateway")?.unwrap_or(first);
        Ok(Self { subnet, start, end, gateway })
    }

    /// Whether the address is in it.
    pub(super) fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.start.is_ipv4() && self.start <= address && address <= self.end
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.contains(other.start) || other.contains(self.start)
    }

    /// The gateway that goes with its addresses.
    pub(super) fn gateway(&self) -> IpAddr {
        self.gateway
    }

    /// An address of it with the prefix length of its subnet.
    pub(super) fn with_prefix(&self, address: IpAddr) -> IpNet {
        // The length is the subnet's, so it is right for the family.
        IpNet::new(address, self.subnet.prefix_len()).unwrap_or_else(|_| IpNet::from(address))
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.start, self.end)
    }
}

/// The address `by` further on. Callers stay inside a subnet, so nothing wraps.
fn offset(address: IpAddr, by: i8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => IpAddr::V4(u32::from(v4).wrapping_add_signed(by.into()).into()),
        IpAddr::V6(v6) => IpAddr::V6(u128::from(v6).wrapping_add_signed(by.into()).into()),
    }
}

/// Ranges of one family that make one pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RangeSet(Vec<Range>);

impl RangeSet {
    /// Checks the ranges against each other.
    ///
    /// # Errors
    /// For no range at all, two families, or overlapping ranges.
    pub(super) fn new(ranges: Vec<Range>) -> Result<Self, IpamError> {
        let Some(first) = ranges.first() else { return Err(IpamError::Config("empty range set".into())) };
        if ranges.iter().any(|range| range.start.is_ipv4() != first.start.is_ipv4()) {
            return Err(IpamError::Config("mixed address families in one range set".into()));
        }
        for (place, range) in ranges.iter().enumerate() {
            if let Some(other) = ranges[place + 1..].iter().find(|other| range.overlaps(other)) {
                return Err(IpamError::Config(format!("subnets {range} and {other} overlap")));
            }
        }
        Ok(Self(ranges))
    }

    /// Whether its addresses are IPv4.
    pub(super) fn is_ipv4(&self) -> bool {
        self.0.first().is_some_and(|range| range.start.is_ipv4())
    }

    /// Whether an address is in both.
    pub(super) fn overlaps(&self, other: &Self) -> bool {
        self.0.iter().any(|range| other.0.iter().any(|another| range.overlaps(another)))
    }

    /// The range that holds an address.
    pub(super) fn range_of(&self, address: IpAddr) -> Option<&Range> {
        self.0.iter().find(|range| range.contains(address))
    }

    /// Every address that may be given away, once: from the one after `last` on, range by range, and round again up to
    /// `last` itself. Gateways are left out.
    pub(super) fn candidates(&self, last: Option<IpAddr>) -> Candidates<'_> {
        let place = |last: IpAddr| self.0.iter().position(|range| range.contains(last)).map(|at| (at, last));
        let next = match last.and_then(place) {
            Some(last) => self.after(last),
            None => self.0.first().map(|range| (0, range.start)),
        };
        Candidates { set: self, begin: next, next }
    }

    /// The place after another one.
    fn after(&self, (at, address): (usize, IpAddr)) -> Option<(usize, IpAddr)> {
        let range = self.0.get(at)?;
        if address != range.end {
            return Some((at, offset(address, 1)));
        }
        let at = (at + 1) % self.0.len();
        self.0.get(at).map(|range| (at, range.start))
    }
}

impl fmt::Display for RangeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&texts.join(","))
    }
}

/// See [`RangeSet::candidates`].
#[derive(Clone, Debug)]
pub(super) struct Candidates<'a> {
    set: &'a RangeSet,
    /// Where the round began.
    begin: Option<(usize, IpAddr)>,
    /// What comes next; nothing when the round is over.
    next: Option<(usize, IpAddr)>,
}

impl<'a> Iterator for Candidates<'a> {
    type Item = (IpAddr, &'a Range);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let here = self.next?;
            self.next = self.set.after(here).filter(|next| Some(*next) != self.begin);
            let range = self.set.0.get(here.0)?;
            if here.1 != range.gateway {
                return Some((here.1, range));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn range(value: Value) -> Result<Range, IpamError> {
        Range::parse(&serde_json::from_value(value).unwrap())
    }

    fn set(values: &[Value]) -> Result<RangeSet, IpamError> {
        RangeSet::new(values.iter().map(|value| range(value.clone())).collect::<Result<_, _>>()?)
    }

    fn texts(set: &RangeSet, last: Option<&str>) -> Vec<String> {
        set.candidates(last.map(|text| text.parse().unwrap()))
            .map(|(address, _)| address.to_string())
            .collect()
    }

    #[test]
    fn h1_the_gateway_is_the_first_address_and_the_next_one_is_given() {
        let small = set(&[json!({"subnet": "10.1.2.0/29"})]).unwrap();
        assert_eq!(texts(&small, None), ["10.1.2.2", "10.1.2.3", "10.1.2.4", "10.1.2.5", "10.1.2.6"]);
        assert_eq!(small.to_string(), "10.1.2.1-10.1.2.6");
        let six = range(json!({"subnet": "fd00::/64"})).unwrap();
        assert_eq!(
            (six.gateway.to_string(), six.to_string()),
            ("fd00::1".into(), "fd00::1-fd00::ffff:ffff:ffff:ffff".into())
        );
    }

    #[test]
    fn h3_the_search_goes_on_after_the_last_address_through_all_ranges_and_round() {
        let two = set(&[
            json!({"subnet": "10.1.2.0/24", "rangeStart": "10.1.2.9", "rangeEnd": "10.1.2.11"}),
            json!({"subnet": "10.9.0.0/24", "rangeStart": "10.9.0.1", "rangeEnd": "10.9.0.3"}),
        ])
        .unwrap();
        assert_eq!(texts(&two, None), ["10.1.2.9", "10.1.2.10", "10.1.2.11", "10.9.0.2", "10.9.0.3"]);
        assert_eq!(
            texts(&two, Some("10.1.2.11")),
            ["10.9.0.2", "10.9.0.3", "10.1.2.9", "10.1.2.10", "10.1.2.11"]
        );
        assert_eq!(texts(&two, Some("10.9.0.3")), texts(&two, None));
        assert_eq!(
            texts(&two, Some("192.0.2.1")),
            texts(&two, None),
            "a last address of an older configuration"
        );
    }

    #[test]
    fn h5_a_gateway_inside_the_range_is_left_out_wherever_it_is() {
        let one = set(&[json!({"subnet": "10.1.2.0/30", "gateway": "10.1.2.2"})]).unwrap();
        assert_eq!(texts(&one, None), ["10.1.2.1"]);
        assert_eq!(texts(&one, Some("10.1.2.1")), ["10.1.2.1"]);
        let outside = set(&[json!({"subnet": "10.1.2.0/30", "gateway": "10.7.7.7"})]).unwrap();
        assert_eq!(texts(&outside, None), ["10.1.2.1", "10.1.2.2"]);
        let nothing_left =
            set(&[json!({"subnet": "10.1.2.0/30", "rangeStart": "10.1.2.1", "rangeEnd": "10.1.2.1"})])
                .unwrap();
        assert_eq!(texts(&nothing_left, None), Vec::<String>::new());
    }

    #[test]
    fn h6_bad_ranges_are_refused_with_what_is_wrong() {
        for (value, word) in [
            (json!({}), "subnet"),
            (json!({"subnet": "10.1.2.0"}), "CIDR"),
            (json!({"subnet": "10.1.2.0/31"}), "too small"),
            (json!({"subnet": "10.1.2.0/32"}), "too small"),
            (json!({"subnet": "fd00::/127"}), "too small"),
            (json!({"subnet": "10.1.2.1/24"}), "host bits"),
            (json!({"subnet": "10.1.2.0/24", "rangeStart": "10.1.3.1"}), "RangeStart"),
            (json!({"subnet": "10.1.2.0/24", "rangeEnd": "10.1.3.1"}), "RangeEnd"),
            (json!({"subnet": "10.1.2.0/24", "rangeEnd": "fd00::1"}), "RangeEnd"),
            (json!({"subnet": "10.1.2.0/24", "rangeStart": "10.1.2.9", "rangeEnd": "10.1.2.8"}), "RangeEnd"),
            (json!({"subnet": "10.1.2.0/24", "gateway": "x"}), "gateway"),
        ] {
            let error = range(value.clone()).unwrap_err().to_string();
            assert!(error.contains(word), "{value}: {error}");
        }
        for (values, word) in [
            (vec![], "empty"),
            (vec![json!({"subnet": "10.1.2.0/24"}), json!({"subnet": "fd00::/64"})], "families"),
            (vec![json!({"subnet": "10.1.2.0/24"}), json!({"subnet": "10.1.0.0/16"})], "overlap"),
        ] {
            let error = set(&values).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn a_range_as_large_as_a_family_ends_at_its_last_address() {
        let all = set(&[json!({"subnet": "::/0", "rangeStart": "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe"})])
            .unwrap();
        assert_eq!(texts(&all, None).len(), 2);
    }
}
