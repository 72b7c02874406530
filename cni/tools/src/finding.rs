//! What was found, how bad it is, and what to do about it.

use std::process::ExitCode;

use serde::Serialize;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// As it should be.
    Ok,
    /// Good to know.
    Info,
    /// It could not be looked at, so nothing is said of it.
    Unknown,
    /// Something may not work, or not always.
    Warning,
    /// Something does not work.
    Error,
}

impl Severity {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Info => "info",
            Self::Unknown => "unknown",
            Self::Warning => "WARNING",
            Self::Error => "ERROR",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at, by a name that stays: `cni.order`.
    pub id: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What was seen.
    pub seen: String,
    /// What to do, unless all is well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl Finding {
    /// All is well.
    pub fn ok(id: &'static str, seen: impl Into<String>) -> Self {
        Self { id, severity: Severity::Ok, seen: seen.into(), remedy: None }
    }

    /// Good to know.
    pub fn info(id: &'static str, seen: impl Into<String>) -> Self {
        Self { severity: Severity::Info, ..Self::ok(id, seen) }
    }

    /// Something may not work.
    pub fn warning(id: &'static str, seen: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, remedy: Some(remedy.into()), ..Self::ok(id, seen) }
    }

    /// Something does not work.
    pub fn error(id: &'static str, seen: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { severity: Severity::Error, ..Self::warning(id, seen, remedy) }
    }

    /// It could not be looked at; `remedy` says how it could be.
    pub fn unknown(id: &'static str, seen: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { severity: Severity::Unknown, ..Self::warning(id, seen, remedy) }
    }
}

/// Everything that was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// In the order in which it was looked at.
    pub findings: Vec<Finding>,
}

impl Report {
    /// The worst of it.
    pub fn worst(&self) -> Severity {
        self.findings.iter().map(|finding| finding.severity).max().unwrap_or(Severity::Ok)
    }

    /// 0 when nothing is to be done, 1 when something may be, 2 for an error.
    pub fn exit(&self) -> ExitCode {
        ExitCode::from(match self.worst() {
            Severity::Ok | Severity::Info => 0,
            Severity::Unknown | Severity::Warning => 1,
            Severity::Error => 2,
        })
    }

    /// For people: a line for each finding, one more for what to do, and how many there are. With `all` those too that are well.
    pub fn text(&self, all: bool) -> String {
        let mut text = String::new();
        let width = self.findings.iter().map(|finding| finding.id.len()).max().unwrap_or_default();
        let told = |finding: &&Finding| all || finding.severity > Severity::Ok;
        for finding in self.findings.iter().filter(told) {
            let word = finding.severity.word();
            text += &format!("{word:<7}  {:<width$}  {}\n", finding.id, finding.seen);
            if let Some(remedy) = &finding.remedy {
                text += &format!("{:width$}           remedy: {remedy}\n", "");
            }
        }
        let count = |severity| self.findings.iter().filter(|finding| finding.severity == severity).count();
        text += &format!(
            "{} looked at: {} errors, {} warnings, {} unknown\n",
            self.findings.len(),
            count(Severity::Error),
            count(Severity::Warning),
            count(Severity::Unknown)
        );
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_well_is_told_only_when_asked_for_and_the_worst_counts() {
        let report = Report {
            findings: vec![
                Finding::ok("a.b", "good"),
                Finding::unknown("a", "hidden", "mount it"),
                Finding::info("a.c", "odd"),
            ],
        };
        assert_eq!(
            report.text(false),
            "unknown  a    hidden\n              remedy: mount it\ninfo     a.c  odd\n3 looked at: 0 errors, 0 warnings, 1 unknown\n"
        );
        assert!(report.text(true).starts_with("ok       a.b  good\n"));
        assert_eq!((report.worst(), report.exit()), (Severity::Unknown, ExitCode::from(1)));
        assert_eq!(Report::default().exit(), ExitCode::from(0));
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["findings"][0], serde_json::json!({"id": "a.b", "severity": "ok", "seen": "good"}));
    }
}
