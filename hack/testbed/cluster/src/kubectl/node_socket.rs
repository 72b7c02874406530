//! What goes through the stand-in kubelet's own socket: commands in containers, and their logs.

use std::{
    io::{Read, Write, stderr, stdout},
    os::unix::net::UnixStream,
    path::Path,
    process::{Command, ExitCode},
};

use anyhow::{Context, Result, bail};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Serialize;

use super::{Exec, Logs};
use crate::kubelet::exec::{ExecAnswer, ExecRequest, SOCKET, Which};

/// Runs a command in a container and exits as it does.
pub(super) async fn exec(namespace: &str, exec: Exec) -> Result<ExitCode> {
    let which = Which { namespace: namespace.into(), pod: exec.pod, container: exec.container };
    if exec.stream {
        let id = call(&exec.node.root, "/container", &which).await?;
        return stream(&id, &exec.command);
    }
    let timeout = i64::try_from(exec.timeout.as_secs()).unwrap_or(i64::MAX);
    let request = ExecRequest { which, command: exec.command, timeout };
    let answer = call(&exec.node.root, "/exec", &request).await?;
    let answer: ExecAnswer = serde_json::from_str(&answer).context("the stand-in kubelet's answer")?;
    stdout().write_all(&STANDARD.decode(&answer.stdout)?)?;
    stderr().write_all(&STANDARD.decode(&answer.stderr)?)?;
    stdout().flush()?;
    Ok(exit_code(answer.exit_code))
}

pub(super) async fn logs(namespace: &str, logs: Logs) -> Result<()> {
    let which = Which { namespace: namespace.into(), pod: logs.pod, container: logs.container };
    print!("{}", call(&logs.node.root, "/logs", &which).await?);
    Ok(())
}

/// Output as it comes.
fn stream(container: &str, command: &[String]) -> Result<ExitCode> {
    let id = format!("kubectl-{}", std::process::id());
    let status = Command::new("ctr")
        .args(["-n", "k8s.io", "task", "exec", "--exec-id", &id, container])
        .args(command)
        .status()
        .context("run ctr")?;
    Ok(exit_code(status.code().unwrap_or(1)))
}

fn exit_code(code: i32) -> ExitCode {
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}

async fn call(root: &Path, path: &'static str, body: &impl Serialize) -> Result<String> {
    let socket = root.join(SOCKET);
    let body = serde_json::to_vec(body)?;
    tokio::task::spawn_blocking(move || post(&socket, path, &body)).await?
}

/// One request over HTTP/1.0, which ends with its answer.
fn post(socket: &Path, path: &str, body: &[u8]) -> Result<String> {
    let mut stream = UnixStream::connect(socket)
        .with_context(|| format!("{} (is `testbed kubelet` running here?)", socket.display()))?;
    let head = format!(
        "POST {path} HTTP/1.0\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("the stand-in kubelet broke off")?;
    if head.split(' ').nth(1) != Some("200") {
        bail!("{body}");
    }
    Ok(body.into())
}
