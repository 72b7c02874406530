//! What devices in user space need: an IOMMU that firmware and kernel have switched on, vfio-pci, huge pages.

use super::Node;
use crate::finding::Finding;

const TABLES: &str = "/sys/firmware/acpi/tables";
/// The firmware's descriptions of IOMMUs: Intel's, AMD's, Arm's.
const IOMMU_TABLES: [&str; 3] = ["DMAR", "IVRS", "IORT"];
const HUGEPAGES: &str = "/sys/kernel/mm/hugepages";

/// What the node has.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    /// The firmware's descriptions of IOMMUs; none where ACPI's tables are not to be seen.
    tables: Option<Vec<String>>,
    /// IOMMUs that the kernel runs.
    iommus: usize,
    has_sysfs: bool,
    /// What the kernel was started with about IOMMUs.
    cmdline: Vec<String>,
    /// Whether the driver vfio-pci is there.
    has_vfio: bool,
    noiommu: bool,
    /// Whether a pool, the policy or a device's driver is for user space.
    is_needed: bool,
    /// Size in KiB, total and free pages.
    hugepages: Vec<(u64, u64, u64)>,
}

impl Facts {
    pub(super) fn gather(node: &Node, is_needed: bool) -> Self {
        let root = &node.root;
        let tables = root.names(TABLES);
        let found = tables.iter().filter(|name| IOMMU_TABLES.contains(&name.as_str())).cloned().collect();
        let cmdline = root.value("/proc/cmdline").unwrap_or_default();
        let number = |size: &String, name: &str| {
            let text = root.value(format!("{HUGEPAGES}/{size}/{name}"))?;
            text.parse::<u64>().ok()
        };
        let pages = |name: String| {
            let size = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
            Some((size, number(&name, "nr_hugepages")?, number(&name, "free_hugepages")?))
        };
        Self {
            tables: (!tables.is_empty()).then_some(found),
            iommus: root.names("/sys/class/iommu").len(),
            has_sysfs: root.exists("/sys/class"),
            cmdline: cmdline
                .split_whitespace()
                .filter(|word| word.contains("iommu"))
                .map(str::to_owned)
                .collect(),
            has_vfio: root.exists("/sys/bus/pci/drivers/vfio-pci"),
            noiommu: root
                .value("/sys/module/vfio/parameters/enable_unsafe_noiommu_mode")
                .is_some_and(|on| on == "Y"),
            is_needed,
            hugepages: root.names(HUGEPAGES).into_iter().filter_map(pages).collect(),
        }
    }
}

/// Says what of it keeps VFs from user space.
pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let worse = |id, seen: String, remedy: &str| match facts.is_needed {
        true => Finding::error(id, seen, remedy),
        false => Finding::info(id, format!("{seen}; nothing here asks for devices in user space")),
    };
    if !facts.has_sysfs {
        let remedy = "in a container mount the node's root with what is mounted in it, and say --root";
        return vec![Finding::unknown("iommu.kernel", "there is no sysfs to be seen", remedy)];
    }
    let told = match facts.cmdline.as_slice() {
        [] => "the kernel's command line says nothing of it".to_owned(),
        words => format!("the kernel's command line says {}", words.join(" ")),
    };
    let firmware = match &facts.tables {
        None => Finding::unknown(
            "iommu.firmware",
            format!("{TABLES} is not to be seen"),
            "look into the firmware's settings for VT-d, AMD-Vi or SMMU",
        ),
        Some(tables) if tables.is_empty() && facts.iommus == 0 => worse(
            "iommu.firmware",
            "the firmware describes no IOMMU (no DMAR, IVRS or IORT table)".into(),
            "switch VT-d (Intel), AMD-Vi or the SMMU on in the firmware; in a virtual machine give it a virtual IOMMU",
        ),
        Some(tables) => {
            Finding::ok("iommu.firmware", format!("the firmware describes an IOMMU ({})", tables.join(", ")))
        }
    };
    let kernel = match facts.iommus {
        0 => worse(
            "iommu.kernel",
            format!("the kernel runs no IOMMU; {told}"),
            "start the kernel with intel_iommu=on iommu=pt (AMD: amd_iommu is on unless switched off), once the firmware has it on",
        ),
        count => Finding::ok("iommu.kernel", format!("the kernel runs {count} IOMMUs; {told}")),
    };
    let vfio = match facts.has_vfio {
        true => Finding::ok("vfio.driver", "the driver vfio-pci is there"),
        false => worse(
            "vfio.driver",
            "the driver vfio-pci is not loaded".into(),
            "modprobe vfio-pci, and name it in a file below /etc/modules-load.d",
        ),
    };
    let mut findings = vec![firmware, kernel, vfio];
    if facts.noiommu {
        findings.push(Finding::warning(
            "vfio.noiommu",
            "VFIO works without an IOMMU: whoever has a device can write into all memory of the node",
            "switch the IOMMU on and vfio's enable_unsafe_noiommu_mode off",
        ));
    }
    findings.push(hugepages(facts));
    findings
}

fn hugepages(facts: &Facts) -> Finding {
    let there: Vec<String> = facts
        .hugepages
        .iter()
        .filter(|(_, total, _)| *total > 0)
        .map(|(size, total, free)| format!("{free} of {total} pages of {} MiB free", size >> 10))
        .collect();
    let has_free = facts.hugepages.iter().any(|(_, _, free)| *free > 0);
    let remedy = "reserve some (hugepages= on the kernel's command line, or vm.nr_hugepages) and restart kubelet, which counts them once";
    match (there.is_empty(), has_free, facts.is_needed) {
        (true, _, true) => {
            Finding::warning("hugepages", "the node has no huge pages, which DPDK asks for", remedy)
        }
        (true, _, false) => Finding::info("hugepages", "the node has no huge pages"),
        (false, false, true) => {
            Finding::warning("hugepages", format!("none is free: {}", there.join(", ")), remedy)
        }
        (false, ..) => Finding::ok("hugepages", there.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::testing::{MadeNode, assert_found},
        *,
    };
    use crate::finding::Severity;

    fn well() -> MadeNode {
        let node = MadeNode::new();
        node.write("/sys/firmware/acpi/tables/DMAR", "");
        node.write("/sys/class/iommu/dmar0/x", "");
        node.write("/proc/cmdline", "quiet intel_iommu=on iommu=pt\n");
        node.write("/sys/bus/pci/drivers/vfio-pci/bind", "");
        for (name, text) in [("nr_hugepages", "8\n"), ("free_hugepages", "6\n")] {
            node.write(&format!("{HUGEPAGES}/hugepages-2048kB/{name}"), text);
        }
        node
    }

    fn found(node: &MadeNode, is_needed: bool) -> Vec<Finding> {
        judge(&Facts::gather(&node.node(), is_needed))
    }

    #[test]
    fn a_node_with_all_of_it_is_good() {
        let all = found(&well(), true);
        assert!(all.len() == 4 && all.iter().all(|finding| finding.severity == Severity::Ok), "{all:#?}");
        assert_found(&all, "iommu.kernel", Severity::Ok, &["1 IOMMUs", "intel_iommu=on iommu=pt"]);
        assert_found(&all, "hugepages", Severity::Ok, &["6 of 8 pages of 2 MiB"]);
    }

    #[test]
    fn what_is_missing_is_an_error_where_it_is_needed() {
        let node = well();
        node.rename("/sys/firmware/acpi/tables/DMAR", "/sys/firmware/acpi/tables/APIC");
        node.remove_all("/sys/class/iommu");
        node.remove_all("/sys/bus");
        node.write(&format!("{HUGEPAGES}/hugepages-2048kB/free_hugepages"), "0");
        let all = found(&node, true);
        assert_found(&all, "iommu.firmware", Severity::Error, &["no DMAR", "VT-d"]);
        assert_found(&all, "iommu.kernel", Severity::Error, &["intel_iommu=on iommu=pt"]);
        assert_found(&all, "vfio.driver", Severity::Error, &["modprobe vfio-pci"]);
        assert_found(&all, "hugepages", Severity::Warning, &["none is free"]);
        let all = found(&node, false);
        assert!(all.iter().all(|finding| finding.severity <= Severity::Info), "{all:#?}");
    }

    #[test]
    fn what_cannot_be_seen_is_not_called_good() {
        let node = well();
        node.remove_all("/sys/firmware");
        node.write("/sys/module/vfio/parameters/enable_unsafe_noiommu_mode", "Y\n");
        node.remove_all(HUGEPAGES);
        let all = found(&node, true);
        assert_found(&all, "iommu.firmware", Severity::Unknown, &["not to be seen"]);
        assert_found(&all, "vfio.noiommu", Severity::Warning, &["all memory"]);
        assert_found(&all, "hugepages", Severity::Warning, &["no huge pages"]);
        node.remove_all("/sys");
        assert_found(&found(&node, true), "iommu.kernel", Severity::Unknown, &["--root"]);
    }
}
