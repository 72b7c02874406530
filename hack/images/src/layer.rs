//! One image layer: files and links, as an uncompressed tar that is the same for the same content.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Component, Path, PathBuf},
};

use tar::{Builder, EntryType, Header};

/// What a layer holds, by path without a leading slash. Folders above entries come by themselves.
#[derive(Debug, Default)]
pub struct Layer {
    entries: BTreeMap<PathBuf, Entry>,
}

#[derive(Debug, PartialEq, Eq)]
enum Entry {
    Folder { mode: u32 },
    File { mode: u32, content: Content },
    Link { target: PathBuf },
}

#[derive(Debug, PartialEq, Eq)]
enum Content {
    Bytes(Vec<u8>),
    /// Read when the layer is written: programs are large.
    Of(PathBuf),
}

impl Layer {
    /// A folder of its own, with a mode.
    pub fn folder(&mut self, path: &str, mode: u32) {
        self.entries.insert(relative(Path::new(path)), Entry::Folder { mode });
    }

    /// A file with this text.
    pub fn text(&mut self, path: &str, text: &str) {
        let content = Content::Bytes(text.as_bytes().to_vec());
        self.entries.insert(relative(Path::new(path)), Entry::File { mode: 0o644, content });
    }

    /// A symbolic link.
    pub fn link(&mut self, path: &str, target: &str) {
        self.entries.insert(relative(Path::new(path)), Entry::Link { target: target.into() });
    }

    /// A file of the node, at another place.
    ///
    /// # Errors
    /// When it is not there.
    pub fn file(&mut self, path: &str, host: &Path) -> io::Result<()> {
        let host = fs::canonicalize(host)?;
        let mode = fs::metadata(&host)?.permissions().mode() & 0o7777;
        let entry = Entry::File { mode, content: Content::Of(host) };
        self.entries.insert(relative(Path::new(path)), entry);
        Ok(())
    }

    /// A program of the node, at another place. Its mode is not the node's, which depends on who built it.
    ///
    /// # Errors
    /// When it is not there.
    pub fn program(&mut self, path: &str, host: &Path) -> io::Result<()> {
        let entry = Entry::File { mode: 0o755, content: Content::Of(fs::canonicalize(host)?) };
        self.entries.insert(relative(Path::new(path)), entry);
        Ok(())
    }

    /// A file of the node at its own place. Symbolic links stay what they are, and bring what they point to.
    ///
    /// # Errors
    /// When it, or what it leads to, is not there.
    pub fn take(&mut self, path: &Path) -> io::Result<()> {
        // Folders as they really are: /lib is a link to usr/lib.
        let parent = fs::canonicalize(path.parent().unwrap_or(Path::new("/")))?;
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let path = parent.join(name);
        if !fs::symlink_metadata(&path)?.is_symlink() {
            return self.file(&path.display().to_string(), &path);
        }
        let target = fs::read_link(&path)?;
        self.entries.insert(relative(&path), Entry::Link { target: target.clone() });
        self.take(&parent.join(target))
    }

    /// Writes the tar.
    ///
    /// # Errors
    /// When a file of the node cannot be read.
    pub fn write(&self) -> io::Result<Vec<u8>> {
        let mut tar = Builder::new(Vec::new());
        let mut made: Vec<PathBuf> = Vec::new();
        for (path, entry) in &self.entries {
            for parent in parents(path) {
                if !made.contains(&parent) && !self.entries.contains_key(&parent) {
                    append(&mut tar, &parent, EntryType::Directory, 0o755, &[])?;
                    made.push(parent);
                }
            }
            match entry {
                Entry::Folder { mode } => append(&mut tar, path, EntryType::Directory, *mode, &[])?,
                Entry::File { mode, content: Content::Bytes(bytes) } => {
                    append(&mut tar, path, EntryType::Regular, *mode, bytes)?;
                }
                Entry::File { mode, content: Content::Of(host) } => {
                    append(&mut tar, path, EntryType::Regular, *mode, &fs::read(host)?)?;
                }
                Entry::Link { target } => {
                    let mut header = header(EntryType::Symlink, 0o777, 0);
                    tar.append_link(&mut header, path, target)?;
                }
            }
        }
        tar.into_inner()
    }
}

fn append(
    tar: &mut Builder<Vec<u8>>,
    path: &Path,
    kind: EntryType,
    mode: u32,
    bytes: &[u8],
) -> io::Result<()> {
    let mut header = header(kind, mode, bytes.len());
    tar.append_data(&mut header, path, bytes)
}

/// Root's, from 1970: the same content makes the same layer.
fn header(kind: EntryType, mode: u32, size: usize) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size as u64);
    header
}

fn parents(path: &Path) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> =
        path.ancestors().skip(1).filter(|p| !p.as_os_str().is_empty()).map(PathBuf::from).collect();
    all.reverse();
    all
}

/// Without a leading slash, and without `.` and `..`.
fn relative(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => out.push(name),
            Component::ParentDir => drop(out.pop()),
            _ => {}
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, os::unix::fs::symlink};

    use super::*;

    fn listing(tar: &[u8]) -> Vec<(String, EntryType, u32)> {
        let mut archive = tar::Archive::new(tar);
        let entry = |e: io::Result<tar::Entry<'_, &[u8]>>| {
            let e = e.unwrap();
            let path = e.path().unwrap().display().to_string();
            (path.trim_end_matches('/').to_string(), e.header().entry_type(), e.header().mode().unwrap())
        };
        archive.entries().unwrap().map(entry).collect()
    }

    #[test]
    fn folders_come_first_and_once() {
        let mut layer = Layer::default();
        layer.text("/etc/passwd", "root:x:0:0::/:/bin/sh\n");
        layer.text("/etc/group", "root:x:0:\n");
        layer.folder("/tmp", 0o1777);
        layer.link("/usr/bin/ls", "busybox");
        let bytes = layer.write().unwrap();
        let listing = listing(&bytes);
        let names: Vec<&str> = listing.iter().map(|(n, _, _)| n.as_str()).collect();
        assert_eq!(names, ["etc", "etc/group", "etc/passwd", "tmp", "usr", "usr/bin", "usr/bin/ls"]);
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
        assert_eq!(listing[3], ("tmp".into(), EntryType::Directory, 0o1777));
        assert_eq!(bytes, layer.write().unwrap(), "the same content makes the same bytes");
    }

    #[test]
    fn links_bring_what_they_point_to() {
        let root = tempfile::tempdir().unwrap();
        let lib = fs::canonicalize(root.path()).unwrap().join("usr/lib");
        fs::create_dir_all(lib.join("plugins")).unwrap();
        fs::write(lib.join("libx.so.1.2"), "x").unwrap();
        symlink("libx.so.1.2", lib.join("libx.so.1")).unwrap();
        symlink("../libx.so.1", lib.join("plugins/libx.so")).unwrap();
        symlink("usr/lib", lib.join("../../lib")).unwrap();
        let mut layer = Layer::default();
        layer.take(&lib.join("../../lib/plugins/libx.so")).unwrap();
        let found = listing(&layer.write().unwrap());
        let kind = |end: &str| found.iter().find(|(n, _, _)| n.ends_with(end)).map(|(_, k, _)| *k);
        assert_eq!(kind("usr/lib/plugins/libx.so"), Some(EntryType::Symlink));
        assert_eq!(kind("usr/lib/libx.so.1"), Some(EntryType::Symlink));
        assert_eq!(kind("usr/lib/libx.so.1.2"), Some(EntryType::Regular));
    }

    #[test]
    fn what_is_missing_is_an_error() {
        assert!(Layer::default().take(Path::new("/no/such/file")).is_err());
    }
}
