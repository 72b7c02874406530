//! What others have noted of the pods that they made, for whoever is about to take over: nothing is undone here.

use std::path::{Path, PathBuf};

use super::{
    Call, CniArgs, CniError, Inherited, MetaConfig, NetworkConfig, Noted, Plugin, TYPE, Verb, find, noted,
};

/// A sandbox that somebody else made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sandbox {
    /// Its ID.
    pub container_id: String,
    /// `namespace/name` of its pod, where that was noted.
    pub pod: Option<String>,
    /// Path of its network namespace, where that was noted.
    pub netns: Option<PathBuf>,
    /// What a DEL would undo, in the order of ADD.
    pub attachments: Vec<Attachment>,
    /// Why the notes cannot be understood.
    pub problem: Option<String>,
}

/// An attachment of such a sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// Name in the network's configuration.
    pub network: String,
    /// Name of the interface inside the pod.
    pub interface: String,
    /// Types of its plugins.
    pub plugins: Vec<String>,
    /// Why one of them could not be called.
    pub problem: Option<String>,
}

/// Lists the sandboxes of which Multus, or the runtime's library, has notes. `path` has the folders of plugins, `interface` is the
/// name of primary interfaces.
///
/// # Errors
/// When a folder cannot be read.
pub fn survey(config: &MetaConfig, path: &[PathBuf], interface: &str) -> Result<Vec<Sandbox>, CniError> {
    let found = noted(&config.cni_dir, &config.cache_dir)?.into_iter();
    let sandbox = |(id, noted): (String, Noted)| {
        let netns = noted.caches().find_map(|cache| cache.netns.clone());
        sandbox(id, netns, config, path, interface)
    };
    Ok(found.filter_map(sandbox).collect())
}

/// None for a sandbox of which there is nothing to undo: a loopback, or one of ours.
fn sandbox(
    container_id: String,
    netns: Option<PathBuf>,
    config: &MetaConfig,
    path: &[PathBuf],
    interface: &str,
) -> Option<Sandbox> {
    let call = Call {
        verb: Verb::Del,
        container_id: container_id.clone(),
        netns: netns.clone(),
        interface: interface.to_owned(),
        args: CniArgs::default(),
        path: path.to_vec(),
        own_netns: false,
    };
    let sandbox = Sandbox { container_id, netns, ..Sandbox::default() };
    let note = config.cni_dir.join(&sandbox.container_id);
    let inherited = match Inherited::read(&call, config) {
        Ok(inherited) if inherited.is_empty() && note.is_file() => {
            let text = format!(
                "{} cannot be understood, and there is no cache of the library beside it",
                note.display()
            );
            return Some(Sandbox { problem: Some(text), ..sandbox });
        }
        Ok(inherited) if inherited.is_empty() => return None,
        Ok(inherited) => inherited,
        Err(error) => return Some(Sandbox { problem: Some(error.to_string()), ..sandbox }),
    };
    let arg = |key: &str| inherited.attachments.iter().find_map(|one| one.args.get(key));
    let pod = arg("K8S_POD_NAMESPACE").zip(arg("K8S_POD_NAME"));
    Some(Sandbox {
        pod: pod.map(|(namespace, name)| format!("{namespace}/{name}")),
        attachments: inherited
            .attachments
            .iter()
            .map(|one| attachment(&one.network, &one.interface, path))
            .collect(),
        ..sandbox
    })
}

fn attachment(network: &NetworkConfig, interface: &str, path: &[PathBuf]) -> Attachment {
    let kinds = || network.plugins.iter().map(|plugin| plugin.kind.as_str());
    let cannot = |kind: &str| {
        let error = find(kind, path).err()?;
        (kind == TYPE || Plugin::named(Path::new(kind)).is_none()).then(|| error.to_string())
    };
    Attachment {
        network: network.name.clone(),
        interface: interface.to_owned(),
        plugins: kinds().map(str::to_owned).collect(),
        problem: kinds().find_map(cannot),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use base64::{Engine as _, prelude::BASE64_STANDARD};
    use serde_json::{Value, json};

    use super::*;

    fn write(file: &Path, value: &Value) {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, value.to_string()).unwrap();
    }

    fn cache(dir: &Path, id: &str, interface: &str, config: &Value) {
        let entry = json!({"kind": "cniCacheV1", "containerId": id, "ifName": interface, "netns": "/run/netns/x",
            "networkName": config["name"], "config": BASE64_STANDARD.encode(config.to_string()),
            "cniArgs": [["K8S_POD_NAMESPACE", "shop"], ["K8S_POD_NAME", id]]});
        write(
            &dir.join("results").join(format!("{}-{id}-{interface}", config["name"].as_str().unwrap())),
            &entry,
        );
    }

    #[test]
    fn notes_of_others_are_listed_with_what_a_del_would_undo_and_ours_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let folder = |name: &str| dir.path().join(name);
        let text = json!({"cniVersion": "1.0.0", "name": "f", "type": "fairlead", "cniDir": folder("multus"),
            "cacheDir": folder("cni")});
        let config = MetaConfig::parse(&text.to_string()).unwrap();
        assert_eq!(survey(&config, &[], "eth0").unwrap(), []);
        let single = |name: &str, kind: &str| json!({"cniVersion": "0.4.0", "name": name, "type": kind});
        let delegate =
            |config: &Value| json!({"Name": "x", "Bytes": BASE64_STANDARD.encode(config.to_string())});
        let (primary, odd) = (single("cbr0", "bridge"), single("odd", "exotic"));
        write(&folder("multus/a"), &json!([delegate(&primary), delegate(&odd)]));
        cache(&folder("multus"), "a", "eth0", &primary);
        cache(&folder("cni"), "a", "eth0", &single("multus-cni-network", "multus-shim"));
        cache(&folder("cni"), "plain", "eth0", &primary);
        cache(&folder("cni"), "ours", "eth0", &single("fairlead", "fairlead"));
        cache(&folder("cni"), "ours", "lo", &single("lo", "loopback"));
        write(&folder("multus/b"), &json!([{"Name": "x", "ifnameRequest": "a/b", "Bytes": 7}]));
        let found = survey(&config, &[folder("bin")], "eth0").unwrap();
        let ids: Vec<&str> = found.iter().map(|sandbox| sandbox.container_id.as_str()).collect();
        assert_eq!(ids, ["a", "b", "plain"]);
        assert!(found[1].problem.as_ref().unwrap().contains("/multus/b cannot be understood"));
        assert_eq!((found[0].pod.as_deref(), found[2].pod.as_deref()), (Some("shop/a"), Some("shop/plain")));
        assert_eq!(found[0].netns.as_deref(), Some(Path::new("/run/netns/x")));
        let of_a: Vec<_> =
            found[0].attachments.iter().map(|one| (one.interface.as_str(), one.problem.is_some())).collect();
        assert_eq!(of_a, [("eth0", false), ("net1", true)]);
        assert!(found[0].attachments[1].problem.as_ref().unwrap().contains("\"exotic\""));
    }
}
