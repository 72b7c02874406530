//! Which announcements are worth a look at the node. A node makes and removes links for its pods by the hundred.

use std::collections::BTreeMap;

use fairlead_kernel::Link;
use fairlead_kernel::monitor::{Event, LinkEvent, Uevent};

/// Buses and classes of what the inventory shows. Network devices come on top, see [`device`].
const SUBSYSTEMS: [&str; 13] = [
    "pci",
    "virtio",
    "auxiliary",
    "vdpa",
    "vhost-vdpa",
    "vfio",
    "vfio-dev",
    "iommu",
    "uio",
    "infiniband",
    "infiniband_verbs",
    "infiniband_mad",
    "infiniband_cm",
];

/// Kinds of links that are never stacked on a device's link, so that nothing in the inventory tells of them: the host's ends
/// of pods' links, and tunnels.
const NEVER_ON_A_DEVICE: [&str; 16] = [
    "veth",
    "netkit",
    "dummy",
    "tun",
    "ifb",
    "nlmon",
    "vxlan",
    "geneve",
    "bareudp",
    "gre",
    "gretap",
    "ip6gre",
    "ipip",
    "sit",
    "ip6tnl",
    "wireguard",
];

/// Remembers how links were announced last: many announcements say nothing new.
#[derive(Debug, Default)]
pub(super) struct Relevance {
    links: BTreeMap<u32, Link>,
}

impl Relevance {
    pub(super) fn matters(&mut self, event: &Event) -> bool {
        match event {
            Event::Device(event) => device(event),
            Event::Link(event) => self.link(event),
            Event::Lost => {
                self.links.clear();
                true
            }
        }
    }

    fn link(&mut self, event: &LinkEvent) -> bool {
        let link = &*event.link;
        if link.kind.as_deref().is_some_and(|kind| NEVER_ON_A_DEVICE.contains(&kind)) {
            return false;
        }
        if event.removed {
            self.links.remove(&link.index);
            return true;
        }
        let now = shown(link);
        let before = self.links.insert(link.index, now.clone());
        before != Some(now)
    }
}

fn device(event: &Uevent) -> bool {
    // Links without hardware are heard of as links.
    let is_virtual = || event.devpath.starts_with("/devices/virtual/");
    SUBSYSTEMS.contains(&event.subsystem.as_str()) || (event.subsystem == "net" && !is_virtual())
}

/// What the inventory shows of a link: of one without hardware only where it is stacked. A bridge's own state changes with
/// every pod on it.
fn shown(link: &Link) -> Link {
    if link.kind.is_none() {
        return link.clone();
    }
    Link {
        index: link.index,
        name: link.name.clone(),
        altnames: link.altnames.clone(),
        kind: link.kind.clone(),
        parent: link.parent,
        master: link.master,
        ..Link::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uevent(action: &str, devpath: &str, subsystem: &str) -> Event {
        Event::Device(Uevent {
            action: action.to_owned(),
            devpath: devpath.to_owned(),
            subsystem: subsystem.to_owned(),
        })
    }

    fn link(index: u32, name: &str, kind: Option<&str>) -> Link {
        Link { index, name: name.to_owned(), kind: kind.map(str::to_owned), ..Link::default() }
    }

    fn announced(link: &Link, removed: bool) -> Event {
        Event::Link(LinkEvent { removed, link: Box::new(link.clone()) })
    }

    #[test]
    fn devices_of_the_wanted_buses_matter() {
        let mut relevance = Relevance::default();
        let pci = "/devices/pci0000:00/0000:00:01.0/0000:01:10.0";
        for (action, devpath, subsystem) in [
            ("add", pci.to_owned(), "pci"),
            ("bind", pci.to_owned(), "pci"),
            ("add", format!("{pci}/net/eth0"), "net"),
            ("add", "/devices/virtual/vfio/11".to_owned(), "vfio"),
            ("add", format!("{pci}/mlx5_core.sf.4"), "auxiliary"),
            ("add", format!("{pci}/infiniband/mlx5_0"), "infiniband"),
            ("bind", format!("{pci}/vdpa0"), "vdpa"),
        ] {
            assert!(relevance.matters(&uevent(action, &devpath, subsystem)), "{devpath}");
        }
    }

    #[test]
    fn other_devices_and_links_of_pods_do_not() {
        let mut relevance = Relevance::default();
        for (devpath, subsystem) in [
            ("/devices/virtual/net/veth12ab", "net"),
            ("/devices/virtual/net/veth12ab/queues/rx-0", "queues"),
            ("/devices/pci0000:00/0000:00:01.0/0000:01:10.0/net/eth0/queues/rx-0", "queues"),
            ("/devices/virtual/block/loop0", "block"),
            ("/module/vfio_pci", "module"),
            ("/kernel/slab/x", ""),
        ] {
            assert!(!relevance.matters(&uevent("add", devpath, subsystem)), "{devpath}");
        }
        for number in 0..500 {
            let veth = link(100 + number, &format!("veth{number}"), Some("veth"));
            assert!(!relevance.matters(&announced(&veth, false)));
            assert!(!relevance.matters(&announced(&veth, true)));
        }
        assert!(relevance.links.is_empty());
    }

    #[test]
    fn a_link_that_says_nothing_new_does_not_matter() {
        let mut relevance = Relevance::default();
        let mut port = link(4, "ens1f0", None);
        assert!(relevance.matters(&announced(&port, false)));
        assert!(!relevance.matters(&announced(&port, false)));
        port.altnames = vec!["port0".to_owned()];
        assert!(relevance.matters(&announced(&port, false)));
        port.master = Some(9);
        assert!(relevance.matters(&announced(&port, false)));
        assert!(relevance.matters(&announced(&port, true)));
        assert!(relevance.matters(&announced(&port, false)));
    }

    #[test]
    fn a_bridge_with_pods_matters_when_it_is_stacked_otherwise() {
        let mut relevance = Relevance::default();
        let mut bridge = link(7, "br0", Some("bridge"));
        assert!(relevance.matters(&announced(&bridge, false)));
        bridge.running = true;
        bridge.mtu = 9000;
        assert!(!relevance.matters(&announced(&bridge, false)));
        bridge.master = Some(8);
        assert!(relevance.matters(&announced(&bridge, false)));
    }

    #[test]
    fn a_loss_matters_and_empties_the_memory() {
        let mut relevance = Relevance::default();
        let port = link(4, "ens1f0", None);
        assert!(relevance.matters(&announced(&port, false)));
        assert!(relevance.matters(&Event::Lost));
        assert!(relevance.matters(&announced(&port, false)));
    }
}
