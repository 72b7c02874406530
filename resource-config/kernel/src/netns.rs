//! Network namespaces.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::panic;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::thread;

use nix::libc;
use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use nix::sys::statfs::{NSFS_MAGIC, PROC_SUPER_MAGIC, fstatfs};
use serde::{Deserialize, Serialize};

use crate::sys;

/// The calling thread's own network namespace. Not `/proc/self`: that is the first thread's.
const OWN: &str = "/proc/thread-self/ns/net";

/// A network namespace, held open: it lives at least as long as this value does.
#[derive(Debug)]
pub struct Netns {
    file: File,
    path: PathBuf,
    /// Its cookie, where that is known without entering it.
    cookie: OnceLock<Option<u64>>,
}

/// Which namespace it is, whatever paths lead to it.
///
/// Device and inode numbers are used again after a namespace is gone, the cookie is not until the machine is booted
/// again: two values with equal cookies are the same namespace, two without are most likely.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct NetnsId {
    /// Device number of the namespace file system.
    pub dev: u64,
    /// Inode number, the one in `net:[4026531840]`.
    pub inode: u64,
    /// The kernel's cookie of the namespace; `None` before Linux 5.14.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cookie: Option<u64>,
}

/// Why a network namespace cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum NetnsError {
    /// Nothing is at the path: the namespace is gone, or never was.
    #[error("the network namespace {} does not exist", path.display())]
    Missing {
        /// As it was given.
        path: PathBuf,
    },
    /// The path could not be opened or examined.
    #[error("cannot open the network namespace {}", path.display())]
    Open {
        /// As it was given.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// Something else is at the path. A plain file there is what an unmounted namespace leaves behind.
    #[error("{} is {what}, not a network namespace", path.display())]
    NotANetworkNamespace {
        /// As it was given.
        path: PathBuf,
        /// What it is instead.
        what: &'static str,
    },
    /// A thread could not be made to enter it.
    #[error("cannot start a thread to enter the network namespace {}", path.display())]
    Thread {
        /// As it was given.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Entering was refused; it takes CAP_SYS_ADMIN.
    #[error("cannot enter the network namespace {}", path.display())]
    Enter {
        /// As it was given.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

impl NetnsError {
    /// No namespace is at the path any more, so whatever was in it is gone too: nothing there, or only the plain file
    /// that an unmounted namespace leaves behind.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        matches!(self, Self::Missing { .. } | Self::NotANetworkNamespace { .. })
    }
}

impl Netns {
    /// Opens the namespace at `path` (a bind mount, or `/proc/<pid>/ns/net`), and makes sure that it is one.
    pub fn open(path: &Path) -> Result<Self, NetnsError> {
        // Non-blocking: a FIFO at this path must not hang us.
        let opened = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path);
        let file = match opened {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(NetnsError::Missing { path: path.to_owned() });
            }
            Err(source) => return Err(NetnsError::Open { path: path.to_owned(), source }),
        };
        let netns = Self { file, path: path.to_owned(), cookie: OnceLock::new() };
        netns.check()?;
        Ok(netns)
    }

    /// The namespace that the calling thread is in.
    pub fn current() -> Result<Self, NetnsError> {
        let own = Self::open(Path::new(OWN))?;
        own.cookie.get_or_init(own_cookie);
        Ok(own)
    }

    fn check(&self) -> Result<(), NetnsError> {
        let open_error = |source| NetnsError::Open { path: self.path.clone(), source };
        let other = |what| NetnsError::NotANetworkNamespace { path: self.path.clone(), what };
        let file_system = fstatfs(&self.file).map_err(|errno| open_error(errno.into()))?.filesystem_type();
        // Namespace files were proc's own before Linux 3.19.
        if file_system != NSFS_MAGIC && file_system != PROC_SUPER_MAGIC {
            let is_directory = self.file.metadata().map_err(open_error)?.is_dir();
            return Err(other(if is_directory { "a directory" } else { "an ordinary file" }));
        }
        match sys::namespace_type(self.file.as_fd()) {
            Ok(libc::CLONE_NEWNET) => Ok(()),
            Ok(_) => Err(other("another kind of namespace")),
            Err(_) => Err(other("something else in a system file system")),
        }
    }

    /// The path by which it was opened.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Which namespace this is. Enters it once, for its cookie, unless it was opened as the caller's own.
    pub fn id(&self) -> Result<NetnsId, NetnsError> {
        let metadata =
            self.file.metadata().map_err(|source| NetnsError::Open { path: self.path.clone(), source })?;
        let cookie = match self.cookie.get() {
            Some(cookie) => *cookie,
            None => {
                let cookie = self.run(own_cookie)?;
                *self.cookie.get_or_init(|| cookie)
            }
        };
        Ok(NetnsId { dev: metadata.dev(), inode: metadata.ino(), cookie })
    }

    /// Runs `work` in this namespace on a thread of its own, and waits for it. The calling thread does not move, so no
    /// failure can leave it in the wrong namespace. A panic in `work` goes on in the caller.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, NetnsError> {
        thread::scope(|scope| {
            let entered = thread::Builder::new()
                .name("netns".to_owned())
                .spawn_scoped(scope, || {
                    setns(&self.file, CloneFlags::CLONE_NEWNET)?;
                    Ok(work())
                })
                .map_err(|source| NetnsError::Thread { path: self.path.clone(), source })?
                .join();
            match entered {
                Ok(Ok(value)) => Ok(value),
                Ok(Err(errno)) => {
                    let errno: nix::errno::Errno = errno;
                    Err(NetnsError::Enter { path: self.path.clone(), source: errno.into() })
                }
                Err(payload) => panic::resume_unwind(payload),
            }
        })
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// The cookie of the calling thread's namespace, where the kernel has such.
fn own_cookie() -> Option<u64> {
    // Any socket will do; this kind needs no address family to be loaded.
    let socket = socket(AddressFamily::Unix, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None).ok()?;
    sys::netns_cookie(socket.as_fd()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_namespace_is_one_whatever_leads_to_it() {
        let current = Netns::current().unwrap();
        let same = Netns::open(Path::new("/proc/self/ns/net")).unwrap();
        assert_eq!(current.cookie.get(), Some(&own_cookie()));
        let inode = current.as_fd().try_clone_to_owned().map(File::from).unwrap().metadata().unwrap().ino();
        assert_eq!(same.file.metadata().unwrap().ino(), inode);
    }

    #[test]
    fn what_is_no_network_namespace_is_refused_and_named() {
        let folder = tempfile::tempdir().unwrap();
        let plain = folder.path().join("left-behind");
        std::fs::write(&plain, "").unwrap();
        let cases = [
            (plain.as_path(), "an ordinary file"),
            (folder.path(), "a directory"),
            (Path::new("/proc/self/ns/mnt"), "another kind of namespace"),
            (Path::new("/proc/self/status"), "something else"),
        ];
        for (path, what) in cases {
            let error = Netns::open(path).unwrap_err();
            assert!(error.to_string().contains(what), "{error}");
            assert!(error.to_string().contains(&path.display().to_string()), "{error}");
            assert!(error.is_gone());
        }
    }

    #[test]
    fn a_missing_namespace_is_told_from_one_that_cannot_be_opened() {
        let folder = tempfile::tempdir().unwrap();
        let error = Netns::open(&folder.path().join("gone")).unwrap_err();
        assert!(matches!(error, NetnsError::Missing { .. }));
        assert!(error.is_gone());
        let plain = folder.path().join("file");
        std::fs::write(&plain, "").unwrap();
        let error = Netns::open(&plain.join("below")).unwrap_err();
        assert!(matches!(error, NetnsError::Open { .. }), "{error}");
        assert!(!error.is_gone());
    }

    #[test]
    fn an_identity_survives_json_with_and_without_cookie() {
        for cookie in [None, Some(7)] {
            let id = NetnsId { dev: 4, inode: 4_026_531_840, cookie };
            let json = serde_json::to_string(&id).unwrap();
            assert_eq!(serde_json::from_str::<NetnsId>(&json).unwrap(), id);
        }
    }
}
