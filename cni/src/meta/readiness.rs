//! Multus' `readinessindicatorfile`: without this file of the primary network, no pod can be attached yet.

use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};

use crate::protocol::error::{CniError, code};

/// How long an ADD waits for it, as in Multus.
pub(super) const LIMIT: Duration = Duration::from_secs(45);
const PAUSE: Duration = Duration::from_millis(100);

/// Waits for the file, where one is named.
///
/// # Errors
/// Code 11, naming it, when it is not there by then.
pub(super) fn wait(file: Option<&Path>, limit: Duration) -> Result<(), CniError> {
    let Some(file) = file else { return Ok(()) };
    let start = Instant::now();
    while !file.exists() {
        if start.elapsed() >= limit {
            let text = format!("the primary network is not ready: there is no {}", file.display());
            return Err(CniError::new(code::TRY_AGAIN, text)
                .details("its own pods make this file; the name is in key \"readinessIndicatorFile\""));
        }
        thread::sleep(PAUSE);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_comes_in_time_is_waited_for_and_a_missing_one_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ready");
        wait(None, Duration::ZERO).unwrap();
        let error = wait(Some(&file), Duration::ZERO).unwrap_err();
        assert_eq!(error.code, code::TRY_AGAIN);
        assert!(error.msg.contains(file.to_str().unwrap()), "{error}");
        thread::scope(|scope| {
            let waiting = scope.spawn(|| wait(Some(&file), LIMIT));
            std::fs::write(&file, "").unwrap();
            waiting.join().unwrap().unwrap();
        });
    }
}
