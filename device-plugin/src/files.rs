//! Files that others read while they are replaced.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::Path;

/// Tells a file from another that has taken its place: a re-created one may get the same inode number, but not the same
/// time too. Opening, connecting to and renaming a socket change neither.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileId {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl FileId {
    /// The file at `path` now, if there is one.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        let metadata = fs::symlink_metadata(path).ok()?;
        let modified = (metadata.mtime(), metadata.mtime_nsec());
        Some(Self { device: metadata.dev(), inode: metadata.ino(), size: metadata.size(), modified })
    }
}

/// Replaces a file in one step, so that readers see the old or the new one, whole. A file that says the same already stays.
/// The folder is made if need be.
pub(crate) fn replace(path: &Path, text: &[u8], mode: u32) -> io::Result<()> {
    if says(path, text) {
        return Ok(());
    }
    let dir = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    DirBuilder::new().recursive(true).mode(0o755).create(dir)?;
    // Readers that go by the end of the name pass this one over.
    let mut file = tempfile::Builder::new().prefix(".fairlead-").suffix(".part").tempfile_in(dir)?;
    file.write_all(text)?;
    file.as_file().set_permissions(Permissions::from_mode(mode))?;
    file.persist(path)?;
    Ok(())
}

/// Whether a file has this text, by one read: there are many, and nearly always they have.
fn says(path: &Path, text: &[u8]) -> bool {
    let mut found = vec![0; text.len() + 1];
    let length = File::open(path).and_then(|mut file| file.read(&mut found));
    // Less than there is, which no file system of ours gives, would only have it written again.
    length.is_ok_and(|length| found.get(..length) == Some(text))
}
