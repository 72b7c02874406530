//! What the machine has: processors, memory, huge pages, an address.

use std::{fs, net::IpAddr, path::Path};

use nix::{ifaddrs::getifaddrs, net::if_::InterfaceFlags};

use super::container_config::resource_name;

/// Read once, as the real kubelet does: huge pages added later are not seen before it starts again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Machine {
    pub(super) cpus: usize,
    /// Bytes.
    pub(super) memory: u64,
    /// Size in bytes and number, for every size that the kernel knows.
    pub(super) huge_pages: Vec<(u64, u64)>,
    pub(super) ip: String,
}

impl Machine {
    /// Reads below `root`, which is `/` on a node.
    pub(super) fn read(root: &Path) -> Self {
        let meminfo = fs::read_to_string(root.join("proc/meminfo")).unwrap_or_default();
        Self {
            cpus: std::thread::available_parallelism().map_or(1, Into::into),
            memory: memory(&meminfo).unwrap_or(0),
            huge_pages: huge_pages(&root.join("sys/kernel/mm/hugepages")),
            ip: address().unwrap_or_else(|| "127.0.0.1".into()),
        }
    }

    /// Node capacity, without devices.
    pub(super) fn capacity(&self) -> Vec<(String, String)> {
        self.resources(self.memory)
    }

    /// What pods may have: memory without what is set aside for huge pages.
    pub(super) fn allocatable(&self) -> Vec<(String, String)> {
        let huge: u64 = self.huge_pages.iter().map(|(size, count)| size * count).sum();
        self.resources(self.memory.saturating_sub(huge))
    }

    fn resources(&self, memory: u64) -> Vec<(String, String)> {
        let mut all = vec![
            ("cpu".to_string(), self.cpus.to_string()),
            ("memory".into(), format!("{}Ki", memory >> 10)),
            ("pods".into(), "110".into()),
        ];
        let pages =
            |(size, count): &(u64, u64)| (resource_name(*size), format!("{}Ki", (size * count) >> 10));
        all.extend(self.huge_pages.iter().map(pages));
        all
    }

    pub(super) fn huge_page_sizes(&self) -> Vec<u64> {
        self.huge_pages.iter().map(|(size, _)| *size).collect()
    }
}

fn memory(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|l| l.strip_prefix("MemTotal:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? << 10)
}

fn huge_pages(folder: &Path) -> Vec<(u64, u64)> {
    let mut pages: Vec<(u64, u64)> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let size: u64 = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
            let count = fs::read_to_string(entry.path().join("nr_hugepages")).ok()?.trim().parse().ok()?;
            Some((size << 10, count))
        })
        .collect();
    pages.sort_unstable();
    pages
}

/// The first IPv4 address of an interface that is up and not loopback.
fn address() -> Option<String> {
    getifaddrs().ok()?.find_map(|interface| {
        let flags = interface.flags;
        if !flags.contains(InterfaceFlags::IFF_UP) || flags.contains(InterfaceFlags::IFF_LOOPBACK) {
            return None;
        }
        let ip = interface.address?.as_sockaddr_in()?.ip();
        (!IpAddr::V4(ip).is_unspecified()).then(|| ip.to_string())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("proc")).unwrap();
        fs::write(root.path().join("proc/meminfo"), "MemTotal:        2048 kB\nMemFree: 1 kB\n").unwrap();
        let pages = root.path().join("sys/kernel/mm/hugepages/hugepages-2048kB");
        fs::create_dir_all(&pages).unwrap();
        fs::write(pages.join("nr_hugepages"), "0\n").unwrap();
        let mut machine = Machine::read(root.path());
        assert_eq!((machine.memory, machine.huge_pages.clone()), (2 << 20, vec![(2 << 20, 0)]));
        machine.memory = 1 << 30;
        machine.huge_pages = vec![(2 << 20, 256)];
        let text =
            |list: Vec<(String, String)>, name: &str| list.into_iter().find(|(n, _)| n == name).unwrap().1;
        assert_eq!(text(machine.capacity(), "hugepages-2Mi"), "524288Ki");
        assert_eq!(text(machine.capacity(), "memory"), "1048576Ki");
        assert_eq!(text(machine.allocatable(), "memory"), "524288Ki");
    }

    #[test]
    fn a_machine_that_says_nothing() {
        let root = tempfile::tempdir().unwrap();
        let machine = Machine::read(root.path());
        assert_eq!((machine.memory, machine.huge_pages.len()), (0, 0));
    }
}
