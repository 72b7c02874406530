//! Executing a plugin from disk, as the specification's "execution protocol" says.

use std::{
    io::{self, Write},
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    config::Fields,
    protocol::{
        env::Verb,
        error::{CniError, code},
    },
};

/// Set for everything that we execute, so that a configuration that leads back to us ends at once instead of forking for ever.
pub const GUARD: &str = "FAIRLEAD_INSIDE";

/// How often a binary that is being written is tried, and how long is waited in between (the reference library: six times,
/// one second). The last failure is an error here; there it passes for success.
const BUSY_TRIES: u32 = 6;
const BUSY_PAUSE: Duration = Duration::from_secs(1);

/// The environment of an executed plugin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluginEnv {
    /// `CNI_CONTAINERID`.
    pub container_id: String,
    /// `CNI_NETNS`; empty when the namespace is gone.
    pub netns: String,
    /// `CNI_IFNAME`.
    pub interface: String,
    /// `CNI_ARGS`.
    pub args: String,
    /// `CNI_PATH`.
    pub path: String,
}

/// Whether a file can be executed.
pub(crate) fn is_program(file: &Path) -> bool {
    file.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

/// Looks a plugin up in the folders of `CNI_PATH`: the first regular file of that name.
///
/// # Errors
/// Code 7, naming the plugin and every folder.
pub fn find(kind: &str, path: &[PathBuf]) -> Result<PathBuf, CniError> {
    path.iter().map(|dir| dir.join(kind)).find(|file| is_program(file)).ok_or_else(|| {
        let dirs = path.iter().map(|dir| dir.display().to_string()).collect::<Vec<_>>().join(", ");
        let text = format!(
            "plugin \"{kind}\" is in none of {dirs}: install it there, or correct the network's \"type\""
        );
        CniError::new(code::INVALID_CONFIG, text)
    })
}

/// Runs a plugin and returns the document that it printed, if any.
///
/// # Errors
/// The plugin's own error, led by its name and the verb; code 5 when it could not be run, 6 when it printed no JSON.
pub fn run(binary: &Path, verb: Verb, env: &PluginEnv, stdin: &Value) -> Result<Option<Value>, CniError> {
    run_as(binary, binary, verb, env, stdin)
}

/// Runs a plugin for a verb that is about no attachment (GC, STATUS). One that speaks the verb's version and does not have the verb
/// has nothing to say to it.
///
/// # Errors
/// As [`run`].
pub fn tell(binary: &Path, verb: Verb, path: String, config: Fields) -> Result<(), CniError> {
    let (container_id, netns, interface, args) = Default::default();
    let env = PluginEnv { container_id, netns, interface, args, path };
    match run(binary, verb, &env, &Value::Object(config.0)) {
        Err(error) if error.code == code::INVALID_ENVIRONMENT => Ok(()),
        done => done.map(drop),
    }
}

/// Runs this program as the plugin of that name.
///
/// # Errors
/// As [`run`].
pub fn run_self(kind: &str, verb: Verb, env: &PluginEnv, stdin: &Value) -> Result<Option<Value>, CniError> {
    run_as(Path::new("/proc/self/exe"), Path::new(kind), verb, env, stdin)
}

fn run_as(
    binary: &Path,
    name: &Path,
    verb: Verb,
    env: &PluginEnv,
    stdin: &Value,
) -> Result<Option<Value>, CniError> {
    let kind = name.file_name().unwrap_or_default().to_string_lossy();
    let about = format!("plugin type=\"{kind}\" failed ({})", verb.as_str().to_lowercase());
    let input = serde_json::to_vec(stdin)
        .map_err(|error| CniError::new(code::DECODING, about.clone()).details(error.to_string()))?;
    let output = spawn(binary, name, verb, env)
        .and_then(|child| talk(child, input))
        .map_err(|error| CniError::new(code::IO, format!("{about}: {}: {error}", binary.display())))?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        return parse_success(&output.stdout, &about);
    }
    match serde_json::from_slice::<CniError>(&output.stdout) {
        Ok(error) if !error.msg.is_empty() => Err(error.context(about)),
        _ => {
            let stdout = String::from_utf8_lossy(&output.stdout);
            let said = [stdout.trim(), stderr.trim()].into_iter().find(|text| !text.is_empty());
            let text = format!("{about}: {} ({})", said.unwrap_or("it printed nothing"), output.status);
            Err(CniError::new(code::OTHER, text))
        }
    }
}

fn parse_success(stdout: &[u8], about: &str) -> Result<Option<Value>, CniError> {
    if stdout.trim_ascii().is_empty() {
        return Ok(None);
    }
    serde_json::from_slice(stdout).map(Some).map_err(|error| {
        let text =
            format!("{about}: it succeeded but printed no JSON: {}", String::from_utf8_lossy(stdout).trim());
        CniError::new(code::DECODING, text).details(error.to_string())
    })
}

/// Starts the plugin. A binary that is open for writing is waited for.
fn spawn(binary: &Path, name: &Path, verb: Verb, env: &PluginEnv) -> io::Result<Child> {
    let mut tries = 0;
    loop {
        let child = Command::new(binary)
            .arg0(name)
            .env("CNI_COMMAND", verb.as_str())
            .env("CNI_CONTAINERID", &env.container_id)
            .env("CNI_NETNS", &env.netns)
            .env("CNI_IFNAME", &env.interface)
            .env("CNI_ARGS", &env.args)
            .env("CNI_PATH", &env.path)
            .env(GUARD, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        tries += 1;
        match child {
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy && tries < BUSY_TRIES => {
                thread::sleep(BUSY_PAUSE);
            }
            other => return other,
        }
    }
}

/// Hands over standard input while output is read, so that neither side can wait for the other.
fn talk(mut child: Child, input: Vec<u8>) -> io::Result<std::process::Output> {
    let stdin = child.stdin.take();
    let write = move || {
        if let Some(mut stdin) = stdin {
            // A plugin may end without reading its input: not our failure, its exit status tells.
            let _ = stdin.write_all(&input);
        }
    };
    match thread::Builder::new().name("standard input".into()).spawn(write) {
        Ok(writer) => {
            let output = child.wait_with_output();
            let _ = writer.join();
            output
        }
        Err(error) => {
            // It has read nothing, and must not go on beside whoever undoes its work.
            child.kill().and(child.wait())?;
            Err(error)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;

    use super::*;

    fn env() -> PluginEnv {
        PluginEnv {
            container_id: "c1".into(),
            netns: "/run/netns/x".into(),
            interface: "net1".into(),
            args: "A=b".into(),
            path: "/opt".into(),
        }
    }

    /// A plugin made of a shell script.
    fn plugin(dir: &Path, script: &str) -> PathBuf {
        let file = dir.join("fake");
        fs::write(&file, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        file
    }

    /// Another test may fork while a script is still open for writing; wait that out, as `spawn` does.
    fn run_script(script: &str, stdin: &Value) -> Result<Option<Value>, CniError> {
        let dir = tempfile::tempdir().unwrap();
        run(&plugin(dir.path(), script), Verb::Add, &env(), stdin)
    }

    #[test]
    fn a_plugin_gets_environment_and_input_and_its_output_is_read() {
        let script = r#"read -r config; echo "{\"cmd\":\"$CNI_COMMAND $CNI_CONTAINERID $CNI_NETNS $CNI_IFNAME $CNI_ARGS $CNI_PATH $FAIRLEAD_INSIDE\",\"config\":$config}""#;
        let document = run_script(script, &json!({"name": "a"})).unwrap().unwrap();
        assert_eq!(document["cmd"], "ADD c1 /run/netns/x net1 A=b /opt 1");
        assert_eq!(document["config"], json!({"name": "a"}));
    }

    #[test]
    fn large_input_and_output_do_not_block_each_other() {
        let text = "x".repeat(1 << 20);
        let document = run_script("cat", &json!({ "text": text })).unwrap().unwrap();
        assert_eq!(document["text"].as_str().unwrap().len(), 1 << 20);
    }

    #[test]
    fn a_plugins_own_error_keeps_its_code() {
        let script = r#"cat >/dev/null; echo '{"code":11,"msg":"later","details":"d"}'; exit 1"#;
        let error = run_script(script, &json!({})).unwrap_err();
        assert_eq!((error.code, error.details.as_str()), (11, "d"));
        assert_eq!(error.msg, "plugin type=\"fake\" failed (add): later");
    }

    #[test]
    fn whatever_a_failing_plugin_said_is_in_the_error() {
        for (script, said) in
            [("echo why >&2; exit 3", "why"), ("exit 3", "printed nothing"), ("kill -9 $$", "signal")]
        {
            let error = run_script(script, &json!({})).unwrap_err();
            assert!(error.msg.contains(said), "{script}: {error}");
        }
        assert_eq!(run_script("echo nonsense", &json!({})).unwrap_err().code, code::DECODING);
        assert_eq!(run_script("true", &json!({})).unwrap(), None);
    }

    #[test]
    fn a_missing_plugin_is_named_with_the_folders() {
        let dir = tempfile::tempdir().unwrap();
        let file = plugin(dir.path(), "");
        let path = [PathBuf::from("/nonexistent"), dir.path().to_owned()];
        assert_eq!(find("fake", &path).unwrap(), file);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        let error = find("fake", &path).unwrap_err();
        assert!(error.msg.contains("\"fake\"") && error.msg.contains("/nonexistent"), "{error}");
    }
}
