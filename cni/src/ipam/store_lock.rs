//! The lock of a network's store: an advisory lock on its file `lock`, which upstream's plugin takes too.

use std::{fs::File, os::unix::fs::OpenOptionsExt, path::Path, time::Duration};

use super::IpamError;
use crate::lock::{holding_process, wait_for};

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
    wait_for(file, limit).map_err(failed)?.ok_or_else(|| IpamError::Locked {
        holder: holding_process(&path),
        path: path.clone(),
        seconds: limit.as_secs(),
    })
}

#[cfg(test)]
mod tests {
    use std::thread;

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
