//! Locks between calls: one for each sandbox and one for each device.
//!
//! A lock is an advisory lock on an open file, which executed plugins inherit: when a call is killed while its plugin still
//! works, the next call waits for the plugin. The file is removed with the lock, so that nothing is left in `/run`.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Read, Seek, Write},
    os::{fd::AsFd, unix::fs::MetadataExt},
    path::{Path, PathBuf},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};

use crate::protocol::error::{CniError, code};

/// Pause between two tries for a lock that another call holds.
const PAUSE: Duration = Duration::from_millis(10);

/// A held lock; dropping it frees it.
#[derive(Debug)]
pub struct Lock {
    file: File,
    path: PathBuf,
}

impl Lock {
    /// Takes the lock `name` in `dir`, waiting for at most `limit`. `holder` is what a call that waits in vain says of us.
    ///
    /// # Errors
    /// Code 11 when another call holds it for longer, naming that call; code 5 when the file cannot be made.
    pub fn take(dir: &Path, name: &str, holder: &str, limit: Duration) -> Result<Self, CniError> {
        let path = dir.join(format!("{name}.lock"));
        let failed = |error: io::Error| CniError::new(code::IO, format!("lock {}: {error}", path.display()));
        fs::create_dir_all(dir).map_err(failed)?;
        let start = Instant::now();
        loop {
            let mut file = File::options()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(&path)
                .map_err(failed)?;
            match file.try_lock() {
                Ok(()) if is_at(&file, &path) => {
                    let mut lock = Self { file, path: path.clone() };
                    lock.name(holder).map_err(failed)?;
                    return Ok(lock);
                }
                // Its last holder removed the file between our opening and locking it.
                Ok(()) => continue,
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => return Err(failed(error)),
            }
            if start.elapsed() >= limit {
                let text = format!(
                    "{} is held by {} for longer than {} s; the runtime will try again",
                    path.display(),
                    read_holder(&mut file),
                    limit.as_secs()
                );
                return Err(CniError::new(code::TRY_AGAIN, text));
            }
            thread::sleep(PAUSE);
        }
    }

    fn name(&mut self, holder: &str) -> io::Result<()> {
        inherit(&self.file)?;
        self.file.set_len(0)?;
        self.file.write_all(holder.as_bytes())
    }
}

/// Who holds a lock, if anybody.
pub fn holder(dir: &Path, name: &str) -> Option<String> {
    let mut file = File::open(dir.join(format!("{name}.lock"))).ok()?;
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => Some(read_holder(&mut file)),
        _ => None,
    }
}

/// Removes the files that killed calls left. Locks that are held stay.
pub fn sweep(dir: &Path) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        if let Ok(file) = File::options().read(true).write(true).open(&path)
            && file.try_lock().is_ok()
            && is_at(&file, &path)
        {
            drop(Lock { file, path });
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Removed while still held, so nobody can be between opening and locking it without noticing (see `take`).
        let _ = fs::remove_file(&self.path);
        let _ = self.file.unlock();
    }
}

/// Whether the open file is still the one at the path.
fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::metadata(path)) {
        (Ok(open), Ok(there)) => (open.dev(), open.ino()) == (there.dev(), there.ino()),
        _ => false,
    }
}

/// Takes a lock that upstream's plugins take, too, on a file that stays. It is free again when the file is closed; none when
/// the time is up. The wait is in the kernel's queue, where nobody is passed over; a thread does it, since such a wait has no
/// time limit. A thread that comes too late gives the lock back by ending.
///
/// # Errors
/// When the system refuses the lock, or the thread.
pub fn wait_for(file: File, limit: Duration) -> io::Result<Option<File>> {
    match file.try_lock() {
        Ok(()) => return Ok(Some(file)),
        Err(TryLockError::WouldBlock) => {}
        Err(TryLockError::Error(error)) => return Err(error),
    }
    let (sender, receiver) = mpsc::channel();
    thread::Builder::new().name("lock".into()).spawn(move || {
        let _ = sender.send(file.lock().map(|()| file));
    })?;
    match receiver.recv_timeout(limit) {
        Ok(locked) => locked.map(Some),
        Err(_) => Ok(None),
    }
}

/// Who holds such a lock, in words.
pub fn holding_process(path: &Path) -> String {
    listed_holder(path).unwrap_or_else(|| "another process".into())
}

/// From the kernel's list: `1: FLOCK ADVISORY WRITE 1234 fd:01:4711 0 EOF` (proc(5)). Lines with `->` are those who wait. A
/// process of another PID namespace has number 0 there or none.
fn listed_holder(path: &Path) -> Option<String> {
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

/// Lets executed plugins hold the lock too.
fn inherit(file: &File) -> io::Result<()> {
    fcntl(file.as_fd(), FcntlArg::F_SETFD(FdFlag::empty())).map(drop).map_err(io::Error::from)
}

fn read_holder(file: &mut File) -> String {
    let mut text = String::new();
    let read = file.rewind().and_then(|()| file.read_to_string(&mut text));
    if read.is_err() || text.is_empty() { "another call".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_held_lock_is_refused_with_its_holders_name_and_free_afterwards() {
        let dir = tempfile::tempdir().unwrap();
        let held = Lock::take(dir.path(), "a", "ADD of pod x", Duration::ZERO).unwrap();
        let error = Lock::take(dir.path(), "a", "DEL", Duration::from_millis(30)).unwrap_err();
        assert_eq!(error.code, code::TRY_AGAIN);
        assert!(error.msg.contains("ADD of pod x"), "{error}");
        Lock::take(dir.path(), "b", "other", Duration::ZERO).unwrap();
        drop(held);
        drop(Lock::take(dir.path(), "a", "DEL", Duration::ZERO).unwrap());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_killed_calls_left_is_swept_and_what_is_held_stays() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("left.lock"), "ADD of a pod").unwrap();
        let held = Lock::take(dir.path(), "held", "DEL", Duration::ZERO).unwrap();
        sweep(dir.path());
        let names: Vec<_> =
            fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["held.lock"]);
        drop(held);
    }

    #[test]
    fn many_takers_are_never_inside_together() {
        let dir = tempfile::tempdir().unwrap();
        let inside = std::sync::atomic::AtomicU32::new(0);
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..20 {
                        let lock = Lock::take(dir.path(), "a", "t", Duration::from_secs(60)).unwrap();
                        assert_eq!(inside.fetch_add(1, std::sync::atomic::Ordering::SeqCst), 0);
                        inside.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                        drop(lock);
                    }
                });
            }
        });
    }
}
