//! Running the node's own tools.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Runs a program and returns what it printed.
///
/// # Errors
/// When it cannot be run or ends with another code than 0; with what it printed.
pub(super) fn run(program: &str, arguments: &[&str]) -> Result<String> {
    let line = || format!("{program} {}", arguments.join(" "));
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output().with_context(line)?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!("{}: {}: {} {}", line(), output.status, stdout.trim(), stderr.trim());
    }
    Ok(stdout)
}
