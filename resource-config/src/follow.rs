//! `fairlead-config watch`: what becomes of the node's devices, as it happens.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use fairlead_resource_config::error_text;
use fairlead_resource_config::inventory::{Inventory, Role};
use fairlead_resource_config::watch::{Change, WatchError, changes};
use serde::Serialize;

use crate::{Format, output};

/// One line of JSON.
#[derive(Serialize)]
struct Document<'a> {
    /// When it was seen: seconds since 1970.
    time: f64,
    /// What is different from the document before; empty in the first.
    changes: &'a [Change],
    /// The node as it is now.
    inventory: &'a Inventory,
}

/// Prints a stream of inventories until its reader goes away or it ends. Errors of the stream are said and not the end.
pub(crate) fn print(
    format: Format,
    stream: impl Iterator<Item = Result<Arc<Inventory>, WatchError>>,
) -> anyhow::Result<()> {
    let mut last: Option<Arc<Inventory>> = None;
    for item in stream {
        let inventory = match item {
            Ok(inventory) => inventory,
            Err(error) => {
                output::complain(&error_text(&error));
                continue;
            }
        };
        let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let changes = last.as_ref().map(|last| changes(last, &inventory));
        let text = match format {
            Format::Json => {
                let changes = changes.as_deref().unwrap_or_default();
                let document = Document { time: since_1970.as_secs_f64(), changes, inventory: &inventory };
                serde_json::to_string(&document).context("cannot write JSON")? + "\n"
            }
            Format::Text => match changes {
                Some(changes) => lines(since_1970, &changes),
                None => format!("{}  {}\n", time_of_day(since_1970), summary(&inventory)),
            },
        };
        if !output::write_on(&text).context("cannot write")? {
            return Ok(());
        }
        last = Some(inventory);
    }
    Ok(())
}

fn lines(since_1970: Duration, changes: &[Change]) -> String {
    let time = time_of_day(since_1970);
    changes.iter().map(|change| format!("{time}  {change}\n")).collect()
}

/// `12:34:56.789Z`: one needs to tell changes apart, and to find them in other logs.
fn time_of_day(since_1970: Duration) -> String {
    let seconds = since_1970.as_secs() % 86_400;
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    format!("{hours:02}:{minutes:02}:{:02}.{:03}Z", seconds % 60, since_1970.subsec_millis())
}

fn summary(inventory: &Inventory) -> String {
    let count = |is: fn(&Role) -> bool| inventory.functions.iter().filter(|f| is(&f.role)).count();
    let pfs = count(|role| matches!(role, Role::Pf(_)));
    let vfs = count(|role| matches!(role, Role::Vf(_)));
    let others = count(|role| matches!(role, Role::Plain));
    let aux = inventory.aux_devices.len();
    format!("watching: PFs {pfs}, VFs {vfs}, other functions {others}, auxiliary devices {aux}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_of_day_has_milliseconds() {
        assert_eq!(time_of_day(Duration::ZERO), "00:00:00.000Z");
        assert_eq!(time_of_day(Duration::from_millis(1_763_680_896_123)), "23:21:36.123Z");
    }

    #[test]
    fn each_change_is_a_line_with_the_same_time() {
        use fairlead_resource_config::watch::ChangeKind;
        let change = |device: &str, change, details: &[&str]| Change {
            device: device.to_owned(),
            change,
            details: details.iter().map(|text| (*text).to_owned()).collect(),
        };
        let changes = [
            change("0000:01:00.0", ChangeKind::Changed, &["VFs 1 of 7 -> 0 of 7"]),
            change("0000:01:10.0", ChangeKind::Removed, &[]),
        ];
        assert_eq!(
            lines(Duration::from_secs(60), &changes),
            "00:01:00.000Z  ~ 0000:01:00.0  VFs 1 of 7 -> 0 of 7\n00:01:00.000Z  - 0000:01:10.0\n"
        );
    }
}
