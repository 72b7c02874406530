//! The node's VFs: made, and bound to the drivers that the scenario needs.

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use super::shell::run;

/// The port that VFs are made on, and the one that macvlan sits on.
const PORTS: [&str; 2] = ["enp1s0", "enp2s0"];
/// How many VFs the scenario has; the last half of them goes to vfio-pci.
const VFS: usize = 4;
/// How long the kernel may take to probe a VF.
const LIMIT: Duration = Duration::from_secs(20);

/// Makes sure that port 1 has its VFs, two of them on igbvf and two on vfio-pci.
pub(super) fn prepare() -> Result<()> {
    for port in PORTS {
        run("ip", &["link", "set", port, "up"])?;
    }
    make_vfs(Port::First, VFS)?;
    let addresses = vfs(Port::First);
    if addresses.len() != VFS {
        bail!("there are {} VFs instead of {VFS}", addresses.len());
    }
    let (kernel, vfio) = addresses.split_at(VFS / 2);
    for address in kernel {
        wait_for(&device(address).join("net"))?;
    }
    run("modprobe", &["vfio-pci"])?;
    for address in vfio {
        bind(address, "vfio-pci")?;
    }
    Ok(())
}

/// One of the two ports.
#[derive(Debug, Clone, Copy)]
pub(super) enum Port {
    First,
    Second,
}

impl Port {
    /// Its folder in sysfs.
    fn folder(self) -> PathBuf {
        let name = match self {
            Self::First => PORTS[0],
            Self::Second => PORTS[1],
        };
        PathBuf::from("/sys/class/net").join(name).join("device")
    }
}

/// Makes sure that a port has so many VFs; those that it makes are on igbvf, and have their network devices.
pub(super) fn make_vfs(port: Port, count: usize) -> Result<()> {
    let numvfs = port.folder().join("sriov_numvfs");
    let have = fs::read_to_string(&numvfs).with_context(|| format!("read {}", numvfs.display()))?;
    if have.trim() == count.to_string() {
        return Ok(());
    }
    write(&numvfs, "0")?;
    if count > 0 {
        write(&numvfs, &count.to_string())?;
    }
    vfs(port).iter().try_for_each(|address| wait_for(&device(address).join("net")))
}

/// The addresses of a port's VFs.
pub(super) fn vfs(port: Port) -> Vec<String> {
    let folder = port.folder();
    let links = (0..).map_while(|index| fs::read_link(folder.join(format!("virtfn{index}"))).ok());
    links.map(|link| link.file_name().unwrap_or_default().to_string_lossy().into_owned()).collect()
}

fn device(address: &str) -> PathBuf {
    Path::new("/sys/bus/pci/devices").join(address)
}

fn bind(address: &str, driver: &str) -> Result<()> {
    let device = device(address);
    let bound = device.join("driver");
    let is = |name: &str| fs::read_link(&bound).is_ok_and(|link| link.ends_with(name));
    if is(driver) {
        return Ok(());
    }
    write(&device.join("driver_override"), driver)?;
    if bound.exists() {
        write(&bound.join("unbind"), address)?;
    }
    write(Path::new("/sys/bus/pci/drivers_probe"), address)?;
    if !is(driver) {
        bail!("{address} is not on {driver} after probing");
    }
    Ok(())
}

pub(super) fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("write {text:?} to {}", path.display()))
}

fn wait_for(path: &Path) -> Result<()> {
    let start = Instant::now();
    while !path.exists() {
        if start.elapsed() > LIMIT {
            bail!("{} did not appear within {} s", path.display(), LIMIT.as_secs());
        }
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}
