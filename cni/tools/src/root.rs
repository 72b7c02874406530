//! Where the node's root is for this process: `/`, or a folder that it is mounted at in a container.

use std::{
    ffi::OsString,
    fs, io,
    path::{Component, Path, PathBuf},
};

use fairlead_resource_config::inventory::Scanner;

/// More links than any path leads through.
const LINKS: usize = 40;

/// See above.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root(PathBuf);

impl Root {
    /// The node's root is here.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// Whether it is this process' own.
    pub fn is_own(&self) -> bool {
        self.0 == Path::new("/")
    }

    /// Where this process sees a path of the node. Links on the way that start at the root start at the node's.
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        if self.is_own() {
            return path.as_ref().to_owned();
        }
        let mut left: Vec<OsString> = parts(path.as_ref());
        let (mut here, mut links) = (PathBuf::new(), 0);
        while let Some(part) = left.pop() {
            if part == ".." {
                here.pop();
                continue;
            }
            match fs::read_link(self.0.join(&here).join(&part)) {
                Ok(target) if links < LINKS => {
                    links += 1;
                    if target.is_absolute() {
                        here = PathBuf::new();
                    }
                    left.extend(parts(&target));
                }
                _ => here.push(part),
            }
        }
        self.0.join(here)
    }

    /// What reads the node's devices; of another root's node only what its files tell.
    pub fn scanner(&self) -> Scanner {
        match self.is_own() {
            true => Scanner::system(),
            false => Scanner::sysfs(self.path("/sys")).with_proc(&self.path("/proc")),
        }
    }

    /// The text of a file of the node.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(&self, path: impl AsRef<Path>) -> io::Result<String> {
        fs::read(self.path(path)).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The text of a file without space around it, if it can be read.
    pub fn value(&self, path: impl AsRef<Path>) -> Option<String> {
        self.read(path).ok().map(|text| text.trim().to_owned())
    }

    /// Whether there is such a file or folder.
    pub fn exists(&self, path: impl AsRef<Path>) -> bool {
        self.path(path).exists()
    }

    /// The names in a folder, sorted; none where it cannot be read.
    pub fn names(&self, path: impl AsRef<Path>) -> Vec<String> {
        let entries = fs::read_dir(self.path(path)).into_iter().flatten().flatten();
        let mut names: Vec<String> =
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

/// The parts of a path, the last one first.
fn parts(path: &Path) -> Vec<OsString> {
    path.components()
        .rev()
        .filter_map(|part| match part {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some("..".into()),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_stay_below_the_nodes_root() {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path);
        fs::create_dir_all(at("run/x")).unwrap();
        fs::create_dir_all(at("var")).unwrap();
        fs::write(at("run/x/file"), " text\n").unwrap();
        symlink("/run", at("var/run")).unwrap();
        symlink("../../../run/x", at("var/up")).unwrap();
        symlink("loop", at("var/loop")).unwrap();
        let root = Root::new(dir.path());
        assert_eq!(root.path("/var/run/x/file"), at("run/x/file"));
        assert_eq!(root.value("/var/up/file").as_deref(), Some("text"));
        assert!(!root.exists("/var/loop/file"));
        assert_eq!(root.names("/var"), ["loop", "run", "up"]);
        assert_eq!(Root::new("/").path("/etc/x"), Path::new("/etc/x"));
    }
}
