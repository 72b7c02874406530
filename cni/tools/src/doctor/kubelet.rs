//! kubelet's sockets, and whether it knows the pools with their devices.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    os::unix::net::UnixStream,
    path::PathBuf,
};

use fairlead_resource_config::{config::Config, inventory::Inventory, pools};

use super::Node;
use crate::{
    finding::Finding,
    places::{checkpoint, registered},
};

/// What became of a try to connect.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Socket {
    Missing,
    Answers,
    Silent(String),
}

/// Devices by resource.
type Devices = BTreeMap<String, BTreeSet<String>>;

/// What kubelet has and knows.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    folder: PathBuf,
    sockets: Vec<(PathBuf, Socket)>,
    /// By resource: the socket of its pool, in either folder.
    plugins: BTreeMap<String, Socket>,
    /// What is registered by kubelet's own checkpoint, or why that is not known.
    registered: Result<Devices, String>,
    /// What our pools have.
    ours: Option<Devices>,
}

impl Facts {
    pub(super) fn gather(node: &Node, devices: Option<(&Config, &Inventory)>) -> Self {
        let plugins_folder = node.kubelet_root.join("device-plugins");
        let connect = |path: &PathBuf| match UnixStream::connect(node.root.path(path)) {
            Ok(_) => Socket::Answers,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Socket::Missing,
            Err(error) => Socket::Silent(error.to_string()),
        };
        let sockets =
            [plugins_folder.join("kubelet.sock"), node.kubelet_root.join("pod-resources/kubelet.sock")];
        let ours: Option<Devices> = devices.map(|(config, inventory)| {
            let pools = pools::assign(inventory, config).pools.into_iter();
            pools
                .map(|pool| {
                    (
                        pool.resource.to_string(),
                        pool.devices.iter().map(|device| device.id.to_string()).collect(),
                    )
                })
                .collect()
        });
        let plugin = |resource: &String| {
            let name = format!("{}.sock", resource.replace('/', "_"));
            let places = [plugins_folder.join(&name), node.kubelet_root.join("plugins_registry").join(&name)];
            let found = places.iter().map(connect).find(|socket| *socket != Socket::Missing);
            (resource.clone(), found.unwrap_or(Socket::Missing))
        };
        Self {
            sockets: sockets.into_iter().map(|path| (path.clone(), connect(&path))).collect(),
            plugins: ours.iter().flat_map(BTreeMap::keys).map(plugin).collect(),
            registered: checkpoint(&node.root, &node.kubelet_root)
                .map(|checkpoint| registered(&checkpoint).unwrap_or_default()),
            folder: plugins_folder,
            ours,
        }
    }
}

/// Says what of it keeps devices from pods.
pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, socket) in &facts.sockets {
        let shown = path.display();
        findings.push(match socket {
            Socket::Answers => Finding::ok("kubelet.sockets", format!("{shown} answers")),
            Socket::Missing => Finding::error(
                "kubelet.sockets",
                format!("{shown} is not there"),
                "see that kubelet runs; where its folder is another name it with --kubelet-root",
            ),
            Socket::Silent(why) => Finding::error(
                "kubelet.sockets",
                format!("{shown} does not answer: {why}"),
                "see that kubelet runs, and as whom this is called",
            ),
        });
    }
    let Some(ours) = &facts.ours else {
        findings.push(Finding::unknown(
            "kubelet.registration",
            "which pools should be registered is not known without their configuration",
            "name it with --pools FILE",
        ));
        return findings;
    };
    let runs = "see that the DaemonSet fairlead-device-plugin runs here, and its log";
    for (resource, socket) in &facts.plugins {
        findings.push(match socket {
            Socket::Answers => Finding::ok("kubelet.plugins", format!("the socket of {resource} answers")),
            Socket::Missing => Finding::error(
                "kubelet.plugins",
                format!(
                    "there is no socket of {resource} in {} or plugins_registry beside it",
                    facts.folder.display()
                ),
                runs,
            ),
            Socket::Silent(why) => Finding::error(
                "kubelet.plugins",
                format!("the socket of {resource} does not answer: {why}"),
                runs,
            ),
        });
    }
    match &facts.registered {
        Err(why) => findings.push(Finding::unknown(
            "kubelet.registration",
            format!("what kubelet has registered is not known: {why}"),
            "kubelet writes its checkpoint with the first device plugin; look at the node's allocatable",
        )),
        Ok(registered) => findings
            .extend(ours.iter().map(|(resource, ids)| registration(resource, ids, registered.get(resource)))),
    }
    findings
}

fn registration(resource: &str, ours: &BTreeSet<String>, kubelets: Option<&BTreeSet<String>>) -> Finding {
    let id = "kubelet.registration";
    let Some(kubelets) = kubelets else {
        return match ours.is_empty() {
            true => Finding::info(id, format!("{resource}, which has no device, is not registered")),
            false => Finding::error(
                id,
                format!("kubelet does not know {resource}"),
                "see the device plugin's log: it tells of each registration",
            ),
        };
    };
    let missing: Vec<&str> = ours.difference(kubelets).map(String::as_str).collect();
    // What a pod has stays listed when it is in no pool any more.
    let more: Vec<&str> = kubelets.difference(ours).map(String::as_str).collect();
    match (missing.is_empty(), more.is_empty()) {
        (true, true) => Finding::ok(id, format!("kubelet has the {} devices of {resource}", ours.len())),
        (true, false) => Finding::info(
            id,
            format!("kubelet has devices of {resource} that are in no pool now: {}", more.join(", ")),
        ),
        (false, _) => Finding::warning(
            id,
            format!(
                "kubelet lacks devices of {resource}, or holds them to be unhealthy: {}",
                missing.join(", ")
            ),
            "the device plugin's metric and log say why a device is not healthy; it may also read another configuration",
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::{
        super::testing::{MadeNode, assert_found},
        *,
    };
    use crate::finding::Severity;

    fn well() -> (MadeNode, Vec<UnixListener>) {
        let node = MadeNode::new();
        node.write(
            "/var/lib/kubelet/device-plugins/kubelet_internal_checkpoint",
            r#"{"Data":{"PodDeviceEntries":null,"RegisteredDevices":{"intel.com/vfs":["b","a"]}},"Checksum":1}"#,
        );
        node.write("/var/lib/kubelet/pod-resources/x", "");
        let sockets = [
            "device-plugins/kubelet.sock",
            "pod-resources/kubelet.sock",
            "device-plugins/intel.com_vfs.sock",
        ];
        let bind = |name: &str| UnixListener::bind(node.at(&format!("/var/lib/kubelet/{name}"))).unwrap();
        let listeners = sockets.map(bind).into();
        (node, listeners)
    }

    fn facts(node: &MadeNode, ours: &[(&str, &[&str])]) -> Facts {
        let mut facts = Facts::gather(&node.node(), None);
        let list = |ids: &&[&str]| ids.iter().map(|id| (*id).to_owned()).collect();
        facts.ours = Some(ours.iter().map(|(resource, ids)| ((*resource).to_owned(), list(ids))).collect());
        facts
    }

    #[test]
    fn sockets_that_answer_and_devices_that_kubelet_has_are_good() {
        let (node, _listeners) = well();
        let all = judge(&facts(&node, &[("intel.com/vfs", &["a", "b"])]));
        assert!(all.len() == 3 && all.iter().all(|finding| finding.severity == Severity::Ok), "{all:#?}");
    }

    #[test]
    fn what_kubelet_does_not_know_is_told() {
        let (node, listeners) = well();
        drop(listeners);
        node.remove("/var/lib/kubelet/pod-resources/kubelet.sock");
        let all = judge(&facts(&node, &[("intel.com/vfs", &["a", "c"]), ("intel.com/dpdk", &["d"])]));
        assert_found(&all, "kubelet.sockets", Severity::Error, &["pod-resources/kubelet.sock is not there"]);
        assert_found(
            &all,
            "kubelet.sockets",
            Severity::Error,
            &["device-plugins/kubelet.sock does not answer", "refused"],
        );
        assert_found(&all, "kubelet.registration", Severity::Warning, &["intel.com/vfs", ": c"]);
        assert_found(&all, "kubelet.registration", Severity::Error, &["does not know intel.com/dpdk"]);
        let all = judge(&facts(&node, &[("intel.com/vfs", &["a"])]));
        assert_found(&all, "kubelet.registration", Severity::Info, &["in no pool now: b"]);
    }

    #[test]
    fn without_a_checkpoint_or_pools_nothing_is_called_good() {
        let (node, _listeners) = well();
        node.remove("/var/lib/kubelet/device-plugins/kubelet_internal_checkpoint");
        let all = judge(&facts(&node, &[]));
        assert_found(&all, "kubelet.registration", Severity::Unknown, &["kubelet_internal_checkpoint"]);
        let all = judge(&Facts::gather(&node.node(), None));
        assert_found(&all, "kubelet.registration", Severity::Unknown, &["--pools"]);
    }

    #[test]
    fn a_pools_socket_is_looked_for_by_its_name() {
        let (node, _listeners) = well();
        let config = fairlead_resource_config::config::parse(
            r#"{"resourceList":[{"resourceName":"vfs","selectors":{}},{"resourceName":"other","selectors":{}}]}"#,
            std::path::Path::new("f"),
            fairlead_resource_config::config::DEFAULT_PREFIX,
        );
        let facts = Facts::gather(&node.node(), Some((&config.unwrap().config, &Inventory::default())));
        let all = judge(&facts);
        assert_found(&all, "kubelet.plugins", Severity::Ok, &["intel.com/vfs"]);
        assert_found(&all, "kubelet.plugins", Severity::Error, &["no socket of intel.com/other"]);
    }
}
