//! Whether the table of a component's metrics and what it serves agree.

use std::collections::{BTreeMap, BTreeSet};

/// Of each metric its type and labels.
type Table = BTreeMap<String, (String, BTreeSet<String>)>;

/// What differs between a Markdown table (columns: name, type, labels) and metrics in OpenMetrics' text form, in which every
/// metric has to have a sample.
pub fn table_differences(markdown: &str, metrics: &str) -> Vec<String> {
    let (documented, served) = (documented(markdown), served(metrics));
    let mut differences = Vec::new();
    for name in documented.keys().chain(served.keys()).collect::<BTreeSet<_>>() {
        match (documented.get(name), served.get(name)) {
            (a, b) if a == b => {}
            (a, b) => differences.push(format!("{name}: documented {a:?}, served {b:?}")),
        }
    }
    differences
}

fn documented(markdown: &str) -> Table {
    let words = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
    let rows = markdown.lines().filter_map(|line| {
        let cells: Vec<&str> = line.strip_prefix("| `fairlead_")?.split('|').map(str::trim).collect();
        let name = format!("fairlead_{}", cells.first()?.trim_end_matches('`'));
        Some((name, (cells.get(1)?.to_string(), words(cells.get(2)?).into_iter().collect())))
    });
    rows.collect()
}

fn served(metrics: &str) -> Table {
    let mut table = Table::new();
    let mut current = None;
    for line in metrics.lines() {
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            let name = if kind == "counter" { format!("{name}_total") } else { name.to_owned() };
            current = Some((name, kind.to_owned()));
        } else if let Some((name, kind)) = current.as_ref().filter(|_| !line.starts_with('#')) {
            let labels = &mut table.entry(name.clone()).or_insert((kind.clone(), BTreeSet::new())).1;
            let inside =
                line.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map(|(inside, _)| inside);
            let names = inside
                .into_iter()
                .flat_map(|inside| inside.split("\","))
                .filter_map(|pair| pair.split_once('='));
            labels.extend(names.map(|(label, _)| label.to_owned()).filter(|label| label != "le"));
        }
    }
    table
}
