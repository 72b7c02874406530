//! The file system, by handles of folders: a path is walked once per folder, not once per attribute.

use std::fs::File;
use std::io::{self, Read as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, RawDir, openat, readlinkat};
use rustix::io::{Errno, read};

/// Enough for nearly every attribute, so that most take one read; and no more, since it is cleared each time.
const USUAL_ATTRIBUTE: usize = 128;

/// Room for the entries that one system call lists.
const LISTING: usize = 8 * 1024;

pub(super) fn open_root(path: &Path) -> io::Result<OwnedFd> {
    Ok(openat(CWD, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

pub(super) fn open(parent: &OwnedFd, name: &str) -> io::Result<OwnedFd> {
    Ok(openat(parent, name, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

/// Lists a folder once: a second time would go on where the first ended.
pub(super) fn names(folder: &OwnedFd, wanted: impl Fn(&str) -> bool) -> io::Result<Vec<String>> {
    let mut buffer = [MaybeUninit::uninit(); LISTING];
    let mut entries = RawDir::new(folder.as_fd(), &mut buffer);
    let mut names = Vec::new();
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = String::from_utf8_lossy(entry.file_name().to_bytes());
        if !matches!(&*name, "." | "..") && wanted(&name) {
            names.push(name.into_owned());
        }
    }
    Ok(names)
}

pub(super) fn text(folder: &OwnedFd, name: &str, most: usize) -> io::Result<String> {
    // Without waiting: a tree made by hand may hold a pipe.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = openat(folder, name, flags, Mode::empty())?;
    let mut buffer = [0; USUAL_ATTRIBUTE];
    let length = read(&file, &mut buffer)?;
    // A read that does not fill the buffer was the last: neither sysfs nor a file on disk gives less than it has.
    let Some(rest) = buffer.get(..length).filter(|bytes| bytes.len() == USUAL_ATTRIBUTE) else {
        return Ok(trimmed(buffer.get(..length).unwrap_or_default()));
    };
    let mut bytes = rest.to_vec();
    let limit = u64::try_from(most).unwrap_or(u64::MAX);
    File::from(file).take(limit).read_to_end(&mut bytes)?;
    if bytes.len() > most { Err(Errno::FBIG.into()) } else { Ok(trimmed(&bytes)) }
}

fn trimmed(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().to_owned()
}

pub(super) fn link(folder: &OwnedFd, name: &str) -> io::Result<String> {
    // Room for nearly every target.
    let target = readlinkat(folder, name, Vec::with_capacity(256))?;
    Ok(target.to_string_lossy().into_owned())
}
