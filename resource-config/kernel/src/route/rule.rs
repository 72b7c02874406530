//! Rules: which routing table a packet is looked up in.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::route::RouteMessage;
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::errno::Errno;
use nix::libc;
use serde::{Deserialize, Serialize};

use super::address::family;
use super::entry::table_of_route;
use super::link::unreadable;
use super::{Request, Route};
use crate::netlink::{NetlinkError, attributes, ip, text, u32_of};

/// Bytes of the header that rule messages begin with (kernel `struct fib_rule_hdr`).
const HEADER: usize = 12;

/// Kernel `include/uapi/linux/fib_rules.h`.
mod fra {
    pub(super) const DST: u16 = 1;
    pub(super) const SRC: u16 = 2;
    pub(super) const IIFNAME: u16 = 3;
    pub(super) const PRIORITY: u16 = 6;
    pub(super) const TABLE: u16 = 15;
    pub(super) const OIFNAME: u16 = 17;
    pub(super) const ACT_TO_TBL: u8 = 1;
}

/// "Packets like this are looked up in that table."
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// Where they come from; all of a family for `0.0.0.0/0` and `::/0`.
    pub src: IpNet,
    /// Where they go to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dst: Option<IpNet>,
    /// Name of the interface that they came in by; `lo` for what this host sends itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iif: Option<String>,
    /// Name of the interface that their socket is bound to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oif: Option<String>,
    /// The routing table.
    pub table: u32,
    /// Rules are tried by rising priority; `None` when added: one before the first that is not 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u32>,
}

impl Rule {
    /// A rule for packets from one address.
    #[must_use]
    pub fn from_host(address: IpAddr, table: u32) -> Self {
        Self { src: IpNet::from(address), dst: None, iif: None, oif: None, table, priority: None }
    }

    fn message(&self) -> RuleMessage {
        let mut message = RuleMessage::default();
        message.header.family = family(self.src.addr());
        message.header.src_len = self.src.prefix_len();
        message.header.dst_len = self.dst.map_or(0, |dst| dst.prefix_len());
        message.header.table = u8::try_from(self.table).unwrap_or(libc::RT_TABLE_UNSPEC);
        let attributes = &mut message.attributes;
        if self.src.prefix_len() > 0 {
            attributes.push(RuleAttribute::Source(self.src.network()));
        }
        attributes.extend(self.dst.map(|dst| RuleAttribute::Destination(dst.network())));
        attributes.extend(self.iif.clone().map(RuleAttribute::Iifname));
        attributes.extend(self.oif.clone().map(RuleAttribute::Oifname));
        if u8::try_from(self.table).is_err() {
            attributes.push(RuleAttribute::Table(self.table));
        }
        attributes.extend(self.priority.map(RuleAttribute::Priority));
        message
    }

    fn describe(&self) -> String {
        format!("rule for packets from {} to table {}", self.src, self.table)
    }

    /// `None` for a message that cannot be read, `Some(None)` for a rule that leads to no table.
    fn parse(payload: &[u8]) -> Option<Option<Self>> {
        let [address_family, dst_len, src_len, _, table, _, _, action] =
            *payload.get(..HEADER)?.first_chunk::<8>()?;
        let everywhere = match i32::from(address_family) {
            libc::AF_INET => IpAddr::from(Ipv4Addr::UNSPECIFIED),
            libc::AF_INET6 => IpAddr::from(Ipv6Addr::UNSPECIFIED),
            _ => return Some(None),
        };
        let mut rule =
            Self { src: IpNet::new(everywhere, 0).ok()?, ..Self::from_host(everywhere, table.into()) };
        for (kind, value) in attributes(payload.get(HEADER..)?) {
            match kind {
                fra::SRC => rule.src = IpNet::new(ip(value)?, src_len).ok()?,
                fra::DST => rule.dst = Some(IpNet::new(ip(value)?, dst_len).ok()?),
                fra::IIFNAME => rule.iif = Some(text(value)),
                fra::OIFNAME => rule.oif = Some(text(value)),
                fra::TABLE => rule.table = u32_of(value)?,
                fra::PRIORITY => rule.priority = u32_of(value),
                _ => {}
            }
        }
        // The rule of VRFs takes the table of the interface.
        Some(Some(rule).filter(|rule| action == fra::ACT_TO_TBL && rule.table != 0))
    }
}

impl Route {
    /// Adds a rule; `EEXIST` when there is one like it.
    pub fn add_rule(&mut self, rule: &Rule) -> Result<(), NetlinkError> {
        self.send(Request::add_rule(rule))
    }

    /// Removes the first rule that is like this one in all that is given; `ENOENT` when there is none.
    pub fn del_rule(&mut self, rule: &Rule) -> Result<(), NetlinkError> {
        self.send(Request::del_rule(rule))
    }

    /// The rules that lead to a table, IPv4 before IPv6, each family by priority.
    pub fn rules(&mut self) -> Result<Vec<Rule>, NetlinkError> {
        let operation = "list rules";
        let mut rules = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut question = RuleMessage::default();
            question.header.family = family;
            let payloads = match self.exchange.dump(operation, &RouteNetlinkMessage::GetRule(question)) {
                // A kernel without IPv6 or without rules.
                Err(error) if is_unknown_family(&error) => continue,
                listed => listed?,
            };
            for payload in payloads {
                rules.extend(Rule::parse(&payload).ok_or_else(|| unreadable(operation))?);
            }
        }
        Ok(rules)
    }

    /// The numbers of the routing tables that hold any route at all, or that a rule or a VRF leads to.
    pub fn tables_in_use(&mut self) -> Result<BTreeSet<u32>, NetlinkError> {
        let operation = "list routing tables";
        let mut tables: BTreeSet<u32> = self.rules()?.into_iter().map(|rule| rule.table).collect();
        tables.extend(self.links()?.into_iter().filter_map(|link| link.vrf_table));
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut question = RouteMessage::default();
            question.header.address_family = family;
            for payload in self.exchange.dump(operation, &RouteNetlinkMessage::GetRoute(question))? {
                tables.insert(table_of_route(&payload).ok_or_else(|| unreadable(operation))?);
            }
        }
        Ok(tables)
    }
}

fn is_unknown_family(error: &NetlinkError) -> bool {
    matches!(error.errno(), Some(Errno::EAFNOSUPPORT | Errno::EOPNOTSUPP))
}

impl Request<'_> {
    /// See [`Route::add_rule`].
    #[must_use]
    pub fn add_rule(rule: &Rule) -> Self {
        let mut message = rule.message();
        message.header.action = RuleAction::ToTable;
        let operation = format!("add {}", rule.describe());
        Self::new(operation, RouteNetlinkMessage::NewRule(message), NLM_F_CREATE | NLM_F_EXCL)
    }

    /// See [`Route::del_rule`].
    #[must_use]
    pub fn del_rule(rule: &Rule) -> Self {
        let operation = format!("delete {}", rule.describe());
        Self::new(operation, RouteNetlinkMessage::DelRule(rule.message()), 0)
    }
}
