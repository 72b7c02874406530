//! `fairlead doctor --bundle`: what whoever helps from afar wants to see, without secrets and bounded in size.
//!
//! Only what is named here is taken. Kubeconfigs, tokens and service accounts' files are in none of these places or have other
//! names; every text goes through [`redact`] all the same.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use fairlead_cni::{
    history,
    install::{REPLACED, is_configuration},
};
use flate2::{Compression, write::GzEncoder};

use super::{Node, devices};
use crate::{finding::Report, places::CHECKPOINT, redact, time};

/// Bytes of one file; of a log its end counts.
const FILE_LIMIT: u64 = 1 << 20;
/// Bytes of all of them.
const LIMIT: u64 = 24 << 20;
/// Files of one folder.
const FOLDER_LIMIT: usize = 500;

/// What the system says of itself.
const SYSTEM: [&str; 14] = [
    "/proc/cmdline",
    "/proc/version",
    "/proc/modules",
    "/proc/meminfo",
    "/proc/net/dev",
    "/proc/net/route",
    "/proc/net/ipv6_route",
    "/proc/sys/kernel/hostname",
    "/proc/sys/net/bridge/bridge-nf-call-iptables",
    "/proc/sys/net/bridge/bridge-nf-call-ip6tables",
    "/proc/sys/fs/inotify/max_user_instances",
    "/proc/sys/fs/inotify/max_user_watches",
    "/etc/os-release",
    "/etc/containerd/config.toml",
];

/// Writes the bundle; how many files are in it.
///
/// # Errors
/// When it cannot be written.
pub(super) fn write(
    node: &Node,
    report: &Report,
    found: &devices::Facts,
    path: &Path,
) -> Result<usize, String> {
    let failed = |error: io::Error| format!("write {}: {error}", path.display());
    let is_compressed = path.extension().is_some_and(|ending| ending == "gz" || ending == "tgz");
    // It is meant to leave the node, yet nobody else needs to read it here.
    let file =
        File::options().write(true).create(true).truncate(true).mode(0o600).open(path).map_err(failed)?;
    let mut bundle = Bundle::new(
        node,
        if is_compressed {
            Out::Gzip(GzEncoder::new(file, Compression::default()))
        } else {
            Out::Plain(file)
        },
    );
    bundle.fill(report, found).map_err(failed)?;
    bundle.end().map_err(failed)
}

/// Where it goes.
enum Out {
    Plain(File),
    Gzip(GzEncoder<File>),
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(file) => file.write(bytes),
            Self::Gzip(encoder) => encoder.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(file) => file.flush(),
            Self::Gzip(encoder) => encoder.flush(),
        }
    }
}

struct Bundle<'a> {
    node: &'a Node,
    tar: tar::Builder<Out>,
    written: u64,
    files: usize,
    now: u64,
    /// What did not fit.
    left_out: Vec<String>,
}

impl<'a> Bundle<'a> {
    fn new(node: &'a Node, out: Out) -> Self {
        let now = time::of(std::time::SystemTime::now()) / 1000;
        Self { node, tar: tar::Builder::new(out), written: 0, files: 0, now, left_out: Vec::new() }
    }

    fn fill(&mut self, report: &Report, found: &devices::Facts) -> io::Result<()> {
        self.add("report.txt", &report.text(true))?;
        self.add("report.json", &serde_json::to_string_pretty(report)?)?;
        if let Ok(inventory) = &found.inventory {
            self.add("inventory.json", &serde_json::to_string_pretty(inventory)?)?;
        }
        let node = self.node;
        for file in SYSTEM {
            self.file(Path::new(file))?;
        }
        self.folder(Path::new("/etc/crio/crio.conf.d"), |name| name.ends_with(".conf"))?;
        self.folder(&node.conf, is_configuration)?;
        self.folder(&node.section.conf_dir, is_configuration)?;
        let state = &node.section.state_dir;
        self.folder(&state.join("attachments"), |name| name.ends_with(".json") || name.ends_with(".broken"))?;
        self.folder(&state.join("provision"), |name| name.ends_with(".json"))?;
        self.folder(&state.join(history::FOLDER), |_| true)?;
        self.file(&node.kubelet_root.join(CHECKPOINT))?;
        for path in [found.pools.path(), found.policy_path()].into_iter().flatten() {
            self.file(path)?;
        }
        let listed: [PathBuf; 8] = [
            node.conf.clone(),
            node.bin.clone(),
            node.bin.join(REPLACED),
            state.join("devices"),
            state.join("sandboxes"),
            node.section.run_dir.join("locks"),
            node.kubelet_root.join("device-plugins"),
            "/run/cdi".into(),
        ];
        let mut list: String = listed.iter().map(|folder| self.list(folder)).collect();
        let networks = Path::new(fairlead_cni::ipam::DATA_DIR);
        for network in node.root.names(networks) {
            list += &self.list(&networks.join(network));
        }
        self.add("folders.txt", &list)
    }

    fn end(mut self) -> io::Result<usize> {
        if !self.left_out.is_empty() {
            let list = self.left_out.join("\n") + "\n";
            self.written = 0;
            self.add("left-out.txt", &list)?;
        }
        match self.tar.into_inner()? {
            Out::Plain(file) => file.sync_all()?,
            Out::Gzip(encoder) => encoder.finish()?.sync_all()?,
        }
        Ok(self.files)
    }

    /// Adds the files of a folder whose names fit.
    fn folder(&mut self, folder: &Path, fits: impl Fn(&str) -> bool) -> io::Result<()> {
        let names = self.node.root.names(folder);
        let names: Vec<&String> = names.iter().filter(|name| fits(name)).collect();
        if names.len() > FOLDER_LIMIT {
            self.left_out.push(format!("{}: {} more files", folder.display(), names.len() - FOLDER_LIMIT));
        }
        names.into_iter().take(FOLDER_LIMIT).try_for_each(|name| self.file(&folder.join(name)))
    }

    /// Adds a file of the node, if it is there and can be read.
    fn file(&mut self, path: &Path) -> io::Result<()> {
        let seen = self.node.root.path(path);
        // Whoever may write there must not have us read a device, or something else, through a link.
        if !fs::metadata(&seen).is_ok_and(|found| found.is_file()) {
            return Ok(());
        }
        let Ok(bytes) = end_of(&seen) else { return Ok(()) };
        let text = redact::text(&String::from_utf8_lossy(&bytes));
        self.add(path.to_string_lossy().trim_start_matches('/'), &text)
    }

    fn add(&mut self, name: &str, text: &str) -> io::Result<()> {
        let length = text.len() as u64;
        if self.written + length > LIMIT {
            self.left_out.push(format!("{name}: {length} bytes"));
            return Ok(());
        }
        let mut header = tar::Header::new_gnu();
        header.set_size(length);
        header.set_mode(0o600);
        header.set_mtime(self.now);
        self.tar.append_data(&mut header, Path::new("fairlead-doctor").join(name), text.as_bytes())?;
        self.written += length;
        self.files += 1;
        Ok(())
    }

    /// What is in a folder: mode, owner, size, when it was written, and where a link leads.
    fn list(&self, folder: &Path) -> String {
        let mut text = format!("{}:\n", folder.display());
        for name in self.node.root.names(folder) {
            let path = self.node.root.path(folder).join(&name);
            let Ok(found) = fs::symlink_metadata(&path) else { continue };
            let written = u64::try_from(found.mtime()).unwrap_or_default() * 1000;
            let target =
                fs::read_link(&path).map(|target| format!(" -> {}", target.display())).unwrap_or_default();
            text += &format!(
                "  {:o} {}:{} {:>10} {} {name}{target}\n",
                found.mode(),
                found.uid(),
                found.gid(),
                found.size(),
                time::text(written)
            );
        }
        text + "\n"
    }
}

/// The end of a file.
fn end_of(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let size = file.metadata()?.size();
    if size > FILE_LIMIT {
        io::Seek::seek(&mut file, io::SeekFrom::Start(size - FILE_LIMIT))?;
    }
    let mut bytes = Vec::new();
    // Files of /proc tell no size.
    file.take(FILE_LIMIT).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{super::testing::MadeNode, *};

    const SECRET: &str = "pl4nted";

    /// A node with a secret wherever one may be.
    fn planted() -> MadeNode {
        let node = MadeNode::new();
        let list = format!(
            r#"{{"cniVersion":"1.0.0","name":"n","plugins":[{{"type":"x","ipam":{{"type":"infoblox","password":"{SECRET}"}},"kubernetes":{{"k8sAuthToken":"{SECRET}"}}}}]}}"#
        );
        node.write("/etc/cni/net.d/10-x.conflist", &list);
        node.write("/etc/cni/net.d/20-torn.conflist", &format!("{{\"a\": 1, \"token\": \"{SECRET}\""));
        node.write("/etc/cni/net.d/calico-kubeconfig", &format!("token: {SECRET}"));
        node.write("/etc/cni/net.d/multus.d/multus.kubeconfig", SECRET);
        node.write("/etc/containerd/config.toml", &format!("[x.auth]\n  password = \"{SECRET}\"\n"));
        let record =
            format!(r#"{{"steps":[{{"config":{{"ipam":{{"client_secret":"{SECRET}"}}}}}}],"path":"/opt"}}"#);
        node.write("/var/lib/fairlead/attachments/a-net1.json", &record);
        node.write("/var/lib/fairlead/attachments/key.pem", SECRET);
        node.write("/var/lib/kubelet/pods/u/volumes/kubernetes.io~projected/token/token", SECRET);
        node.write("/var/lib/kubelet/pki/kubelet.key", SECRET);
        node.write("/proc/cmdline", &format!("quiet rd.password={SECRET} intel_iommu=on"));
        node.write("/sys/bus/pci/devices/x", "");
        node
    }

    fn entries(bytes: &[u8]) -> BTreeMap<String, String> {
        let mut archive = tar::Archive::new(bytes);
        let read = |entry: io::Result<tar::Entry<'_, &[u8]>>| {
            let mut entry = entry.unwrap();
            let (name, mut text) = (entry.path().unwrap().display().to_string(), String::new());
            entry.read_to_string(&mut text).unwrap();
            (name, text)
        };
        archive.entries().unwrap().map(read).collect()
    }

    #[test]
    fn no_planted_secret_leaves_the_node_and_the_rest_does() {
        let made = planted();
        let (node, path) = (made.node(), made.at("/bundle.tar"));
        let found = devices::Facts::gather(&node);
        let files = write(&node, &Report::default(), &found, &path).unwrap();
        let bytes = fs::read(&path).unwrap();
        assert!(!String::from_utf8_lossy(&bytes).contains(SECRET));
        let entries = entries(&bytes);
        assert_eq!(entries.len(), files);
        for (name, word) in [
            ("etc/cni/net.d/10-x.conflist", "infoblox"),
            ("etc/cni/net.d/20-torn.conflist", "(removed)"),
            ("etc/containerd/config.toml", "[x.auth]"),
            ("var/lib/fairlead/attachments/a-net1.json", "/opt"),
            ("folders.txt", "calico-kubeconfig"),
            ("report.json", "findings"),
        ] {
            let text = entries
                .get(&format!("fairlead-doctor/{name}"))
                .unwrap_or_else(|| panic!("{name}: {entries:?}"));
            assert!(text.contains(word), "{name}: {text}");
        }
        assert!(
            !entries.keys().any(|name| name.ends_with("kubeconfig") || name.ends_with(".pem")),
            "{entries:?}"
        );
    }

    #[test]
    fn it_is_bounded_and_what_did_not_fit_is_told() {
        let made = planted();
        for number in 0..40 {
            made.write(&format!("/etc/cni/net.d/9{number}.conf"), &"x".repeat(FILE_LIMIT as usize + 100));
        }
        let (node, path) = (made.node(), made.at("/bundle.tar.gz"));
        write(&node, &Report::default(), &devices::Facts::gather(&node), &path).unwrap();
        let mut bytes = Vec::new();
        flate2::read::GzDecoder::new(File::open(&path).unwrap()).read_to_end(&mut bytes).unwrap();
        assert!(bytes.len() as u64 <= LIMIT + (1 << 20), "{}", bytes.len());
        assert!(entries(&bytes)["fairlead-doctor/left-out.txt"].contains("etc/cni/net.d/9"));
        assert!(fs::metadata(&path).unwrap().len() < 1 << 20);
    }
}
