//! What DPDK needs, looked at before anything runs: [`facts`] gathers, [`checks`] judges.

mod checks;
mod facts;
mod hugepages;
mod process;

use std::fmt;

use serde::Serialize;

pub use self::checks::{Plan, checks, plan};
pub use self::facts::{DeviceFacts, Facts, NodeState, Roots};
pub use self::hugepages::{Hugepages, PagePool};
pub use self::process::ProcessFacts;

/// How a check went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// This check can do without, other programs may not.
    Warn,
    /// Nothing can run.
    Fail,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What: a device's address, or what else is meant.
    pub what: String,
    /// How it went.
    pub verdict: Verdict,
    /// What was found.
    pub found: String,
    /// What to do, unless all is well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.verdict {
            Verdict::Ok => "ok  ",
            Verdict::Warn => "warn",
            Verdict::Fail => "FAIL",
        };
        write!(f, "{verdict} {}: {}", self.what, self.found)?;
        match &self.remedy {
            Some(remedy) => write!(f, "\n                remedy: {remedy}"),
            None => Ok(()),
        }
    }
}
