//! The device plugin's configuration: whether ours would offer what kubelet has now.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use fairlead_resource_config::{
    config::{self, Config},
    error_text, pools,
};
use serde_json::Value;

use super::Node;
use crate::{
    finding::Finding,
    places::{self, CHECKPOINT, config_maps},
};

const ID: &str = "migrate.devices";

type Offered = BTreeMap<String, BTreeSet<String>>;

/// Looks at the configuration, the devices and kubelet's checkpoint.
pub(super) fn look(node: &Node<'_>) -> Vec<Finding> {
    let file = match (&node.options.pools, mounted(node)) {
        (Some(file), _) => file.clone(),
        (None, Some(file)) => file,
        (None, None) => {
            let text =
                "no configuration of the device plugin was given, and kubelet has none mounted for a pod";
            let remedy = "kubectl -n NAMESPACE get configmap NAME -o yaml > FILE, then --pools FILE";
            return vec![Finding::unknown(ID, text, remedy)];
        }
    };
    let loaded = match config::load(&file, &node.options.resource_prefix) {
        Ok(loaded) => loaded,
        Err(error) => {
            let remedy = "correct it: our device plugin refuses it, too (resource-config/POOLS.md)";
            return error_text(&error).lines().map(|line| Finding::error(ID, line, remedy)).collect();
        }
    };
    let warnings = loaded.warnings.iter();
    let mut findings: Vec<Finding> =
        warnings.map(|text| Finding::warning(ID, text, "see resource-config/POOLS.md")).collect();
    findings.push(Finding::info(ID, format!("{} is read as it is", file.display())));
    match (registered(node), offered(node, &loaded.config)) {
        (Ok(now), Ok(ours)) => findings.extend(compare(&now, &ours)),
        (Err(error), _) | (_, Err(error)) => {
            findings.push(Finding::unknown(ID, error, "give --kubelet-root, and let this program read it"));
        }
    }
    findings
}

/// The file of a ConfigMap that kubelet has mounted for a pod, as it is for upstream's device plugin.
fn mounted(node: &Node<'_>) -> Option<PathBuf> {
    let files = config_maps(&node.root, &node.options.places.kubelet_root, "config.json");
    files.into_iter().map(|file| node.root.path(file)).find(|file| {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let document: Value = serde_json::from_str(&text).unwrap_or_default();
        document
            .as_object()
            .is_some_and(|keys| keys.keys().any(|key| key.eq_ignore_ascii_case("resourceList")))
    })
}

/// What kubelet has registered.
fn registered(node: &Node<'_>) -> Result<Offered, String> {
    let kubelet_root = &node.options.places.kubelet_root;
    places::registered(&places::checkpoint(&node.root, kubelet_root)?)
        .ok_or_else(|| format!("{} tells no registered devices", kubelet_root.join(CHECKPOINT).display()))
}

/// What ours would offer.
fn offered(node: &Node<'_>, config: &Config) -> Result<Offered, String> {
    let inventory = node.root.scanner().for_pools().scan().map_err(|error| error_text(&error))?;
    let assignment = pools::assign(&inventory, config);
    let ids = |pool: &pools::Pool| pool.devices.iter().map(|device| device.id.to_string()).collect();
    Ok(assignment.pools.iter().map(|pool| (pool.resource.to_string(), ids(pool))).collect())
}

fn compare(now: &Offered, ours: &Offered) -> Vec<Finding> {
    let empty = BTreeSet::new();
    let mut findings = Vec::new();
    for (resource, offered) in ours {
        let registered = now.get(resource).unwrap_or(&empty);
        if offered == registered {
            findings.push(Finding::info(
                ID,
                format!("{resource}: the same {} devices as kubelet has now", offered.len()),
            ));
            continue;
        }
        let list = |from: &BTreeSet<String>, without: &BTreeSet<String>| {
            let names: Vec<&str> = from.difference(without).map(String::as_str).collect();
            if names.is_empty() { "none".to_owned() } else { names.join(", ") }
        };
        let text = format!(
            "{resource}: ours has {} devices, kubelet {}; only ours: {}; only kubelet's: {}",
            offered.len(),
            registered.len(),
            list(offered, registered),
            list(registered, offered)
        );
        let remedy = "fairlead-config explain --config FILE says why each device is where it is";
        // Fewer devices than pods may hold.
        findings.push(match registered.is_subset(offered) {
            true => Finding::warning(ID, text, remedy),
            false => Finding::error(ID, text, remedy),
        });
    }
    let others: Vec<&str> = now.keys().filter(|name| !ours.contains_key(*name)).map(String::as_str).collect();
    if !others.is_empty() {
        let text =
            format!("resources of other device plugins, or of another configuration: {}", others.join(", "));
        findings.push(Finding::info(ID, text));
    }
    findings
}
