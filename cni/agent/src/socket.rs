//! The agent's socket in the file system.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process,
    time::{SystemTime, UNIX_EPOCH},
};

use thiserror::Error;
use tokio::net::UnixListener;

/// The socket cannot be placed.
#[derive(Debug, Error)]
pub enum SocketError {
    /// The path names no file in a folder.
    #[error("socket path {0} must name a file in a folder")]
    Path(PathBuf),
    /// Its folder cannot be made.
    #[error("folder {0} for the agent's socket cannot be made")]
    Folder(PathBuf, #[source] io::Error),
    /// Others could replace the socket.
    #[error("folder {0} can be written by others: give the agent's socket a folder of its own")]
    OpenFolder(PathBuf),
    /// The socket cannot be made.
    #[error("socket {0} cannot be made")]
    Bind(PathBuf, #[source] io::Error),
}

/// The agent's socket: where it is, and which file there is ours.
#[derive(Debug)]
pub struct Socket {
    path: PathBuf,
    file: (u64, u64),
}

impl Socket {
    /// Makes the socket and its folder (0700). It comes into being under another name and is renamed, so that callers see
    /// either the socket of an earlier agent or this one, never a missing or dead one.
    ///
    /// # Errors
    /// When it cannot be made, or others may write to its folder.
    pub fn bind(path: &Path) -> Result<(Self, UnixListener), SocketError> {
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(SocketError::Path(path.to_owned()));
        };
        prepare(folder)?;
        let unique = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let temporary = folder.join(format!(".{}.{}-{unique:x}", name.to_string_lossy(), process::id()));
        let placed = place(&temporary, path).map_err(|source| SocketError::Bind(path.to_owned(), source));
        if placed.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        let (listener, file) = placed?;
        Ok((Self { path: path.to_owned(), file }, listener))
    }

    /// Removes the socket unless a newer agent has put its own there.
    ///
    /// # Errors
    /// When it is still ours and cannot be removed.
    pub fn remove(self) -> io::Result<()> {
        match identity(&self.path) {
            Ok(file) if file == self.file => fs::remove_file(&self.path),
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }
}

fn prepare(folder: &Path) -> Result<(), SocketError> {
    let failed = |source| SocketError::Folder(folder.to_owned(), source);
    if let Some(parent) = folder.parent() {
        fs::create_dir_all(parent).map_err(failed)?;
    }
    match fs::DirBuilder::new().mode(0o700).create(folder) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let mode = fs::metadata(folder).map_err(failed)?.mode();
            if mode & 0o022 == 0 { Ok(()) } else { Err(SocketError::OpenFolder(folder.to_owned())) }
        }
        Err(error) => Err(failed(error)),
    }
}

fn place(temporary: &Path, path: &Path) -> io::Result<(UnixListener, (u64, u64))> {
    let listener = UnixListener::bind(temporary)?;
    fs::set_permissions(temporary, fs::Permissions::from_mode(0o600))?;
    let file = identity(temporary)?;
    fs::rename(temporary, path)?;
    Ok((listener, file))
}

/// Device and inode of a file.
fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    #[tokio::test]
    async fn a_new_socket_replaces_an_old_one_and_each_removes_only_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run/agent/agent.sock");
        let (old, _old_listener) = Socket::bind(&path).unwrap();
        let (new, _new_listener) = Socket::bind(&path).unwrap();
        assert_eq!((mode(path.parent().unwrap()), mode(&path)), (0o700, 0o600));
        old.remove().unwrap();
        assert!(UnixStream::connect(&path).is_ok());
        new.remove().unwrap();
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn a_folder_that_others_can_write_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let result = Socket::bind(&folder.path().join("agent.sock"));
        assert!(matches!(result, Err(SocketError::OpenFolder(_))));
    }

    #[tokio::test]
    async fn a_removed_socket_is_no_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.sock");
        let (socket, _listener) = Socket::bind(&path).unwrap();
        fs::remove_file(&path).unwrap();
        socket.remove().unwrap();
    }

    #[tokio::test]
    async fn a_path_that_is_too_long_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x".repeat(200));
        assert!(matches!(Socket::bind(&path), Err(SocketError::Bind(..))));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
