//! What testpmd's complaints mean, for people. Only explains failures; nothing is decided by it.

/// What DPDK prints, and what to do about it.
const HINTS: [(&str, &str); 7] = [
    (
        "Cannot set up DMA remapping, error 12",
        "the kernel refused to pin memory: give the container the capability IPC_LOCK, or a memlock limit that holds its huge pages",
    ),
    (
        "is not viable",
        "a device of the same IOMMU group is used by a driver of the host: bind all of them to vfio-pci",
    ),
    (
        "No probed ethernet devices",
        "no driver of DPDK took the device: the image lacks its PMD (for igb and igbvf librte_net_e1000), librte_bus_pci or librte_mempool_ring",
    ),
    (
        "Cannot get hugepage information",
        "no huge pages: reserve some on the node, and request hugepages-2Mi or hugepages-1Gi in the container",
    ),
    (
        "Cannot init memory",
        "not enough huge pages: raise hugepages-2Mi (or hugepages-1Gi) in the container's limits",
    ),
    (
        "Creation of mbuf pool",
        "not enough huge pages: raise hugepages-2Mi (or hugepages-1Gi) in the container's limits",
    ),
    ("error while loading shared libraries", "the image lacks a library that testpmd is linked with"),
];

/// What the output hints at.
#[must_use]
pub fn hint(output: &str) -> Option<&'static str> {
    HINTS.iter().find(|(text, _)| output.contains(text)).map(|(_, hint)| *hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn captured_complaints_are_explained() {
        let memlock = "EAL: Using IOMMU type 1 (Type 1)\nEAL: Cannot set up DMA remapping, error 12 (Cannot allocate memory)\n";
        assert!(hint(memlock).unwrap().contains("IPC_LOCK"));
        assert!(
            hint("EAL: VFIO support initialized\ntestpmd: No probed ethernet devices\n")
                .unwrap()
                .contains("PMD")
        );
        assert_eq!(hint("EAL: VFIO support initialized\n"), None);
    }
}
