//! Made-up nodes.

use std::{
    fs,
    os::unix::{fs::PermissionsExt, net::UnixListener},
    path::{Path, PathBuf},
    thread::{self, JoinHandle},
};

use clap::Parser;
use fairlead_cni::agent_protocol::{
    self as protocol, Answer, Request, Response, VERSION, read_frame, write_frame,
};

use super::{Node, NodeOptions};
use crate::finding::{Finding, Severity};

#[derive(Parser)]
struct Call {
    #[command(flatten)]
    options: NodeOptions,
}

/// A node below a temporary folder.
pub(super) struct MadeNode {
    dir: tempfile::TempDir,
}

impl MadeNode {
    pub(super) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub(super) fn at(&self, path: &str) -> PathBuf {
        self.dir.path().join(path.trim_start_matches('/'))
    }

    pub(super) fn write(&self, path: &str, text: &str) {
        let file = self.at(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }

    pub(super) fn program(&self, path: &str, script: &str) {
        self.write(path, script);
        self.mode(path, 0o755);
    }

    pub(super) fn mode(&self, path: &str, mode: u32) {
        fs::set_permissions(self.at(path), fs::Permissions::from_mode(mode)).unwrap();
    }

    pub(super) fn rename(&self, from: &str, to: &str) {
        fs::rename(self.at(from), self.at(to)).unwrap();
    }

    pub(super) fn remove(&self, path: &str) {
        fs::remove_file(self.at(path)).unwrap();
    }

    pub(super) fn remove_all(&self, path: &str) {
        fs::remove_dir_all(self.at(path)).unwrap();
    }

    /// As it is asked for on the command line.
    pub(super) fn options(&self) -> NodeOptions {
        let root = self.dir.path().display().to_string();
        Call::parse_from(["doctor", "--root", &root]).options
    }

    pub(super) fn node(&self) -> Node {
        Node::new(&self.options())
    }
}

/// An agent on a node below `root`, that answers one call so; the call.
pub(crate) fn agent(root: &Path, answer: Answer) -> JoinHandle<protocol::Call> {
    let socket = root.join(protocol::SOCKET.trim_start_matches('/'));
    fs::create_dir_all(socket.parent().unwrap()).unwrap();
    let listener = UnixListener::bind(socket).unwrap();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let request: Request = read_frame(&mut stream).unwrap();
        write_frame(&mut stream, &Response { version: VERSION, answer }).unwrap();
        request.call
    })
}

/// Makes sure that there is a finding of this kind with all these words.
#[track_caller]
pub(super) fn assert_found(all: &[Finding], id: &str, severity: Severity, words: &[&str]) {
    let is = |finding: &Finding| {
        let text = format!("{} {}", finding.seen, finding.remedy.as_deref().unwrap_or_default());
        finding.id == id && finding.severity == severity && words.iter().all(|word| text.contains(word))
    };
    assert!(all.iter().any(is), "no {severity:?} {id} with {words:?}: {all:#?}");
}
