//! The runtime's view of a pod's sandbox.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use k8s_openapi::api::core::v1::{ContainerPort, Pod, PodSpec};

use super::amounts::{container_limits, container_requests};
use crate::cri::{
    POD_NAME, POD_NAMESPACE, POD_UID,
    v1::{
        Int64Value, LinuxPodSandboxConfig, LinuxSandboxSecurityContext, NamespaceMode, NamespaceOption,
        PodSandboxConfig, PodSandboxMetadata, PortMapping, Protocol, SecurityProfile,
        security_profile::ProfileType,
    },
};

/// By which a static pod's mirror in the API tells whose it is.
pub(crate) const MIRROR: &str = "kubernetes.io/config.mirror";

/// The three names of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PodId {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) uid: String,
}

impl PodId {
    pub(super) fn of(pod: &Pod) -> Self {
        let metadata = &pod.metadata;
        Self {
            namespace: metadata.namespace.clone().unwrap_or_default(),
            name: metadata.name.clone().unwrap_or_default(),
            uid: metadata.uid.clone().unwrap_or_default(),
        }
    }

    /// As kubelet names a pod in its texts.
    pub(super) fn text(&self) -> String {
        format!("{}_{}({})", self.name, self.namespace, self.uid)
    }

    pub(super) fn labels(&self) -> HashMap<String, String> {
        HashMap::from([
            (POD_NAME.into(), self.name.clone()),
            (POD_NAMESPACE.into(), self.namespace.clone()),
            (POD_UID.into(), self.uid.clone()),
        ])
    }

    /// Where the logs of its containers go.
    pub(super) fn log_folder(&self, root: &Path) -> PathBuf {
        root.join(format!("{}_{}_{}", self.namespace, self.name, self.uid))
    }
}

/// The sandbox as kubelet asks for it.
pub(super) fn sandbox_config(pod: &Pod, attempt: u32, log_root: &Path) -> PodSandboxConfig {
    let id = PodId::of(pod);
    let default = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&default);
    let mut labels: HashMap<String, String> =
        pod.metadata.labels.clone().unwrap_or_default().into_iter().collect();
    labels.extend(id.labels());
    let hostname = match (&spec.hostname, spec.host_network) {
        (_, Some(true)) => String::new(),
        (Some(name), _) => name.clone(),
        // A host name has at most 63 characters.
        (None, _) => id.name.chars().take(63).collect::<String>().trim_end_matches(['-', '.']).to_string(),
    };
    PodSandboxConfig {
        metadata: Some(PodSandboxMetadata {
            name: id.name.clone(),
            uid: runtime_uid(pod, &id),
            namespace: id.namespace.clone(),
            attempt,
        }),
        hostname,
        log_directory: id.log_folder(log_root).display().to_string(),
        port_mappings: port_mappings(spec),
        labels,
        annotations: annotations(pod),
        linux: Some(LinuxPodSandboxConfig {
            cgroup_parent: cgroup_parent(pod),
            security_context: Some(security_context(spec)),
        }),
    }
}

/// A static pod runs under a UID of its own, which its mirror in the API tells by an annotation.
fn runtime_uid(pod: &Pod, id: &PodId) -> String {
    let mirrored = pod.metadata.annotations.as_ref().and_then(|all| all.get(MIRROR));
    mirrored.unwrap_or(&id.uid).clone()
}

/// The containers' ports, of which those with a port of the node are the runtime's to map.
fn port_mappings(spec: &PodSpec) -> Vec<PortMapping> {
    let ports = spec.containers.iter().flat_map(|container| container.ports.iter().flatten());
    let mapping = |port: &ContainerPort| PortMapping {
        protocol: match port.protocol.as_deref() {
            Some("UDP") => Protocol::Udp,
            Some("SCTP") => Protocol::Sctp,
            _ => Protocol::Tcp,
        }
        .into(),
        container_port: port.container_port,
        host_port: port.host_port.unwrap_or_default(),
        host_ip: port.host_ip.clone().unwrap_or_default(),
    };
    ports.map(mapping).collect()
}

/// The pod's own annotations and kubelet's two.
fn annotations(pod: &Pod) -> HashMap<String, String> {
    let mut annotations: HashMap<String, String> =
        pod.metadata.annotations.clone().unwrap_or_default().into_iter().collect();
    let created = pod.metadata.creation_timestamp.as_ref().map(|t| t.0.to_string()).unwrap_or_default();
    annotations.insert("kubernetes.io/config.seen".into(), created);
    let source = if annotations.remove(MIRROR).is_some() { "file" } else { "api" };
    annotations.insert("kubernetes.io/config.source".into(), source.into());
    annotations
}

fn security_context(spec: &PodSpec) -> LinuxSandboxSecurityContext {
    let privileged = |c: &k8s_openapi::api::core::v1::Container| {
        c.security_context.as_ref().and_then(|s| s.privileged).unwrap_or(false)
    };
    let id = |value: Option<i64>| value.map(|value| Int64Value { value });
    let security = spec.security_context.as_ref();
    LinuxSandboxSecurityContext {
        namespace_options: Some(namespaces(spec)),
        run_as_user: id(security.and_then(|s| s.run_as_user)),
        run_as_group: id(security.and_then(|s| s.run_as_group)),
        privileged: spec.containers.iter().any(privileged),
        seccomp: Some(SecurityProfile { profile_type: ProfileType::RuntimeDefault.into() }),
    }
}

/// Which namespaces are the pod's, the container's, the node's.
pub(super) fn namespaces(spec: &PodSpec) -> NamespaceOption {
    let mode = |host: Option<bool>, own: NamespaceMode| {
        if host == Some(true) { NamespaceMode::Node } else { own }.into()
    };
    NamespaceOption {
        network: mode(spec.host_network, NamespaceMode::Pod),
        pid: mode(spec.host_pid, NamespaceMode::Container),
        ipc: mode(spec.host_ipc, NamespaceMode::Pod),
    }
}

/// `Guaranteed`, `Burstable` or `BestEffort`: from the containers' cpu and memory.
pub(super) fn qos_class(pod: &Pod) -> &'static str {
    let mut any = false;
    let mut all = true;
    for container in pod.spec.iter().flat_map(|s| &s.containers) {
        let (requests, limits) = (container_requests(container), container_limits(container));
        for resource in ["cpu", "memory"] {
            any |= requests.contains_key(resource) || limits.contains_key(resource);
            all &= limits.contains_key(resource) && limits.get(resource) == requests.get(resource);
        }
    }
    match (any, all) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

/// Where the pod's control groups are, with the runtime's cgroupfs driver.
pub(super) fn cgroup_parent(pod: &Pod) -> String {
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    match qos_class(pod) {
        "Guaranteed" => format!("/kubepods/pod{uid}"),
        class => format!("/kubepods/{}/pod{uid}", class.to_ascii_lowercase()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(spec: &Value) -> Pod {
        serde_json::from_value(json!({
            "metadata": {
                "name": "p", "namespace": "n", "uid": "u",
                "labels": { "app": "x" }, "annotations": { "k8s.v1.cni.cncf.io/networks": "net" },
            },
            "spec": spec,
        }))
        .unwrap()
    }

    #[test]
    fn names_labels_annotations() {
        let config = sandbox_config(&pod(&json!({ "containers": [] })), 3, Path::new("/logs"));
        let metadata = config.metadata.unwrap();
        assert_eq!((metadata.name.as_str(), metadata.namespace.as_str(), metadata.attempt), ("p", "n", 3));
        assert_eq!((config.hostname.as_str(), config.log_directory.as_str()), ("p", "/logs/n_p_u"));
        assert_eq!(config.labels[POD_UID], "u");
        assert_eq!(config.labels["app"], "x");
        assert_eq!(config.annotations["k8s.v1.cni.cncf.io/networks"], "net");
        assert_eq!(config.annotations["kubernetes.io/config.source"], "api");
    }

    #[test]
    fn a_static_pod_runs_under_the_uid_that_its_mirror_names() {
        let mut pod = pod(&json!({ "containers": [] }));
        pod.metadata.annotations = Some([(MIRROR.to_owned(), "file-uid".to_owned())].into());
        let config = sandbox_config(&pod, 0, Path::new("/logs"));
        assert_eq!(
            (config.metadata.unwrap().uid.as_str(), config.labels[POD_UID].as_str()),
            ("file-uid", "u")
        );
        assert_eq!(config.annotations["kubernetes.io/config.source"], "file");
        assert!(!config.annotations.contains_key(MIRROR));
    }

    #[test]
    fn ports_are_passed_on() {
        let ports =
            json!([{ "containerPort": 80, "hostPort": 8080 }, { "containerPort": 53, "protocol": "UDP" }]);
        let spec = json!({ "containers": [{ "name": "c", "ports": ports }] });
        let passed = sandbox_config(&pod(&spec), 0, Path::new("/logs")).port_mappings;
        let passed: Vec<_> =
            passed.iter().map(|one| (one.protocol, one.container_port, one.host_port)).collect();
        assert_eq!(passed, [(0, 80, 8080), (1, 53, 0)]);
    }

    #[test]
    fn namespaces_of_the_node() {
        let config = sandbox_config(
            &pod(&json!({ "containers": [], "hostNetwork": true, "hostPID": true })),
            0,
            Path::new("/l"),
        );
        assert_eq!(config.hostname, "");
        let options = config.linux.unwrap().security_context.unwrap().namespace_options.unwrap();
        assert_eq!(
            (options.network(), options.pid(), options.ipc()),
            (NamespaceMode::Node, NamespaceMode::Node, NamespaceMode::Pod)
        );
    }

    #[test]
    fn quality_of_service() {
        let with =
            |resources: Value| pod(&json!({ "containers": [{ "name": "c", "resources": resources }] }));
        assert_eq!(qos_class(&with(json!({ "limits": { "a/b": "1" } }))), "BestEffort");
        assert_eq!(qos_class(&with(json!({ "requests": { "cpu": "1" } }))), "Burstable");
        let both = json!({ "cpu": "1", "memory": "1Gi" });
        let guaranteed = with(json!({ "limits": both, "requests": both }));
        assert_eq!(qos_class(&guaranteed), "Guaranteed");
        assert_eq!(cgroup_parent(&guaranteed), "/kubepods/podu");
        assert_eq!(cgroup_parent(&with(json!({}))), "/kubepods/besteffort/podu");
    }
}
