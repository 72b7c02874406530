//! ptp: a pair of links between host and pod, with routes so that all of the pod's packets go through the host.

use std::net::IpAddr;

use fairlead_kernel::{
    Request as Change, Route,
    route::{AddressFlags, NewRoute, Scope},
};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{
    Attached, Difference, Host, Pod, Request,
    ipv6::Dad,
    kernel,
    veth::{self, Ends, Pair},
};
use crate::protocol::{
    error::{CniError, code},
    result::{CniResult, Interface},
};

/// Keys of the upstream plugin that this driver does not do: a configuration with one of them is executed from disk.
pub(super) const LEFT_OUT: &[&str] = &["ipMasq"];

/// Place of the pod's end in the result.
const POD: usize = 1;

/// A validated configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    interface: String,
    mtu: Option<u32>,
    /// None where the network says it itself.
    dad: Option<Dad>,
}

/// What undoing needs: the pair, since addresses and routes go with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Original {
    /// The pair.
    pub pair: Pair,
}

/// Keys:
/// - `ipam`: Needed: the link is made of routes to addresses.
/// - `dad`: By default `off`, as nobody else is on the link; see [every plugin](#every-plugin).
///
/// # Errors
/// Code 7, naming the key.
pub(super) fn validate(request: Request<'_>) -> Result<Spec, CniError> {
    if !request.has_ipam()? {
        let text = "ptp: key \"ipam\" with a \"type\" is missing: the link is made of routes to addresses";
        return Err(CniError::new(code::INVALID_CONFIG, text));
    }
    // Nobody else is on the link to have the same address.
    let dad = request.fields.get("dad").is_none().then_some(Dad::Off);
    Ok(Spec { interface: request.interface.to_owned(), mtu: veth::mtu("ptp", request)?, dad })
}

impl Spec {
    pub(super) fn prepare(&self) -> Original {
        Original { pair: Pair::choose(&self.interface) }
    }

    pub(super) fn attach(
        &self,
        original: &Original,
        host: &mut Host,
        pod: &mut Pod,
    ) -> Result<Attached, CniError> {
        let context = |error: CniError| error.context("ptp");
        let pair = &original.pair;
        let ends = Ends { mtu: self.mtu, ..Ends::default() };
        pair.make(ends, host, pod).map_err(kernel).map_err(context)?;
        pair.bring_up(self.dad, pod).map_err(context)?;
        let interfaces = pair.interfaces(host, pod).map_err(context)?.into();
        let link = Some(pair.in_pod(pod).map_err(context)?.index);
        Ok(Attached { interfaces, main: POD, link })
    }

    /// Every address has a gateway, which the host's end is.
    pub(super) fn complete(result: &CniResult) -> Result<(), CniError> {
        match result.ips.iter().find(|ip| ip.gateway.is_none()) {
            Some(ip) => {
                let text = format!("ptp: the IPAM plugin gave {} without a gateway", ip.address);
                Err(CniError::new(code::INVALID_CONFIG, text).details(
                    "the host's end of the link gets the gateway's address: name one in key \"ipam\"",
                ))
            }
            None => Ok(()),
        }
    }

    /// Puts the gateways on the host's end, and leads the pod's packets there.
    pub(super) fn finish(
        original: &Original,
        result: &mut CniResult,
        host: &mut Host,
        pod: &mut Pod,
    ) -> Result<(), CniError> {
        let context = |error: CniError| error.context("ptp");
        let ways = ways(result);
        let has = |v4: bool| ways.iter().any(|way| way.address.addr().is_ipv4() == v4);
        veth::enable_forwarding(has(true), has(false)).map_err(context)?;
        let inside = original.pair.in_pod(pod).map_err(context)?.index;
        lead_to_gateways(&ways, inside, &mut pod.route).map_err(context)?;
        let outside = original.pair.host_end(host).map_err(context)?;
        serve(&ways, outside.index, &mut host.route).map_err(context)
    }
}

/// An address of the pod and who it goes through.
struct Way {
    address: IpNet,
    gateway: IpAddr,
    /// Another address before has the same gateway, or the same network: their routes are there.
    same_gateway: bool,
    same_network: bool,
}

fn ways(result: &CniResult) -> Vec<Way> {
    let mut ways: Vec<Way> = Vec::new();
    for ip in &result.ips {
        let Some(gateway) = ip.gateway else { continue };
        let same_gateway = ways.iter().any(|way| way.gateway == gateway);
        let same_network = ways.iter().any(|way| way.address.trunc() == ip.address.trunc());
        ways.push(Way { address: ip.address, gateway, same_gateway, same_network });
    }
    ways
}

/// Replaces the route to each network by one through the gateway, which is the only neighbour.
fn lead_to_gateways(ways: &[Way], link: u32, route: &mut Route) -> Result<(), CniError> {
    for way in ways {
        let network = way.address.trunc();
        let src = Some(way.address.addr());
        if !way.same_network {
            // The kernel made it with the address, unless there is nothing in the network but the address.
            veth::gone(route.del_route(&NewRoute { oif: Some(link), ..NewRoute::to(network) }))?;
        }
        if !way.same_gateway {
            let direct = NewRoute {
                oif: Some(link),
                src,
                scope: Some(Scope::LINK),
                ..NewRoute::to(way.gateway.into())
            };
            route.add_route(&direct).map_err(kernel)?;
        }
        if !way.same_network {
            let through =
                NewRoute { oif: Some(link), src, gateway: Some(way.gateway), ..NewRoute::to(network) };
            route.add_route(&through).map_err(kernel)?;
        }
    }
    Ok(())
}

/// Gives the host's end the gateways' addresses, and leads the packets to the pod's there.
fn serve(ways: &[Way], link: u32, route: &mut Route) -> Result<(), CniError> {
    // Nobody else is on the link to have the same address.
    let nodad = AddressFlags { nodad: true, ..AddressFlags::default() };
    let gateways = ways.iter().filter(|way| !way.same_gateway);
    let gateways: Vec<Change<'_>> =
        gateways.map(|way| Change::add_address(link, &way.gateway.into(), nodad)).collect();
    route.batch(&gateways).into_iter().collect::<Result<(), _>>().map_err(kernel)?;
    for way in ways.iter().filter(|way| way.address.addr() != way.gateway) {
        let to_pod = IpNet::from(way.address.addr());
        let direct = NewRoute { oif: Some(link), scope: Some(Scope::HOST), ..NewRoute::to(to_pod) };
        match route.add_route(&direct) {
            Err(error) if error.already_exists() => {
                let text =
                    format!("the host has another route to {to_pod}: another pod may have the address");
                return Err(CniError::new(code::TRY_AGAIN, text).details(error.to_string()));
            }
            done => done.map_err(kernel)?,
        }
    }
    Ok(())
}

impl Original {
    pub(super) fn check(
        &self,
        made: &Interface,
        host: &mut Host,
        pod: &mut Pod,
    ) -> Result<Vec<Difference>, CniError> {
        self.pair.check(made, host, pod)
    }

    pub(super) fn detach(&self, host: &mut Host, pod: Option<&mut Pod>) -> Vec<CniError> {
        self.pair.detach(host, pod)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn addresses_that_share_gateway_or_network_share_routes() {
        let result: CniResult = serde_json::from_value(json!({"ips": [
            {"address": "10.1.2.3/24", "gateway": "10.1.2.1"},
            {"address": "10.1.2.4/24", "gateway": "10.1.2.1"},
            {"address": "10.9.9.9/32", "gateway": "10.1.2.1"},
            {"address": "fd00::3/64", "gateway": "fd00::1"},
        ]}))
        .unwrap();
        let shared: Vec<_> = ways(&result).iter().map(|way| (way.same_gateway, way.same_network)).collect();
        assert_eq!(shared, [(false, false), (true, true), (true, false), (false, false)]);
    }

    #[test]
    fn an_address_without_gateway_is_refused() {
        let result: CniResult = serde_json::from_value(json!({"ips": [{"address": "10.1.2.3/24"}]})).unwrap();
        let error = Spec::complete(&result).unwrap_err();
        assert!(error.msg.contains("10.1.2.3/24") && error.msg.contains("gateway"), "{error}");
    }
}
