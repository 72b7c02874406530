//! An agent without a cluster: networks come from files, and pods say themselves which they want.
//!
//! For podman, nerdctl and edge nodes. YAML is read here and not in the CNI executable, which stays small; that keeps its way
//! of asking, so that devices, policy and messages are the same with a cluster and without.

use std::{
    collections::BTreeMap,
    fmt, fs, io,
    path::{Path, PathBuf},
};

use fairlead_cni::{
    agent_protocol::{Answer, Call, Failure, Health, Plan, Resolve},
    networks::{
        ask::{Annotations, AskError, Networks},
        nad::NetworkAttachmentDefinition,
        plan::{Allocated, Definitions, PlanError, needs, plan},
    },
};
use serde_json::Value;
use thiserror::Error;
use tokio::time::Instant;

use crate::{
    agent::count,
    errors::chain,
    http::Observed,
    kubelet::{Kubelet, KubeletError},
    metrics::{Metrics, Reason, Verb},
    resolve::reason_of,
    server::Handler,
};

/// Endings of files that hold definitions.
const ENDINGS: [&str; 3] = ["json", "yaml", "yml"];
/// No definition is that large; a file that is was not meant.
const LARGEST: u64 = 1 << 20;

/// Answers the CNI executable's calls from a folder of definitions.
pub struct Local {
    folder: PathBuf,
    kubelet: Kubelet,
    metrics: Metrics,
}

/// A pod has no plan.
#[derive(Debug, Error)]
enum LocalError {
    #[error("the folder of networks, {0}, cannot be read")]
    Folder(PathBuf, #[source] io::Error),
    #[error(transparent)]
    Ask(#[from] AskError),
    #[error(transparent)]
    Kubelet(#[from] KubeletError),
    #[error(transparent)]
    Plan(#[from] PlanError),
}

impl LocalError {
    fn may_pass(&self) -> bool {
        matches!(self, Self::Kubelet(error) if error.may_pass())
    }

    /// For metrics.
    fn reason(&self) -> Reason {
        match self {
            Self::Folder(..) => Reason::Node,
            Self::Ask(_) => Reason::Annotation,
            Self::Kubelet(_) => Reason::Kubelet,
            Self::Plan(error) => reason_of(error),
        }
    }
}

/// It needs nothing but its folder, and knows of no attachment: nobody tells it which pods there are.
impl Observed for Local {
    fn missing(&self) -> Vec<String> {
        Vec::new()
    }

    fn metrics(&self) -> Result<String, fmt::Error> {
        self.metrics.text()
    }
}

impl Local {
    /// An agent with the definitions in `folder`, and kubelet's files, if there is one, at `kubelet_root`.
    ///
    /// # Errors
    /// When `kubelet_root` cannot be part of a socket address.
    pub fn new(folder: PathBuf, kubelet_root: &Path) -> Result<Self, KubeletError> {
        let metrics = Metrics::default();
        Ok(Self { folder, kubelet: Kubelet::new(kubelet_root, metrics.clone())?, metrics })
    }

    /// What the folder holds now.
    fn definitions(&self) -> Result<Definitions, LocalError> {
        definitions(&self.folder).map_err(|error| LocalError::Folder(self.folder.clone(), error))
    }

    async fn resolve(&self, call: &Resolve, deadline: Instant) -> Result<Plan, LocalError> {
        let annotations = call.annotations.as_ref().map(Annotations::of).unwrap_or_default();
        let networks = Networks::of(&call.pod, &call.interface, annotations, &call.policy)?;
        // Read each time: it is small, and whoever changes a file need not tell anybody.
        let definitions = self.definitions()?;
        let needs = needs(&networks, &definitions);
        let mut devices = Allocated::default();
        if needs.own {
            devices.own = self.kubelet.devices(&call.pod, deadline).await?.devices(&[]);
        }
        if needs.others {
            // Without a kubelet nobody allocates devices.
            match self.kubelet.others(&call.pod, deadline).await {
                Err(KubeletError::NoSocket(..)) => {}
                others => devices.others = others?,
            }
        }
        Ok(plan(&call.pod, &networks, &definitions, &devices)?)
    }
}

impl Handler for Local {
    async fn handle(&self, call: Call, deadline: Instant) -> Answer {
        match call {
            Call::Resolve(call) => {
                let start = Instant::now();
                let resolved = self.resolve(&call, deadline).await;
                let failure = resolved.as_ref().err().map(|error| (error.reason(), error.may_pass()));
                self.metrics.resolved(failure, start.elapsed());
                match resolved {
                    Ok(plan) => Answer::Plan(plan),
                    Err(error) => {
                        let (retry, message) = (error.may_pass(), chain(&error));
                        tracing::warn!(pod = %call.pod, retry, error = message, "no plan");
                        Answer::Failed(Failure { retry, message })
                    }
                }
            }
            // There is nobody else to be told.
            Call::Report(report) => {
                self.metrics.took(Verb::Add, &report.timings);
                for network in &report.networks {
                    let ips = network.ips.join(" ");
                    tracing::info!(pod = %report.pod, network = network.name, interface = network.interface, ips, "attached");
                }
                Answer::Published
            }
            Call::Notify(notify) => {
                count(&self.metrics, &notify);
                tracing::info!(pod = %notify.pod, what = ?notify.what, message = notify.message, "told");
                Answer::Taken
            }
            // Nothing is to be received, and nobody to be asked.
            Call::Health { .. } => Answer::Health(Health::default()),
            Call::Definitions { networks, .. } => match self.definitions() {
                Ok(all) => {
                    let split = networks.iter().filter_map(|network| network.split_once('/'));
                    let found = split.filter_map(|(namespace, name)| all.named(namespace, name)).cloned();
                    Answer::Definitions { found: found.collect() }
                }
                Err(error) => Answer::Failed(Failure { retry: error.may_pass(), message: chain(&error) }),
            },
        }
    }
}

/// All definitions of a folder. Files that hold none are passed over, and named wherever a definition is missed.
fn definitions(folder: &Path) -> io::Result<Definitions> {
    let (mut found, mut wrong) = (BTreeMap::new(), Vec::new());
    for file in files(folder)? {
        let read = read(&file).and_then(|definitions| {
            definitions.into_iter().try_for_each(|definition| add(&mut found, definition, &file))
        });
        if let Err(reason) = read {
            wrong.push(format!("{}: {reason}", file.display()));
        }
    }
    let mut source = format!("in the files of {}", folder.display());
    if !wrong.is_empty() {
        tracing::warn!(files = ?wrong, "passed over");
        source.push_str(&format!(" (of which are passed over: {})", wrong.join("; ")));
    }
    Ok(Definitions::new(source, found.into_values().map(|(definition, _)| definition)))
}

type Found = BTreeMap<String, (NetworkAttachmentDefinition, PathBuf)>;

fn add(found: &mut Found, definition: NetworkAttachmentDefinition, file: &Path) -> Result<(), String> {
    let name = definition.to_string();
    if let Some((_, first)) = found.get(&name) {
        return Err(format!("{name} is in {} already", first.display()));
    }
    found.insert(name, (definition, file.to_owned()));
    Ok(())
}

fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let ending = path.extension().unwrap_or_default();
        // What an editor or a ConfigMap's volume keeps beside them.
        let is_hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if !is_hidden && ENDINGS.iter().any(|known| ending == *known) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn read(file: &Path) -> Result<Vec<NetworkAttachmentDefinition>, String> {
    let size = fs::metadata(file).map_err(|error| error.to_string())?.len();
    if size > LARGEST {
        return Err(format!("it has {size} bytes, at most {LARGEST} are read"));
    }
    let text = fs::read_to_string(file).map_err(|error| error.to_string())?;
    // JSON is YAML, too.
    let documents: Vec<Value> = serde_saphyr::from_multiple(&text).map_err(|error| error.to_string())?;
    documents.iter().filter(|document| !document.is_null()).map(NetworkAttachmentDefinition::read).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use fairlead_cni::{
        agent_protocol::{PodRef, Policy},
        networks::annotation::NETWORKS_ANNOTATION,
    };

    use super::*;

    const MACVLAN: &str = "\
apiVersion: k8s.cni.cncf.io/v1
kind: NetworkAttachmentDefinition
metadata: { name: storage }
spec:
  config: |
    { \"cniVersion\": \"1.0.0\", \"type\": \"macvlan\", \"master\": \"eth1\" }
---
apiVersion: k8s.cni.cncf.io/v1
kind: NetworkAttachmentDefinition
metadata: { name: fast, namespace: team, annotations: { k8s.v1.cni.cncf.io/resourceName: intel.com/sriov } }
spec: { config: '{\"type\":\"sriov\"}' }
";

    async fn ask(folder: &Path, networks: &str) -> Result<Plan, String> {
        let local = Local::new(folder.to_owned(), Path::new("/nonexistent")).unwrap();
        let annotations = BTreeMap::from([(NETWORKS_ANNOTATION.to_owned(), networks.to_owned())]);
        let call = Resolve {
            pod: PodRef { namespace: "default".into(), name: "c1".into(), uid: String::new() },
            container_id: "c1".into(),
            annotations: Some(annotations),
            interface: "eth0".into(),
            policy: Policy::default(),
            deadline_ms: 1000,
        };
        let deadline = Instant::now() + Duration::from_secs(1);
        match local.handle(Call::Resolve(call), deadline).await {
            Answer::Plan(plan) => Ok(plan),
            Answer::Failed(failure) => Err(failure.message),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn networks_come_from_yaml_and_json_files() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a.yaml"), MACVLAN).unwrap();
        let json = r#"{"kind":"NetworkAttachmentDefinition","metadata":{"name":"other"},"spec":{"config":"{\"type\":\"ipvlan\"}"}}"#;
        fs::write(dir.path().join("b.json"), json).unwrap();
        fs::write(dir.path().join(".a.yaml.swp"), "").unwrap();
        fs::write(dir.path().join("README"), "").unwrap();
        let plan = ask(dir.path(), "storage, other@data").await.unwrap();
        let names: Vec<_> =
            plan.attachments.iter().map(|one| (one.network.as_str(), one.interface.as_str())).collect();
        assert_eq!(names, [("default/storage", "net1"), ("default/other", "data")]);
        assert!(plan.attachments[0].config.contains("\"name\":\"storage\""));
        let local = Local::new(dir.path().to_owned(), Path::new("/nonexistent")).unwrap();
        let networks = ["team/fast", "team/gone", "fast"].map(str::to_owned).to_vec();
        let call = Call::Definitions { networks, deadline_ms: 1000 };
        let Answer::Definitions { found } = local.handle(call, Instant::now()).await else {
            panic!("another answer")
        };
        assert_eq!(found.iter().map(ToString::to_string).collect::<Vec<_>>(), ["team/fast"]);
    }

    #[tokio::test]
    async fn a_missing_network_is_said_with_what_may_hold_it() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a.yaml"), MACVLAN).unwrap();
        fs::write(dir.path().join("b.yaml"), MACVLAN).unwrap();
        fs::write(dir.path().join("c.yml"), "kind: Pod").unwrap();
        fs::write(dir.path().join("d.yml"), "a: [").unwrap();
        let error = ask(dir.path(), "gone").await.unwrap_err();
        for word in ["network default/gone", "a.yaml already", "c.yml: `kind` is \"Pod\"", "d.yml: "] {
            assert!(error.contains(word), "{word}: {error}");
        }
        let error = ask(Path::new("/nonexistent"), "gone").await.unwrap_err();
        assert!(error.contains("/nonexistent"), "{error}");
    }

    #[tokio::test]
    async fn a_network_of_devices_takes_a_kubelet() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a.yaml"), MACVLAN).unwrap();
        let error = ask(dir.path(), "team/fast").await.unwrap_err();
        assert!(error.contains("PodResources"), "{error}");
    }
}
