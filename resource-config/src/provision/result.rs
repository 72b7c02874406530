//! The result of an apply: a file that agent and doctor can show.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::error::ProvisionError;
use super::files;
use super::plan::Refusal;
use crate::pci::PciAddress;

/// Version of the file's layout.
const SCHEMA: u32 = 1;

/// Name of the file.
const FILE: &str = "result.json";

/// How an apply, or its part on one PF, ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// Everything was as it shall be.
    Unchanged,
    /// Everything is now as it shall be.
    Applied,
    /// Something was not touched that would have to be.
    Refused,
    /// Something went wrong.
    Failed,
}

/// What an apply did.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Version of the layout.
    pub schema: u32,
    /// When it ended, in seconds since 1970.
    pub ended: u64,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// The node's name, as given.
    pub node: String,
    /// The policy file.
    pub policy: PathBuf,
    /// The worst of all parts.
    pub outcome: Outcome,
    /// What went wrong before or beside the PFs.
    pub error: Option<String>,
    /// Sections that cannot be carried out.
    pub refusals: Vec<Refusal>,
    /// What is odd.
    pub warnings: Vec<String>,
    /// Drop-in files that were written or removed.
    pub drop_ins: Vec<String>,
    /// The PFs that the policy is about.
    pub pfs: Vec<PfReport>,
}

/// What an apply did on one PF.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PfReport {
    /// Its address.
    pub address: PciAddress,
    /// Its network device.
    pub netdev: Option<String>,
    /// The section of the policy.
    pub section: String,
    /// How it ended.
    pub outcome: Outcome,
    /// The steps that were done, in order.
    pub done: Vec<String>,
    /// What was not touched, and why.
    pub refusals: Vec<Refusal>,
    /// Why it failed.
    pub error: Option<String>,
    /// After a failure: what was put back.
    pub restored: Vec<String>,
    /// After a failure: what could not be put back, and why.
    pub not_restored: Vec<String>,
    /// What is worth knowing.
    pub notes: Vec<String>,
}

impl Report {
    /// A report of nothing yet.
    #[must_use]
    pub fn new(node: &str, policy: &Path) -> Self {
        Self {
            schema: SCHEMA,
            ended: 0,
            seconds: 0.0,
            node: node.to_owned(),
            policy: policy.to_owned(),
            outcome: Outcome::Unchanged,
            error: None,
            refusals: Vec::new(),
            warnings: Vec::new(),
            drop_ins: Vec::new(),
            pfs: Vec::new(),
        }
    }

    /// Notes what kept everything from being done.
    pub fn fail(&mut self, error: String) {
        self.error = Some(error);
        self.outcome = Outcome::Failed;
    }

    /// The worst of all parts.
    pub(super) fn conclude(&mut self) {
        let own = match (&self.error, self.refusals.is_empty(), self.drop_ins.is_empty()) {
            (Some(_), _, _) => Outcome::Failed,
            (None, false, _) => Outcome::Refused,
            (None, true, false) => Outcome::Applied,
            (None, true, true) => Outcome::Unchanged,
        };
        self.outcome = self.pfs.iter().map(|pf| pf.outcome).fold(own, Ord::max);
    }

    /// Notes when it ended, and writes the report as `result.json` into a folder, in place of the one before.
    ///
    /// # Errors
    /// The folder or the file cannot be written.
    pub fn write(&mut self, state_dir: &Path) -> Result<PathBuf, ProvisionError> {
        self.ended = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
        let path = state_dir.join(FILE);
        self.try_write(state_dir).map_err(|source| ProvisionError::Result { path: path.clone(), source })?;
        Ok(path)
    }

    fn try_write(&self, folder: &Path) -> io::Result<()> {
        let mut text = serde_json::to_vec_pretty(self)?;
        text.push(b'\n');
        files::replace(folder, FILE, &text)
    }
}
