//! The runtime's view of a container: from the pod, the devices that it got, and where its volumes are.

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
};

use k8s_openapi::api::core::v1::{Container, EnvVar, Pod, PodSpec, SecurityContext};

use super::{
    amounts::{container_limits, container_requests},
    devices::Edits,
    sandbox_config::{PodId, namespaces},
};
use crate::cri::{
    CONTAINER_NAME,
    v1::{
        Capability, CdiDevice, ContainerConfig, ContainerMetadata, Device, HugepageLimit, ImageSpec,
        Int64Value, KeyValue, LinuxContainerConfig, LinuxContainerResources, LinuxContainerSecurityContext,
        Mount, MountPropagation, SecurityProfile, security_profile::ProfileType,
    },
};

/// What is known when a container is made, besides the pod.
pub(super) struct Surroundings<'a> {
    pub(super) image_id: &'a str,
    pub(super) attempt: u32,
    pub(super) edits: &'a Edits,
    /// Host folder of each volume.
    pub(super) volumes: &'a BTreeMap<String, PathBuf>,
    /// The pod's own /etc/hosts; absent with the node's network.
    pub(super) hosts_file: Option<PathBuf>,
    pub(super) pod_ip: &'a str,
    pub(super) host_ip: &'a str,
    /// Sizes of huge pages that the node has, in bytes.
    pub(super) huge_page_sizes: &'a [u64],
}

/// The container as kubelet asks for it; an error names what the pod refers to and does not have.
pub(super) fn container_config(
    pod: &Pod,
    container: &Container,
    around: &Surroundings<'_>,
) -> Result<ContainerConfig, String> {
    let id = PodId::of(pod);
    let own = environment(pod, container, around);
    let expand = |list: &Option<Vec<String>>| -> Vec<String> {
        list.iter().flatten().map(|text| expand(text, &own)).collect()
    };
    let (command, args) = (expand(&container.command), expand(&container.args));
    // The devices' variables first: where both set one, the runtime takes the later.
    let device_envs = around.edits.envs.iter().map(|(k, v)| (k.clone(), v.clone()));
    let envs =
        device_envs.chain(own).map(|(key, value)| KeyValue { key, value: value.into_bytes() }).collect();
    let devices = around.edits.devices.values().map(|d| Device {
        container_path: d.container_path.clone(),
        host_path: d.host_path.clone(),
        permissions: d.permissions.clone(),
    });
    let mut labels = id.labels();
    labels.insert(CONTAINER_NAME.into(), container.name.clone());
    Ok(ContainerConfig {
        metadata: Some(ContainerMetadata { name: container.name.clone(), attempt: around.attempt }),
        image: Some(ImageSpec {
            image: around.image_id.into(),
            user_specified_image: container.image.clone().unwrap_or_default(),
        }),
        command,
        args,
        working_dir: container.working_dir.clone().unwrap_or_default(),
        envs,
        mounts: mounts(container, around)?,
        devices: devices.collect(),
        labels,
        annotations: annotations(&id, around),
        log_path: format!("{}/{}.log", container.name, around.attempt),
        linux: Some(LinuxContainerConfig {
            resources: Some(resources(container, around.huge_page_sizes)),
            security_context: Some(security_context(pod, container)),
        }),
        cdi_devices: around.edits.cdi_devices.iter().map(|name| CdiDevice { name: name.clone() }).collect(),
    })
}

/// The devices' annotations, and kubelet's count of restarts.
fn annotations(id: &PodId, around: &Surroundings<'_>) -> HashMap<String, String> {
    let mut annotations: HashMap<String, String> = around.edits.annotations.clone().into_iter().collect();
    annotations.insert("io.kubernetes.container.restartCount".into(), around.attempt.to_string());
    annotations.insert("io.kubernetes.pod.uid".into(), id.uid.clone());
    annotations
}

/// The pod's own variables, in order, with references to earlier ones filled in.
fn environment(pod: &Pod, container: &Container, around: &Surroundings<'_>) -> Vec<(String, String)> {
    let mut envs: Vec<(String, String)> = Vec::new();
    for env in container.env.iter().flatten() {
        let value = match field_of(env) {
            Some(field) => field_value(pod, field, around),
            None => expand(env.value.as_deref().unwrap_or_default(), &envs),
        };
        envs.retain(|(name, _)| *name != env.name);
        envs.push((env.name.clone(), value));
    }
    envs
}

fn field_of(env: &EnvVar) -> Option<&str> {
    Some(env.value_from.as_ref()?.field_ref.as_ref()?.field_path.as_str())
}

fn field_value(pod: &Pod, field: &str, around: &Surroundings<'_>) -> String {
    let id = PodId::of(pod);
    match field {
        "metadata.name" => id.name,
        "metadata.namespace" => id.namespace,
        "metadata.uid" => id.uid,
        "spec.nodeName" => pod.spec.as_ref().and_then(|s| s.node_name.clone()).unwrap_or_default(),
        "spec.serviceAccountName" => {
            pod.spec.as_ref().and_then(|s| s.service_account_name.clone()).unwrap_or_default()
        }
        "status.podIP" => around.pod_ip.into(),
        "status.hostIP" => around.host_ip.into(),
        // Refused before, see `unsupported`.
        _ => String::new(),
    }
}

/// Fills in `$(NAME)`; `$$` is a dollar sign, and what names nothing stays as it is.
fn expand(text: &str, envs: &[(String, String)]) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
            continue;
        }
        let reference = rest.strip_prefix('(').and_then(|r| r.split_once(')'));
        match reference.and_then(|(name, after)| Some((envs.iter().find(|(n, _)| n == name)?, after))) {
            Some(((_, value), after)) => {
                out.push_str(value);
                rest = after;
            }
            None => out.push('$'),
        }
    }
    out + rest
}

/// The devices' mounts, the pod's volumes, and the pod's /etc/hosts unless something else is mounted there.
fn mounts(container: &Container, around: &Surroundings<'_>) -> Result<Vec<Mount>, String> {
    let mut mounts: Vec<Mount> = Vec::new();
    for mount in container.volume_mounts.iter().flatten() {
        let host = around.volumes.get(&mount.name).ok_or_else(|| {
            format!("container {} mounts volume {}, which the pod does not have", container.name, mount.name)
        })?;
        let propagation = match mount.mount_propagation.as_deref() {
            Some("HostToContainer") => MountPropagation::PropagationHostToContainer,
            Some("Bidirectional") => MountPropagation::PropagationBidirectional,
            _ => MountPropagation::PropagationPrivate,
        };
        mounts.push(Mount {
            container_path: mount.mount_path.clone(),
            host_path: host.display().to_string(),
            readonly: mount.read_only.unwrap_or(false),
            propagation: propagation.into(),
        });
    }
    for mount in around.edits.mounts.values() {
        mounts.push(Mount {
            container_path: mount.container_path.clone(),
            host_path: mount.host_path.clone(),
            readonly: mount.read_only,
            propagation: MountPropagation::PropagationPrivate.into(),
        });
    }
    if let Some(hosts) = &around.hosts_file
        && !mounts.iter().any(|m| m.container_path == "/etc/hosts")
    {
        mounts.push(Mount {
            container_path: "/etc/hosts".into(),
            host_path: hosts.display().to_string(),
            ..Mount::default()
        });
    }
    Ok(mounts)
}

/// Kubelet's arithmetic: 1024 shares and 100 ms of each 100 ms for one cpu.
fn resources(container: &Container, huge_page_sizes: &[u64]) -> LinuxContainerResources {
    const PERIOD: i64 = 100_000;
    let (requests, limits) = (container_requests(container), container_limits(container));
    let amount = |map: &BTreeMap<String, i128>, name: &str| {
        map.get(name).map(|a| i64::try_from(*a).unwrap_or(i64::MAX))
    };
    let quota = amount(&limits, "cpu").map_or(0, |milli| (milli * PERIOD / 1000).max(1000));
    let hugepage_limits = huge_page_sizes.iter().map(|size| HugepageLimit {
        page_size: cgroup_size(*size),
        // A size that is not asked for is limited to nothing.
        limit: amount(&limits, &resource_name(*size)).map_or(0, |milli| (milli / 1000).unsigned_abs()),
    });
    LinuxContainerResources {
        cpu_period: PERIOD,
        cpu_quota: quota,
        cpu_shares: amount(&requests, "cpu").map_or(2, |milli| (milli * 1024 / 1000).clamp(2, 262_144)),
        memory_limit_in_bytes: amount(&limits, "memory").map_or(0, |milli| milli / 1000),
        hugepage_limits: hugepage_limits.collect(),
    }
}

/// The name of a huge page size as a resource, such as `hugepages-2Mi`.
pub(super) fn resource_name(size: u64) -> String {
    match size {
        s if s % (1 << 30) == 0 => format!("hugepages-{}Gi", s >> 30),
        s if s % (1 << 20) == 0 => format!("hugepages-{}Mi", s >> 20),
        s => format!("hugepages-{}Ki", s >> 10),
    }
}

/// The name of a huge page size in control groups, such as `2MB`.
fn cgroup_size(size: u64) -> String {
    match size {
        s if s % (1 << 30) == 0 => format!("{}GB", s >> 30),
        s if s % (1 << 20) == 0 => format!("{}MB", s >> 20),
        s => format!("{}KB", s >> 10),
    }
}

fn security_context(pod: &Pod, container: &Container) -> LinuxContainerSecurityContext {
    let default = SecurityContext::default();
    let own = container.security_context.as_ref().unwrap_or(&default);
    let default_spec = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&default_spec);
    let of_pod = spec.security_context.as_ref();
    let privileged = own.privileged.unwrap_or(false);
    let id = |value: Option<i64>| value.map(|value| Int64Value { value });
    let paths = |list: &[&str]| {
        if privileged { Vec::new() } else { list.iter().map(|p| (*p).to_string()).collect() }
    };
    let profile = own.seccomp_profile.as_ref().or_else(|| of_pod?.seccomp_profile.as_ref());
    let seccomp = match profile.map(|profile| profile.type_.as_str()) {
        Some("RuntimeDefault") if !privileged => ProfileType::RuntimeDefault,
        _ => ProfileType::Unconfined,
    };
    let capabilities = own.capabilities.as_ref().map(|c| Capability {
        add_capabilities: c.add.clone().unwrap_or_default(),
        drop_capabilities: c.drop.clone().unwrap_or_default(),
    });
    LinuxContainerSecurityContext {
        capabilities,
        privileged,
        namespace_options: Some(namespaces(spec)),
        run_as_user: id(own.run_as_user.or_else(|| of_pod?.run_as_user)),
        run_as_group: id(own.run_as_group.or_else(|| of_pod?.run_as_group)),
        readonly_rootfs: own.read_only_root_filesystem.unwrap_or(false),
        no_new_privs: own.allow_privilege_escalation == Some(false),
        masked_paths: paths(MASKED),
        readonly_paths: paths(READ_ONLY),
        seccomp: Some(SecurityProfile { profile_type: seccomp.into() }),
    }
}

/// What an unprivileged container does not see of /proc and /sys, and what it cannot write.
const MASKED: &[&str] = &[
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];
const READ_ONLY: &[&str] = &["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

#[cfg(test)]
mod tests {
    use fairlead_kubelet_api::device_plugin::DeviceSpec;
    use serde_json::{Value, json};

    use super::*;

    fn config(container: &Value, edits: &Edits) -> Result<ContainerConfig, String> {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": { "name": "p", "namespace": "n", "uid": "u" },
            "spec": { "nodeName": "node1", "containers": [container], "securityContext": { "runAsUser": 7 } },
        }))
        .unwrap();
        let volumes = BTreeMap::from([("v".to_string(), PathBuf::from("/host/v"))]);
        let around = Surroundings {
            image_id: "sha256:1",
            attempt: 2,
            edits,
            volumes: &volumes,
            hosts_file: Some("/h".into()),
            pod_ip: "10.0.0.5",
            host_ip: "10.0.0.1",
            huge_page_sizes: &[2 << 20, 1 << 30],
        };
        container_config(&pod, &pod.spec.as_ref().unwrap().containers[0], &around)
    }

    fn envs(config: &ContainerConfig) -> Vec<(String, String)> {
        let text = |b: &Vec<u8>| String::from_utf8(b.clone()).unwrap();
        config.envs.iter().map(|e| (e.key.clone(), text(&e.value))).collect()
    }

    #[test]
    fn devices_come_in() {
        let edits = Edits {
            envs: BTreeMap::from([("PCIDEVICE_A".into(), "0000:01:10.0".into())]),
            devices: BTreeMap::from([(
                "/dev/vfio/5".into(),
                DeviceSpec {
                    container_path: "/dev/vfio/5".into(),
                    host_path: "/dev/vfio/5".into(),
                    permissions: "rw".into(),
                },
            )]),
            cdi_devices: vec!["a.com/b=c".into()],
            annotations: BTreeMap::from([("x".into(), "y".into())]),
            ..Edits::default()
        };
        let config =
            config(&json!({ "name": "c", "image": "i", "env": [{ "name": "B", "value": "1" }] }), &edits)
                .unwrap();
        assert_eq!(envs(&config), [("PCIDEVICE_A".into(), "0000:01:10.0".into()), ("B".into(), "1".into())]);
        assert_eq!(config.devices[0].permissions, "rw");
        assert_eq!(config.cdi_devices[0].name, "a.com/b=c");
        assert_eq!(config.annotations["x"], "y");
        assert_eq!(config.log_path, "c/2.log");
    }

    #[test]
    fn variables() {
        let container = json!({
            "name": "c", "image": "i",
            "command": ["echo", "$(A)$(NONE)", "$$(A)", "$"],
            "env": [
                { "name": "A", "value": "1" },
                { "name": "B", "value": "$(A)2" },
                { "name": "IP", "valueFrom": { "fieldRef": { "fieldPath": "status.podIP" } } },
                { "name": "NODE", "valueFrom": { "fieldRef": { "fieldPath": "spec.nodeName" } } },
            ],
        });
        let config = config(&container, &Edits::default()).unwrap();
        assert_eq!(config.command, ["echo", "1$(NONE)", "$(A)", "$"]);
        let wanted = [("A", "1"), ("B", "12"), ("IP", "10.0.0.5"), ("NODE", "node1")];
        assert_eq!(envs(&config), wanted.map(|(k, v)| (k.to_string(), v.to_string())));
    }

    #[test]
    fn volumes_and_hosts() {
        let mount = |name: &str| json!({ "name": "c", "image": "i", "volumeMounts": [{ "name": name, "mountPath": "/v", "readOnly": true }] });
        let mounts = config(&mount("v"), &Edits::default()).unwrap().mounts;
        assert_eq!((mounts[0].host_path.as_str(), mounts[0].readonly), ("/host/v", true));
        assert_eq!(mounts[1].container_path, "/etc/hosts");
        let error = config(&mount("w"), &Edits::default()).unwrap_err();
        assert!(error.contains("volume w"), "{error}");
    }

    #[test]
    fn limits_and_rights() {
        let container = json!({
            "name": "c", "image": "i",
            "resources": {
                "limits": { "cpu": "500m", "memory": "64Mi", "hugepages-2Mi": "8Mi" },
                "requests": { "cpu": "250m", "memory": "64Mi", "hugepages-2Mi": "8Mi" },
            },
            "securityContext": { "capabilities": { "add": ["IPC_LOCK"] }, "runAsUser": 0 },
        });
        let linux = config(&container, &Edits::default()).unwrap().linux.unwrap();
        let resources = linux.resources.unwrap();
        assert_eq!((resources.cpu_shares, resources.cpu_quota), (256, 50_000));
        assert_eq!(resources.memory_limit_in_bytes, 64 << 20);
        let pages: Vec<_> =
            resources.hugepage_limits.iter().map(|l| (l.page_size.as_str(), l.limit)).collect();
        assert_eq!(pages, [("2MB", 8 << 20), ("1GB", 0)]);
        let security = linux.security_context.unwrap();
        assert_eq!(security.capabilities.unwrap().add_capabilities, ["IPC_LOCK"]);
        assert_eq!(security.run_as_user.unwrap().value, 0, "the container's own setting goes first");
        assert!(!security.masked_paths.is_empty());
    }
}
