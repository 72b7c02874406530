//! Huge pages: what the node has left, and what the pod may take of it.

use std::fs;
use std::path::{Path, PathBuf};

/// The huge pages of one size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PagePool {
    /// Bytes of a page.
    pub size: u64,
    /// Pages that the node has.
    pub total: u64,
    /// Pages that nobody uses or has reserved.
    pub free: u64,
    /// Bytes that the container may still take; `None` without a limit.
    pub allowed: Option<u64>,
}

impl PagePool {
    /// Pages that the container can have now.
    #[must_use]
    pub fn usable(&self) -> u64 {
        let allowed = self.allowed.map_or(u64::MAX, |bytes| bytes / self.size.max(1));
        self.free.min(allowed)
    }

    /// The size as Kubernetes writes it in `hugepages-2Mi`.
    #[must_use]
    pub fn size_name(&self) -> String {
        const UNITS: [(u64, &str); 3] = [(1 << 30, "Gi"), (1 << 20, "Mi"), (1 << 10, "Ki")];
        let unit = UNITS.into_iter().find(|(unit, _)| self.size >= *unit && self.size.is_multiple_of(*unit));
        unit.map_or_else(|| self.size.to_string(), |(unit, name)| format!("{}{name}", self.size / unit))
    }
}

/// All huge pages.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hugepages {
    /// By size, smallest first.
    pub pools: Vec<PagePool>,
    /// Where hugetlbfs is mounted.
    pub mounts: Vec<PathBuf>,
}

impl Hugepages {
    /// Reads `/sys/kernel/mm/hugepages`, the container's cgroup (version 2, seen at `/sys/fs/cgroup`), and `/proc/mounts`.
    /// What cannot be read is taken not to be there.
    #[must_use]
    pub fn gather(sys: &Path, proc: &Path) -> Self {
        let folder = sys.join("kernel/mm/hugepages");
        let entries = fs::read_dir(&folder).into_iter().flatten().flatten();
        let mut pools: Vec<PagePool> = entries
            .filter_map(|entry| {
                let name = entry.file_name().into_string().ok()?;
                let kib: u64 = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
                let count = |file: &str| number(&entry.path().join(file)).unwrap_or(0);
                let free = count("free_hugepages").saturating_sub(count("resv_hugepages"));
                let total = count("nr_hugepages");
                Some(PagePool {
                    size: kib * 1024,
                    total,
                    free,
                    allowed: allowed(&sys.join("fs/cgroup"), kib),
                })
            })
            .collect();
        pools.sort_by_key(|pool| pool.size);
        let mounts = fs::read_to_string(proc.join("mounts")).unwrap_or_default();
        Self { pools, mounts: hugetlbfs_mounts(&mounts) }
    }

    /// A pool that has `bytes` for each of `programs` programs (which do not share pages).
    #[must_use]
    pub fn sufficient(&self, bytes: u64, programs: u64) -> Option<&PagePool> {
        self.pools.iter().find(|pool| pool.usable() >= programs * bytes.div_ceil(pool.size.max(1)))
    }
}

/// What the cgroup leaves of pages of this size. Kubernetes sets 0 for containers that request none.
fn allowed(cgroup: &Path, kib: u64) -> Option<u64> {
    let size = match kib {
        kib if kib.is_multiple_of(1 << 20) => format!("{}GB", kib >> 20),
        kib if kib.is_multiple_of(1 << 10) => format!("{}MB", kib >> 10),
        kib => format!("{kib}KB"),
    };
    // Use and reservation are limited apart from each other; both have to hold. "max" is no number.
    ["", "rsvd."]
        .into_iter()
        .filter_map(|kind| {
            let limit = number(&cgroup.join(format!("hugetlb.{size}.{kind}max")))?;
            let used = number(&cgroup.join(format!("hugetlb.{size}.{kind}current"))).unwrap_or(0);
            Some(limit.saturating_sub(used))
        })
        .min()
}

fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// Where hugetlbfs is mounted, from `/proc/mounts` (which writes spaces and the like as octal).
fn hugetlbfs_mounts(mounts: &str) -> Vec<PathBuf> {
    mounts
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(' ').skip(1);
            let (point, kind) = (fields.next()?, fields.next()?);
            (kind == "hugetlbfs").then(|| PathBuf::from(point.replace("\\040", " ")))
        })
        .collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    pub(crate) fn write(path: &Path, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn pools_limits_and_mounts_are_read() {
        let root = tempfile::tempdir().unwrap();
        let (sys, proc) = (root.path().join("sys"), root.path().join("proc"));
        let pages = sys.join("kernel/mm/hugepages");
        for (file, text) in [
            ("hugepages-1048576kB/nr_hugepages", "0"),
            ("hugepages-1048576kB/free_hugepages", "0"),
            ("hugepages-2048kB/nr_hugepages", "256\n"),
            ("hugepages-2048kB/free_hugepages", "200\n"),
            ("hugepages-2048kB/resv_hugepages", "10\n"),
        ] {
            write(&pages.join(file), text);
        }
        write(&sys.join("fs/cgroup/hugetlb.2MB.max"), "134217728\n");
        write(&sys.join("fs/cgroup/hugetlb.2MB.current"), "2097152\n");
        write(&sys.join("fs/cgroup/hugetlb.2MB.rsvd.max"), "max\n");
        write(
            &proc.join("mounts"),
            "proc /proc proc rw 0 0\nhugetlbfs /dev/huge\\040pages hugetlbfs rw,pagesize=2M 0 0\n",
        );
        let found = Hugepages::gather(&sys, &proc);
        let [small, large] = found.pools.as_slice() else { panic!("{found:?}") };
        assert_eq!(*small, PagePool { size: 2 * MIB, total: 256, free: 190, allowed: Some(126 * MIB) });
        assert_eq!((small.usable(), small.size_name()), (63, "2Mi".to_owned()));
        assert_eq!((large.usable(), large.size_name()), (0, "1Gi".to_owned()));
        assert_eq!(found.mounts, [PathBuf::from("/dev/huge pages")]);
    }

    #[test]
    fn programs_do_not_share_pages() {
        let gigantic = PagePool { size: 1 << 30, total: 4, free: 1, allowed: None };
        let one = Hugepages { pools: vec![gigantic], mounts: Vec::new() };
        assert_eq!(one.sufficient(32 * MIB, 2), None);
        let two = Hugepages { pools: vec![PagePool { free: 2, ..gigantic }], mounts: Vec::new() };
        assert!(two.sufficient(32 * MIB, 2).is_some());
    }

    #[test]
    fn without_files_there_is_nothing() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(Hugepages::gather(root.path(), root.path()), Hugepages::default());
    }
}
