//! `fairlead install` and `uninstall` on a node's folders, with others at work in them.

use std::{
    fs,
    io::{self, BufRead, BufReader},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};

use crate::{runtime::Runtime, support::built};

const FILE: &str = "00-fairlead.conflist";
/// Far more than anything here takes.
const LIMIT: Duration = Duration::from_secs(20);

/// A node's folders below a temporary one.
struct Node {
    dir: tempfile::TempDir,
}

impl Node {
    fn new() -> Self {
        let node = Self { dir: tempfile::tempdir().unwrap() };
        for folder in ["bin", "conf", "var/lib"] {
            fs::create_dir_all(node.path(folder)).unwrap();
        }
        node
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn configure(&self, name: &str) {
        let text = r#"{"cniVersion":"1.0.0","name":"n","plugins":[{"type":"other"}]}"#;
        fs::write(self.path("conf").join(name), text).unwrap();
    }

    fn command(&self, program: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .args(["--bin-dir", "/bin", "--conf-dir", "/conf", "--root"])
            .arg(self.dir.path());
        command
    }

    fn call(&self, arguments: &[&str]) -> (String, bool) {
        let output = self.command(Path::new(&built()), arguments).output().unwrap();
        (String::from_utf8(output.stdout).unwrap(), output.status.success())
    }

    fn watch(&self, program: &Path) -> Watch {
        let mut child = self
            .command(program, &["install", "--watch", "--aliases", "macvlan", "--wait", "1"])
            .stderr(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, lines) = channel();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        thread::spawn(move || stderr.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Watch { child, lines, said: Vec::new() }
    }
}

/// A watch that runs.
struct Watch {
    child: Child,
    lines: Receiver<String>,
    said: Vec<String>,
}

impl Watch {
    /// Waits until it has said all this in one line.
    fn wait_for(&mut self, words: &[&str]) {
        let start = Instant::now();
        loop {
            let line = self.lines.recv_timeout(LIMIT.saturating_sub(start.elapsed()));
            assert!(line.is_ok(), "{words:?} was not said, but {:#?}", self.said);
            let line = line.unwrap();
            let is_it = words.iter().all(|word| line.contains(word));
            self.said.push(line);
            if is_it {
                return;
            }
        }
    }

    fn stop(mut self) -> String {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
        let text = io::read_to_string(self.child.stdout.take().unwrap()).unwrap();
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}");
        text
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < LIMIT, "{what}");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn what_others_undo_is_put_right_and_told_and_stopping_removes_nothing() {
    let node = Node::new();
    let mut watch = node.watch(Path::new(&built()));
    watch.wait_for(&["no primary network yet"]);
    assert!(!node.path("conf").join(FILE).exists());
    watch.wait_for(&["still no primary network after 1 s"]);
    node.configure("10-other.conflist");
    watch.wait_for(&[FILE, "written around network n"]);
    let written = fs::read(node.path("conf").join(FILE)).unwrap();

    let ours = node.path("conf").join(FILE);
    fs::rename(&ours, node.path("conf").join(format!("{FILE}.cilium_bak"))).unwrap();
    watch.wait_for(&["was renamed to 00-fairlead.conflist.cilium_bak", "cni.exclusive", "written again"]);
    fs::write(&ours, "{}").unwrap();
    watch.wait_for(&["was changed by somebody"]);
    fs::remove_file(node.path("bin/fairlead")).unwrap();
    watch.wait_for(&["/bin/fairlead", "was removed by somebody"]);
    fs::remove_file(node.path("bin/macvlan")).unwrap();
    watch.wait_for(&["/bin/macvlan", "was removed by somebody"]);
    wait_until("all is as it was", || fs::read(&ours).is_ok_and(|text| text == written));

    // The cluster's network is replaced by another that declares more.
    let other = r#"{"cniVersion":"1.0.0","name":"m","plugins":[{"type":"x","capabilities":{"odd":true}}]}"#;
    fs::write(node.path("conf/05-more.conflist"), other).unwrap();
    watch.wait_for(&["written anew around network m"]);
    fs::remove_file(node.path("conf/10-other.conflist")).unwrap();
    fs::remove_file(node.path("conf/05-more.conflist")).unwrap();
    watch.wait_for(&["no primary network yet"]);
    assert!(ours.exists(), "pods wait for the network, they do not start without their own");
    // Uninstalling is refused while it would come back.
    let (_, well) = node.call(&["uninstall"]);
    assert!(!well && ours.exists());

    assert!(watch.stop().contains("stays"));
    for file in ["conf/00-fairlead.conflist", "bin/fairlead", "bin/macvlan"] {
        assert!(node.path(file).exists(), "{file}");
    }
    let (text, well) = node.call(&["uninstall"]);
    assert!(well, "{text}");
    assert_eq!(fs::read_dir(node.path("bin")).unwrap().count(), 0);
    assert_eq!(fs::read_dir(node.path("conf")).unwrap().count(), 0);
}

#[test]
fn a_program_that_runs_is_replaced_and_goes_on() {
    let (node, other) = (Node::new(), Node::new());
    for node in [&node, &other] {
        node.configure("10-other.conflist");
    }
    assert!(node.call(&["install", "--aliases", "none"]).1);
    let installed = node.path("bin/fairlead");
    let inode = fs::metadata(&installed).unwrap().ino();
    let mut running = other.watch(&installed);
    running.wait_for(&["written around"]);
    // As any other file would be, it is another version.
    let newer = node.path("newer");
    let mut bytes = fs::read(built()).unwrap();
    bytes.extend(b"newer");
    fs::write(&newer, bytes).unwrap();
    let (text, well) = node.call(&["install", "--aliases", "none", "--program", newer.to_str().unwrap()]);
    assert!(well && text.contains("replaced by this version"), "{text}");
    assert_ne!(fs::metadata(&installed).unwrap().ino(), inode);
    // It still knows what it is to place, although its own file is gone.
    fs::remove_file(other.path("bin/fairlead")).unwrap();
    running.wait_for(&["/bin/fairlead", "placed again"]);
    running.stop();
}

#[test]
fn a_pod_gets_its_networks_by_what_was_installed() {
    let Some(runtime) = Runtime::new("install, a pod", |bed| vec![bed.macvlan("10.1.2.0/24")]) else {
        return;
    };
    fs::create_dir_all(runtime.folder("var/lib")).unwrap();
    let section = json!({
        "stateDir": runtime.folder("state"), "runDir": runtime.folder("run"),
        "agentSocket": runtime.folder("agent.sock"),
    });
    let folders = |command: &mut Command| {
        command.arg("--bin-dir").arg(runtime.folder("bin")).arg("--conf-dir").arg(runtime.folder("conf"));
    };
    let mut install = Command::new(built());
    install.args(["install", "--section", &section.to_string()]);
    folders(&mut install);
    let output = install.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    // What a runtime makes of the file: the plugin's part with the list's name and version.
    let list: Value = serde_json::from_slice(&fs::read(runtime.folder("conf").join(FILE)).unwrap()).unwrap();
    let mut config = list["plugins"][0].clone();
    config["name"] = list["name"].clone();
    config["cniVersion"] = list["cniVersions"][1].clone();
    let pod = runtime.bed.pod();
    runtime.call_with("STATUS", "", Path::new(""), &config).unwrap();
    runtime.call_with("ADD", "c1", &pod.path(), &config).unwrap();
    assert!(pod.link("eth0").is_some() && pod.link("net1").is_some());

    let mut uninstall = Command::new(built());
    uninstall.args(["uninstall", "--state-dir"]).arg(runtime.folder("state"));
    folders(&mut uninstall);
    let output = uninstall.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(!output.status.success() && text.contains("eth0, net1"), "{text}");
    runtime.call_with("DEL", "c1", &pod.path(), &config).unwrap();
    assert!(pod.link("eth0").is_none() && pod.link("net1").is_none());
    let output = uninstall.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    for file in ["bin/fairlead", "bin/macvlan", "conf/00-fairlead.conflist"] {
        assert!(!runtime.folder(file).exists(), "{file}");
    }
    assert!(runtime.folder("bin/primary").exists() && runtime.folder("conf/10-cluster.conflist").exists());
}
