//! `fairlead-config show`: the node, drawn for people.
//!
//! What is drawn is decided once ([`drawing`]), and how long lists are shortened ([`fold`]); [`text`] and [`svg`] put it on paper.

mod drawing;
mod fold;
mod svg;
#[cfg(test)]
mod tests;
mod text;

use fairlead_resource_config::inventory::Inventory;
use fairlead_resource_config::pools::Assignment;
use serde::Serialize;

use self::drawing::Drawing;

/// The node as JSON: its inventory, and with a configuration what this makes of it.
#[derive(Serialize)]
pub(crate) struct Document<'a> {
    #[serde(flatten)]
    pub(crate) inventory: &'a Inventory,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) assignment: Option<&'a Assignment>,
}

/// As text: a line per device, or with `unfold` off per run of VFs that have nothing to tell them apart.
pub(crate) fn text(inventory: &Inventory, assignment: Option<&Assignment>, unfold: bool) -> String {
    text::write(&Drawing::of(inventory, assignment), unfold)
}

/// The same as a picture that stands on its own, SVG.
pub(crate) fn svg(inventory: &Inventory, assignment: Option<&Assignment>, unfold: bool) -> String {
    svg::write(&Drawing::of(inventory, assignment), unfold)
}
