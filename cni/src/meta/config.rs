//! Our own section in `00-fairlead.conflist`.

use std::{path::PathBuf, time::Duration};

use serde_json::{Map, Value, json};

use crate::{
    agent_protocol::{Policy, SOCKET},
    config::{Fields, NetworkConfig},
    networks::annotation::NETWORKS_ANNOTATION,
    protocol::{
        env::{Call, check_identifier},
        error::{CniError, code},
        gc::{AttachmentId, valid_attachments},
        version,
    },
};

/// Capability under which the runtime hands over the pod's annotations (containerd and CRI-O).
pub const POD_ANNOTATIONS: &str = "io.kubernetes.cri.pod-annotations";

/// Key of `CNI_ARGS` that names a container's networks, in the way of the annotation, where nobody has annotations.
pub const NETWORKS_ARG: &str = "FAIRLEAD_NETWORKS";

/// The type that our section has.
pub const TYPE: &str = "fairlead";

/// Every key that has an effect. Those that are Multus' say so.
///
/// Keys:
/// - `primary`: File of the primary network in `primaryDir`; by default the first that is neither ours nor Multus'.
/// - `primaryDir`: Where that file is, read at each ADD; by default `/etc/cni/net.d`.
/// - `clusterNetwork`: Multus'. The primary network instead: a definition's name in `multusNamespace`, else the `name` of a
///   configuration in `confDir`; or a path: a file, or a folder whose first file counts.
/// - `defaultNetworks`: Multus'. Networks that every pod gets before those of its annotation, each named in the same ways.
/// - `systemNamespaces`: Multus'. Pods in these get no default networks; by default `kube-system`.
/// - `multusNamespace`: Multus'. Namespace of what `clusterNetwork` and `defaultNetworks` name, and of what the
///   default-network annotation names without one; by default `kube-system`.
/// - `namespaceIsolation`: Multus'. Pods may only use definitions of their own namespace and of `globalNamespaces`, in both
///   annotations. What the operator names here is not subject to it. By default false.
/// - `globalNamespaces`: Multus'. Namespaces whose definitions all pods may use, separated by commas; by default `default`.
/// - `confDir`: Multus'. Configurations of networks whose definition has none, found by their `name`. Files that cannot be
///   read are passed over, and said. By default `/etc/cni/multus/net.d`.
/// - `strict`: A capability that a pod asks for and no plugin of the network takes is an error, not only an event on the pod;
///   by default false.
/// - `builtins`: Plugin types that are done in process, in all networks. Absent: all in networks with a definition, none in the
///   node's own primary network.
/// - `strictCheck`: CHECK fails for every difference, not only for what is lost, unfinished or somebody else's; by default
///   false.
/// - `devinfoDir`: Device-information files, in `dp` those of device plugins, in `cni` those of attachments; by default
///   `/var/run/k8s.cni.cncf.io/devinfo`.
/// - `stateDir`: Where records are; by default `/var/lib/fairlead`.
/// - `runDir`: Where locks are; by default `/run/fairlead`.
/// - `agentSocket`: Where the agent listens; by default `/run/fairlead/agent/agent.sock`.
/// - `agentTimeoutSeconds`: How long a pod that needs the agent waits for it; by default 30.
/// - `networks`: Networks of containers that have no annotations, in the annotation's short form or JSON. `FAIRLEAD_NETWORKS`
///   in `CNI_ARGS` comes before it.
/// - `delegates`: Multus'. Networks written out here: the first is the primary one, every pod gets the others, too, before all
///   others. `clusterNetwork` comes before it.
/// - `auxiliaryCNIChainName`: Multus'. A chain of plugins for every pod, after all its networks: the `*.conf` files of the folder
///   of this name beside the primary network's file (`clusterNetwork`, if given, must be a path). It has no interface of its
///   own: its plugins are called with the next `net<n>`, start from an empty result, and name what they work on (as in sysctl
///   `net.ipv4.conf.eth0.arp_filter`).
/// - `readinessIndicatorFile`: Multus'. An ADD waits up to 45 s until this file is there, STATUS fails without it.
/// - `binDir`: Multus'. Searched for plugins before `CNI_PATH`.
/// - `cniDir`: Multus'. What it noted of the pods that it made: read at their DEL, removed after it. By default
///   `/var/lib/cni/multus`.
/// - `cacheDir`: Where the runtime's library noted results of pods that we did not make: read at their DEL, removed after it.
///   By default `/var/lib/cni`.
/// - `systemLog`: What is said, and why calls failed, also goes to the system's log; by default true.
/// - `capabilities`: What the runtime is to pass. `io.kubernetes.cri.pod-annotations` is needed wherever there are pods.
/// - `cniVersions`: Versions besides `cniVersion`; the highest that both sides speak is used.
pub const KEYS: &[&str] = &[
    "cniVersion",
    "cniVersions",
    "name",
    "type",
    "capabilities",
    "runtimeConfig",
    "prevResult",
    "primary",
    "primaryDir",
    "clusterNetwork",
    "defaultNetworks",
    "multusNamespace",
    "namespaceIsolation",
    "globalNamespaces",
    "systemNamespaces",
    "confDir",
    "devinfoDir",
    "strict",
    "stateDir",
    "runDir",
    "agentSocket",
    "agentTimeoutSeconds",
    "builtins",
    "strictCheck",
    "cniDir",
    "cacheDir",
    "binDir",
    "readinessIndicatorFile",
    "delegates",
    "auxiliaryCNIChainName",
    "networks",
    "systemLog",
];

/// What the runtime called us with.
#[derive(Clone, Debug, PartialEq)]
pub struct MetaConfig {
    /// Name of the network that the runtime knows us by.
    pub name: String,
    /// Version of the result that the runtime wants.
    pub version: &'static str,
    /// `primary`: file name of the primary network's configuration; by default the first that is neither ours nor Multus'.
    pub primary: Option<String>,
    /// `primaryDir`: where that file is, by default `/etc/cni/net.d`.
    pub primary_dir: PathBuf,
    /// Multus' `clusterNetwork`, `defaultNetworks`, `multusNamespace` and `globalNamespaces` (the latter when
    /// `namespaceIsolation` is on). `clusterNetwork` comes before `primary`.
    pub policy: Policy,
    /// Multus' `systemNamespaces`: their pods get no default networks. By default `kube-system`.
    pub system_namespaces: Vec<String>,
    /// Multus' `confDir`: where the configurations of networks are whose definitions have none, by default
    /// `/etc/cni/multus/net.d`.
    pub conf_dir: PathBuf,
    /// `devinfoDir`: where device-information files are, in `dp` those of device plugins, in `cni` ours, by default
    /// `/var/run/k8s.cni.cncf.io/devinfo`.
    pub devinfo_dir: PathBuf,
    /// `strict`: a pod that asks for a capability that no plugin of the network takes is not started. By default it is, and an
    /// event on it tells.
    pub strict: bool,
    /// `stateDir`: where records are kept, by default `/var/lib/fairlead`.
    pub state_dir: PathBuf,
    /// `runDir`: where locks are kept, by default `/run/fairlead`.
    pub run_dir: PathBuf,
    /// Multus' `cniDir`: what it noted of the pods that it made, by default `/var/lib/cni/multus`.
    pub cni_dir: PathBuf,
    /// `cacheDir`: where the runtime's library keeps results, by default `/var/lib/cni`.
    pub cache_dir: PathBuf,
    /// Multus' `binDir`: searched for plugins before `CNI_PATH`.
    pub bin_dir: Option<PathBuf>,
    /// Multus' `readinessindicatorfile`: an ADD waits until it is there.
    pub readiness_file: Option<PathBuf>,
    /// Multus' `delegates`: networks that every pod gets, the first is the primary one. `clusterNetwork` comes before them.
    pub delegates: Vec<NetworkConfig>,
    /// Multus' `auxiliaryCNIChainName`: a chain of plugins that is run for every pod after all networks.
    pub auxiliary_chain: Option<String>,
    /// `agentSocket`, by default `/run/fairlead/agent/agent.sock`.
    pub agent_socket: PathBuf,
    /// `agentTimeoutSeconds`: how long a pod that asks for networks waits for the agent, by default 30.
    pub agent_timeout: Duration,
    /// `builtins`: plugin types that are done in process. By default all that there are, for secondary networks; a primary
    /// network's types (IPAM too) must be listed.
    pub builtins: Option<Vec<String>>,
    /// `systemLog`: what is said, and why calls failed, also goes to the system's log; by default it does.
    pub system_log: bool,
    /// `strictCheck`: CHECK fails for any difference, not only for lost or foreign attachments.
    pub strict_check: bool,
    /// GC: the attachments that are valid; none given when the runtime has no list.
    pub valid_attachments: Option<Vec<AttachmentId>>,
    /// `networks`: those of every container for which neither annotations nor `CNI_ARGS` (see [`NETWORKS_ARG`]) say others, in
    /// the way of the annotation.
    pub asked: Option<String>,
    /// Every capability value that the runtime passed.
    pub runtime_config: Map<String, Value>,
}

impl MetaConfig {
    /// Reads standard input.
    ///
    /// # Errors
    /// Code 6 or 7, naming the key.
    pub fn parse(stdin: &str) -> Result<Self, CniError> {
        let network = NetworkConfig::parse(stdin)?;
        let [plugin] = network.plugins.as_slice() else {
            let text = "expected one plugin's configuration on standard input, got a list";
            return Err(CniError::new(code::INVALID_CONFIG, text));
        };
        let fields = &plugin.fields;
        let path = |key: &str, default: &str| -> Result<PathBuf, CniError> {
            Ok(PathBuf::from(fields.text(key)?.unwrap_or(default)))
        };
        let primary = fields.text("primary")?.map(str::to_owned);
        if primary.as_deref().is_some_and(|name| name.contains('/')) {
            let text = "key \"primary\" is the name of a file in primaryDir, it must not hold a slash";
            return Err(CniError::new(code::INVALID_CONFIG, text));
        }
        let builtins = match fields.get("builtins") {
            Some(_) => Some(fields.texts("builtins")?),
            None => None,
        };
        Ok(Self {
            primary,
            builtins,
            primary_dir: path("primaryDir", "/etc/cni/net.d")?,
            policy: policy(fields)?,
            system_namespaces: match fields.get("systemNamespaces") {
                Some(_) => fields.texts("systemNamespaces")?,
                None => vec!["kube-system".into()],
            },
            conf_dir: path("confDir", "/etc/cni/multus/net.d")?,
            devinfo_dir: path("devinfoDir", "/var/run/k8s.cni.cncf.io/devinfo")?,
            strict: fields.flag("strict")?.unwrap_or(false),
            state_dir: path("stateDir", "/var/lib/fairlead")?,
            run_dir: path("runDir", "/run/fairlead")?,
            cni_dir: path("cniDir", "/var/lib/cni/multus")?,
            cache_dir: path("cacheDir", "/var/lib/cni")?,
            bin_dir: fields.text("binDir")?.filter(|dir| !dir.is_empty()).map(PathBuf::from),
            readiness_file: fields
                .text("readinessIndicatorFile")?
                .filter(|file| !file.is_empty())
                .map(PathBuf::from),
            delegates: delegates(fields, &network.name)?,
            auxiliary_chain: auxiliary_chain(fields)?,
            agent_socket: path("agentSocket", SOCKET)?,
            agent_timeout: Duration::from_secs(u64::from(
                fields.number("agentTimeoutSeconds")?.unwrap_or(30),
            )),
            system_log: fields.flag("systemLog")?.unwrap_or(true),
            strict_check: fields.flag("strictCheck")?.unwrap_or(false),
            valid_attachments: valid_attachments(fields)?,
            runtime_config: fields.object("runtimeConfig")?.unwrap_or_default().0,
            asked: fields.text("networks")?.filter(|text| !text.is_empty()).map(str::to_owned),
            name: network.name,
            version: network.version,
        })
    }

    /// The pod's annotations, when the runtime passes them, else what `CNI_ARGS` or the section asks for. A runtime that passes
    /// them passes an empty set for a pod without.
    ///
    /// # Errors
    /// Code 7 when the value is no object of texts.
    pub fn annotations(&self) -> Result<Option<std::collections::BTreeMap<String, String>>, CniError> {
        let Some(value) = Fields(self.runtime_config.clone()).get(POD_ANNOTATIONS).cloned() else {
            let asked = self.asked.iter().map(|text| (NETWORKS_ANNOTATION.to_owned(), text.clone()));
            return Ok(self.asked.as_ref().map(|_| asked.collect()));
        };
        serde_json::from_value(value).map(Some).map_err(|error| {
            let text = format!("runtimeConfig key {POD_ANNOTATIONS} is no object of texts");
            CniError::new(code::INVALID_CONFIG, text).details(error.to_string())
        })
    }

    /// The networks that every pod gets by [`MetaConfig::delegates`] beside its primary one.
    pub fn further_delegates(&self) -> &[NetworkConfig] {
        match self.policy.cluster_network {
            None => self.delegates.get(1..).unwrap_or_default(),
            Some(_) => &[],
        }
    }

    /// The call as plugins are to see it: our folder of plugins comes before those of the runtime, and what only we
    /// understand is ours alone.
    pub fn take_over(&mut self, call: &Call) -> Call {
        let mut call = call.clone();
        self.asked = call.args.remove(NETWORKS_ARG).or(self.asked.take());
        if let Some(dir) = self.bin_dir.as_ref().filter(|dir| call.path.first() != Some(*dir)) {
            call.path.insert(0, dir.clone());
        }
        call
    }

    /// What the operator says of the networks of a pod in this namespace.
    pub fn policy_for(&self, namespace: &str) -> Policy {
        let mut policy = self.policy.clone();
        if self.system_namespaces.iter().any(|system| system == namespace) {
            policy.default_networks.clear();
        }
        policy.inline = self.further_delegates().len();
        policy
    }

    /// Whether a plugin type is done in process in a secondary network.
    pub fn is_built_in(&self, kind: &str) -> bool {
        self.builtins.is_none() || self.is_listed(kind)
    }

    /// Whether a plugin type is done in process in the primary network, too.
    pub fn is_listed(&self, kind: &str) -> bool {
        self.builtins.as_ref().is_some_and(|list| list.iter().any(|name| name == kind))
    }
}

/// Multus' keys that say which networks a pod gets, and may ask for.
fn policy(fields: &Fields) -> Result<Policy, CniError> {
    let mut policy = Policy::default();
    if let Some(name) = fields.text("clusterNetwork")?.filter(|name| !name.is_empty()) {
        policy.cluster_network = Some(checked_reference("clusterNetwork", name)?);
    }
    for name in fields.texts("defaultNetworks")? {
        policy.default_networks.push(checked_reference("defaultNetworks", &name)?);
    }
    if let Some(namespace) = fields.text("multusNamespace")?.filter(|name| !name.is_empty()) {
        check_name("multusNamespace", namespace)?;
        policy.multus_namespace = namespace.to_owned();
    }
    if fields.flag("namespaceIsolation")?.unwrap_or(false) {
        let list = fields.text("globalNamespaces")?.filter(|list| !list.is_empty()).unwrap_or("default");
        let names = list.split(',').map(str::trim).filter(|name| !name.is_empty());
        policy.global_namespaces = Some(names.map(str::to_owned).collect());
    }
    Ok(policy)
}

/// Networks that are written out in the configuration called `name`.
fn delegates(fields: &Fields, name: &str) -> Result<Vec<NetworkConfig>, CniError> {
    let wrong = |error: CniError| error.context("key \"delegates\"");
    let mut networks = Vec::new();
    for mut delegate in fields.objects("delegates")? {
        if delegate.text("name").map_err(wrong)?.is_none_or(str::is_empty) {
            delegate.set("name", json!(name));
        }
        if delegate.get("plugins").is_some() && delegate.get("cniVersion").is_none() {
            let own = fields.get("cniVersion").cloned().unwrap_or_else(|| json!(version::IMPLIED));
            delegate.set("cniVersion", own);
        }
        networks.push(NetworkConfig::parse(&Value::Object(delegate.0).to_string()).map_err(wrong)?);
    }
    Ok(networks)
}

/// The name of a chain, which is that of a folder, too.
fn auxiliary_chain(fields: &Fields) -> Result<Option<String>, CniError> {
    const KEY: &str = "auxiliaryCNIChainName";
    let Some(name) = fields.text(KEY)?.filter(|name| !name.is_empty()) else { return Ok(None) };
    check_name(KEY, name)?;
    Ok(Some(name.to_owned()))
}

/// The name of a network, or a path on the node's disk.
fn checked_reference(key: &str, text: &str) -> Result<String, CniError> {
    if text.starts_with('/') {
        return Ok(text.to_owned());
    }
    check_name(key, text)?;
    Ok(text.to_owned())
}

fn check_name(key: &str, text: &str) -> Result<(), CniError> {
    check_identifier(&format!("key \"{key}\":"), text)
        .map_err(|error| CniError { code: code::INVALID_CONFIG, ..error })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_the_documented_ones() {
        let config =
            MetaConfig::parse(r#"{"cniVersion":"1.0.0","name":"fairlead","type":"fairlead"}"#).unwrap();
        assert_eq!(config.primary_dir, PathBuf::from("/etc/cni/net.d"));
        assert_eq!(config.conf_dir, PathBuf::from("/etc/cni/multus/net.d"));
        assert_eq!(config.policy_for("default"), Policy::default());
        assert_eq!(config.agent_timeout, Duration::from_secs(30));
        assert_eq!(config.annotations().unwrap(), None);
        assert!(config.is_built_in("macvlan"));
    }

    #[test]
    fn annotations_and_options_are_read() {
        let config = MetaConfig::parse(
            r#"{"cniVersion":"1.0.0","name":"fairlead","type":"fairlead","Primary":"10-a.conflist","builtins":["sriov"],
               "runtimeConfig":{"io.kubernetes.cri.pod-annotations":{"a":"b"}}}"#,
        )
        .unwrap();
        assert_eq!(config.primary.as_deref(), Some("10-a.conflist"));
        assert_eq!(config.annotations().unwrap().unwrap()["a"], "b");
        assert!(config.is_built_in("sriov") && !config.is_built_in("macvlan"));
    }

    #[test]
    fn multus_keys_say_which_networks_there_are() {
        let config = MetaConfig::parse(
            r#"{"cniVersion":"1.0.0","name":"fairlead","type":"fairlead","clusterNetwork":"/etc/cni/net.d/10-a.conflist",
               "defaultNetworks":["storage"],"SystemNamespaces":["kube-system","infra"],"multusNamespace":"nets",
               "namespaceIsolation":true,"globalNamespaces":"default, shared","confDir":"/c"}"#,
        )
        .unwrap();
        let policy = config.policy_for("default");
        assert_eq!(policy.cluster_network.as_deref(), Some("/etc/cni/net.d/10-a.conflist"));
        assert_eq!(policy.default_networks, ["storage"]);
        assert_eq!(policy.multus_namespace, "nets");
        assert_eq!(policy.global_namespaces.as_ref().unwrap(), &["default", "shared"]);
        assert!(config.policy_for("infra").default_networks.is_empty());
        assert_eq!(config.conf_dir, PathBuf::from("/c"));
    }

    #[test]
    fn without_isolation_every_namespace_may_be_used_and_with_it_default_is_global() {
        let global = |pairs: &str| {
            let text = format!(r#"{{"cniVersion":"1.0.0","name":"f","type":"fairlead"{pairs}}}"#);
            MetaConfig::parse(&text).unwrap().policy.global_namespaces
        };
        assert_eq!(global(r#","globalNamespaces":"a""#), None);
        assert_eq!(global(r#","namespaceIsolation":true"#), Some(vec!["default".to_owned()]));
    }

    #[test]
    fn a_container_without_annotations_has_its_networks_by_its_arguments_or_by_the_section() {
        let env = |args: &str| {
            let pairs = [
                ("CNI_COMMAND", "DEL"),
                ("CNI_CONTAINERID", "c"),
                ("CNI_IFNAME", "eth0"),
                ("CNI_PATH", "/p"),
                ("CNI_ARGS", args),
            ];
            let get =
                |name: &str| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
            Call::read(get).unwrap()
        };
        let asks = |pairs: &str, args: &str| {
            let text = format!(r#"{{"cniVersion":"1.0.0","name":"f","type":"fairlead"{pairs}}}"#);
            let mut config = MetaConfig::parse(&text).unwrap();
            let call = config.take_over(&env(args));
            assert_eq!(call.args.get(NETWORKS_ARG), None, "plugins would refuse it");
            config.annotations().unwrap().map(|all| all[NETWORKS_ANNOTATION].clone())
        };
        let own = r#","networks":"storage""#;
        assert_eq!(asks("", "A=b"), None);
        assert_eq!(asks(own, ""), Some("storage".into()));
        assert_eq!(asks(own, "FAIRLEAD_NETWORKS=a,b@net5"), Some("a,b@net5".into()));
    }

    #[test]
    fn bad_options_are_named() {
        for (pair, word) in [
            (r#""clusterNetwork":"a/b""#, "clusterNetwork"),
            (r#""defaultNetworks":"a""#, "defaultNetworks"),
            (r#""defaultNetworks":["../a"]"#, "defaultNetworks"),
            (r#""multusNamespace":"a/b""#, "multusNamespace"),
            (r#""systemNamespaces":"kube-system""#, "systemNamespaces"),
            (r#""globalNamespaces":["a"],"namespaceIsolation":true"#, "globalNamespaces"),
            (r#""primary":"../x""#, "primary"),
            (r#""auxiliaryCNIChainName":"../x""#, "auxiliaryCNIChainName"),
            (r#""agentTimeoutSeconds":"x""#, "agentTimeoutSeconds"),
            (r#""builtins":"sriov""#, "builtins"),
        ] {
            let text = format!(r#"{{"cniVersion":"1.0.0","name":"f","type":"fairlead",{pair}}}"#);
            let error = MetaConfig::parse(&text).unwrap_err();
            assert!(error.msg.contains(word), "{error}");
        }
    }
}
