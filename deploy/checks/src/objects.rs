//! Objects as the API server's types have them.

use anyhow::{Context, Result, bail};
use k8s_openapi::{
    api::{
        admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding},
        apps::v1::{DaemonSet, Deployment, StatefulSet},
        batch::v1::Job,
        core::v1::{ConfigMap, Namespace, Pod, ResourceQuota, Service, ServiceAccount},
        networking::v1::NetworkPolicy,
        policy::v1::PodDisruptionBudget,
        rbac::v1::{ClusterRole, ClusterRoleBinding, RoleBinding},
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

/// Kind, namespace and name of an object.
pub fn name(object: &Value) -> String {
    let part = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let metadata = &object["metadata"];
    format!("{} {}/{}", part(&object["kind"]), part(&metadata["namespace"]), part(&metadata["name"]))
}

/// A network, with nothing that its definition does not have.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Network {
    api_version: String,
    kind: String,
    /// Its metadata.
    pub metadata: ObjectMeta,
    /// What it is.
    pub spec: NetworkSpec,
}

/// What a network is.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkSpec {
    /// CNI configuration, JSON.
    pub config: String,
}

/// Reads an object into its type, which must have every key of it: a misspelt one would be passed over by the API server.
///
/// # Errors
/// When it does not fit, or is of a kind that is not known here.
pub fn check(object: &Value) -> Result<()> {
    let (api, kind) = (object["apiVersion"].as_str(), object["kind"].as_str());
    let check = match (api.unwrap_or_default(), kind.unwrap_or_default()) {
        ("v1", "ConfigMap") => same::<ConfigMap>,
        ("v1", "Namespace") => same::<Namespace>,
        ("v1", "Pod") => same::<Pod>,
        ("v1", "ResourceQuota") => same::<ResourceQuota>,
        ("v1", "Service") => same::<Service>,
        ("v1", "ServiceAccount") => same::<ServiceAccount>,
        ("apps/v1", "DaemonSet") => same::<DaemonSet>,
        ("apps/v1", "Deployment") => same::<Deployment>,
        ("apps/v1", "StatefulSet") => same::<StatefulSet>,
        ("batch/v1", "Job") => same::<Job>,
        ("policy/v1", "PodDisruptionBudget") => same::<PodDisruptionBudget>,
        ("networking.k8s.io/v1", "NetworkPolicy") => same::<NetworkPolicy>,
        ("rbac.authorization.k8s.io/v1", "ClusterRole") => same::<ClusterRole>,
        ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding") => same::<ClusterRoleBinding>,
        ("rbac.authorization.k8s.io/v1", "RoleBinding") => same::<RoleBinding>,
        ("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicy") => same::<ValidatingAdmissionPolicy>,
        ("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicyBinding") => {
            same::<ValidatingAdmissionPolicyBinding>
        }
        ("apiextensions.k8s.io/v1", "CustomResourceDefinition") => same::<CustomResourceDefinition>,
        ("k8s.cni.cncf.io/v1", "NetworkAttachmentDefinition") => same::<Network>,
        (api, kind) => bail!("there is no check for {kind} of {api}"),
    };
    check(object).with_context(|| name(object))
}

fn same<T: DeserializeOwned + Serialize>(object: &Value) -> Result<()> {
    let typed: T = serde_json::from_value(object.clone())?;
    let again = serde_json::to_value(typed)?;
    let mut lost = Vec::new();
    differences(object, &again, "", &mut lost);
    if !lost.is_empty() {
        bail!("not as its type has it: {}", lost.join(", "));
    }
    Ok(())
}

/// The paths at which the two differ.
fn differences(written: &Value, typed: &Value, path: &str, found: &mut Vec<String>) {
    match (written, typed) {
        (Value::Object(written), Value::Object(typed)) => {
            for (key, value) in written {
                match typed.get(key) {
                    Some(other) => differences(value, other, &format!("{path}.{key}"), found),
                    None => found.push(format!("{path}.{key} is no key there")),
                }
            }
            let missing = typed.keys().filter(|key| !written.contains_key(*key));
            found.extend(missing.map(|key| format!("{path}.{key} is missing")));
        }
        (Value::Array(written), Value::Array(typed)) if written.len() == typed.len() => {
            for (index, (value, other)) in written.iter().zip(typed).enumerate() {
                differences(value, other, &format!("{path}[{index}]"), found);
            }
        }
        (written, typed) if written != typed => found.push(format!("{path} is {written}, not {typed}")),
        _ => {}
    }
}
