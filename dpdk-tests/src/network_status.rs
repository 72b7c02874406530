//! The pod's `k8s.v1.cni.cncf.io/network-status`: which device and address each attachment has.

use std::path::Path;

use fairlead_kernel::Mac;
use fairlead_resource_config::PciAddress;
use serde_json::Value;

const ANNOTATION: &str = "k8s.v1.cni.cncf.io/network-status";
/// Where pods that have their annotations as a file usually have it (a downwardAPI volume).
pub const USUAL_FILE: &str = "/etc/podnetinfo/annotations";

/// One attachment of the pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// Its network.
    pub network: String,
    /// Its interface, also the name of one that has no netdev.
    pub interface: String,
    /// Its address.
    pub mac: Option<Mac>,
    /// Its device.
    pub pci_address: Option<PciAddress>,
}

/// Reads a file: the annotation's value by itself, or all annotations as a downwardAPI volume writes them. One without the
/// annotation has no attachments.
pub fn read(path: &Path) -> Result<Vec<Attachment>, String> {
    let text =
        std::fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    parse(&text).map_err(|why| format!("{}: {why}", path.display()))
}

fn parse(text: &str) -> Result<Vec<Attachment>, String> {
    let value = if text.trim_start().starts_with('[') { Some(text.to_owned()) } else { annotation(text)? };
    let Some(value) = value.filter(|value| !value.trim().is_empty()) else { return Ok(Vec::new()) };
    let entries: Vec<Value> =
        serde_json::from_str(&value).map_err(|error| format!("{ANNOTATION} is no list: {error}"))?;
    Ok(entries.iter().map(attachment).collect())
}

/// Of `key="value"` lines, where the value is quoted as Go does: as JSON, but for characters that this annotation does not have.
fn annotation(text: &str) -> Result<Option<String>, String> {
    let quoted = text.lines().find_map(|line| line.strip_prefix(ANNOTATION)?.strip_prefix('='));
    let unquote = |quoted: &str| {
        serde_json::from_str(quoted).map_err(|error| format!("the quoted value of {ANNOTATION}: {error}"))
    };
    quoted.map(unquote).transpose()
}

fn attachment(entry: &Value) -> Attachment {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let address = &entry["device-info"]["pci"]["pci-address"];
    Attachment {
        network: text(&entry["name"]),
        interface: text(&entry["interface"]),
        mac: entry["mac"].as_str().and_then(|mac| mac.parse().ok()),
        pci_address: address.as_str().and_then(|address| address.parse().ok()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALUE: &str = r#"[{"name":"pod-network","interface":"eth0","ips":["10.22.0.3"],"mac":"0a:00:00:00:00:01","default":true},
        {"name":"default/dpdk-net","interface":"net1","mac":"02:00:00:00:00:05","device-info":
         {"type":"pci","version":"1.1.0","pci":{"pci-address":"0000:01:10.4"}}}]"#;

    #[test]
    fn the_value_is_read_by_itself_and_among_all_annotations() {
        let direct = parse(VALUE).unwrap();
        assert_eq!(direct.len(), 2);
        assert_eq!(direct[0].pci_address, None);
        assert_eq!(direct[1].pci_address.unwrap().to_string(), "0000:01:10.4");
        assert_eq!(direct[1].mac.unwrap().to_string(), "02:00:00:00:00:05");
        let quoted = serde_json::to_string(VALUE).unwrap();
        let file = format!("a/b=\"x=y\"\n{ANNOTATION}={quoted}\nz=\"1\"\n");
        assert_eq!(parse(&file).unwrap(), direct);
    }

    #[test]
    fn nothing_is_fine_and_garbage_is_told() {
        assert_eq!(parse("a=\"b\"\n"), Ok(Vec::new()));
        assert_eq!(parse(""), Ok(Vec::new()));
        assert!(parse("[1").unwrap_err().contains("is no list"));
        assert!(parse(&format!("{ANNOTATION}=x\n")).unwrap_err().contains("quoted"));
        assert!(read(Path::new("/nowhere/annotations")).unwrap_err().contains("/nowhere/annotations"));
    }
}
