//! Interfaces of the kernel.

use crate::preflight::{Check, InterfaceFacts};

/// Header and checksum, which the MTU does not count.
const BESIDE_MTU: u32 = 18;

pub(super) fn interface(facts: &InterfaceFacts, frame_size: u16) -> Check {
    let InterfaceFacts { name, .. } = facts;
    if !facts.exists {
        let remedy =
            "attach a network to the pod (annotation k8s.v1.cni.cncf.io/networks), or name another interface";
        return Check::fail(name, "there is no such interface in this network namespace", remedy);
    }
    if !facts.up {
        return Check::fail(name, "is down", format!("ip link set {name} up (a CNI plugin does that)"));
    }
    if facts.carrier == Some(false) {
        let remedy = "for a VF: set its PF up on the node, and let the VF's link follow (ip link set PF vf N state auto)";
        return Check::fail(name, "has no carrier", remedy);
    }
    if let Some(mtu) = facts.mtu.filter(|mtu| mtu + BESIDE_MTU < u32::from(frame_size)) {
        return Check::fail(
            name,
            format!(
                "its MTU is {mtu}, frames of {frame_size} bytes need {}",
                u32::from(frame_size) - BESIDE_MTU
            ),
            "give smaller --sizes, or raise the MTU in the network's configuration",
        );
    }
    let driver = facts
        .driver
        .as_ref()
        .map_or_else(|| "no device of its own".to_owned(), |driver| format!("driver {driver}"));
    let speed = facts.speed.map_or_else(|| "speed unknown".to_owned(), |speed| format!("{speed} Mbit/s"));
    Check::ok(name, format!("up, {driver}, {speed}"))
}
