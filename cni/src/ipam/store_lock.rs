//! The lock of a network's store: an advisory lock on its file `lock`, which upstream's plugin takes too.

use std::{
    fs::{self, File, TryLockError},
    io,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::mpsc,
    thread,
    time::Duration,
};

use super::IpamError;

/// Name of the file in the store's folder.
pub(super) const LOCK: &str = "lock";

/// Takes the lock, waiting for at most `limit`. It is free again when the file is closed; the file stays, as upstream's.
pub(super) fn take(dir: &Path, limit: Duration) -> Result<File, IpamError> {
    let path = dir.join(LOCK);
    let failed = |source| IpamError::Store { what: "lock", path: path.clone(), source };
    let file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(failed)?;
    match file.try_lock() {
        Ok(()) => return Ok(file),
        Err(TryLockError::WouldBlock) => {}
        Err(TryLockError::Error(error)) => return Err(failed(error)),
    }
    wait(file, limit).map_err(failed)?.ok_or_else(|| IpamError::Locked {
        holder: holder(&path).unwrap_or_else(|| "another process".into()),
        path: path.clone(),
        seconds: limit.as_secs(),
    })
}

/// Waits in the kernel's queue, where nobody is passed over; a thread does it, since such a wait has no time limit. A thread
/// that comes too late gives the lock back by ending.
fn wait(file: File, limit: Duration) -> io::Result<Option<File>> {
    let (sender, receiver) = mpsc::channel();
    thread::Builder::new().name("store lock".into()).spawn(move || {
        let _ = sender.send(file.lock().map(|()| file));
    })?;
    match receiver.recv_timeout(limit) {
        Ok(locked) => locked.map(Some),
        Err(_) => Ok(None),
    }
}

/// Who holds the lock, from the kernel's list: `1: FLOCK ADVISORY WRITE 1234 fd:01:4711 0 EOF` (proc(5)). Lines with `->` are
/// those who wait. A process of another PID namespace has number 0 there or none.
fn holder(path: &Path) -> Option<String> {
    let inode = fs::metadata(path).ok()?.ino().to_string();
    let locks = fs::read_to_string("/proc/locks").ok()?;
    let pid = locks.lines().find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [_, "FLOCK", _, _, pid, device_and_inode, ..] = words.as_slice() else { return None };
        (device_and_inode.rsplit(':').next() == Some(&inode)).then_some(*pid)
    })?;
    let command = fs::read(PathBuf::from("/proc").join(pid).join("cmdline")).ok()?;
    let words: Vec<_> = command.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
    Some(format!("process {pid} ({})", words.join(" ").trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h16_a_lock_that_is_held_for_too_long_is_an_error_that_names_its_holder() {
        let dir = tempfile::tempdir().unwrap();
        let held = take(dir.path(), Duration::ZERO).unwrap();
        let error = take(dir.path(), Duration::from_millis(50)).unwrap_err();
        let own = format!("process {}", std::process::id());
        assert!(matches!(&error, IpamError::Locked { holder, .. } if holder.starts_with(&own)), "{error:?}");
        drop(held);
        take(dir.path(), Duration::from_secs(20)).unwrap();
    }

    #[test]
    fn whoever_waits_gets_the_lock_when_it_is_free() {
        let dir = tempfile::tempdir().unwrap();
        let held = take(dir.path(), Duration::ZERO).unwrap();
        thread::scope(|scope| {
            let waiting = scope.spawn(|| take(dir.path(), Duration::from_secs(60)).is_ok());
            drop(held);
            assert!(waiting.join().unwrap());
        });
    }
}
