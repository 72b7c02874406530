//! Networks: a `NetworkAttachmentDefinition` for each, as the operator makes it.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::Options;
use super::fields::Fields;
use super::objects::{Files, Object};

const SRIOV: &str = "SriovNetwork";
const INFINIBAND: &str = "SriovIBNetwork";

/// The annotation by which a network names the resource that its devices are of.
const RESOURCE: &str = "k8s.v1.cni.cncf.io/resourceName";

struct Network {
    namespace: Option<String>,
    name: String,
    resource: String,
    config: Value,
}

/// The definitions' text; `None` when there are no networks.
pub(super) fn text(objects: &[Object], options: &Options, files: &mut Files) -> Option<String> {
    let mut networks: Vec<Network> = Vec::new();
    for object in objects {
        let network = match object.kind.as_str() {
            SRIOV => read(object, sriov, options, files),
            INFINIBAND => read(object, infiniband, options, files),
            _ => continue,
        };
        if networks.iter().any(|other| (&other.namespace, &other.name) == (&network.namespace, &network.name))
        {
            let found = "a second network whose definition has this name and namespace";
            files.problem(object.file, &object.place, found, "each network once in all files");
        }
        networks.push(network);
    }
    let text = networks.iter().map(document).collect::<Vec<_>>().join("---\n");
    (!networks.is_empty()).then_some(text)
}

fn read(
    object: &Object,
    kind: fn(&mut Fields<'_>) -> Map<String, Value>,
    options: &Options,
    files: &mut Files,
) -> Network {
    let mut spec = Fields::new(object.part("spec"), object.place.key("spec"), files.report(object.file));
    let namespace = spec.text("networkNamespace").map(str::to_owned).or_else(|| object.namespace.clone());
    let resource = super::node_policy::resource_name(&mut spec);
    let mut plugin = kind(&mut spec);
    let capabilities = spec.text("capabilities").and_then(|text| json_text("capabilities", text, &mut spec));
    if let Some(capabilities) = capabilities {
        plugin.insert("capabilities".to_owned(), capabilities);
    }
    let link_states = [("auto", "auto"), ("enable", "enable"), ("disable", "disable")];
    if let Some(state) = spec.one_of("linkState", &link_states) {
        plugin.insert("link_state".to_owned(), json!(state));
    }
    let ipam = spec.text("ipam").and_then(|text| json_text("ipam", text, &mut spec));
    plugin.insert("ipam".to_owned(), ipam.unwrap_or_else(|| json!({})));
    let more = spec.text("metaPlugins").map(|text| meta_plugins(text, &mut spec)).unwrap_or_default();
    spec.finish();
    Network {
        namespace,
        name: object.name.clone(),
        resource: format!("{}/{resource}", options.resource_prefix),
        config: config(&object.name, plugin, more),
    }
}

fn config(name: &str, mut plugin: Map<String, Value>, more: Vec<Value>) -> Value {
    let mut config =
        Map::from_iter([("cniVersion".to_owned(), json!("1.0.0")), ("name".to_owned(), json!(name))]);
    if more.is_empty() {
        config.append(&mut plugin);
    } else {
        let plugins: Vec<Value> = std::iter::once(Value::Object(plugin)).chain(more).collect();
        config.insert("plugins".to_owned(), Value::Array(plugins));
    }
    Value::Object(config)
}

fn sriov(spec: &mut Fields<'_>) -> Map<String, Value> {
    let mut plugin = Map::from_iter([("type".to_owned(), json!("sriov"))]);
    let mut put = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            plugin.insert(key.to_owned(), value);
        }
    };
    // The operator writes VLAN 0 where none is given, which takes a VLAN off.
    put("vlan", Some(json!(spec.number("vlan", 0..=4094).unwrap_or(0))));
    // The operator's types write 0 for what was not said.
    put("vlanQoS", spec.number("vlanQoS", 0..=7).filter(|qos| *qos != 0).map(Value::from));
    let protocols =
        [("802.1q", "802.1q"), ("802.1Q", "802.1Q"), ("802.1ad", "802.1ad"), ("802.1AD", "802.1AD")];
    put("vlanProto", spec.one_of("vlanProto", &protocols).map(Value::from));
    let switch = [("on", "on"), ("off", "off")];
    put("spoofchk", spec.one_of("spoofChk", &switch).map(Value::from));
    put("trust", spec.one_of("trust", &switch).map(Value::from));
    put("min_tx_rate", spec.number("minTxRate", 0..=u32::MAX).map(Value::from));
    put("max_tx_rate", spec.number("maxTxRate", 0..=u32::MAX).map(Value::from));
    for (key, name) in [("logLevel", "logLevel"), ("logFile", "logFile")] {
        if spec.text(key).is_some() {
            spec.note(name, "left out: messages of VFs go to the container runtime's log");
        }
    }
    plugin
}

fn infiniband(spec: &mut Fields<'_>) -> Map<String, Value> {
    let text = "its plugin, ib-sriov, is executed from disk: it must stay in the folder of CNI programs";
    spec.note("resourceName", text);
    Map::from_iter([("type".to_owned(), json!("ib-sriov"))])
}

/// An object that is written as a text of JSON.
fn json_text(key: &str, text: &str, spec: &mut Fields<'_>) -> Option<Value> {
    match serde_json::from_str::<Map<String, Value>>(text) {
        Ok(object) => Some(Value::Object(object)),
        Err(error) => {
            spec.problem(
                key,
                format!("what is no object of JSON ({error})"),
                "a text with an object of JSON",
            );
            None
        }
    }
}

/// Plugins that come after: a text of objects with commas between.
fn meta_plugins(text: &str, spec: &mut Fields<'_>) -> Vec<Value> {
    let plugins: Result<Vec<Map<String, Value>>, _> = serde_json::from_str(&format!("[{text}]"));
    let plugins = plugins.map_err(|error| format!("what is no list of objects of JSON ({error})"));
    let typed = plugins.and_then(|plugins| {
        let untyped = plugins.iter().find(|plugin| !plugin.get("type").is_some_and(Value::is_string));
        untyped.map_or(Ok(()), |_| Err("a plugin without type".to_owned()))?;
        Ok(plugins.into_iter().map(Value::Object).collect())
    });
    typed.unwrap_or_else(|found| {
        spec.problem(
            "metaPlugins",
            found,
            "a text with objects of JSON, each with a type, with commas between",
        );
        Vec::new()
    })
}

fn document(network: &Network) -> String {
    let quoted = |text: &str| Value::from(text).to_string();
    let mut text =
        "apiVersion: k8s.cni.cncf.io/v1\nkind: NetworkAttachmentDefinition\nmetadata:\n".to_owned();
    // Writing to a text does not fail.
    let _ = writeln!(text, "  name: {}", quoted(&network.name));
    if let Some(namespace) = &network.namespace {
        let _ = writeln!(text, "  namespace: {}", quoted(namespace));
    }
    let _ =
        writeln!(text, "  annotations:\n    {RESOURCE}: {}\nspec:\n  config: |-", quoted(&network.resource));
    for line in serde_json::to_string_pretty(&network.config).unwrap_or_default().lines() {
        let _ = writeln!(text, "    {line}");
    }
    text
}
