//! Where reports go, and how one is found again in a pod's log.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::{Report, html, junit};

/// What a line of the log that holds a report begins with.
const LOG_MARK: &str = "fairlead-dpdk-check-report: ";

/// The files to write.
#[derive(Debug, Clone, Default)]
pub struct Outputs {
    /// For programs; `-` is standard output.
    pub json: Option<PathBuf>,
    /// For people.
    pub html: Option<PathBuf>,
    /// For CI.
    pub junit: Option<PathBuf>,
    /// Also as a line of the log.
    pub log: bool,
}

impl Outputs {
    /// Whether standard output is for the report alone.
    #[must_use]
    pub fn use_stdout(&self) -> bool {
        self.json.as_deref() == Some(Path::new("-"))
    }

    /// Writes the files as things stand. Each is always whole: a new one takes the place of the old.
    pub fn save(&self, report: &Report) -> Result<(), String> {
        let json = || serde_json::to_string_pretty(report).map(|text| text + "\n").map_err(|e| e.to_string());
        if let Some(path) = self.json.as_deref().filter(|path| *path != Path::new("-")) {
            replace(path, &json()?)?;
        }
        if let Some(path) = &self.html {
            replace(path, &html(report))?;
        }
        if let Some(path) = &self.junit {
            replace(path, &junit(report))?;
        }
        Ok(())
    }

    /// Writes everything, now that the report is complete.
    pub fn finish(&self, report: &Report) -> Result<(), String> {
        self.save(report)?;
        let mut out = io::stdout().lock();
        let text = if self.use_stdout() {
            serde_json::to_string_pretty(report).map_err(|error| error.to_string())? + "\n"
        } else if self.log {
            log_line(report) + "\n"
        } else {
            return Ok(());
        };
        out.write_all(text.as_bytes())
            .and_then(|()| out.flush())
            .map_err(|error| format!("cannot write the report to standard output: {error}"))
    }
}

/// The report as one line of a log.
#[must_use]
pub fn log_line(report: &Report) -> String {
    format!("{LOG_MARK}{}", serde_json::to_string(report).unwrap_or_default())
}

/// The report in a JSON file, or in a log that has it as a line (of several the last).
pub fn extract(text: &str) -> Result<Report, String> {
    let marked = text.lines().rev().find_map(|line| line.split_once(LOG_MARK).map(|(_, json)| json));
    let json = marked.unwrap_or(text);
    serde_json::from_str(json).map_err(|error| {
        if marked.is_some() || text.trim_start().starts_with('{') {
            format!("the report cannot be read: {error}")
        } else {
            format!("there is no report in it: neither JSON nor a line that begins with {LOG_MARK:?}")
        }
    })
}

/// Puts a file in place of whatever was there. A folder that cannot take a second file (a mount of one file) gets it written
/// over.
fn replace(path: &Path, text: &str) -> Result<(), String> {
    let named = |error: io::Error| format!("cannot write {}: {error}", path.display());
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let is_plain = path.symlink_metadata().map_or(true, |about| about.is_file());
    if is_plain && let Ok(mut file) = tempfile::Builder::new().prefix(".report-").tempfile_in(folder) {
        use std::os::unix::fs::PermissionsExt;
        file.write_all(text.as_bytes()).map_err(named)?;
        // As other programs make theirs, not for the owner alone.
        file.as_file().set_permissions(fs::Permissions::from_mode(0o644)).map_err(named)?;
        match file.persist(path) {
            Ok(_) => return Ok(()),
            Err(error) if error.error.raw_os_error() == Some(nix::libc::EBUSY) => {}
            Err(error) => return Err(named(error.error)),
        }
    }
    fs::write(path, text).map_err(named)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{finding, report};
    use super::*;
    use crate::plan::Mode;

    #[test]
    fn a_report_is_found_in_json_and_in_a_log() {
        let report = report(vec![finding(Mode::Forth, 64, &[20_000.0])]);
        let json = serde_json::to_string_pretty(&report).unwrap();
        assert_eq!(extract(&json).unwrap(), report);
        let log = format!("[   0.1 s] starting\n2026-01-01T00:00:00Z stdout F {}\nmore\n", log_line(&report));
        assert_eq!(extract(&log).unwrap(), report);
        assert!(extract("no such thing").unwrap_err().contains("there is no report"));
        assert!(extract("{\"format\": 1}").unwrap_err().contains("cannot be read"));
    }

    #[test]
    fn files_are_replaced_whole_and_nothing_else_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| Some(folder.path().join(name));
        let outputs =
            Outputs { json: path("r.json"), html: path("r.html"), junit: path("r.xml"), log: false };
        let mut report = report(Vec::new());
        outputs.save(&report).unwrap();
        report.seconds = 99.0;
        outputs.save(&report).unwrap();
        let text = fs::read_to_string(folder.path().join("r.json")).unwrap();
        assert_eq!(extract(&text).unwrap().seconds, 99.0);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
        let nowhere = Outputs { json: path("no/such/folder/r.json"), ..Outputs::default() };
        assert!(nowhere.save(&report).unwrap_err().contains("no/such/folder"));
    }

    #[test]
    fn what_is_no_file_is_written_to() {
        assert_eq!(replace(Path::new("/dev/null"), "text"), Ok(()));
    }
}
