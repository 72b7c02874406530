//! The primary network: whose configuration file it is, read at each ADD.

use std::{
    fs, io,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use crate::{
    config::NetworkConfig,
    meta::config::{MetaConfig, TYPE},
    protocol::error::{CniError, code},
};

/// Endings of configuration files, as runtimes look for them.
const ENDINGS: [&str; 3] = ["conf", "conflist", "json"];
/// Plugins that wrap another network: never taken for the primary one.
const WRAPPERS: [&str; 3] = [TYPE, "multus", "multus-shim"];
/// A file that is being written is read again this often.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_millis(20);

/// Reads the primary network's configuration.
///
/// # Errors
/// Code 11 when there is none (yet), or none that can be read: installers write these files at any time.
pub fn load(meta: &MetaConfig) -> Result<NetworkConfig, CniError> {
    match &meta.primary {
        Some(name) => {
            let file = meta.primary_dir.join(name);
            let network = read(&file)?;
            if wraps(&network) {
                let text = format!(
                    "key \"primary\" names {}, which is itself a wrapper of networks",
                    file.display()
                );
                return Err(CniError::new(code::INVALID_CONFIG, text));
            }
            Ok(network)
        }
        None => first(&meta.primary_dir),
    }
}

/// The first file, by name, that is neither ours nor Multus'.
fn first(dir: &Path) -> Result<NetworkConfig, CniError> {
    let mut broken = None;
    for file in candidates(dir)? {
        match read(&file) {
            Ok(network) if wraps(&network) => {}
            Ok(network) => return Ok(network),
            // The runtime would not get past it either; go on only if it may be somebody's stray file.
            Err(error) => broken = broken.or(Some(error)),
        }
    }
    Err(broken.unwrap_or_else(|| {
        let text = format!(
            "{} holds no configuration of a primary network (*.conflist, *.conf, *.json)",
            dir.display()
        );
        CniError::new(code::TRY_AGAIN, text)
            .details("install the cluster's network, or name its file in key \"primary\"")
    }))
}

fn candidates(dir: &Path) -> Result<Vec<PathBuf>, CniError> {
    let failed =
        |error: io::Error| CniError::new(code::TRY_AGAIN, format!("read {}: {error}", dir.display()));
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let ending = path.extension().unwrap_or_default().to_string_lossy().into_owned();
        if ENDINGS.contains(&ending.as_str()) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn wraps(network: &NetworkConfig) -> bool {
    network.plugins.iter().any(|plugin| WRAPPERS.contains(&plugin.kind.as_str()))
}

/// Reads a file, again if it is torn.
fn read(file: &Path) -> Result<NetworkConfig, CniError> {
    let mut tries = 0;
    loop {
        let error = match fs::read_to_string(file) {
            Ok(text) => match NetworkConfig::parse(&text) {
                Ok(network) => return Ok(network),
                Err(error) => CniError { code: code::TRY_AGAIN, ..error }.context(file.display()),
            },
            Err(error) => CniError::new(code::TRY_AGAIN, format!("read {}: {error}", file.display())),
        };
        tries += 1;
        if tries == TRIES {
            return Err(error);
        }
        thread::sleep(PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(dir: &Path, primary: Option<&str>) -> MetaConfig {
        let mut meta = MetaConfig::parse(r#"{"cniVersion":"1.0.0","name":"f","type":"fairlead"}"#).unwrap();
        meta.primary_dir = dir.to_owned();
        meta.primary = primary.map(str::to_owned);
        meta
    }

    fn list(kind: &str) -> String {
        format!(r#"{{"cniVersion":"1.0.0","name":"net-{kind}","plugins":[{{"type":"{kind}"}}]}}"#)
    }

    #[test]
    fn the_first_file_that_wraps_nothing_is_the_primary() {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("00-fairlead.conflist", list("fairlead")),
            ("00-multus.conf", r#"{"cniVersion":"0.3.1","name":"m","type":"multus-shim"}"#.into()),
            ("05-notes.txt", "no json".into()),
            ("10-bridge.conflist", list("bridge")),
            ("20-other.conflist", list("other")),
        ] {
            fs::write(dir.path().join(name), text).unwrap();
        }
        assert_eq!(load(&meta(dir.path(), None)).unwrap().name, "net-bridge");
        assert_eq!(load(&meta(dir.path(), Some("20-other.conflist"))).unwrap().name, "net-other");
        let error = load(&meta(dir.path(), Some("00-fairlead.conflist"))).unwrap_err();
        assert!(error.msg.contains("wrapper"), "{error}");
    }

    #[test]
    fn none_or_only_broken_ones_means_try_again_and_names_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let error = load(&meta(dir.path(), None)).unwrap_err();
        assert_eq!(error.code, code::TRY_AGAIN);
        fs::write(dir.path().join("10-a.conflist"), "{").unwrap();
        let error = load(&meta(dir.path(), None)).unwrap_err();
        assert_eq!(error.code, code::TRY_AGAIN);
        assert!(error.msg.contains("10-a.conflist"), "{error}");
    }

    #[test]
    fn a_file_that_is_torn_for_a_moment_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("10-a.conflist");
        fs::write(&file, "{").unwrap();
        let writer = thread::spawn({
            let file = file.clone();
            move || {
                thread::sleep(PAUSE);
                let temporary = file.with_extension("tmp");
                fs::write(&temporary, list("bridge")).unwrap();
                fs::rename(temporary, file).unwrap();
            }
        });
        assert_eq!(load(&meta(dir.path(), None)).unwrap().name, "net-bridge");
        writer.join().unwrap();
    }
}
