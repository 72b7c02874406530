//! The drawing as text.

use super::drawing::{Drawing, Item, Sharing};
use super::fold::{Row, rows};
use crate::output;

const HEADER: [&str; 8] = ["DEVICE", "DRIVER", "POOL", "NETDEV", "LINK", "GROUP", "NUMA", "ABOUT"];

/// The column that is there with a configuration only.
const POOL: usize = 2;

/// A line per device or run of devices, what is made of a port below it, and at the end empty pools and notes.
pub(super) fn write(drawing: &Drawing, unfold: bool) -> String {
    let mut text = if drawing.ports.is_empty() {
        "This node has no PCI network or accelerator devices.\n".to_owned()
    } else {
        table(drawing, unfold)
    };
    if let Some(pools) = &drawing.pools {
        let counts: Vec<String> = pools.iter().map(|(name, count)| format!("{name} {count}")).collect();
        text.push_str(&format!("\npools: {}\n", counts.join(", ")));
        if pools.iter().any(|(_, count)| *count == 0) {
            text.push_str("A pool is empty: \"fairlead-config explain\" says for each device why.\n");
        }
    }
    if !drawing.notes.is_empty() {
        text.push('\n');
    }
    text.extend(drawing.notes.iter().map(|note| format!("note: {note}\n")));
    text
}

fn table(drawing: &Drawing, unfold: bool) -> String {
    let mut lines = vec![HEADER.map(str::to_owned)];
    for port in &drawing.ports {
        lines.push(line(String::new(), &Row::single(&port.head)));
        let rows = rows(&port.below, unfold);
        let labels: Vec<String> = rows.iter().map(Row::label).collect();
        let width = labels.iter().map(|label| label.chars().count()).max().unwrap_or(0);
        for (place, (row, label)) in rows.iter().zip(&labels).enumerate() {
            let branch = if place + 1 == rows.len() { "└─" } else { "├─" };
            lines.push(line(format!("{branch} {label:<width$}  "), row));
        }
    }
    if drawing.pools.is_none() {
        for line in &mut lines {
            line[POOL].clear();
        }
    }
    output::columns(&lines).into_iter().map(|line| line + "\n").collect()
}

fn line(label: String, row: &Row<'_>) -> [String; 8] {
    let item = row.any();
    let text = |value: fn(&Item) -> Option<String>| item.and_then(value).unwrap_or_default();
    let mark = match item.map(|item| item.sharing) {
        Some(Sharing::NotViable) => "!",
        _ => "",
    };
    let group = row.group();
    let mut line = [
        label + &row.device(),
        text(|item| item.driver.clone()),
        text(|item| item.pool.clone()),
        row.netdev(),
        text(|item| item.link.clone()),
        if group.is_empty() { group } else { group + mark },
        text(|item| item.numa.map(|node| node.to_string())),
        about(row),
    ];
    for cell in line.iter_mut().take(HEADER.len() - 1).filter(|cell| cell.is_empty()) {
        cell.push('-');
    }
    line
}

/// Everything that has no column.
pub(super) fn about(row: &Row<'_>) -> String {
    let representor = row.representor();
    let mut remarks: Vec<String> = row.any().map(|item| item.remarks.clone()).unwrap_or_default();
    if !representor.is_empty() {
        remarks.push(format!("representor {representor}"));
    }
    remarks.join(", ")
}
