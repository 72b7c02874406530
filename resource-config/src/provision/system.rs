//! The running system, as far as provisioning reads and changes it. Behind a trait, so that the order of things is tested
//! without one.

use std::io;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use fairlead_kernel::route::{VfChange, VfState};
use fairlead_kernel::{Errno, Link, LinkChange, Route};

use super::error::{KernelError, ProvisionError};
use crate::SysRoot;
use crate::inventory::{Inventory, InventoryError, Scanner};

/// How long the kernel may take over one write. Cards take a minute over many VFs; a VFIO device that is open makes
/// the kernel wait for its user without end.
const WRITE_LIMIT: Duration = Duration::from_secs(120);

/// What provisioning does to a node.
pub trait System {
    /// Where sysfs is.
    fn root(&self) -> &SysRoot;
    /// The devices as they are now.
    ///
    /// # Errors
    /// The devices cannot be listed.
    fn scan(&mut self) -> Result<Inventory, InventoryError>;
    /// Reads a network device.
    ///
    /// # Errors
    /// What the kernel says.
    fn link(&mut self, netdev: &str) -> Result<Link, KernelError>;
    /// Reads the administrative settings of a PF's VFs; `None` when there are too many for one answer.
    ///
    /// # Errors
    /// What the kernel says.
    fn vfs(&mut self, pf_netdev: &str) -> Result<Option<Vec<VfState>>, KernelError>;
    /// Changes a network device.
    ///
    /// # Errors
    /// What the kernel says.
    fn set_link(&mut self, netdev: &str, change: &LinkChange<'_>) -> Result<(), KernelError>;
    /// Changes administrative settings of a VF.
    ///
    /// # Errors
    /// What the kernel says.
    fn set_vf(&mut self, pf_netdev: &str, vf: u32, change: &VfChange) -> Result<(), KernelError>;
    /// Writes an attribute of sysfs.
    ///
    /// # Errors
    /// What the kernel says, or that it says nothing for too long.
    fn write(&mut self, path: &Path, value: &str) -> io::Result<()>;
    /// Loads a kernel module.
    ///
    /// # Errors
    /// What modprobe says.
    fn load_module(&mut self, module: &str) -> Result<(), String>;
    /// Waits until udev has nothing to do, where there is udev.
    fn settle(&mut self);
    /// Makes udev read its rules again, where there is udev.
    fn reload_rules(&mut self);
    /// Waits.
    fn pause(&mut self, time: Duration);
}

/// The system that this process runs on.
pub struct RunningSystem {
    root: SysRoot,
    scanner: Scanner,
    route: Route,
}

impl RunningSystem {
    /// The running system, in the caller's network namespace.
    ///
    /// # Errors
    /// rtnetlink is not to be had.
    pub fn open() -> Result<Self, ProvisionError> {
        let route = Route::open().map_err(|error| ProvisionError::Netlink(error.into()))?;
        Ok(Self { root: SysRoot::default(), scanner: Scanner::system(), route })
    }
}

impl System for RunningSystem {
    fn root(&self) -> &SysRoot {
        &self.root
    }

    fn scan(&mut self) -> Result<Inventory, InventoryError> {
        self.scanner.scan()
    }

    fn link(&mut self, netdev: &str) -> Result<Link, KernelError> {
        self.route
            .link_by_name(netdev)?
            .ok_or_else(|| format!("network device {netdev} does not exist").into())
    }

    fn vfs(&mut self, pf_netdev: &str) -> Result<Option<Vec<VfState>>, KernelError> {
        let link = self.link(pf_netdev)?;
        match self.route.vfs(&link) {
            Ok(vfs) => Ok(Some(vfs)),
            Err(error) if error.errno() == Some(Errno::EMSGSIZE) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn set_link(&mut self, netdev: &str, change: &LinkChange<'_>) -> Result<(), KernelError> {
        let link = self.link(netdev)?;
        Ok(self.route.set_link(&link, change)?)
    }

    fn set_vf(&mut self, pf_netdev: &str, vf: u32, change: &VfChange) -> Result<(), KernelError> {
        let link = self.link(pf_netdev)?;
        Ok(self.route.set_vf(&link, vf, change)?)
    }

    fn write(&mut self, path: &Path, value: &str) -> io::Result<()> {
        // In a thread, since nothing else gets a process out of a write that the kernel does not answer.
        let (sender, receiver) = mpsc::channel();
        let (target, text) = (path.to_owned(), format!("{value}\n"));
        thread::spawn(move || {
            sender.send(
                std::fs::File::options()
                    .write(true)
                    .open(target)
                    .and_then(|mut file| io::Write::write_all(&mut file, text.as_bytes())),
            )
        });
        receiver.recv_timeout(WRITE_LIMIT).unwrap_or_else(|_| {
            let text = format!(
                "the kernel has not answered for {} s; does a process have the device open?",
                WRITE_LIMIT.as_secs()
            );
            Err(io::Error::new(io::ErrorKind::TimedOut, text))
        })
    }

    fn load_module(&mut self, module: &str) -> Result<(), String> {
        let output = Command::new("modprobe").arg(module).output();
        let output = output.map_err(|error| format!("cannot run modprobe: {error}"))?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
        // A failure's text with these words would be swallowed by a container runtime.
        Err(if said.is_empty() {
            format!("modprobe ended with {}", output.status)
        } else {
            said.replace("not found", "missing")
        })
    }

    fn settle(&mut self) {
        udevadm(&["settle", "--timeout=30"]);
    }

    fn reload_rules(&mut self) {
        udevadm(&["control", "--reload"]);
    }

    fn pause(&mut self, time: Duration) {
        thread::sleep(time);
    }
}

/// Runs udev's tool where there is one; in a container there is none, and names settle by themselves.
fn udevadm(arguments: &[&str]) {
    let _ = Command::new("udevadm").args(arguments).output();
}
