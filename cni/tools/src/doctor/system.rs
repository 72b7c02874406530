//! Settings and room of the system: bridged traffic, inotify, disk, clock, SELinux.

use std::{fs, path::PathBuf, time::SystemTime};

use nix::sys::statvfs::{FsFlags, statvfs};

use super::Node;
use crate::{finding::Finding, time};

const BRIDGE_CALLS: [&str; 2] =
    ["/proc/sys/net/bridge/bridge-nf-call-iptables", "/proc/sys/net/bridge/bridge-nf-call-ip6tables"];
const INSTANCES: &str = "/proc/sys/fs/inotify/max_user_instances";
/// Less than this share of them left is few.
const FEW: u64 = 10;
/// Records are small; this is room for thousands.
const LEAST_BYTES: u64 = 64 << 20;
const LEAST_INODES: u64 = 1000;
/// Clocks differ by less.
const DRIFT: u64 = 60_000;
/// When this was written: a clock before it is not set.
const WRITTEN: u64 = 1_767_225_600_000;

/// What makes it visible.
const MOUNT: &str = "mount the node's root with what is mounted in it, and say --root";

/// Room on a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Room {
    bytes: u64,
    inodes: u64,
    read_only: bool,
}

/// What the system is set to.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    /// Whether proc and sysfs are to be seen.
    is_visible: bool,
    /// Settings that send bridged traffic through the host's packet filter.
    bridge_calls: Vec<&'static str>,
    /// Whether there are bridges of pods' networks.
    has_bridges: bool,
    inotify_limit: Option<u64>,
    /// Instances of root; none where processes cannot be looked at.
    inotify_used: Option<u64>,
    state: PathBuf,
    room: Result<Room, String>,
    now: u64,
    /// When the newest file of the state was written.
    newest: Option<u64>,
    selinux: Option<bool>,
}

impl Facts {
    pub(super) fn gather(node: &Node) -> Self {
        let root = &node.root;
        let is_on = |path: &&str| root.value(path).is_some_and(|value| value == "1");
        let state = node.section.state_dir.clone();
        let attachments = state.join("attachments");
        let written = |name: &String| {
            let file = fs::metadata(root.path(attachments.join(name))).ok()?;
            file.modified().ok().map(time::of)
        };
        let records = root.names(&attachments);
        let is_bridge = |name: &String| {
            root.read(attachments.join(name)).is_ok_and(|text| text.contains(r#""kind":"bridge""#))
        };
        Self {
            is_visible: root.exists("/proc/sys") && root.exists("/sys/fs"),
            bridge_calls: BRIDGE_CALLS.into_iter().filter(is_on).collect(),
            has_bridges: records.iter().any(is_bridge),
            inotify_limit: root.value(INSTANCES).and_then(|text| text.parse().ok()),
            inotify_used: inotify_used(node),
            room: room(node, &state),
            now: time::of(SystemTime::now()),
            newest: records.iter().filter_map(written).max(),
            selinux: root.value("/sys/fs/selinux/enforce").map(|mode| mode == "1"),
            state,
        }
    }
}

/// How many inotify instances root's processes have.
fn inotify_used(node: &Node) -> Option<u64> {
    let names = node.root.names("/proc");
    let pids: Vec<&String> = names.iter().filter(|name| name.bytes().all(|c| c.is_ascii_digit())).collect();
    if pids.is_empty() {
        return None;
    }
    let of_process = |pid: &&String| {
        let status = node.root.read(format!("/proc/{pid}/status")).ok()?;
        let uid = status.lines().find_map(|line| line.strip_prefix("Uid:"))?.split_whitespace().next()?;
        let folder = node.root.path("/proc").join(pid).join("fd");
        let files = fs::read_dir(folder).ok().filter(|_| uid == "0")?;
        let is_one = |path: PathBuf| {
            fs::read_link(path).is_ok_and(|target| target.as_os_str() == "anon_inode:inotify")
        };
        Some(files.flatten().filter(|file| is_one(file.path())).count() as u64)
    };
    Some(pids.iter().filter_map(of_process).sum())
}

/// The room where the state is, or will be.
fn room(node: &Node, state: &std::path::Path) -> Result<Room, String> {
    let there = state.ancestors().map(|path| node.root.path(path)).find(|path| path.exists());
    let path = there.ok_or_else(|| format!("{} is not to be seen", state.display()))?;
    let found = statvfs(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(Room {
        bytes: found.blocks_available() * found.fragment_size(),
        inodes: if found.files() == 0 { u64::MAX } else { found.files_available() },
        // A pod has mounted the node's files for itself, which it should do for reading only.
        read_only: node.root.is_own() && found.flags().contains(FsFlags::ST_RDONLY),
    })
}

/// Says what of it gets in the way.
pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    [bridges(facts), inotify(facts), disk(facts), clock(facts), selinux(facts)].into()
}

fn bridges(facts: &Facts) -> Finding {
    let id = "system.bridge-nf-call";
    if !facts.is_visible {
        return Finding::unknown(id, "neither /proc/sys nor /sys is to be seen", MOUNT);
    }
    if facts.bridge_calls.is_empty() {
        return Finding::ok(id, "bridged traffic does not go through the host's packet filter");
    }
    let names: Vec<&str> = facts.bridge_calls.iter().filter_map(|path| path.rsplit('/').next()).collect();
    let seen = format!(
        "{} = 1: bridged traffic goes through the host's packet filter, as kube-proxy wants for the cluster's own network",
        names.join(", ")
    );
    match facts.has_bridges {
        true => Finding::warning(
            id,
            format!("{seen}; pods' networks on bridges lose what it does not accept"),
            "accept their traffic in the chain FORWARD (iptables -I FORWARD -i BRIDGE -o BRIDGE -j ACCEPT), or switch it off for the bridge",
        ),
        false => Finding::info(id, format!("{seen}; no pod has a network on a bridge of ours now")),
    }
}

fn inotify(facts: &Facts) -> Finding {
    let id = "system.inotify";
    let remedy = "raise fs.inotify.max_user_instances (8192, say) below /etc/sysctl.d: without, changes are noticed seconds later";
    match (facts.inotify_limit, facts.inotify_used) {
        (Some(limit), Some(used)) if used * 100 > limit * (100 - FEW) => {
            Finding::warning(id, format!("root uses {used} of {limit} inotify instances"), remedy)
        }
        (Some(limit), Some(used)) => {
            Finding::ok(id, format!("root uses {used} of {limit} inotify instances"))
        }
        _ => Finding::unknown(id, format!("{INSTANCES} or processes cannot be looked at"), remedy),
    }
}

fn disk(facts: &Facts) -> Finding {
    let (id, state) = ("system.disk", facts.state.display());
    let remedy = "make room: an ADD that cannot write its record fails, and so does every pod";
    match &facts.room {
        Err(why) => Finding::unknown(
            id,
            why.clone(),
            "name the folder with key \"stateDir\" of our section, or mount it",
        ),
        Ok(room) if room.read_only => Finding::error(
            id,
            format!("{state} is on a file system that cannot be written"),
            "mount it anew for writing, and look into the kernel's log for why it is not",
        ),
        Ok(room) if room.bytes < LEAST_BYTES || room.inodes < LEAST_INODES => {
            let seen = format!("{} MiB and {} files are left for {state}", room.bytes >> 20, room.inodes);
            let is_none = room.bytes < 1 << 20 || room.inodes == 0;
            if is_none { Finding::error(id, seen, remedy) } else { Finding::warning(id, seen, remedy) }
        }
        Ok(room) => Finding::ok(id, format!("{} MiB are left for {state}", room.bytes >> 20)),
    }
}

fn clock(facts: &Facts) -> Finding {
    let (id, remedy) = ("system.clock", "set the clock, and see that it is kept (chrony, systemd-timesyncd)");
    let now = time::text(facts.now);
    match facts.newest {
        _ if facts.now < WRITTEN => Finding::warning(id, format!("the clock says {now}"), remedy),
        Some(newest) if newest > facts.now + DRIFT => Finding::warning(
            id,
            format!("the clock says {now}, but a record is of {}: it went back", time::text(newest)),
            remedy,
        ),
        _ => Finding::ok(id, format!("the clock says {now}")),
    }
}

fn selinux(facts: &Facts) -> Finding {
    let id = "system.selinux";
    match facts.selinux {
        _ if !facts.is_visible => Finding::unknown(id, "/sys/fs is not to be seen", MOUNT),
        None => Finding::ok(id, "there is no SELinux"),
        Some(false) => Finding::ok(id, "SELinux is permissive"),
        Some(true) => Finding::info(
            id,
            "SELinux is enforcing: the pods need the type that deploy/kustomize/components/selinux gives them (see denials with ausearch -m avc)",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::testing::{MadeNode, assert_found},
        *,
    };
    use crate::finding::Severity;

    fn facts() -> Facts {
        Facts {
            is_visible: true,
            bridge_calls: Vec::new(),
            has_bridges: false,
            inotify_limit: Some(128),
            inotify_used: Some(20),
            state: "/var/lib/fairlead".into(),
            room: Ok(Room { bytes: 1 << 30, inodes: 1 << 20, read_only: false }),
            now: WRITTEN + DRIFT,
            newest: Some(WRITTEN),
            selinux: None,
        }
    }

    #[test]
    fn a_system_with_room_is_good() {
        let all = judge(&facts());
        assert!(all.iter().all(|finding| finding.severity == Severity::Ok), "{all:#?}");
    }

    #[test]
    fn what_gets_in_the_way_is_told() {
        let with = |change: fn(&mut Facts)| {
            let mut facts = facts();
            change(&mut facts);
            judge(&facts)
        };
        let all = with(|facts| facts.bridge_calls = vec![BRIDGE_CALLS[0]]);
        assert_found(&all, "system.bridge-nf-call", Severity::Info, &["bridge-nf-call-iptables = 1"]);
        let all = with(|facts| (facts.bridge_calls, facts.has_bridges) = (vec![BRIDGE_CALLS[0]], true));
        assert_found(&all, "system.bridge-nf-call", Severity::Warning, &["FORWARD"]);
        let all = with(|facts| facts.inotify_used = Some(120));
        assert_found(&all, "system.inotify", Severity::Warning, &["120 of 128", "max_user_instances"]);
        let all = with(|facts| facts.inotify_used = None);
        assert_found(&all, "system.inotify", Severity::Unknown, &["cannot be looked at"]);
        for (room, severity, word) in [
            (Room { bytes: 1 << 25, inodes: 5000, read_only: false }, Severity::Warning, "32 MiB"),
            (Room { bytes: 1 << 30, inodes: 0, read_only: false }, Severity::Error, "0 files"),
            (Room { bytes: 1 << 30, inodes: 5000, read_only: true }, Severity::Error, "cannot be written"),
        ] {
            let facts = Facts { room: Ok(room), ..facts() };
            assert_found(&judge(&facts), "system.disk", severity, &[word]);
        }
        let all = with(|facts| facts.newest = Some(facts.now + 2 * DRIFT));
        assert_found(&all, "system.clock", Severity::Warning, &["it went back"]);
        let all = with(|facts| facts.now = 1000);
        assert_found(&all, "system.clock", Severity::Warning, &["1970-01-01"]);
        let all = with(|facts| facts.selinux = Some(true));
        assert_found(&all, "system.selinux", Severity::Info, &["enforcing"]);
    }

    #[test]
    fn a_nodes_files_are_read() {
        let node = MadeNode::new();
        node.write(BRIDGE_CALLS[1], "1\n");
        node.write(INSTANCES, "128\n");
        node.write("/var/lib/fairlead/attachments/a.json", r#"{"steps":[{"kind":"bridge"}]}"#);
        node.write("/sys/fs/selinux/enforce", "0");
        node.write("/proc/12/status", "Name:\tx\nUid:\t0\t0\t0\t0\n");
        node.write("/proc/12/fd/x", "");
        std::os::unix::fs::symlink("anon_inode:inotify", node.at("/proc/12/fd/7")).unwrap();
        let facts = Facts::gather(&node.node());
        assert_eq!(facts.bridge_calls, [BRIDGE_CALLS[1]]);
        assert!(facts.has_bridges && facts.newest.is_some() && facts.room.is_ok());
        assert_eq!(
            (facts.inotify_limit, facts.inotify_used, facts.selinux),
            (Some(128), Some(1), Some(false))
        );
    }
}
