//! Who held which device and address, and how calls ended: a log on the node that never grows beyond two files.
//!
//! `<state>/history/log`, a line of JSON for each event, and `log.1`, what was before. It is for people (`fairlead history`):
//! nothing is decided by it, and no call fails for want of it.

use std::{
    fs::{self, DirBuilder, File},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use serde_json::{Map, Value};

use crate::{agent_protocol::PodRef, protocol::error::CniError, record::Record};

/// Name of the subfolder of the state folder.
pub const FOLDER: &str = "history";
/// The files in it, the newer one first.
pub const FILES: [&str; 2] = ["log", "log.1"];
/// Bytes after which the newer file becomes the older one.
const LIMIT: u64 = 4 << 20;
/// Bytes of an error that are kept.
const ERROR_LIMIT: usize = 1000;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// An attachment was made, or an ADD failed.
    Add,
    /// An attachment was undone.
    Del,
    /// One that was never whole, or whose pod did not get all of its others, was undone.
    Undo,
}

impl What {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Del => "DEL",
            Self::Undo => "UNDO",
        }
    }
}

/// The log. What is noted is written when the call is done with the node, or before the record goes of which it tells.
#[derive(Debug)]
pub struct History {
    dir: PathBuf,
    lines: Vec<u8>,
    limit: u64,
}

impl History {
    /// The log under a state folder. Nothing is made until something is written.
    pub fn new(state_dir: &Path) -> Self {
        Self { dir: state_dir.join(FOLDER), lines: Vec::new(), limit: LIMIT }
    }

    /// Notes what became of an attachment.
    pub(crate) fn note(&mut self, what: What, record: &Record, failure: Option<&CniError>, start: Instant) {
        let mut line = begin(what, &record.pod, &record.container_id);
        set(&mut line, "network", &record.network);
        set(&mut line, "interface", &record.interface);
        list(&mut line, "devices", record.devices());
        let result = record.result.iter();
        let result = result.flat_map(|result| &result.ips);
        list(&mut line, "addresses", result.map(|ip| ip.address.addr().to_string()));
        self.end(line, failure, start);
    }

    /// Notes that an ADD failed.
    pub(crate) fn failed(&mut self, pod: &PodRef, container_id: &str, failure: &CniError, start: Instant) {
        self.end(begin(What::Add, pod, container_id), Some(failure), start);
    }

    fn end(&mut self, mut line: Map<String, Value>, failure: Option<&CniError>, start: Instant) {
        let took = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
        line.insert("ms".into(), took.into());
        if let Some(failure) = failure {
            let mut text = failure.to_string();
            text.truncate(text.floor_char_boundary(ERROR_LIMIT));
            line.insert("error".into(), text.into());
        }
        self.lines.extend_from_slice(Value::Object(line).to_string().as_bytes());
        self.lines.push(b'\n');
    }

    /// Writes what was noted. Where that is not possible it is lost.
    pub fn flush(&mut self) {
        if !self.lines.is_empty() {
            let _ = self.write();
            self.lines.clear();
        }
    }

    fn write(&self) -> io::Result<()> {
        let path = self.dir.join(FILES[0]);
        let mut file = self.open(&path)?;
        let mut found = file.metadata()?;
        if found.size() + self.lines.len() as u64 > self.limit && found.size() > 0 {
            // Of many that see this one does it, and only with the file that it has seen.
            let is_same = || fs::metadata(&path).is_ok_and(|now| now.ino() == found.ino());
            if file.try_lock().is_ok() && is_same() {
                fs::rename(&path, self.dir.join(FILES[1]))?;
                file = self.open(&path)?;
                found = file.metadata()?;
            }
        }
        let mut last = [b'\n'];
        if found.size() > 0 {
            file.read_exact_at(&mut last, found.size() - 1)?;
        }
        // A line that a full disk has cut off is not to spoil the next.
        let torn = if last == [b'\n'] { &b""[..] } else { &b"\n"[..] };
        file.write(&[torn, &self.lines].concat()).map(drop)
    }

    fn open(&self, path: &Path) -> io::Result<File> {
        let open = || File::options().read(true).append(true).create(true).mode(0o600).open(path);
        match open() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?;
                open()
            }
            other => other,
        }
    }
}

impl Drop for History {
    fn drop(&mut self) {
        self.flush();
    }
}

fn begin(what: What, pod: &PodRef, container_id: &str) -> Map<String, Value> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut line = Map::new();
    line.insert("at".into(), u64::try_from(now.as_millis()).unwrap_or_default().into());
    set(&mut line, "what", what.as_str());
    set(&mut line, "pod", &pod.to_string());
    set(&mut line, "uid", &pod.uid);
    set(&mut line, "container", container_id);
    line
}

fn set(line: &mut Map<String, Value>, key: &str, text: &str) {
    line.insert(key.into(), text.into());
}

fn list(line: &mut Map<String, Value>, key: &str, texts: impl Iterator<Item = String>) {
    line.insert(key.into(), Value::Array(texts.map(Value::String).collect()));
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{protocol::error::code, record::sample};

    fn lines(dir: &Path, file: &str) -> Vec<String> {
        let text = fs::read_to_string(dir.join(FOLDER).join(file)).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn an_event_is_a_line_with_pod_network_devices_addresses_and_outcome() {
        let dir = tempfile::tempdir().unwrap();
        let mut record = sample("c1", "net1", 1);
        record.result = Some(serde_json::from_value(json!({"ips": [{"address": "10.1.2.3/24"}]})).unwrap());
        let mut history = History::new(dir.path());
        history.note(What::Add, &record, None, Instant::now());
        history.failed(&record.pod, "c2", &CniError::new(code::OTHER, "ä".repeat(2000)), Instant::now());
        assert!(!dir.path().join(FOLDER).exists(), "one write for all");
        drop(history);
        let lines = lines(dir.path(), FILES[0]);
        let line: Value = serde_json::from_str(&lines[0]).unwrap();
        for (key, value) in [
            ("what", json!("ADD")),
            ("pod", json!("default/p")),
            ("uid", json!("u")),
            ("container", json!("c1")),
            ("network", json!("default/a")),
            ("interface", json!("net1")),
            ("addresses", json!(["10.1.2.3"])),
            ("devices", json!([])),
        ] {
            assert_eq!(line[key], value, "{key}");
        }
        assert!(line["at"].as_u64().unwrap() > 1_700_000_000_000 && line.get("error").is_none());
        let failed: Value = serde_json::from_str(&lines[1]).unwrap();
        let error = failed["error"].as_str().unwrap();
        assert!(error.starts_with('ä') && error.len() <= ERROR_LIMIT);
    }

    #[test]
    fn a_full_file_makes_place_and_a_torn_line_spoils_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let record = sample("c1", "net1", 1);
        let note = |limit: u64| {
            let mut history = History::new(dir.path());
            history.limit = limit;
            history.note(What::Del, &record, None, Instant::now());
        };
        let log = dir.path().join(FOLDER).join(FILES[0]);
        note(LIMIT);
        let two = fs::metadata(&log).unwrap().len() * 5 / 2;
        (0..2).for_each(|_| note(two));
        assert_eq!((lines(dir.path(), FILES[0]).len(), lines(dir.path(), FILES[1]).len()), (1, 2));
        let whole = fs::read_to_string(&log).unwrap();
        fs::write(&log, &whole[..100]).unwrap();
        note(LIMIT);
        let lines = lines(dir.path(), FILES[0]);
        assert_eq!(lines[0], whole[..100]);
        assert!(serde_json::from_str::<Value>(&lines[1]).is_ok());
    }

    #[test]
    fn where_nothing_can_be_written_nothing_fails() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FOLDER), "no folder").unwrap();
        let mut history = History::new(dir.path());
        history.note(What::Del, &sample("c1", "net1", 1), None, Instant::now());
        history.flush();
        assert_eq!(fs::read_to_string(dir.path().join(FOLDER)).unwrap(), "no folder");
    }
}
