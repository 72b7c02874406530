//! Every attachment, and what is wrong with it.

use serde::Serialize;
use serde_json::json;

use super::{Found, records};
use crate::{
    agent_protocol::PodRef,
    engine::{Engine, is_gone, worker_on},
    meta::orphans::Orphan,
    protocol::error::CniError,
    record::{Phase, Record},
};

/// One attachment.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    pod: PodRef,
    container_id: String,
    interface: String,
    network: String,
    plugins: Vec<String>,
    devices: Vec<String>,
    phase: Phase,
    sandbox: &'static str,
    problems: Vec<String>,
}

pub(super) fn list(engine: &Engine, orphans: &[Orphan]) -> Result<Found, CniError> {
    let rows = records(engine)?.iter().map(|record| row(record, engine)).collect::<Result<Vec<_>, _>>()?;
    let unreadable: Vec<String> = engine.store.unreadable()?.iter().map(ToString::to_string).collect();
    let well = unreadable.is_empty() && orphans.is_empty() && rows.iter().all(|row| row.problems.is_empty());
    let heads =
        ["POD", "INTERFACE", "NETWORK", "PLUGINS", "DEVICE", "PHASE", "SANDBOX", "CONTAINER", "PROBLEM"];
    let mut cells = vec![heads.map(str::to_owned).to_vec()];
    cells.extend(rows.iter().map(Row::cells));
    let mut text = table(&cells);
    unreadable.iter().for_each(|line| text.push_str(&format!("{line}\n")));
    orphans.iter().for_each(|orphan| text.push_str(&format!("{orphan}\n")));
    let json = json!({"attachments": rows, "unreadable": unreadable, "leftByOthers": orphans});
    Ok(Found { text, json, well })
}

fn row(record: &Record, engine: &Engine) -> Result<Row, CniError> {
    Ok(Row {
        pod: record.pod.clone(),
        container_id: record.container_id.clone(),
        interface: record.interface.clone(),
        network: record.network.clone(),
        plugins: record.steps.iter().map(|step| step.kind.clone()).collect(),
        devices: record.devices().collect(),
        phase: record.phase,
        sandbox: if is_gone(record, &engine.boot_id) { "gone" } else { "alive" },
        problems: problems(record, engine)?,
    })
}

fn problems(record: &Record, engine: &Engine) -> Result<Vec<String>, CniError> {
    let mut problems = Vec::new();
    let worker = worker_on(record, engine);
    if record.boot_id != engine.boot_id {
        problems.push("the node was booted since it was made: the next gc undoes the rest".to_owned());
    } else if is_gone(record, &engine.boot_id) {
        problems.push("its sandbox is gone: the next gc undoes it".to_owned());
    }
    if record.phase != Phase::Attached {
        problems.push(match worker {
            Some(worker) => format!("{worker} is at work on it"),
            None => format!("a call ended halfway ({}): the next DEL or gc goes on", record.phase),
        });
    }
    for device in record.devices() {
        let owner = engine.store.owner_of_device(&device, &engine.boot_id)?;
        if let Some(owner) = owner.filter(|owner| owner.key() != record.key()) {
            problems.push(format!("device {device} is {}'s of pod {} by now", owner.interface, owner.pod));
        }
    }
    Ok(problems)
}

impl Row {
    fn cells(&self) -> Vec<String> {
        vec![
            self.pod.to_string(),
            self.interface.clone(),
            self.network.clone(),
            self.plugins.join(","),
            self.devices.join(","),
            self.phase.to_string(),
            self.sandbox.to_owned(),
            self.container_id.chars().take(13).collect(),
            self.problems.join("; "),
        ]
    }
}

/// Columns as wide as their widest cell; an empty cell is `-`.
fn table(rows: &[Vec<String>]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().enumerate().map(|(column, cell)| {
            let cell = if cell.is_empty() { "-" } else { cell };
            format!("{cell:<width$}", width = width(column).max(1))
        });
        let line = cells.collect::<Vec<_>>().join("  ");
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_they_must_be() {
        let row = |cells: [&str; 2]| cells.map(str::to_owned).to_vec();
        assert_eq!(
            table(&[row(["POD", "DEVICE"]), row(["default/a", ""])]),
            "POD        DEVICE\ndefault/a  -\n"
        );
    }
}
