//! Network configurations on the node's disk.

use std::{
    fs, io,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use serde_json::Value;

use super::config::TYPE;
use crate::{
    config::{Fields, NetworkConfig, PluginConfig},
    protocol::error::{CniError, code},
    say::say,
};

/// Endings of configuration files, as runtimes look for them.
const ENDINGS: [&str; 3] = ["conf", "conflist", "json"];
/// Plugins that wrap another network: never taken for the primary one.
const WRAPPERS: [&str; 3] = [TYPE, "multus", "multus-shim"];
/// A file that is being written is read again this often.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_millis(20);

/// The configuration that `reference` stands for: that of this `name` in `dir`, or, when it holds a slash, the file at this
/// path or the first one in the folder there.
///
/// # Errors
/// Code 11 when a file cannot be read (yet), 7 when there is none, or one that wraps other networks.
pub(super) fn find(reference: &str, dir: &Path) -> Result<NetworkConfig, CniError> {
    if !reference.contains('/') {
        return named(reference, dir);
    }
    let path = Path::new(reference);
    if path.is_dir() {
        return first(path);
    }
    let network = read(path)?;
    refuse_wrapper(&network, path)?;
    Ok(network)
}

/// The first configuration of a folder, by the files' names, that is neither ours nor Multus'.
///
/// # Errors
/// Code 11 when there is none (yet), or none that can be read.
pub(super) fn first(dir: &Path) -> Result<NetworkConfig, CniError> {
    let mut broken = None;
    for file in files(dir, &ENDINGS)? {
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

/// The first configuration of a folder that has this name. Files that cannot be read are passed over, and said.
fn named(name: &str, dir: &Path) -> Result<NetworkConfig, CniError> {
    let missing = |code: u32, why: &str| {
        let text = format!(
            "the network's configuration is to be on this node's disk, but none of the files in {} (*.conflist, *.conf, \
             *.json) has the \"name\" {name}{why}",
            dir.display()
        );
        CniError::new(code, text).details(
            "put it there, give the NetworkAttachmentDefinition a spec.config, or name another folder in key \"confDir\"",
        )
    };
    let files = match files(dir, &ENDINGS) {
        Ok(files) => files,
        Err(error) if dir.exists() => return Err(error),
        Err(_) => return Err(missing(code::INVALID_CONFIG, ": there is no such folder")),
    };
    let mut broken = Vec::new();
    for file in files {
        match read_once(&file) {
            Ok(network) if network.name == name => return not_wrapping(network, &file),
            Ok(_) => {}
            Err(error) => broken.push((file, error)),
        }
    }
    // It may be one of those, which somebody is writing just now.
    for (file, error) in &broken {
        match read(file) {
            Ok(network) if network.name == name => return not_wrapping(network, file),
            Ok(_) => {}
            Err(_) => say(format_args!("passed over: {error}")),
        }
    }
    match broken.len() {
        0 => Err(missing(code::INVALID_CONFIG, "")),
        count => Err(missing(code::TRY_AGAIN, &format!(", and {count} of them cannot be read"))),
    }
}

fn not_wrapping(network: NetworkConfig, file: &Path) -> Result<NetworkConfig, CniError> {
    refuse_wrapper(&network, file).map(|()| network)
}

/// Makes sure that a file's network is none that wraps others.
///
/// # Errors
/// Code 7, naming the file.
pub(super) fn refuse_wrapper(network: &NetworkConfig, file: &Path) -> Result<(), CniError> {
    if !wraps(network) {
        return Ok(());
    }
    let text = format!("{} is itself a wrapper of networks: name the file of a network", file.display());
    Err(CniError::new(code::INVALID_CONFIG, text))
}

fn wraps(network: &NetworkConfig) -> bool {
    network.plugins.iter().any(|plugin| WRAPPERS.contains(&plugin.kind.as_str()))
}

/// The files of a folder with one of these endings, by name.
fn files(dir: &Path, endings: &[&str]) -> Result<Vec<PathBuf>, CniError> {
    let failed =
        |error: io::Error| CniError::new(code::TRY_AGAIN, format!("read {}: {error}", dir.display()));
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let ending = path.extension().unwrap_or_default().to_string_lossy().into_owned();
        if endings.contains(&ending.as_str()) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Reads a file, again if it is torn.
///
/// # Errors
/// Code 11, naming the file: installers write these files at any time.
pub(super) fn read(file: &Path) -> Result<NetworkConfig, CniError> {
    let mut tries = 0;
    loop {
        match read_once(file) {
            Ok(network) => return Ok(network),
            Err(error) => {
                tries += 1;
                if tries == TRIES {
                    return Err(error);
                }
            }
        }
        thread::sleep(PAUSE);
    }
}

fn read_once(file: &Path) -> Result<NetworkConfig, CniError> {
    let text = text_of(file)?;
    let network = match file.extension().is_some_and(|ending| ending == "conflist") {
        true => NetworkConfig::parse_list(&text, &|name: &str| further(file, name)),
        false => NetworkConfig::parse(&text),
    };
    network.map_err(|error| CniError { code: code::TRY_AGAIN, ..error }.context(file.display()))
}

fn text_of(file: &Path) -> Result<String, CniError> {
    fs::read_to_string(file)
        .map_err(|error| CniError::new(code::TRY_AGAIN, format!("read {}: {error}", file.display())))
}

/// The plugins that a list has in the folder of its name beside it (the reference library does so since 1.3).
fn further(list: &Path, name: &str) -> Result<Vec<Fields>, CniError> {
    plugins_in(&list.with_file_name(name))
}

/// The chain of plugins in a folder; none where there are none.
///
/// # Errors
/// Code 11 when a file cannot be read (yet), 7 when one wraps other networks.
pub(super) fn chain(
    dir: &Path,
    name: &str,
    version: &'static str,
) -> Result<Option<NetworkConfig>, CniError> {
    let plugins = plugins_in(dir)
        .and_then(|all| all.into_iter().map(PluginConfig::parse).collect::<Result<Vec<_>, _>>());
    let plugins =
        plugins.map_err(|error| CniError { code: code::TRY_AGAIN, ..error }.context(dir.display()))?;
    if plugins.is_empty() {
        return Ok(None);
    }
    let network = NetworkConfig { name: name.to_owned(), version, plugins };
    refuse_wrapper(&network, dir).map(|()| Some(network))
}

fn plugins_in(dir: &Path) -> Result<Vec<Fields>, CniError> {
    if !dir.is_dir() {
        return Ok(Vec::new());
    }
    let plugin = |file: &PathBuf| {
        let parsed: Value = serde_json::from_str(&text_of(file)?).map_err(|error| {
            CniError::new(code::DECODING, format!("{} is no JSON", file.display())).details(error.to_string())
        })?;
        match parsed {
            Value::Object(fields) => Ok(Fields(fields)),
            _ => Err(CniError::new(code::DECODING, format!("{} is no JSON object", file.display()))),
        }
    };
    files(dir, &["conf"])?.iter().map(plugin).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(dir: &Path, files: &[(&str, &str)]) {
        for (name, text) in files {
            let file = dir.join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
    }

    fn kinds(network: &NetworkConfig) -> Vec<&str> {
        network.plugins.iter().map(|plugin| plugin.kind.as_str()).collect()
    }

    #[test]
    fn a_network_is_known_by_its_name_and_broken_files_are_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        write(
            dir.path(),
            &[
                ("00-torn.conf", "{"),
                ("05-other.conf", r#"{"cniVersion":"0.3.1","name":"other","type":"x"}"#),
                ("10-a.json", r#"{"cniVersion":"0.3.1","name":"a","type":"first"}"#),
                ("20-a.conflist", r#"{"cniVersion":"0.3.1","name":"a","plugins":[{"type":"second"}]}"#),
                ("30-b.txt", r#"{"cniVersion":"0.3.1","name":"b","type":"x"}"#),
            ],
        );
        assert_eq!(kinds(&find("a", dir.path()).unwrap()), ["first"]);
        let error = find("b", dir.path()).unwrap_err();
        assert_eq!(error.code, code::TRY_AGAIN);
        assert!(error.msg.contains("\"name\" b, and 1 of them cannot be read"), "{error}");
        fs::remove_file(dir.path().join("00-torn.conf")).unwrap();
        let error = find("b", dir.path()).unwrap_err();
        assert_eq!(error.code, code::INVALID_CONFIG);
        assert!(error.msg.contains(&dir.path().display().to_string()), "{error}");
        let error = find("b", Path::new("/nonexistent")).unwrap_err();
        assert!(error.msg.ends_with("there is no such folder"), "{error}");
    }

    #[test]
    fn a_path_is_a_file_or_a_folder_and_never_a_wrapper() {
        let dir = tempfile::tempdir().unwrap();
        write(
            dir.path(),
            &[
                ("net.d/00-multus.conf", r#"{"cniVersion":"0.3.1","name":"m","type":"multus"}"#),
                ("net.d/10-a.conf", r#"{"cniVersion":"0.3.1","name":"a","type":"x"}"#),
            ],
        );
        let path = |name: &str| dir.path().join(name).display().to_string();
        assert_eq!(find(&path("net.d"), Path::new("")).unwrap().name, "a");
        assert_eq!(find(&path("net.d/10-a.conf"), Path::new("")).unwrap().name, "a");
        let error = find(&path("net.d/00-multus.conf"), Path::new("")).unwrap_err();
        assert!(error.msg.contains("wrapper"), "{error}");
        assert!(find(&path("gone.conf"), Path::new("")).unwrap_err().msg.contains("gone.conf"));
    }

    #[test]
    fn a_list_goes_on_in_the_folder_of_its_name() {
        let dir = tempfile::tempdir().unwrap();
        write(
            dir.path(),
            &[
                ("10-a.conflist", r#"{"cniVersion":"1.0.0","name":"net","plugins":[{"type":"first"}]}"#),
                ("20-b.conflist", r#"{"cniVersion":"1.0.0","name":"bare"}"#),
                (
                    "30-c.conflist",
                    r#"{"cniVersion":"1.0.0","name":"only","loadOnlyInlinedPlugins":true,"plugins":[{"type":"x"}]}"#,
                ),
                ("40-d.conf", r#"{"cniVersion":"1.0.0","name":"single","type":"x"}"#),
                ("50-e.conflist", r#"{"cniVersion":"1.0.0","name":"none"}"#),
                ("net/20-third.conf", r#"{"type":"third","k":1}"#),
                ("net/10-second.conf", r#"{"type":"second"}"#),
                ("net/30-other.conflist", r#"{"type":"no"}"#),
                ("bare/10.conf", r#"{"type":"alone"}"#),
                ("only/10.conf", r#"{"type":"no"}"#),
                ("single/10.conf", r#"{"type":"no"}"#),
            ],
        );
        let read = |name: &str| read_once(&dir.path().join(name));
        let network = read("10-a.conflist").unwrap();
        assert_eq!(kinds(&network), ["first", "second", "third"]);
        assert_eq!(network.plugins[2].fields.number("k").unwrap(), Some(1));
        assert_eq!(kinds(&read("20-b.conflist").unwrap()), ["alone"]);
        assert_eq!(kinds(&read("30-c.conflist").unwrap()), ["x"]);
        assert_eq!(kinds(&read("40-d.conf").unwrap()), ["x"]);
        assert!(read("50-e.conflist").unwrap_err().msg.contains("lists no plugins"));
        write(dir.path(), &[("net/15-torn.conf", "{")]);
        assert!(read("10-a.conflist").unwrap_err().msg.contains("15-torn.conf"));
    }
}
