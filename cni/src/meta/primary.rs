//! The primary network: whose configuration file it is, read at each ADD.

use std::path::Path;

use super::{config::MetaConfig, files};
use crate::{config::NetworkConfig, protocol::error::CniError};

/// Reads the configuration of the node's primary network.
///
/// # Errors
/// Code 11 when there is none (yet), or none that can be read: installers write these files at any time.
pub fn load(meta: &MetaConfig) -> Result<NetworkConfig, CniError> {
    if let (None, Some(inline)) = (&meta.policy.cluster_network, meta.delegates.first()) {
        return files::refuse_wrapper(inline, Path::new("the first of key \"delegates\""))
            .map(|()| inline.clone());
    }
    match (&meta.policy.cluster_network, &meta.primary) {
        (Some(reference), _) => files::find(reference, &meta.conf_dir)
            .map_err(|error| error.context("primary network (key \"clusterNetwork\")")),
        (None, Some(name)) => {
            let file = meta.primary_dir.join(name);
            let network = files::read(&file)?;
            files::refuse_wrapper(&network, &file)
                .map_err(|error| error.context("primary network (key \"primary\")"))?;
            Ok(network)
        }
        (None, None) => files::first(&meta.primary_dir),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, thread, time::Duration};

    use super::*;
    use crate::protocol::error::code;

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
        let mut cluster = meta(dir.path(), Some("20-other.conflist"));
        cluster.policy.cluster_network = Some(dir.path().join("10-bridge.conflist").display().to_string());
        assert_eq!(load(&cluster).unwrap().name, "net-bridge");
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
                thread::sleep(Duration::from_millis(20));
                let temporary = file.with_extension("tmp");
                fs::write(&temporary, list("bridge")).unwrap();
                fs::rename(temporary, file).unwrap();
            }
        });
        assert_eq!(load(&meta(dir.path(), None)).unwrap().name, "net-bridge");
        writer.join().unwrap();
    }
}
