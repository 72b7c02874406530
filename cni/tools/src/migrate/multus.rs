//! Multus' files: which Multus it is, and what our section would have to say to do the same.

use std::path::{Path, PathBuf};

use fairlead_cni::{
    config::{Fields, NetworkConfig},
    install,
    meta::{
        config::{MetaConfig, TYPE},
        multus,
    },
    protocol::error::CniError,
};
use serde_json::{Map, Value, json};

use super::Options;
use crate::{doctor::node::defaults, finding::Finding, root::Root};

/// Keys that say the same in our section; their values are taken as they are.
const SAME: [&str; 8] = [
    "defaultNetworks",
    "systemNamespaces",
    "multusNamespace",
    "namespaceIsolation",
    "globalNamespaces",
    "delegates",
    "clusterNetwork",
    "auxiliaryCNIChainName",
];

/// Multus' configuration on the node, and with it its daemon's.
struct Configuration {
    shown: PathBuf,
    kind: String,
    /// What the daemon would see: its own keys come before the file's.
    fields: Fields,
    read: Result<MetaConfig, CniError>,
}

/// What there is of Multus.
pub(super) struct Files {
    folder: PathBuf,
    is_ours_there: bool,
    configuration: Option<Configuration>,
    /// The daemon's file, or why it is of no use.
    daemon: Option<Result<Fields, String>>,
    kubeconfig: Option<PathBuf>,
    programs: Vec<PathBuf>,
    /// The file that our section takes for the primary network when it names none.
    first: Option<PathBuf>,
}

impl Files {
    pub(super) fn gather(root: &Root, options: &Options) -> Self {
        let (conf, bin) = (&options.places.conf_dir, &options.places.bin_dir);
        let daemon = options.multus_config.as_ref().map(|file| daemon(file));
        let names = root.names(conf).into_iter().filter(|name| install::is_configuration(name));
        let files: Vec<(PathBuf, Vec<String>)> =
            names.map(|name| conf.join(name)).map(|file| (file.clone(), kinds(root, &file))).collect();
        let first = |has: &dyn Fn(&[String]) -> bool| {
            files.iter().find(|(_, kinds)| has(kinds)).map(|(file, _)| file.clone())
        };
        let file = first(&|kinds| kinds.iter().any(|kind| is_multus(kind)));
        let kubeconfig = conf.join("multus.d/multus.kubeconfig");
        let wraps = |kind: &String| is_multus(kind) || kind == TYPE;
        Self {
            is_ours_there: root.exists(conf.join(install::FILE)),
            configuration: file.and_then(|file| configuration(root, file, daemon.as_ref())),
            daemon,
            kubeconfig: root.exists(&kubeconfig).then_some(kubeconfig),
            programs: ["multus", "multus-shim", "multus-daemon", "passthru", "sriov", "ib-sriov"]
                .iter()
                .map(|name| bin.join(name))
                .filter(|path| root.exists(path))
                .collect(),
            first: first(&|kinds| !kinds.is_empty() && !kinds.iter().any(wraps)),
            folder: conf.clone(),
        }
    }

    pub(super) fn judge(&self) -> Vec<Finding> {
        const ID: &str = "migrate.multus";
        let mut findings = Vec::new();
        if self.is_ours_there {
            let text = format!(
                "{} is there: Fairlead is at work already",
                self.folder.join(install::FILE).display()
            );
            findings.push(Finding::info(ID, text));
        }
        match &self.configuration {
            None => {
                findings.push(Finding::info(ID, format!("no file of {} is Multus'", self.folder.display())));
            }
            Some(configuration) => findings.extend(self.configured(configuration)),
        }
        if let Some(Err(error)) = &self.daemon {
            findings.push(Finding::error(
                ID,
                error.clone(),
                "give the daemon's own file, daemon-config.json of its ConfigMap",
            ));
        }
        if let Some(file) = &self.kubeconfig {
            let text = format!(
                "{} is Multus': Fairlead has no kubeconfig on the host; it can go with Multus",
                file.display()
            );
            findings.push(Finding::info(ID, text));
        }
        if !self.programs.is_empty() {
            let shown: Vec<String> = self.programs.iter().map(|path| path.display().to_string()).collect();
            let text =
                format!("programs of the old stack, which stay, also for the way back: {}", shown.join(", "));
            findings.push(Finding::info(ID, text));
        }
        findings
    }

    fn configured(&self, configuration: &Configuration) -> Vec<Finding> {
        const ID: &str = "migrate.multus";
        let shown = configuration.shown.display();
        let is_thick = configuration.kind == "multus-shim";
        let (how, writer) = match is_thick {
            true => ("thick: its daemon attaches networks", "the daemon"),
            false => ("thin: it attaches networks itself", "its DaemonSet's pod"),
        };
        let text = format!(
            "{shown} is Multus' ({how}). The runtime takes {} before it, so it may stay until Multus' DaemonSet is gone; {writer} writes it \
             again and again",
            install::FILE
        );
        let mut findings = vec![Finding::info(ID, text)];
        if let Err(error) = &configuration.read {
            let remedy = "correct it, or say what it means with --section";
            findings.push(Finding::error(ID, format!("{shown}: {error}"), remedy));
        }
        if is_thick && self.daemon.is_none() {
            let text = "the daemon's own configuration is in its ConfigMap and not on the node; defaultNetworks, systemNamespaces and others \
                        may be there";
            let remedy = "kubectl -n kube-system get configmap multus-daemon-config -o jsonpath='{.data.daemon-config\\.json}' > FILE, then \
                          --multus-config FILE";
            findings.push(Finding::unknown(ID, text, remedy));
        }
        if let Some(vain) = multus::without_effect(&Value::Object(configuration.fields.0.clone()).to_string())
        {
            let remedy = "nothing is to be done unless something there is needed";
            findings.push(Finding::warning(ID, format!("{shown}: {vain}"), remedy));
        }
        findings
    }

    /// Options that say the same; what says what holds anyway is left out.
    pub(super) fn section(&self) -> Map<String, Value> {
        let mut section = Map::new();
        let Some(Configuration { fields, read: Ok(meta), .. }) = &self.configuration else { return section };
        for key in SAME {
            if let Some(value) = fields.get(key).filter(|value| says_something(value)) {
                section.insert(key.to_owned(), value.clone());
            }
        }
        if let Some(path) = meta.policy.cluster_network.as_deref().filter(|name| name.starts_with('/')) {
            match self.first.as_deref() == Some(Path::new(path)) {
                // Ours finds it, and any that takes its place.
                true => drop(section.remove("clusterNetwork")),
                false => drop(section.insert("clusterNetwork".to_owned(), json!(path))),
            }
        }
        let defaults = defaults();
        for (key, ours, usual) in [
            ("confDir", Some(&meta.conf_dir), Some(&defaults.conf_dir)),
            ("cniDir", Some(&meta.cni_dir), Some(&defaults.cni_dir)),
            ("readinessIndicatorFile", meta.readiness_file.as_ref(), None),
            (
                "binDir",
                meta.bin_dir
                    .as_ref()
                    .filter(|dir| fields.get("binDir").is_some() && *dir != Path::new("/opt/cni/bin")),
                None,
            ),
        ] {
            if let Some(path) = ours.filter(|path| Some(*path) != usual) {
                section.insert(key.to_owned(), json!(path));
            }
        }
        section
    }
}

fn is_multus(kind: &str) -> bool {
    multus::NAMES.contains(&kind)
}

fn says_something(value: &Value) -> bool {
    ![json!(null), json!(""), json!([]), json!(false)].contains(value)
}

/// The types of a file's plugins; none where it cannot be read.
fn kinds(root: &Root, file: &Path) -> Vec<String> {
    let text = root.read(file).unwrap_or_default();
    let network = NetworkConfig::parse(&text);
    network.map(|network| network.plugins.into_iter().map(|plugin| plugin.kind).collect()).unwrap_or_default()
}

/// The configuration as Multus understands it.
fn configuration(
    root: &Root,
    file: PathBuf,
    daemon: Option<&Result<Fields, String>>,
) -> Option<Configuration> {
    let network = NetworkConfig::parse(&root.read(&file).ok()?).ok()?;
    let plugin = network.plugins.into_iter().find(|plugin| is_multus(&plugin.kind))?;
    let mut fields = plugin.fields;
    fields.set("name", json!(network.name));
    fields.set("cniVersion", json!(network.version));
    for (key, value) in
        daemon.and_then(|daemon| daemon.as_ref().ok()).into_iter().flat_map(|daemon| &daemon.0)
    {
        // The paths of its container; the file on the node has the node's.
        if !["cniVersion", "chrootDir", "socketDir"].contains(&key.as_str()) {
            fields.set(key, value.clone());
        }
    }
    let read = multus::parse(&Value::Object(fields.0.clone()).to_string());
    Some(Configuration { shown: file, kind: plugin.kind, fields, read })
}

fn daemon(file: &Path) -> Result<Fields, String> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    serde_json::from_str(&text).map_err(|error| format!("{} is no JSON object: {error}", file.display()))
}
