//! The primary network: whose configuration file it is, read at each ADD.

use std::path::Path;

use super::{config::MetaConfig, files};
use crate::{
    config::NetworkConfig,
    protocol::error::{CniError, code},
};

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

/// The chain of plugins that Multus calls auxiliary: those in the folder of its name beside the primary network's file.
///
/// # Errors
/// Code 7 when the primary network has no file, or as for reading one.
pub(super) fn auxiliary_chain(meta: &MetaConfig) -> Result<Option<NetworkConfig>, CniError> {
    let Some(name) = &meta.auxiliary_chain else { return Ok(None) };
    let label = |error: CniError| error.context(format_args!("key \"auxiliaryCNIChainName\": chain {name}"));
    let dir = match &meta.policy.cluster_network {
        Some(reference) if reference.ends_with('/') || Path::new(reference).is_dir() => Path::new(reference),
        Some(reference) if reference.contains('/') => Path::new(reference).parent().unwrap_or(Path::new("/")),
        None if meta.delegates.is_empty() => &meta.primary_dir,
        _ => {
            let text = "its folder is beside the primary network's file, but key \"clusterNetwork\" is no path to one";
            return Err(label(CniError::new(code::INVALID_CONFIG, text)));
        }
    };
    // Before 0.3.1 a plugin cannot be told that there is nothing yet.
    files::chain(&dir.join(name), name, meta.version.max("0.3.1")).map_err(label)
}

#[cfg(test)]
mod tests {
    use std::{fs, thread, time::Duration};

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
        let mut cluster = meta(dir.path(), Some("20-other.conflist"));
        cluster.policy.cluster_network = Some(dir.path().join("10-bridge.conflist").display().to_string());
        assert_eq!(load(&cluster).unwrap().name, "net-bridge");
    }

    #[test]
    fn the_auxiliary_chain_is_in_the_folder_of_its_name_beside_the_primary_networks_file() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = meta(dir.path(), None);
        let chain = |config: &MetaConfig| {
            let found = auxiliary_chain(config).map_err(|error| error.to_string())?;
            Ok::<_, String>(found.map(|network| {
                assert_eq!((network.name.as_str(), network.version), ("vendor", "1.0.0"));
                network.plugins.into_iter().map(|plugin| plugin.kind).collect::<Vec<_>>().join(",")
            }))
        };
        assert_eq!(chain(&config).unwrap(), None);
        config.auxiliary_chain = Some("vendor".into());
        assert_eq!(chain(&config).unwrap(), None, "there is no such folder");
        fs::create_dir(dir.path().join("vendor")).unwrap();
        assert_eq!(chain(&config).unwrap(), None, "it is empty");
        for (name, kind) in [("20.conf", "second"), ("10.conf", "first"), ("30.conflist", "no")] {
            fs::write(dir.path().join("vendor").join(name), format!(r#"{{"type":"{kind}"}}"#)).unwrap();
        }
        assert_eq!(chain(&config).unwrap().as_deref(), Some("first,second"));
        for path in [dir.path().to_owned(), dir.path().join("10-bridge.conflist")] {
            config.policy.cluster_network = Some(path.display().to_string());
            assert_eq!(chain(&config).unwrap().as_deref(), Some("first,second"), "{path:?}");
        }
        config.policy.cluster_network = Some("by-name".into());
        assert!(chain(&config).unwrap_err().contains("chain vendor: its folder is beside"));
        config.policy.cluster_network = None;
        for (text, word) in
            [(r#"{"type":"multus-shim"}"#, "wrapper"), ("{", "15.conf"), ("{}", "no \"type\"")]
        {
            fs::write(dir.path().join("vendor/15.conf"), text).unwrap();
            let error = chain(&config).unwrap_err();
            assert!(error.contains(word) && error.contains("auxiliaryCNIChainName"), "{error}");
        }
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
