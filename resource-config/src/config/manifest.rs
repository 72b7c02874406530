//! Configurations inside the ConfigMap that carries them.

use crate::document::Node;

/// The key that upstream's manifests use.
const USUAL: &str = "config.json";

/// A ConfigMap's configuration and its key; `None` when `node` is none, or does not say which of several is meant.
pub(super) fn embedded(node: &Node) -> Option<(&str, &str)> {
    let kind = get(node, "kind")?.as_text()?;
    let files = get(node, "data")?.as_map().filter(|_| kind == "ConfigMap")?;
    let file = match files {
        [only] => only,
        several => several.iter().find(|(key, _)| key == USUAL)?,
    };
    Some((&file.0, file.1.as_text()?))
}

fn get<'a>(node: &'a Node, wanted: &str) -> Option<&'a Node> {
    node.as_map()?.iter().find(|(key, _)| key == wanted).map(|(_, value)| value)
}
