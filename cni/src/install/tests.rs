use std::{fs, os::unix::fs::MetadataExt};

use super::*;
use crate::{
    cli::tools,
    record::{Store, sample},
};

/// A node whose folders are below a temporary one.
struct Node {
    dir: tempfile::TempDir,
}

impl Node {
    fn new() -> Self {
        let node = Self { dir: tempfile::tempdir().unwrap() };
        fs::create_dir_all(node.bin()).unwrap();
        fs::create_dir_all(node.conf()).unwrap();
        fs::create_dir_all(node.state().parent().unwrap()).unwrap();
        fs::write(node.program(), "first version").unwrap();
        node
    }

    fn bin(&self) -> PathBuf {
        self.dir.path().join("opt/cni/bin")
    }

    fn conf(&self) -> PathBuf {
        self.dir.path().join("etc/cni/net.d")
    }

    fn state(&self) -> PathBuf {
        self.dir.path().join("var/lib/fairlead")
    }

    fn program(&self) -> PathBuf {
        self.dir.path().join("program")
    }

    fn configure(&self, name: &str, kind: &str, more: &str) {
        let text =
            format!(r#"{{"cniVersion":"1.0.0","name":"net-{kind}","plugins":[{{"type":"{kind}"{more}}}]}}"#);
        fs::write(self.conf().join(name), text).unwrap();
    }

    fn call(&self, text: &str) -> Answer {
        self.try_call(text).unwrap()
    }

    fn try_call(&self, text: &str) -> Result<Answer, CniError> {
        let mut arguments: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        let root = self.dir.path().display().to_string();
        arguments.extend(["--root".to_owned(), root]);
        if arguments[0] == "install" {
            arguments.extend(["--program".to_owned(), self.program().display().to_string()]);
        }
        Job::parse(&arguments).unwrap().unwrap().run()
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.conf().join(name)).unwrap()
    }

    fn names(&self) -> Vec<String> {
        let mut names = files::names(&self.bin()).unwrap();
        names.extend(files::names(&self.conf()).unwrap());
        names
    }
}

#[test]
fn everything_is_placed_once_and_removed_again() {
    let node = Node::new();
    fs::write(node.bin().join("bridge"), "upstream's").unwrap();
    node.configure("10-bridge.conflist", "bridge", r#","capabilities":{"portMappings":true,"odd":true}"#);
    let before = node.names();
    let first = node.call("install --aliases bridge,macvlan,multus");
    assert!(first.well, "{}", first.text);
    assert!(first.text.contains("around network net-bridge"), "{}", first.text);
    assert!(first.text.contains("are left: bridge"), "{}", first.text);
    assert_eq!(fs::read_to_string(node.bin().join("macvlan")).unwrap(), "first version");
    assert_eq!(fs::read_to_string(node.bin().join("bridge")).unwrap(), "upstream's");
    assert!(node.read(FILE).contains("\"odd\": true"));
    assert_eq!(fs::metadata(node.bin().join("fairlead")).unwrap().mode() & 0o777, 0o755);

    let inode = |name: &str| fs::metadata(node.bin().join(name)).unwrap().ino();
    let placed = inode("fairlead");
    let again = node.call("install --aliases bridge,macvlan,multus");
    assert!(again.well && again.text.contains("in place already"), "{}", again.text);
    assert_eq!(inode("fairlead"), placed, "what is right is not touched");

    fs::write(node.program(), "second version").unwrap();
    let upgraded = node.call("install --aliases bridge,macvlan,multus");
    assert!(upgraded.text.contains("replaced by this version"), "{}", upgraded.text);
    for name in ["fairlead", "macvlan"] {
        assert_eq!(fs::read_to_string(node.bin().join(name)).unwrap(), "second version");
    }

    let removed = node.call("uninstall");
    assert!(removed.well, "{}", removed.text);
    assert_eq!(node.names(), before);
    assert!(node.call("uninstall").text.contains("nothing of ours"));
}

#[test]
fn a_plugin_makes_place_only_when_told_and_comes_back() {
    let node = Node::new();
    node.configure("10-a.conflist", "a", "");
    fs::write(node.bin().join("bridge"), "upstream's").unwrap();
    std::os::unix::fs::symlink("bridge", node.bin().join("macvlan")).unwrap();
    let done = node.call("install --aliases bridge,macvlan --replace bridge,macvlan");
    assert!(done.text.contains("took the place"), "{}", done.text);
    assert_eq!(fs::read_to_string(node.bin().join("bridge")).unwrap(), "first version");
    for name in ["bridge", "macvlan"] {
        assert!(fs::read_link(node.bin().join(name)).is_ok(), "{name} is a link of ours");
        let kept = node.bin().join(REPLACED).join(name);
        assert!(kept.exists() || fs::read_link(&kept).unwrap() == Path::new("../bridge"), "{name}");
    }
    assert!(node.call("uninstall").well);
    assert_eq!(fs::read_to_string(node.bin().join("bridge")).unwrap(), "upstream's");
    assert_eq!(fs::read_link(node.bin().join("macvlan")).unwrap(), Path::new("bridge"));
    assert_eq!(files::names(&node.bin()).unwrap(), ["bridge", "macvlan"]);
}

#[test]
fn what_somebody_installed_over_an_alias_is_theirs() {
    let node = Node::new();
    node.configure("10-a.conflist", "a", "");
    fs::write(node.bin().join("bridge"), "upstream's").unwrap();
    node.call("install --aliases bridge --replace bridge");
    fs::remove_file(node.bin().join("bridge")).unwrap();
    fs::write(node.bin().join("bridge"), "newer").unwrap();
    node.call("uninstall");
    assert_eq!(fs::read_to_string(node.bin().join("bridge")).unwrap(), "newer");
    assert_eq!(files::names(&node.bin()).unwrap(), ["bridge"]);
}

#[test]
fn who_copies_a_plugin_over_an_alias_does_not_hit_the_program() {
    let node = Node::new();
    node.configure("10-a.conflist", "a", "");
    node.call("install --aliases sriov");
    // As cp does it, and so upstream's installers: through the link.
    fs::write(node.bin().join("sriov"), "upstream's").unwrap();
    assert_eq!(fs::read_to_string(node.bin().join("fairlead")).unwrap(), "first version");
    let again = node.call("install --aliases sriov");
    assert!(again.text.contains(".fairlead-plugins"), "{}", again.text);
    assert_eq!(fs::read_to_string(node.bin().join("sriov")).unwrap(), "first version");
}

#[test]
fn without_a_primary_network_nothing_is_configured_and_it_is_said() {
    let node = Node::new();
    node.configure("00-multus.conflist", "multus", "");
    let answer = node.call("install --wait 0 --aliases none");
    assert!(!answer.well && answer.text.contains("no primary network yet"), "{}", answer.text);
    assert!(!node.conf().join(FILE).exists());
    assert!(node.bin().join("fairlead").exists(), "the program does not depend on it");
    node.configure("10-a.conflist", "a", "");
    assert!(node.call("install --wait 0 --aliases none").well);
}

#[test]
fn a_primary_network_that_comes_in_time_is_waited_for() {
    let node = Node::new();
    thread::scope(|scope| {
        let installed = scope.spawn(|| node.call("install --wait 60 --aliases none"));
        while !node.bin().join("fairlead").exists() {
            thread::sleep(PAUSE);
        }
        node.configure("10-a.conflist", "a", "");
        assert!(installed.join().unwrap().well);
    });
    assert!(node.conf().join(FILE).exists());
}

#[test]
fn files_of_others_that_are_in_the_way_are_named() {
    let node = Node::new();
    node.configure("00-a.conflist", "a", "");
    node.configure(
        "00-multus.conf",
        "multus-shim",
        r#","clusterNetwork":"/host/etc/cni/net.d/00-fairlead.conflist""#,
    );
    let answer = node.call("install --aliases none");
    assert!(!answer.well);
    assert!(answer.text.contains("00-a.conflist comes before"), "{}", answer.text);
    assert!(answer.text.contains("00-multus.conf has 00-fairlead.conflist"), "{}", answer.text);
    node.configure(
        "00-multus.conf",
        "multus-shim",
        r#","clusterNetwork":"/host/etc/cni/net.d/10-b.conflist""#,
    );
    fs::rename(node.conf().join("00-a.conflist"), node.conf().join("10-a.conflist")).unwrap();
    let answer = node.call("install --aliases none");
    assert!(answer.well && answer.text.contains("is not used any more"), "{}", answer.text);
}

#[test]
fn a_configuration_that_is_not_ours_is_left() {
    let node = Node::new();
    node.configure(FILE, "bridge", "");
    let answer = node.call("uninstall");
    assert!(answer.text.contains("no configuration of ours"), "{}", answer.text);
    assert!(node.conf().join(FILE).exists());
}

#[test]
fn options_come_from_a_file_and_a_mistake_in_it_leaves_what_there_was() {
    let node = Node::new();
    node.configure("10-a.conflist", "a", "");
    let options = node.dir.path().join("options");
    fs::write(&options, r#"{"agentTimeoutSeconds": 7}"#).unwrap();
    let call = format!("install --aliases none --section {}", options.display());
    assert!(node.call(&call).well);
    assert!(node.read(FILE).contains("\"agentTimeoutSeconds\": 7"));
    fs::write(&options, r#"{"agentTimeoutSeconds": "soon"}"#).unwrap();
    let answer = node.call(&call);
    assert!(!answer.well && answer.text.contains("agentTimeoutSeconds"), "{}", answer.text);
    assert!(node.read(FILE).contains("\"agentTimeoutSeconds\": 7"));
}

#[test]
fn two_do_not_install_at_once() {
    let node = Node::new();
    let Folders { root, bin, conf } =
        Folders { root: node.dir.path().into(), bin: "/opt/cni/bin".into(), conf: "/etc/cni/net.d".into() };
    let held = Folders { root, bin, conf }.lock(Duration::ZERO).unwrap();
    let error = node.try_call("uninstall").unwrap_err();
    assert!(error.msg.contains("is held"), "{error}");
    drop(held);
    node.try_call("uninstall").unwrap();
}

#[test]
fn a_program_that_cannot_be_read_is_named_and_nothing_is_done() {
    let node = Node::new();
    fs::remove_file(node.program()).unwrap();
    node.configure("10-a.conflist", "a", "");
    let error = node.try_call("install").unwrap_err();
    assert!(error.msg.contains("program"), "{error}");
    assert!(!node.conf().join(FILE).exists() && !node.bin().join("fairlead").exists());
}

#[test]
fn the_program_stays_while_pods_need_it_and_they_are_named() {
    let node = Node::new();
    node.configure("10-a.conflist", "a", "");
    node.call("install --aliases macvlan");
    let store = Store::new(&node.state());
    let records = [sample("c1", "eth0", 0), sample("c1", "net1", 1)];
    records.iter().for_each(|record| store.save(record, false).unwrap());
    fs::write(node.state().join("attachments/c2-eth0.json"), "torn").unwrap();
    let kept = node.call("uninstall");
    assert!(!kept.well);
    for word in ["pod default/p (sandbox c1) needs it for the DEL of eth0, net1", "c2-eth0.json"] {
        assert!(kept.text.contains(word), "{word}: {}", kept.text);
    }
    assert_eq!(node.names(), [".fairlead-plugins", "fairlead", "macvlan", "10-a.conflist"]);
    records.iter().for_each(|record| store.remove(record).unwrap());
    fs::remove_file(node.state().join("attachments/c2-eth0.json")).unwrap();
    store.forget_sandbox("c1").unwrap();
    assert!(node.call("uninstall").well);
    assert_eq!(node.names(), ["10-a.conflist"]);
    assert!(!node.state().exists());
}

#[test]
fn force_removes_the_program_all_the_same_and_says_what_is_left_behind() {
    let node = Node::new();
    node.configure("10-a.conflist", "a", "");
    node.call(r#"install --aliases none --section {"stateDir":"/var/lib/other"}"#);
    let state = node.dir.path().join("var/lib/other");
    Store::new(&state).save(&sample("c1", "eth0", 0), false).unwrap();
    let forced = node.call("uninstall --force");
    assert!(forced.well && forced.text.contains("sandbox c1"), "{}", forced.text);
    assert_eq!(node.names(), ["10-a.conflist"]);
    assert!(state.join("attachments/c1-eth0.json").exists());
}

#[test]
fn a_state_folder_that_cannot_be_seen_is_no_empty_one() {
    let node = Node::new();
    node.configure("10-a.conflist", "a", "");
    node.call("install --aliases none");
    fs::remove_dir(node.state().parent().unwrap()).unwrap();
    let kept = node.call("uninstall");
    assert!(!kept.well && kept.text.contains("below --root"), "{}", kept.text);
    assert!(node.bin().join("fairlead").exists());
}

#[test]
fn the_tools_are_placed_where_there_are_any_and_go_with_the_program() {
    let node = Node::new();
    node.configure("10-a.conflist", "a", "");
    let hidden = node.bin().join(tools::HIDDEN);
    assert!(node.call("install --aliases none").well && !hidden.exists());
    let source = node.dir.path().join(tools::PROGRAM);
    files::put(&source, b"tools", 0o755).unwrap();
    let placed = node.call("install --aliases none");
    assert!(placed.text.contains(".fairlead-tools: placed"), "{}", placed.text);
    assert_eq!(fs::read_to_string(&hidden).unwrap(), "tools");
    fs::remove_file(source).unwrap();
    assert!(
        node.call("install --aliases none").well && hidden.exists(),
        "an image without them takes none away"
    );
    assert!(node.call("uninstall").well && !hidden.exists());
}
