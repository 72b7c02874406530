//! A stand-in for Multus of the thin kind, for a node of the old stack: it makes and deletes pods' networks by executing plugins from disk,
//! and leaves on the node what Multus leaves: its notes, the reference library's cache, copies of device information, and network-status.
//!
//! As Multus, a DEL without notes looks at the pod again, and one of a pod that is gone does nothing. Not done: everything else.

mod notes;
mod plugins;

use std::{env, fs::File, io::Write as _, path::Path};

use anyhow::{Context, Result, bail};
use axum::http::{Method, Request, header};
use kube::Client;
use serde_json::{Value, json};

use self::{
    notes::{Notes, device_info},
    plugins::Sandbox,
};
use crate::kubelet;

const NETWORKS: &str = "k8s.v1.cni.cncf.io/networks";
const STATUS: &str = "k8s.v1.cni.cncf.io/network-status";
const RESOURCE: &str = "k8s.v1.cni.cncf.io/resourceName";
/// A line for each call, so that a scenario can tell who was called.
pub const CALLS: &str = "/run/fairlead-testbed-multus.calls";

/// One network of a pod.
#[derive(Debug, Clone)]
struct Delegate {
    /// `namespace/name`, or the configuration's name for the primary one.
    network: String,
    interface: String,
    config: Value,
    device: Option<(String, String)>,
}

/// Serves one call of the runtime. What is returned goes to standard output.
///
/// # Errors
/// What went wrong, for the runtime.
pub async fn serve() -> Result<Option<Value>> {
    let verb = env::var("CNI_COMMAND").context("CNI_COMMAND")?;
    if verb == "VERSION" {
        return Ok(Some(json!({"cniVersion": "1.0.0", "supportedVersions": ["0.3.1", "0.4.0", "1.0.0"]})));
    }
    let config: Value = serde_json::from_reader(std::io::stdin()).context("standard input")?;
    let sandbox = Sandbox::read()?;
    let mut calls = File::options().create(true).append(true).open(CALLS)?;
    writeln!(calls, "{verb} {}", sandbox.pod.1)?;
    let primary = config["clusterNetwork"].as_str().context("clusterNetwork")?;
    match verb.as_str() {
        "ADD" => add(&sandbox, Path::new(primary)).await.map(Some),
        "DEL" => delete(&sandbox, Path::new(primary)).await.map(|()| None),
        _ => Ok(None),
    }
}

async fn add(sandbox: &Sandbox, primary: &Path) -> Result<Value> {
    let client = kubelet::client_of(Path::new(kubelet::KUBECONFIG)).await?;
    let delegates = delegates(&client, sandbox, primary).await?;
    let notes = Notes::new(&sandbox.container_id);
    notes.write(&delegates)?;
    let mut status = Vec::new();
    let mut results = Vec::new();
    for delegate in &delegates {
        let info = device_info(delegate, &sandbox.container_id)?;
        let result = match plugins::add(delegate, sandbox) {
            Ok(result) => result,
            Err(error) => {
                // The failed one, too; what cannot be undone is passed over.
                for delegate in delegates.iter().take(results.len() + 1).rev() {
                    let _ = plugins::delete(delegate, sandbox, None);
                }
                return Err(error);
            }
        };
        notes.cache(delegate, sandbox, &result)?;
        status.push(entry(delegate, &result, info, results.is_empty()));
        results.push(result);
    }
    let text = serde_json::to_string_pretty(&status)?;
    let patch = json!({"metadata": {"annotations": {STATUS: text}}});
    let (namespace, name) = &sandbox.pod;
    call(&client, Method::PATCH, &format!("/api/v1/namespaces/{namespace}/pods/{name}"), Some(&patch))
        .await?;
    results.into_iter().next().context("there is no network")
}

async fn delete(sandbox: &Sandbox, primary: &Path) -> Result<()> {
    let notes = Notes::new(&sandbox.container_id);
    let delegates = match notes.read()? {
        Some(delegates) => delegates,
        // What it would be now, by what can still be read.
        None => match delegates(&kubelet::client_of(Path::new(kubelet::KUBECONFIG)).await?, sandbox, primary)
            .await
        {
            Ok(delegates) => delegates,
            Err(_) => return Ok(()),
        },
    };
    let mut failures = Vec::new();
    for delegate in delegates.iter().rev() {
        let result = notes.cached(delegate, sandbox);
        failures.extend(plugins::delete(delegate, sandbox, result.as_ref()).err());
        notes.forget(delegate, sandbox);
    }
    notes.remove();
    match failures.into_iter().next() {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

/// The primary network, and those of the annotation.
async fn delegates(client: &Client, sandbox: &Sandbox, primary: &Path) -> Result<Vec<Delegate>> {
    let (namespace, name) = &sandbox.pod;
    let pod = call(client, Method::GET, &format!("/api/v1/namespaces/{namespace}/pods/{name}"), None).await?;
    let config: Value = serde_json::from_slice(&std::fs::read(primary)?).context("the primary network")?;
    let network = config["name"].as_str().unwrap_or_default().to_owned();
    let mut delegates =
        vec![Delegate { network, interface: sandbox.interface.clone(), config, device: None }];
    let mut devices = plugins::devices(&sandbox.uid)?;
    let asked = pod["metadata"]["annotations"][NETWORKS].as_str().unwrap_or_default();
    for (number, element) in asked.split(',').map(str::trim).filter(|text| !text.is_empty()).enumerate() {
        let (name, interface) = element.split_once('@').unwrap_or((element, ""));
        let place =
            format!("/apis/k8s.cni.cncf.io/v1/namespaces/{namespace}/network-attachment-definitions/{name}");
        let object = call(client, Method::GET, &place, None).await?;
        let text = object["spec"]["config"].as_str().unwrap_or_default();
        let mut config: Value = serde_json::from_str(text).with_context(|| format!("network {name}"))?;
        if config["name"].as_str().is_none_or(str::is_empty) {
            config["name"] = json!(name);
        }
        let resource = object["metadata"]["annotations"][RESOURCE].as_str();
        let device = match resource.map(|resource| (resource, devices.get_mut(resource))) {
            Some((resource, Some(ids))) if !ids.is_empty() => Some((resource.to_owned(), ids.remove(0))),
            Some((resource, _)) => bail!("network {name}: no device of {resource} is left"),
            None => None,
        };
        if let Some((_, id)) = &device {
            plugins::inject(&mut config, id);
        }
        let interface =
            if interface.is_empty() { format!("net{}", number + 1) } else { interface.to_owned() };
        delegates.push(Delegate { network: format!("{namespace}/{name}"), interface, config, device });
    }
    Ok(delegates)
}

/// The entry of a network in the status.
fn entry(delegate: &Delegate, result: &Value, info: Option<Value>, is_default: bool) -> Value {
    let ips = result["ips"].as_array().into_iter().flatten().filter_map(|ip| ip["address"].as_str());
    let ips: Vec<&str> = ips.map(|ip| ip.split('/').next().unwrap_or(ip)).collect();
    let mut entry = json!({"name": delegate.network, "interface": delegate.interface, "ips": ips, "dns": {}});
    if is_default {
        entry["default"] = json!(true);
    }
    if let Some(info) = info {
        entry["device-info"] = info;
    }
    entry
}

async fn call(client: &Client, method: Method, path: &str, body: Option<&Value>) -> Result<Value> {
    let request = Request::builder().method(method).uri(path);
    let request = request.header(header::CONTENT_TYPE, "application/merge-patch+json");
    let body = body.map(serde_json::to_vec).transpose()?.unwrap_or_default();
    client.request(request.body(body)?).await.with_context(|| path.to_owned())
}
