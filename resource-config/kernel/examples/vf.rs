//! Hands a VF to a network namespace and takes it back, through this crate alone: the proof on a real PF driver, and
//! the sequence that an SR-IOV driver needs.
//!
//! ```text
//! vf attach PF NUMBER NETDEV NAMESPACE IFNAME MAC VLAN > original.json
//! vf detach IFNAME NAMESPACE < original.json
//! ```
//!
//! The order matters (seen with igb and igbvf of Linux 6.12): an administrative MAC stops the VF from setting its own,
//! which then fails with `EADDRNOTAVAIL`, so the VF's goes first and the administrative one pins it. An all-zero
//! administrative MAC lifts the ban. Going back is the same in reverse: zero, then the VF's own, then the
//! administrative one if there was one. Whether there was cannot be read (without one, igb reports the VF's own), only
//! seen by the ban.

use std::error::Error;
use std::io::stdin;
use std::path::Path;
use std::time::Instant;

use fairlead_kernel::route::{VfChange, VfRate, VfState, VfVlan, VlanProtocol};
use fairlead_kernel::{Errno, Link, LinkChange, Mac, NetlinkError, Netns, Route};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Original {
    pf: u32,
    vf: VfState,
    link: Link,
    /// It had an administrative MAC.
    pinned: bool,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let started = Instant::now();
    match arguments.as_slice() {
        ["attach", pf, number, netdev, namespace, ifname, mac, vlan] => {
            let vlan = VfVlan { id: vlan.parse()?, qos: 0, proto: VlanProtocol::Dot1Q };
            let netns = Netns::open(Path::new(namespace))?;
            attach(pf, number.parse()?, netdev, &netns, ifname, mac.parse()?, vlan)?;
        }
        ["detach", ifname, namespace] => {
            detach(&serde_json::from_reader(stdin())?, ifname, &Netns::open(Path::new(namespace))?)?;
        }
        _ => return Err("see the head of this example for its arguments".into()),
    }
    eprintln!("{} took {:.1} ms", arguments[0], started.elapsed().as_secs_f64() * 1000.0);
    Ok(())
}

fn attach(
    pf: &str,
    number: u32,
    netdev: &str,
    netns: &Netns,
    ifname: &str,
    mac: Mac,
    vlan: VfVlan,
) -> Result<(), Box<dyn Error>> {
    let mut host = Route::open()?;
    let pf = host.link_by_name(pf)?.ok_or("no such PF")?;
    let link = host.link_by_name(netdev)?.ok_or("no such VF netdev")?;
    let vf = host.vf(&pf, number)?;

    let pinned = set_own_mac(&mut host, &pf, number, &link, mac)?;
    println!("{}", serde_json::to_string(&Original { pf: pf.index, vf, link: link.clone(), pinned })?);
    let wanted = VfChange {
        mac: Some(mac),
        vlan: Some(vlan),
        spoof_check: Some(true),
        trust: Some(true),
        ..VfChange::default()
    };
    host.set_vf(&pf, number, &wanted)?;
    let there = LinkChange {
        netns: Some(netns),
        name: Some(ifname.to_owned()),
        up: Some(true),
        ..LinkChange::default()
    };
    host.set_link(&link, &there)?;

    let now = host.vf(&pf, number)?;
    let moved = Route::open_in(netns)?.link_by_name(ifname)?.ok_or("the VF did not arrive")?;
    let seen = (now.mac, now.vlan, now.trust, now.spoof_check, moved.mac, moved.up);
    assert_eq!(seen, (Some(mac), Some(vlan.id), Some(true), Some(true), Some(mac), true));
    Ok(())
}

/// Tells whether an administrative MAC was in the way.
fn set_own_mac(
    host: &mut Route,
    pf: &Link,
    number: u32,
    link: &Link,
    mac: Mac,
) -> Result<bool, NetlinkError> {
    let own = LinkChange { mac: Some(mac), ..LinkChange::default() };
    match host.set_link(link, &own) {
        Err(error) if error.errno() == Some(Errno::EADDRNOTAVAIL) => {
            let lifted = VfChange { mac: Some([0; 6].into()), ..VfChange::default() };
            host.set_vf(pf, number, &lifted)?;
            host.set_link(link, &own)?;
            Ok(true)
        }
        other => other.map(|()| false),
    }
}

fn detach(original: &Original, ifname: &str, netns: &Netns) -> Result<(), Box<dyn Error>> {
    let mut host = Route::open()?;
    let mut pod = Route::open_in(netns)?;
    let host_netns = Netns::current()?;
    let link = pod.link_by_name(ifname)?.ok_or("the VF is not there")?;

    let lifted = VfChange { mac: Some([0; 6].into()), ..VfChange::default() };
    host.set_vf(original.pf, original.vf.vf, &lifted)?;
    let back = LinkChange {
        netns: Some(&host_netns),
        name: Some(original.link.name.clone()),
        mac: original.link.mac,
        mtu: Some(original.link.mtu),
        up: Some(original.link.up),
        ..LinkChange::default()
    };
    pod.set_link(&link, &back)?;
    host.set_vf(original.pf, original.vf.vf, &settings(original))?;

    let link = host.link_by_name(&original.link.name)?.ok_or("the VF did not come back")?;
    assert_eq!(host.vf(original.pf, original.vf.vf)?, original.vf);
    // Not the permanent MAC: igbvf takes over there what it was given last.
    assert_eq!(Link { permanent_mac: original.link.permanent_mac, ..link }, original.link);
    Ok(())
}

/// What is put back on the PF's side, of what igb can.
fn settings(original: &Original) -> VfChange {
    let vf = &original.vf;
    let proto = vf.vlan_proto.unwrap_or_default();
    let rate = vf.min_tx_rate.zip(vf.max_tx_rate).map(|(min, max)| VfRate { min, max });
    VfChange {
        mac: vf.mac.filter(|_| original.pinned),
        vlan: vf.vlan.zip(vf.qos).map(|(id, qos)| VfVlan { id, qos, proto }),
        rate: rate.filter(|rate| *rate != VfRate::default()),
        spoof_check: vf.spoof_check,
        trust: vf.trust,
        ..VfChange::default()
    }
}
