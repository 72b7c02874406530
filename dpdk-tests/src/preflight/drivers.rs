//! Which drivers testpmd has: DPDK writes into each driver's binary which devices it is for (`PMD_INFO_STRING`, meant for
//! `dpdk-pmdinfo`), so that this is known before anything is started.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// What comes before each driver's description.
const MARK: &[u8] = b"PMD_INFO_STRING= ";
/// Longer than any description: ice's, with some hundred devices, has four thousand bytes.
const LONGEST: usize = 64 * 1024;
/// How much of a file is looked at at a time. The pod's memory may be small, and a static testpmd large.
const CHUNK: usize = 1 << 20;
/// In a description: any device.
const ANY: u32 = 0xffff;
/// Where distributions and DPDK's own build put the folder `pmds-<version>`, below the root; `*` is any one folder.
const FOLDERS: [&str; 6] = [
    "usr/lib/*/dpdk",
    "usr/lib/dpdk",
    "usr/lib64/dpdk",
    "usr/local/lib/*/dpdk",
    "usr/local/lib/dpdk",
    "usr/local/lib64/dpdk",
];

/// A driver.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Driver {
    /// Its name, like `net_e1000_igb_vf`.
    pub name: String,
    /// Vendor, device, and the same of the subsystem.
    #[serde(default)]
    pci_ids: Vec<[u32; 4]>,
}

impl Driver {
    fn takes(&self, vendor: u16, device: u16) -> bool {
        let fits = |wanted: u32, has: u16| wanted == ANY || wanted == u32::from(has);
        self.pci_ids.iter().any(|[v, d, ..]| fits(*v, vendor) && fits(*d, device))
    }
}

/// The drivers that were found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Drivers {
    /// All of them.
    pub all: Vec<Driver>,
    /// Where they were looked for.
    pub folders: Vec<PathBuf>,
}

impl Drivers {
    /// Reads those in testpmd itself (when it is linked with them) and those in DPDK's folders of drivers below `root`.
    #[must_use]
    pub fn gather(root: &Path, testpmd: Option<&Path>) -> Self {
        let mut drivers = Self::default();
        let mut files: Vec<PathBuf> = testpmd.map(Path::to_owned).into_iter().collect();
        for folder in FOLDERS.iter().flat_map(|pattern| expand(root, pattern)) {
            for versioned in names(&folder, |name| name.starts_with("pmds-")) {
                files.extend(names(&versioned, |name| {
                    name.starts_with("librte_net_") && name.contains(".so")
                }));
                drivers.folders.push(versioned);
            }
        }
        // Each is there under several names.
        let mut seen: Vec<PathBuf> = Vec::new();
        for file in files {
            let real = fs::canonicalize(&file).unwrap_or(file);
            if !seen.contains(&real) {
                drivers.all.extend(File::open(&real).and_then(read_descriptions).unwrap_or_default());
                seen.push(real);
            }
        }
        drivers
    }

    /// The driver for a device.
    #[must_use]
    pub fn of_device(&self, vendor: u16, device: u16) -> Option<&Driver> {
        self.all.iter().find(|driver| driver.takes(vendor, device))
    }

    /// Whether there is one of this name.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.all.iter().any(|driver| driver.name == name)
    }
}

fn expand(root: &Path, pattern: &str) -> Vec<PathBuf> {
    match pattern.split_once("/*/") {
        None => vec![root.join(pattern)],
        Some((before, after)) => {
            names(&root.join(before), |_| true).into_iter().map(|folder| folder.join(after)).collect()
        }
    }
}

fn names(folder: &Path, wanted: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries
        .filter(|entry| wanted(&entry.file_name().to_string_lossy()))
        .map(|entry| entry.path())
        .collect();
    paths.sort();
    paths
}

fn read_descriptions(mut file: impl Read) -> io::Result<Vec<Driver>> {
    let mut found = Vec::new();
    let mut window: Vec<u8> = Vec::with_capacity(CHUNK + LONGEST);
    loop {
        let is_last = file.by_ref().take(CHUNK as u64).read_to_end(&mut window)? == 0;
        let mut done = 0;
        let mut unfinished = false;
        while let Some(at) = find(window.get(done..).unwrap_or_default(), MARK) {
            let begin = done + at + MARK.len();
            let text = window.get(begin..).unwrap_or_default();
            if let Some(length) = text.iter().position(|byte| *byte == 0) {
                found.extend(text.get(..length).and_then(|text| serde_json::from_slice::<Driver>(text).ok()));
                done = begin + length;
            } else if is_last || text.len() > LONGEST {
                done = begin;
            } else {
                // Its end is in the next piece.
                done += at;
                unfinished = true;
                break;
            }
        }
        if is_last {
            return Ok(found);
        }
        // A mark may come in two pieces.
        let keep = if unfinished { done } else { done.max(window.len().saturating_sub(MARK.len() - 1)) };
        window.drain(..keep);
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    let first = needle.first()?;
    let mut from = 0;
    loop {
        from += haystack.get(from..)?.iter().position(|byte| byte == first)?;
        if haystack.get(from..)?.starts_with(needle) {
            return Some(from);
        }
        from += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IGB_VF: &str = r#"PMD_INFO_STRING= {"name": "net_e1000_igb_vf", "kmod": "* igb_uio | vfio-pci", "pci_ids": [[32902, 4298, 65535, 65535]]}"#;
    const PACKET: &str =
        r#"PMD_INFO_STRING= {"name": "net_af_packet", "params": "iface=<string>", "pci_ids": []}"#;

    #[test]
    fn descriptions_are_found_in_binaries_wherever_they_are() {
        for before in [0, 10, CHUNK - 5, CHUNK - 60, 2 * CHUNK - 1] {
            let mut bytes = vec![b'P'; before];
            bytes.extend(IGB_VF.as_bytes());
            bytes.extend(b"\0PMD_INFO_STRING= garbage\0");
            bytes.extend(PACKET.as_bytes());
            bytes.extend(b"\0\x7f");
            let found = read_descriptions(bytes.as_slice()).unwrap();
            let names: Vec<&str> = found.iter().map(|driver| driver.name.as_str()).collect();
            assert_eq!(names, ["net_e1000_igb_vf", "net_af_packet"], "{before}");
        }
        // Without an end it is none.
        assert!(read_descriptions(IGB_VF.as_bytes()).unwrap().is_empty());
    }

    #[test]
    fn folders_of_drivers_are_found_and_a_device_has_its_driver() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("usr/lib/x86_64-linux-gnu/dpdk/pmds-25.0");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("librte_net_e1000.so.25.0"), format!("x{IGB_VF}\0")).unwrap();
        std::os::unix::fs::symlink("librte_net_e1000.so.25.0", folder.join("librte_net_e1000.so.25"))
            .unwrap();
        fs::write(folder.join("librte_bus_pci.so.25"), format!("{PACKET}\0")).unwrap();
        let drivers = Drivers::gather(root.path(), None);
        assert_eq!(drivers.folders, [folder]);
        assert_eq!(drivers.all.len(), 1);
        assert_eq!(drivers.of_device(0x8086, 0x10ca).unwrap().name, "net_e1000_igb_vf");
        assert_eq!(drivers.of_device(0x15b3, 0x10ca), None);
        assert!(drivers.has("net_e1000_igb_vf") && !drivers.has("net_af_packet"));
    }

    #[test]
    fn a_static_testpmd_has_its_drivers_in_itself() {
        let root = tempfile::tempdir().unwrap();
        let testpmd = root.path().join("testpmd");
        fs::write(&testpmd, format!("{PACKET}\0")).unwrap();
        assert!(Drivers::gather(root.path(), Some(&testpmd)).has("net_af_packet"));
    }
}
