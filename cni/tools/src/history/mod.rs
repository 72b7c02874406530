//! `fairlead history`: who held which device and address, when, and how calls ended.

mod events;
mod holds;

use std::{path::PathBuf, process::ExitCode, time::SystemTime};

use fairlead_cni::record::Store;
use fairlead_resource_config::columns;
use serde::Serialize;

use self::holds::{Hold, Wanted};
use crate::{
    output::{self, Format},
    root::Root,
    time,
};

/// What `fairlead history` is asked.
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "A TIME is a date (2026-11-27), a date and a time (2026-11-27T10:00), a time of today (10:00), each in UTC, \
                        or how long ago (90m, 3h, 2d).\nExit status: 0 when something was found, 1 when not."
)]
pub struct Options {
    /// Only of this pod: NAMESPACE/NAME.
    #[arg(long, value_name = "POD")]
    pub pod: Option<String>,
    /// Only of this device: its PCI address, or the name of an auxiliary device.
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<String>,
    /// Only of this address.
    #[arg(long, value_name = "IP")]
    pub address: Option<std::net::IpAddr>,
    /// Only what was held, or happened, after this.
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Only what was held, or happened, before this.
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// Only what was held at this moment.
    #[arg(long, value_name = "TIME", conflicts_with_all = ["since", "until"])]
    pub at: Option<String>,
    /// Where the executable keeps its records.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/fairlead")]
    pub state_dir: PathBuf,
    /// Where the node's root is: another folder in a container that has it mounted.
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub root: PathBuf,
    /// How the answer is printed.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Format,
}

/// What was found.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Found {
    /// When the log begins; none when there is none.
    begins: Option<String>,
    /// Lines that could not be read: torn by a full disk or a crash.
    unreadable: usize,
    holds: Vec<Hold>,
}

/// Reads the log, and prints what was asked for.
///
/// # Errors
/// When the log cannot be read, or a time is none.
pub fn run(options: &Options) -> Result<ExitCode, String> {
    let now = time::of(SystemTime::now());
    let moment = |text: &Option<String>| text.as_deref().map(|text| time::parse(text, now)).transpose();
    let wanted = Wanted {
        pod: options.pod.clone(),
        device: options.device.clone(),
        address: options.address.map(|address| address.to_string()),
        since: moment(&options.since)?,
        until: moment(&options.until)?,
        at: moment(&options.at)?,
    };
    let root = Root::new(&options.root);
    let events = events::read(&root, &options.state_dir)?;
    let begins = events.all.first().map(|event| time::text(event.at));
    let mut holds = holds::of(&events.all);
    if let Some(records) = recorded(&Store::new(&root.path(&options.state_dir))) {
        holds::end_forgotten(&mut holds, &records, now);
    }
    holds.retain(|hold| wanted.is_met(hold));
    let found = Found { begins, unreadable: events.unreadable, holds };
    output::print(options.output, &found, || text(&found))?;
    Ok(if found.holds.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Container and interface of all attachments; none where they cannot all be read.
fn recorded(store: &Store) -> Option<Vec<(String, String)>> {
    let records = store.all().ok().filter(|_| store.broken().is_ok_and(|broken| broken.is_empty()))?;
    Some(records.into_iter().map(|record| (record.container_id, record.interface)).collect())
}

fn text(found: &Found) -> String {
    let mut rows = vec![
        ["FROM", "UNTIL", "POD", "INTERFACE", "NETWORK", "DEVICE", "ADDRESS", "OUTCOME"].map(str::to_owned),
    ];
    rows.extend(found.holds.iter().map(Hold::cells));
    let mut lines = match (&found.begins, found.holds.is_empty()) {
        (None, _) => vec!["there is no log yet: it is written by ADD and DEL of this version".to_owned()],
        (Some(begins), true) => vec![format!("nothing of the kind since {begins}, when the log begins")],
        (Some(_), false) => columns(&rows),
    };
    if found.unreadable > 0 {
        lines.push(format!("{} lines of the log could not be read and are left out", found.unreadable));
    }
    lines.into_iter().map(|line| line + "\n").collect()
}

#[cfg(test)]
mod tests;
