//! Where sysfs is, and reading below it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::PciAddress;
use crate::tree::{Folder, Recorder, Tree, TreeError};

/// Where sysfs is: `/sys`, a directory laid out like it, or a tree file.
#[derive(Debug, Clone)]
pub struct SysRoot {
    path: PathBuf,
    source: Source,
}

#[derive(Debug, Clone)]
enum Source {
    Directory,
    Recorded(Arc<Recorder>),
    Memory(Arc<Tree>),
}

impl Default for SysRoot {
    fn default() -> Self {
        Self::new("/sys")
    }
}

impl SysRoot {
    /// A tree at `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), source: Source::Directory }
    }

    /// The tree in a file that `fairlead-config record` wrote, and what its `netlink.json` holds.
    ///
    /// # Errors
    /// The file cannot be read, or is no such file.
    pub(crate) fn tree(file: &Path) -> Result<(Self, Option<String>), TreeError> {
        let mut tree = Tree::load(file)?;
        let netlink = tree.netlink.take();
        Ok((Self { path: file.to_owned(), source: Source::Memory(Arc::new(tree)) }, netlink))
    }

    /// The same tree, with a note of everything that is read of it. A tree in memory is not noted again.
    pub(crate) fn recorded(&self, recorder: &Arc<Recorder>) -> Self {
        let source = match &self.source {
            Source::Memory(tree) => Source::Memory(Arc::clone(tree)),
            Source::Directory | Source::Recorded(_) => Source::Recorded(Arc::clone(recorder)),
        };
        Self { path: self.path.clone(), source }
    }

    /// The tree, where it is in memory.
    pub(crate) fn in_memory(&self) -> Option<&Tree> {
        if let Source::Memory(tree) = &self.source { Some(tree) } else { None }
    }

    /// The root itself: a directory, or the tree file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folder that lists every PCI function.
    #[must_use]
    pub fn pci_devices(&self) -> PathBuf {
        self.path.join(PCI_DEVICES)
    }

    /// The folder of one PCI function.
    #[must_use]
    pub fn pci_device(&self, address: &PciAddress) -> PathBuf {
        self.pci_devices().join(address.to_string())
    }

    /// The folder of a network device of the network namespace that this sysfs shows.
    #[must_use]
    pub fn netdev(&self, name: &str) -> PathBuf {
        self.path.join(NET).join(name)
    }

    /// Opens the root for reading.
    pub(crate) fn open(&self) -> io::Result<Folder> {
        match &self.source {
            Source::Directory => Folder::directory(&self.path),
            Source::Recorded(recorder) => Folder::recorded(&self.path, recorder),
            Source::Memory(tree) => Ok(Folder::memory(tree)),
        }
    }
}

/// Where PCI functions are listed.
pub(crate) const PCI_DEVICES: &str = "bus/pci/devices";

/// Where network devices are listed.
pub(crate) const NET: &str = "class/net";

/// Whether an error means that there is no such thing, or that the driver has no value for it now.
///
/// Drivers answer `EOPNOTSUPP` for what they do not have (`phys_port_name`), `EINVAL` for what has no meaning now
/// (`carrier` of an interface that is down), and `ENODEV` when the device goes while being read.
pub(crate) fn has_no_value(error: &io::Error) -> bool {
    // Linux errno values; std has no stable kind for all of them.
    const ENOENT: i32 = 2;
    const ENODEV: i32 = 19;
    const ENOTDIR: i32 = 20;
    const EINVAL: i32 = 22;
    const EOPNOTSUPP: i32 = 95;
    matches!(error.raw_os_error(), Some(ENOENT | ENODEV | ENOTDIR | EINVAL | EOPNOTSUPP))
}

/// The last part of a link's target.
pub(crate) fn last_part(target: &str) -> &str {
    target.trim_end_matches('/').rsplit('/').next().unwrap_or(target)
}
