//! `fairlead uninstall`: the node as it was, but for what pods still have from us.

use std::{fs, path::PathBuf, time::Duration};

use serde_json::Value;

use super::{FILE, Folders, LOCK, conflist, files::remove, programs};
use crate::{
    cli::Answer,
    config::NetworkConfig,
    history,
    meta::config::TYPE,
    protocol::error::CniError,
    record::{Record, Store},
};

/// Folders of ours below the state folder, which go when they are empty.
const STATE: [&str; 4] = ["attachments", "devices", "sandboxes", ""];

/// See above.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Uninstall {
    pub(super) folders: Folders,
    /// As the node sees it; by default what our configuration says.
    pub(super) state: Option<PathBuf>,
    pub(super) force: bool,
}

impl Uninstall {
    pub(super) fn run(&self) -> Result<Answer, CniError> {
        let bin = self.folders.here(&self.folders.bin);
        let lock = if bin.exists() { Some(self.folders.lock(Duration::ZERO)?) } else { None };
        let state = self.state_dir();
        // First, so that nothing comes any more.
        let conf = self.folders.here(&self.folders.conf);
        let mut lines = conflist::remove_all(&conf, &self.folders.conf)?;
        let needs = self.needs(&state)?;
        let keeps = !needs.is_empty() && !self.force;
        if keeps {
            lines.push(format!("{} stays, with its aliases:", self.folders.bin.join(TYPE).display()));
        } else {
            lines.extend(programs::remove_all(&self.folders)?);
            let state = self.folders.here(&state);
            let _ = fs::remove_dir_all(state.join(history::FOLDER));
            STATE.iter().for_each(|name| drop(fs::remove_dir(state.join(name))));
        }
        lines.extend(needs);
        if keeps {
            lines.push(format!(
                "delete these pods or drain the node, have `fairlead reconcile --state-dir {0}` undo what is left, then call \
                 this again with --state-dir {0} (--force removes all now and leaves what they have)",
                state.display()
            ));
        } else if lines.is_empty() {
            lines.push("nothing of ours is here".into());
        }
        remove(&bin.join(LOCK))?;
        drop(lock);
        Ok(Answer { text: lines.join("\n"), well: !keeps })
    }

    /// As the node sees it.
    fn state_dir(&self) -> PathBuf {
        let told = || {
            let file = self.folders.here(&self.folders.conf).join(FILE);
            let network = NetworkConfig::parse(&fs::read_to_string(file).ok()?).ok()?;
            let ours = network.plugins.into_iter().find(|plugin| plugin.kind == TYPE)?;
            ours.fields.get("stateDir").and_then(Value::as_str).map(PathBuf::from)
        };
        self.state.clone().or_else(told).unwrap_or_else(|| "/var/lib/fairlead".into())
    }

    /// What still needs the program for its DEL, a line for each sandbox.
    fn needs(&self, state: &std::path::Path) -> Result<Vec<String>, CniError> {
        let here = self.folders.here(state);
        if !here.parent().is_some_and(std::path::Path::exists) {
            let text = "is not to be seen from here: whether pods have attachments cannot be told (mount it below --root)";
            return Ok(vec![format!("{}: {text}", state.display())]);
        }
        let store = Store::new(&here);
        let mut records = store.all()?;
        records
            .sort_by_cached_key(|record| (record.pod.to_string(), record.container_id.clone(), record.order));
        let mut lines: Vec<String> = records
            .chunk_by(|a, b| a.container_id == b.container_id)
            .filter_map(|sandbox| {
                let first = sandbox.first()?;
                let interfaces: Vec<&str> = sandbox.iter().map(|record| record.interface.as_str()).collect();
                Some(line(first, &interfaces))
            })
            .collect();
        lines.extend(store.unreadable()?.iter().map(ToString::to_string));
        Ok(lines)
    }
}

fn line(record: &Record, interfaces: &[&str]) -> String {
    format!(
        "pod {} (sandbox {}) needs it for the DEL of {}",
        record.pod,
        record.container_id,
        interfaces.join(", ")
    )
}
