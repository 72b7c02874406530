//! The cluster's networks: who would make each, and which keys keep it from being made in process.

use std::path::{Path, PathBuf};

use fairlead_cni::{
    alone::Plugin,
    config::NetworkConfig,
    drivers::{Pass, takes},
    exec::find,
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

struct Definition {
    name: String,
    short: String,
    config: String,
    resource: Option<String>,
}

fn definitions(file: &Path) -> Result<Vec<Definition>, String> {
    let shown = file.display();
    let text = std::fs::read_to_string(file).map_err(|error| format!("--networks {shown}: {error}"))?;
    let document: Value = serde_json::from_str(&text)
        .map_err(|error| format!("--networks {shown} is no JSON (kubectl get ... -o json): {error}"))?;
    let items = match document.get("items").and_then(Value::as_array) {
        Some(items) => items.clone(),
        None => vec![document],
    };
    let definition = |item: &Value| {
        let text = |pointer: &str| item.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        let kind = text("/kind").unwrap_or_default();
        let name = text("/metadata/name").filter(|_| kind == "NetworkAttachmentDefinition");
        let short = name.ok_or_else(|| {
            format!("--networks {shown} has a {kind:?} that is no NetworkAttachmentDefinition")
        })?;
        Ok(Definition {
            name: format!("{}/{short}", text("/metadata/namespace").unwrap_or_else(|| "default".into())),
            config: text("/spec/config").unwrap_or_default(),
            resource: text("/metadata/annotations/k8s.v1.cni.cncf.io~1resourceName"),
            short,
        })
    };
    items.iter().map(definition).collect()
}

fn judge(definition: &Definition, node: &Node<'_>, path: &[PathBuf]) -> Finding {
    let Definition { name, short, config, resource } = definition;
    if config.trim().is_empty() {
        let text = format!(
            "{name}: has no configuration: it is read from {} by its name",
            node.section.conf_dir.display()
        );
        return Finding::info(ID, text);
    }
    let network = match parsed(config, short) {
        Ok(network) => network,
        Err(error) => return Finding::error(ID, format!("{name}: {error}"), "correct its spec.config"),
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
    let resource = resource.as_ref().map(|resource| format!(", a device of {resource}")).unwrap_or_default();
    let text = format!("{name}: {}{resource}", parts.join(", "));
    match wrong.is_empty() {
        true => Finding::info(ID, text),
        false => Finding::error(
            ID,
            format!("{name}: {}", wrong.join("; ")),
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

/// The configuration, with the definition's name where it has none.
fn parsed(config: &str, name: &str) -> Result<NetworkConfig, String> {
    let mut fields: fairlead_cni::config::Fields = serde_json::from_str(config)
        .map_err(|error| format!("its configuration is no JSON object: {error}"))?;
    if fields.get("name").and_then(Value::as_str).is_none_or(str::is_empty) {
        fields.set("name", name.into());
    }
    NetworkConfig::parse(&Value::Object(fields.0).to_string()).map_err(|error| error.to_string())
}
