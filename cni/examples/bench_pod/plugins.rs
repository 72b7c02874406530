//! CNI plugins, executed as a runtime does it.

use std::{
    io::Write,
    path::Path,
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::{Result, Sandbox};

/// One call.
pub(crate) struct Exec<'a> {
    pub(crate) program: &'a Path,
    pub(crate) path: &'a Path,
    pub(crate) interface: &'a str,
    pub(crate) config: &'a Value,
}

impl Exec<'_> {
    /// Executes the plugin and returns what it printed.
    pub(crate) fn call(&self, verb: &str, sandbox: &Sandbox) -> Result<Value> {
        let id = &sandbox.id;
        let mut child = Command::new(self.program)
            .env_clear()
            .env("CNI_COMMAND", verb)
            .env("CNI_CONTAINERID", id)
            .env("CNI_NETNS", &sandbox.path)
            .env("CNI_IFNAME", self.interface)
            .env("CNI_PATH", self.path)
            .env(
                "CNI_ARGS",
                format!("IgnoreUnknown=1;K8S_POD_NAMESPACE=bench;K8S_POD_NAME={id};K8S_POD_UID={id}"),
            )
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{}: {error}", self.program.display()))?;
        let given = child.stdin.take().map(|mut stdin| stdin.write_all(self.config.to_string().as_bytes()));
        let output =
            child.wait_with_output().map_err(|error| format!("{}: {error}", self.program.display()))?;
        let (said, complained) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        if !output.status.success() || !matches!(given, Some(Ok(()))) {
            return Err(format!("{} {verb}: {}: {said}{complained}", self.program.display(), output.status));
        }
        if said.trim().is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_str(&said)
            .map_err(|error| format!("{} {verb} printed {said:?}: {error}", self.program.display()))
    }
}
