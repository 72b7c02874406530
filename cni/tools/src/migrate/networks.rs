//! The cluster's networks: who would make each, and which keys keep it from being made in process.

use std::path::{Path, PathBuf};

use fairlead_cni::{
    alone::Plugin,
    config::NetworkConfig,
    drivers::{Pass, takes},
    exec::find,
    networks::nad::{Configuration, NadError, NetworkAttachmentDefinition},
};
use serde_json::Value;

use super::Node;
use crate::finding::Finding;

const ID: &str = "migrate.networks";

/// Looks at each definition.
pub(super) fn look(node: &Node<'_>) -> Result<Vec<Finding>, String> {
    let Some(file) = &node.options.networks else {
        let remedy = "kubectl get network-attachment-definitions -A -o json > FILE, then --networks FILE";
        return Ok(vec![Finding::unknown(ID, "no networks were given", remedy)]);
    };
    let definitions = definitions(file)?;
    let path = node.path();
    let mut findings = Vec::new();
    for definition in &definitions {
        findings.push(judge(definition, node, &path));
    }
    if definitions.is_empty() {
        findings.push(Finding::info(ID, format!("{}: there are none", file.display())));
    }
    Ok(findings)
}

fn definitions(file: &Path) -> Result<Vec<NetworkAttachmentDefinition>, String> {
    let shown = file.display();
    let text = std::fs::read_to_string(file).map_err(|error| format!("--networks {shown}: {error}"))?;
    let document: Value = serde_json::from_str(&text)
        .map_err(|error| format!("--networks {shown} is no JSON (kubectl get ... -o json): {error}"))?;
    let items = match document.get("items").and_then(Value::as_array) {
        Some(items) => items.clone(),
        None => vec![document],
    };
    let definition = |item: &Value| {
        let kind = item["kind"].as_str().unwrap_or_default();
        if kind != "NetworkAttachmentDefinition" || item["metadata"]["name"].is_null() {
            return Err(format!("--networks {shown} has a {kind:?} that is no NetworkAttachmentDefinition"));
        }
        NetworkAttachmentDefinition::read(item).map_err(|error| format!("--networks {shown}: {error}"))
    };
    items.iter().map(definition).collect()
}

fn judge(definition: &NetworkAttachmentDefinition, node: &Node<'_>, path: &[PathBuf]) -> Finding {
    let network = match definition.configuration() {
        Ok(Configuration::OnDisk(_)) => {
            let text = format!(
                "{definition}: has no configuration: it is read from {} by its name",
                node.section.conf_dir.display()
            );
            return Finding::info(ID, text);
        }
        Ok(Configuration::Text(text)) => NetworkConfig::parse(&text).map_err(|error| error.to_string()),
        Err(NadError::Json { source, .. }) => Err(format!("its configuration is no JSON object: {source}")),
        Err(error) => Err(error.to_string()),
    };
    let network = match network {
        Ok(network) => network,
        Err(error) => return Finding::error(ID, format!("{definition}: {error}"), "correct its spec.config"),
    };
    let (mut parts, mut wrong) = (Vec::new(), Vec::new());
    for plugin in &network.plugins {
        let kind = &plugin.kind;
        let own = match node.section.is_built_in(kind) {
            true => takes(kind, &plugin.fields),
            false => Err(Pass::NoDriver),
        };
        match own {
            Ok(()) => {
                parts.push(format!("{kind} in process"));
                let ipam = plugin.fields.object("ipam").ok().flatten().unwrap_or_default();
                let ipam =
                    ipam.text("type").ok().flatten().filter(|kind| !kind.is_empty()).map(str::to_owned);
                wrong.extend(ipam.and_then(|ipam| addresses(&ipam, path, &mut parts)));
            }
            Err(pass) => {
                let why = match pass {
                    Pass::Key(key) => format!(" for its key \"{key}\""),
                    Pass::NoDriver => String::new(),
                };
                match find(kind, path) {
                    Ok(binary) => parts.push(format!("{kind} from disk{why} ({})", binary.display())),
                    Err(error) => wrong.push(format!("{error}{why}")),
                }
            }
        }
    }
    let resource = definition
        .resource_name
        .as_ref()
        .map(|resource| format!(", a device of {resource}"))
        .unwrap_or_default();
    let text = format!("{definition}: {}{resource}", parts.join(", "));
    match wrong.is_empty() {
        true => Finding::info(ID, text),
        false => Finding::error(
            ID,
            format!("{definition}: {}", wrong.join("; ")),
            "install the plugin, or change the network",
        ),
    }
}

/// Who gives addresses; what is wrong when nobody would.
fn addresses(kind: &str, path: &[PathBuf], parts: &mut Vec<String>) -> Option<String> {
    if Plugin::named(Path::new(kind)).is_some() {
        parts.push(format!("{kind} in process"));
        return None;
    }
    match find(kind, path) {
        Ok(binary) => parts.push(format!("{kind} from disk ({})", binary.display())),
        Err(error) => return Some(error.to_string()),
    }
    None
}
