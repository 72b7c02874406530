//! A provisioning policy, as people would write it.

use std::fmt::Write as _;

use super::Nodes;
use super::objects::Files;
use super::ports::{Group, Pfs, Port, Ports};

/// A section: PFs that are to be the same, and what they are to be like.
struct Section {
    name: String,
    pfs: Vec<Pfs>,
    body: String,
}

/// The policy's text; `None` when no policy asks for VFs.
pub(super) fn text(ports: &Ports<'_>, nodes: &Nodes, files: &mut Files) -> Option<String> {
    if !nodes.labels.is_empty()
        && let Some(port) = ports.0.first()
    {
        let text = "becomes labels of the sections: fairlead-config knows them by --label only, which the init container does not give. \
                    With --node NAME sections name the node instead";
        files.note(port.policy.file, &port.policy.key("nodeSelector"), text);
    }
    let mut sections: Vec<Section> = Vec::new();
    for port in &ports.0 {
        let section = section(port);
        match sections.last_mut().filter(|last| last.name == section.name && may_share(last, &section)) {
            Some(last) => last.pfs.extend(section.pfs),
            None => sections.push(section),
        }
    }
    let mut text =
        "# From the SR-IOV operator's SriovNetworkNodePolicies, those with precedence first.\nsections:\n"
            .to_owned();
    for section in &sections {
        write(section, nodes, &mut text);
    }
    (!sections.is_empty()).then_some(text)
}

/// Whether both are the same but for the PFs' names, or but for their addresses: each of these keys is a list of alternatives.
fn may_share(a: &Section, b: &Section) -> bool {
    let (Some(first), Some(other)) = (a.pfs.first(), b.pfs.first()) else { return false };
    let by_name = first.name.is_some() && other.name.is_some() && first.addresses == other.addresses;
    let by_address = first.name.is_none()
        && other.name.is_none()
        && !first.addresses.is_empty()
        && !other.addresses.is_empty();
    let same = first.vendor == other.vendor && first.device == other.device;
    a.body == b.body && same && (by_name || by_address)
}

fn section(port: &Port<'_>) -> Section {
    let mut names: Vec<&str> = port.groups.iter().map(|group| group.policy.name.as_str()).collect();
    names.dedup();
    Section { name: names.join(" and "), pfs: vec![port.pfs.clone()], body: body(port) }
}

fn body(port: &Port<'_>) -> String {
    let mut lines = vec![format!("numVfs: {}", port.num_vfs)];
    if port.policy.externally_managed {
        lines.push("externallyManaged: true".to_owned());
    }
    lines.extend(port.mtu.map(|mtu| format!("mtu: {mtu}")));
    lines.extend(port.policy.eswitch_mode.map(|mode| format!("eSwitchMode: {mode}")));
    match port.groups.as_slice() {
        [only] if port.is_whole(only) => {
            lines.push(format!("driver: {}", driver(only)));
            lines.extend(vf_mtu(only).map(|mtu| format!("vfMtu: {mtu}")));
        }
        groups => {
            lines.push("vfs:".to_owned());
            lines.extend(groups.iter().map(range));
        }
    }
    lines.join("\n")
}

fn range(group: &Group<'_>) -> String {
    let (first, last) = (group.indexes.start(), group.indexes.end());
    let mtu = vf_mtu(group).map(|mtu| format!(", mtu: {mtu}")).unwrap_or_default();
    format!("- {{range: {first}-{last}, driver: {}{mtu}}}", driver(group))
}

fn driver(group: &Group<'_>) -> &'static str {
    if group.policy.is_vfio { "vfio-pci" } else { "default" }
}

/// The operator sets the MTU of VFs that have a network device.
fn vf_mtu(group: &Group<'_>) -> Option<u32> {
    group.policy.mtu.filter(|_| !group.policy.is_vfio)
}

fn write(section: &Section, nodes: &Nodes, text: &mut String) {
    let mut line = |line: &str| {
        // Writing to a text does not fail.
        let _ = writeln!(text, "{line}");
    };
    line(&format!("- name: {}", quoted(&section.name)));
    if !nodes.names.is_empty() {
        line(&format!(
            "  nodes: [{}]",
            nodes.names.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", ")
        ));
    }
    if !nodes.labels.is_empty() {
        line("  labels:");
        for (key, value) in &nodes.labels {
            line(&format!("    {}: {}", quoted(key), quoted(value)));
        }
    }
    let names: Vec<String> = section.pfs.iter().filter_map(|pfs| pfs.name.as_deref()).map(quoted).collect();
    let mut addresses: Vec<String> = section
        .pfs
        .iter()
        .flat_map(|pfs| &pfs.addresses)
        .map(|address| quoted(&address.to_string()))
        .collect();
    addresses.dedup();
    let first = section.pfs.first();
    let one = |id: Option<crate::pci::PciId>| id.map(|id| quoted(&id.to_string())).into_iter().collect();
    for (key, values) in [
        ("pfNames", names),
        ("pciAddresses", addresses),
        ("vendors", one(first.and_then(|pfs| pfs.vendor))),
        ("devices", one(first.and_then(|pfs| pfs.device))),
    ] {
        if !values.is_empty() {
            line(&format!("  {key}: [{}]", values.join(", ")));
        }
    }
    for part in section.body.lines() {
        line(&format!("  {part}"));
    }
}

/// A text in quotes, as JSON and YAML have it.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
