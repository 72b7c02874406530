//! The machine's NUMA nodes: which processors and which free huge pages each has.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::cores;

/// One node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NumaNode {
    /// Its processors.
    pub processors: Vec<u32>,
    /// Bytes of free huge pages, of all sizes.
    pub free: u64,
}

/// Reads `devices/system/node`. Empty where the kernel knows of no nodes.
#[must_use]
pub(super) fn gather(sys: &Path) -> BTreeMap<u32, NumaNode> {
    let folder = sys.join("devices/system/node");
    let entries = fs::read_dir(&folder).into_iter().flatten().flatten();
    let node = |name: &str| name.strip_prefix("node")?.parse::<u32>().ok();
    entries
        .filter_map(|entry| {
            let number = node(&entry.file_name().to_string_lossy())?;
            let list = fs::read_to_string(entry.path().join("cpulist")).ok()?;
            let processors = cores::parse_list(&list)?;
            Some((number, NumaNode { processors, free: free(&entry.path().join("hugepages")) }))
        })
        .collect()
}

fn free(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let bytes = entries.filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        let kib: u64 = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
        let pages: u64 = fs::read_to_string(entry.path().join("free_hugepages")).ok()?.trim().parse().ok()?;
        kib.checked_mul(1024)?.checked_mul(pages)
    });
    bytes.fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::super::hugepages::tests::write;
    use super::*;

    #[test]
    fn nodes_with_processors_and_pages_are_read() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("devices/system/node");
        write(&folder.join("node1/cpulist"), "4-7\n");
        write(&folder.join("node1/hugepages/hugepages-2048kB/free_hugepages"), "10\n");
        write(&folder.join("node1/hugepages/hugepages-1048576kB/free_hugepages"), "1\n");
        write(&folder.join("online"), "0-1\n");
        let nodes = gather(root.path());
        assert_eq!(nodes.keys().collect::<Vec<_>>(), [&1]);
        assert_eq!(nodes[&1], NumaNode { processors: vec![4, 5, 6, 7], free: (20 << 20) + (1 << 30) });
        assert!(gather(&root.path().join("none")).is_empty());
    }
}
