//! What a pod asks for that the stand-in kubelet does not do. It is refused by name: a pod that silently runs without
//! what it asked for would prove the wrong thing.

use serde_json::Value;

/// What is done, or safe to leave undone here.
const SPEC: &[&str] = &[
    "containers",
    "volumes",
    "restartPolicy",
    "terminationGracePeriodSeconds",
    "nodeName",
    "nodeSelector",
    "hostNetwork",
    "hostPID",
    "hostIPC",
    "hostname",
    "securityContext",
    // Of no consequence on one node without service accounts and services.
    "schedulerName",
    "dnsPolicy",
    "tolerations",
    "enableServiceLinks",
    "serviceAccountName",
    "serviceAccount",
    "automountServiceAccountToken",
    "priority",
    "priorityClassName",
    "preemptionPolicy",
];
const CONTAINER: &[&str] = &[
    "name",
    "image",
    "imagePullPolicy",
    "command",
    "args",
    "workingDir",
    "env",
    "resources",
    "volumeMounts",
    "securityContext",
    "ports",
    "terminationMessagePath",
    "terminationMessagePolicy",
];
const POD_SECURITY: &[&str] = &["runAsUser", "runAsGroup", "seccompProfile"];
const CONTAINER_SECURITY: &[&str] = &[
    "privileged",
    "capabilities",
    "runAsUser",
    "runAsGroup",
    "readOnlyRootFilesystem",
    "allowPrivilegeEscalation",
    "seccompProfile",
];
const MOUNT: &[&str] = &["name", "mountPath", "readOnly", "mountPropagation"];
const FIELDS: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.podIP",
    "status.hostIP",
];

/// The paths of everything that is not done.
pub(super) fn unsupported(pod: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let spec = &pod["spec"];
    only(spec, SPEC, "spec", &mut found);
    only(&spec["securityContext"], POD_SECURITY, "spec.securityContext", &mut found);
    seccomp(&spec["securityContext"], "spec.securityContext", &mut found);
    for (i, container) in list(&spec["containers"]) {
        let path = format!("spec.containers[{i}]");
        only(container, CONTAINER, &path, &mut found);
        only(
            &container["securityContext"],
            CONTAINER_SECURITY,
            &format!("{path}.securityContext"),
            &mut found,
        );
        seccomp(&container["securityContext"], &format!("{path}.securityContext"), &mut found);
        for (j, mount) in list(&container["volumeMounts"]) {
            only(mount, MOUNT, &format!("{path}.volumeMounts[{j}]"), &mut found);
        }
        for (j, env) in list(&container["env"]) {
            environment(env, &format!("{path}.env[{j}]"), &mut found);
        }
        only(&container["resources"], &["limits", "requests"], &format!("{path}.resources"), &mut found);
    }
    for (i, volume) in list(&spec["volumes"]) {
        self::volume(volume, &format!("spec.volumes[{i}]"), &mut found);
    }
    found
}

fn volume(volume: &Value, path: &str, found: &mut Vec<String>) {
    only(volume, &["name", "hostPath", "emptyDir"], path, found);
    only(&volume["emptyDir"], &["medium", "sizeLimit"], &format!("{path}.emptyDir"), found);
    let medium = volume["emptyDir"]["medium"].as_str().unwrap_or_default();
    if !medium.is_empty() && medium != "HugePages" && !medium.starts_with("HugePages-") {
        found.push(format!("{path}.emptyDir.medium {medium}"));
    }
}

/// The node has no profiles of its own.
fn seccomp(context: &Value, path: &str, found: &mut Vec<String>) {
    let kind = context["seccompProfile"]["type"].as_str();
    if let Some(kind) = kind.filter(|kind| !["RuntimeDefault", "Unconfined"].contains(kind)) {
        found.push(format!("{path}.seccompProfile {kind}"));
    }
}

fn environment(env: &Value, path: &str, found: &mut Vec<String>) {
    only(&env["valueFrom"], &["fieldRef"], &format!("{path}.valueFrom"), found);
    let field = env["valueFrom"]["fieldRef"]["fieldPath"].as_str();
    if let Some(field) = field.filter(|f| !FIELDS.contains(f)) {
        found.push(format!("{path}.valueFrom.fieldRef {field}"));
    }
}

fn list(value: &Value) -> impl Iterator<Item = (usize, &Value)> {
    value.as_array().into_iter().flatten().enumerate()
}

/// Notes keys of an object that are set and not known. Empty values ask for nothing.
fn only(object: &Value, known: &[&str], path: &str, found: &mut Vec<String>) {
    for (key, value) in object.as_object().into_iter().flatten() {
        let empty = match value {
            Value::Null | Value::Bool(false) => true,
            Value::Array(items) => items.is_empty(),
            Value::Object(fields) => fields.is_empty(),
            _ => false,
        };
        if !empty && !known.contains(&key.as_str()) {
            found.push(format!("{path}.{key}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_ordinary_pod_is_done() {
        let pod = json!({ "spec": {
            "containers": [{
                "name": "c", "image": "i", "command": ["sleep"], "env": [
                    { "name": "A", "value": "b" },
                    { "name": "IP", "valueFrom": { "fieldRef": { "fieldPath": "status.podIP", "apiVersion": "v1" } } },
                ],
                "securityContext": { "capabilities": { "add": ["IPC_LOCK"] } },
                "resources": { "limits": { "a/b": "1" } },
                "volumeMounts": [{ "name": "huge", "mountPath": "/dev/hugepages" }],
            }],
            "volumes": [
                { "name": "huge", "emptyDir": { "medium": "HugePages" } },
                { "name": "sys", "hostPath": { "path": "/sys", "type": "Directory" } },
                { "name": "tmp", "emptyDir": {} },
            ],
            "initContainers": [], "hostNetwork": false,
        } });
        assert_eq!(unsupported(&pod), Vec::<String>::new());
    }

    #[test]
    fn everything_else_is_named() {
        let pod = json!({ "spec": {
            "initContainers": [{ "name": "i" }],
            "containers": [{
                "name": "c", "livenessProbe": { "exec": {} }, "envFrom": [{}],
                "securityContext": { "seccompProfile": { "type": "Localhost", "localhostProfile": "p" } },
                "env": [
                    { "name": "A", "valueFrom": { "configMapKeyRef": { "name": "x" } } },
                    { "name": "B", "valueFrom": { "fieldRef": { "fieldPath": "metadata.labels" } } },
                ],
                "volumeMounts": [{ "name": "v", "mountPath": "/v", "subPath": "s" }],
            }],
            "volumes": [{ "name": "v", "configMap": { "name": "x" } }, { "name": "m", "emptyDir": { "medium": "Memory" } }],
        } });
        assert_eq!(
            unsupported(&pod),
            [
                "spec.initContainers",
                "spec.containers[0].livenessProbe",
                "spec.containers[0].envFrom",
                "spec.containers[0].securityContext.seccompProfile Localhost",
                "spec.containers[0].volumeMounts[0].subPath",
                "spec.containers[0].env[0].valueFrom.configMapKeyRef",
                "spec.containers[0].env[1].valueFrom.fieldRef metadata.labels",
                "spec.volumes[0].configMap",
                "spec.volumes[1].emptyDir.medium Memory",
            ]
        );
    }
}
