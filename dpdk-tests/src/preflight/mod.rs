//! What DPDK needs, looked at before anything runs: [`facts`] gathers, [`checks`] judges.

mod addresses;
mod checks;
mod device;
mod drivers;
mod facts;
mod hugepages;
mod interface;
mod numa;
mod process;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use self::addresses::{Expected, expected, inspect};
pub use self::checks::{Needs, checks, iova_mode, share_cores};
pub use self::device::{DeviceFacts, NodeState, released};
pub use self::drivers::{Driver, Drivers};
pub use self::facts::{Facts, Roots, Wanted};
pub use self::hugepages::{Hugepages, PagePool};
pub use self::interface::InterfaceFacts;
pub use self::numa::NumaNode;
pub use self::process::ProcessFacts;

/// How a check went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What: a device's address, or what else is meant.
    pub what: String,
    /// How it went.
    pub verdict: Verdict,
    /// What was found.
    pub found: String,
    /// What to do, unless all is well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl Check {
    /// All is well.
    #[must_use]
    pub fn ok(what: impl Into<String>, found: impl Into<String>) -> Self {
        Self { what: what.into(), verdict: Verdict::Ok, found: found.into(), remedy: None }
    }

    /// Something that may matter.
    #[must_use]
    pub fn warn(what: impl Into<String>, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { verdict: Verdict::Warn, remedy: Some(remedy.into()), ..Self::ok(what, found) }
    }

    /// Nothing can run like this.
    #[must_use]
    pub fn fail(what: impl Into<String>, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { verdict: Verdict::Fail, remedy: Some(remedy.into()), ..Self::ok(what, found) }
    }
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
