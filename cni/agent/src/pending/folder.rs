//! Reports that wait, in files: an agent that is killed or replaced leaves them to the next one.
//!
//! `<folder>/<container ID>.json`, replaced by write-and-rename. The folder is on `/run`: after a boot there is no sandbox that any of
//! them could be of.

use std::{
    cmp::Reverse,
    fs, io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use fairlead_cni::agent_protocol::Late;

/// No report is larger; one that is would not fit an annotation either.
const LARGEST: u64 = 256 << 10;
const ENDING: &str = ".json";

/// See above. Without a folder nothing is kept.
#[derive(Debug, Default)]
pub(super) struct Folder(Option<PathBuf>);

impl Folder {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self(Some(folder))
    }

    /// Keeps a report; without its file it waits in memory only.
    pub(super) fn keep(&self, late: &Late) {
        let Some((folder, file)) = self.file(&late.report.container_id) else { return };
        if let Err(error) = write(folder, &file, late) {
            let pod = &late.report.pod;
            tracing::warn!(%pod, %error, file = %file.display(), "a restart of the agent would lose network-status");
        }
    }

    /// A sandbox's report does not wait any more.
    pub(super) fn forget(&self, container_id: &str) {
        let Some((_, file)) = self.file(container_id) else { return };
        remove(&file);
        // Of an agent that was killed here.
        remove(&temporary(&file));
    }

    /// All that is kept, the newest first, at most so many. What cannot be read is removed: nobody else would.
    pub(super) fn all(&self, room: usize) -> Vec<Late> {
        let Some(folder) = &self.0 else { return Vec::new() };
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let mut files: Vec<PathBuf> =
            entries.map(|entry| entry.path()).filter(|file| is_report(file)).collect();
        files.sort_by_key(|file| Reverse(fs::metadata(file).and_then(|found| found.modified()).ok()));
        let read = |file: PathBuf| match read(&file) {
            Ok(late) => Some(late),
            // Published meanwhile, by the agent that this one replaces.
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::warn!(%error, file = %file.display(), "no report; removed");
                remove(&file);
                None
            }
        };
        files.into_iter().filter_map(read).take(room).collect()
    }

    fn file(&self, container_id: &str) -> Option<(&Path, PathBuf)> {
        // As CNI has container IDs; nothing else leads to a file.
        let is_plain = |c: u8| c.is_ascii_alphanumeric() || b"_.-".contains(&c);
        let is_id = container_id.bytes().all(is_plain)
            && container_id.bytes().next().is_some_and(|c| c.is_ascii_alphanumeric());
        let folder = self.0.as_deref().filter(|_| is_id)?;
        Some((folder, folder.join(format!("{container_id}{ENDING}"))))
    }
}

fn is_report(file: &Path) -> bool {
    file.file_name().is_some_and(|name| {
        let name = name.to_string_lossy();
        name.ends_with(ENDING) && !name.starts_with('.')
    })
}

fn temporary(file: &Path) -> PathBuf {
    file.with_file_name(format!(".{}", file.file_name().unwrap_or_default().to_string_lossy()))
}

fn write(folder: &Path, file: &Path, late: &Late) -> io::Result<()> {
    let text = serde_json::to_vec(late)?;
    if text.len() as u64 > LARGEST {
        return Err(io::Error::other(format!("{} bytes, at most {LARGEST} are kept", text.len())));
    }
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let temporary = temporary(file);
    fs::write(&temporary, text)?;
    fs::rename(&temporary, file)
}

fn read(file: &Path) -> io::Result<Late> {
    let size = fs::symlink_metadata(file)?.len();
    if size > LARGEST {
        return Err(io::Error::other(format!("{size} bytes, at most {LARGEST} are read")));
    }
    Ok(serde_json::from_slice(&fs::read(file)?)?)
}

fn remove(file: &Path) {
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(%error, file = %file.display(), "cannot be removed");
        }
        _ => {}
    }
}
