//! Makes a directory laid out as `/sys` of a node with 16 ports and so many VFs in all: `made_node DIR VFS`. For the
//! benchmarks beside it, which compile it alone: it needs nothing but the standard library.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

/// Ports, each a PF with a sixteenth of the VFs.
const PORTS: usize = 16;

/// What a function has in sysfs that nobody reads, so that listing it costs what it costs on a node.
const UNREAD: [&str; 24] = [
    "ari_enabled",
    "broken_parity_status",
    "config",
    "consistent_dma_mask_bits",
    "current_link_speed",
    "current_link_width",
    "d3cold_allowed",
    "dma_mask_bits",
    "enable",
    "irq",
    "link",
    "local_cpulist",
    "local_cpus",
    "max_link_speed",
    "max_link_width",
    "modalias",
    "msi_bus",
    "power_state",
    "remove",
    "reset",
    "resource",
    "revision",
    "subsystem_device",
    "subsystem_vendor",
];

fn main() -> io::Result<()> {
    let usage = || io::Error::other("usage: made_node DIR VFS");
    let mut arguments = env::args().skip(1);
    let dir = arguments.next().ok_or_else(usage)?;
    let vfs = arguments.next().and_then(|text| text.parse::<usize>().ok()).ok_or_else(usage)?;
    let root = Path::new(&dir);
    for folder in ["bus/pci/devices", "class/net", "kernel/iommu_groups"] {
        fs::create_dir_all(root.join(folder))?;
    }
    (0..PORTS).try_for_each(|port| make_port(root, port, vfs / PORTS))
}

fn make_port(root: &Path, port: usize, vfs: usize) -> io::Result<()> {
    // Buses 0x10, 0x20, ...: room for the VFs of each port behind it, in domains of their own.
    let pf = format!("{port:04x}:10:00.0");
    let dir = make_function(root, &pf, "0x1592", "ice", port * (vfs + 1))?;
    write(&dir, "sriov_totalvfs", &vfs.to_string())?;
    write(&dir, "sriov_numvfs", &vfs.to_string())?;
    make_netdev(root, &dir, &format!("port{port}"))?;
    for index in 0..vfs {
        let number = index + 8;
        let vf = format!("{port:04x}:{:02x}:{:02x}.{}", 0x10 + number / 256, number / 8 % 32, number % 8);
        // Half of them for DPDK.
        let driver = if index % 2 == 0 { "iavf" } else { "vfio-pci" };
        let vf_dir = make_function(root, &vf, "0x1889", driver, port * (vfs + 1) + index + 1)?;
        symlink(format!("../{pf}"), vf_dir.join("physfn"))?;
        symlink(format!("../{vf}"), dir.join(format!("virtfn{index}")))?;
        if driver == "iavf" {
            make_netdev(root, &vf_dir, &format!("port{port}v{index}"))?;
        } else {
            fs::create_dir_all(vf_dir.join(format!("vfio-dev/vfio{number}")))?;
        }
    }
    Ok(())
}

fn make_function(
    root: &Path,
    address: &str,
    device: &str,
    driver: &str,
    group: usize,
) -> io::Result<PathBuf> {
    let bus = address.get(..4).unwrap_or_default();
    let dir = root.join(format!("devices/pci{bus}:00/{bus}:00:01.0")).join(address);
    fs::create_dir_all(&dir)?;
    let values = [("class", "0x020000"), ("vendor", "0x8086"), ("device", device), ("numa_node", "0")];
    values.iter().try_for_each(|(name, value)| write(&dir, name, value))?;
    UNREAD.iter().try_for_each(|name| fs::File::create(dir.join(name)).map(drop))?;
    symlink(format!("../../../../bus/pci/drivers/{driver}"), dir.join("driver"))?;
    symlink(format!("../../../../kernel/iommu_groups/{group}"), dir.join("iommu_group"))?;
    let target = format!("../../../devices/pci{bus}:00/{bus}:00:01.0/{address}");
    symlink(target, root.join("bus/pci/devices").join(address))?;
    let members = root.join(format!("kernel/iommu_groups/{group}/devices"));
    fs::create_dir_all(&members)?;
    symlink(format!("../../../../bus/pci/devices/{address}"), members.join(address))?;
    Ok(dir)
}

fn make_netdev(root: &Path, function: &Path, name: &str) -> io::Result<()> {
    let dir = function.join("net").join(name);
    fs::create_dir_all(&dir)?;
    let values = [
        ("address", "02:00:00:00:00:01"),
        ("mtu", "1500"),
        ("operstate", "up"),
        ("carrier", "1"),
        ("type", "1"),
        ("dev_port", "0"),
        ("ifindex", "7"),
        ("flags", "0x1003"),
        ("tx_queue_len", "1000"),
    ];
    values.iter().try_for_each(|(name, value)| write(&dir, name, value))?;
    symlink(&dir, root.join("class/net").join(name))
}

fn write(dir: &Path, name: &str, value: &str) -> io::Result<()> {
    fs::write(dir.join(name), format!("{value}\n"))
}
