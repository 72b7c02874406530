//! Which network devices carry the host's default routes, from the text files in `/proc/net`: for directories laid out as
//! `/sys` that come without a `netlink.json`.

use std::collections::BTreeSet;
use std::path::Path;
use std::{fs, io};

/// `RTF_UP` and `RTF_REJECT` of the kernel's `route.h`.
const UP: u32 = 0x0001;
const REJECT: u32 = 0x0200;

/// The network devices with a default route, IPv4 (main table) or IPv6; what cannot be read is noted.
pub(crate) fn default_route_netdevs(proc: &Path, notes: &mut Vec<String>) -> BTreeSet<String> {
    let mut read = |name: &str| {
        let path = proc.join("net").join(name);
        fs::read_to_string(&path).unwrap_or_else(|error| {
            // A kernel without IPv6 has no ipv6_route.
            if error.kind() != io::ErrorKind::NotFound {
                notes.push(format!("default routes are unknown: {}: {error}", path.display()));
            }
            String::new()
        })
    };
    let (v4, v6) = (read("route"), read("ipv6_route"));
    v4.lines().filter_map(v4_default).chain(v6.lines().filter_map(v6_default)).map(str::to_owned).collect()
}

/// `Iface Destination Gateway Flags RefCnt Use Metric Mask ...`, numbers in hexadecimal.
fn v4_default(line: &str) -> Option<&str> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let flags = u32::from_str_radix(fields.get(3)?, 16).ok()?;
    let is_default = *fields.get(1)? == "00000000" && *fields.get(7)? == "00000000";
    (is_default && flags & UP != 0 && flags & REJECT == 0).then(|| fields[0])
}

/// `destination length source length gateway metric refcount use flags name`, numbers in hexadecimal.
fn v6_default(line: &str) -> Option<&str> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let flags = u32::from_str_radix(fields.get(8)?, 16).ok()?;
    let is_default = fields[0].bytes().all(|b| b == b'0') && fields[1] == "00";
    let name = fields.get(9).copied().filter(|name| *name != "lo")?;
    (is_default && flags & UP != 0 && flags & REJECT == 0).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_routes_of_both_families_are_seen() {
        let proc = tempfile::tempdir().unwrap();
        fs::create_dir(proc.path().join("net")).unwrap();
        let v4 = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
                  bond0\t00000000\t0101A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n\
                  eth1\t0001A8C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0\n\
                  eth2\t00000000\t00000000\t0201\t0\t0\t100\t00000000\t0\t0\t0\n\
                  torn";
        let zero = "0".repeat(32);
        let v6 = format!(
            "{zero} 00 {zero} 00 fe800000000000000000000000000001 00000400 00000001 00000000 00000003 eth4\n\
             {zero} 00 {zero} 00 {zero} ffffffff 00000001 00000000 00200200 lo\n\
             fd000000000000000000000000000000 40 {zero} 00 {zero} 00000100 00000001 00000000 00000001 eth5\n"
        );
        fs::write(proc.path().join("net/route"), v4).unwrap();
        fs::write(proc.path().join("net/ipv6_route"), v6).unwrap();
        let mut notes = Vec::new();
        let found = default_route_netdevs(proc.path(), &mut notes);
        assert_eq!(found.into_iter().collect::<Vec<_>>(), ["bond0", "eth4"]);
        assert!(notes.is_empty(), "{notes:?}");
    }

    #[test]
    fn without_files_none_is_known() {
        let proc = tempfile::tempdir().unwrap();
        assert!(default_route_netdevs(proc.path(), &mut Vec::new()).is_empty());
    }
}
