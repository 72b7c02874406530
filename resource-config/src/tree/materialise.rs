//! Makes a directory of a tree, for tests of what reads both.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::Tree;

impl Tree {
    /// Writes the tree to an empty directory. Errors that were recorded are left out.
    pub(crate) fn materialise(&self, dir: &Path) {
        // What is both a link and a folder is a folder there, and a link from where it is listed.
        for (path, target) in &self.links {
            let (Ok(target), link) = (target, dir.join(path)) else { continue };
            fs::create_dir_all(link.parent().unwrap()).unwrap();
            if self.folders.contains_key(path) {
                fs::create_dir_all(link.parent().unwrap().join(target)).unwrap();
            }
            symlink(target, &link).unwrap();
        }
        for (path, names) in &self.folders {
            let Ok(names) = names else { continue };
            fs::create_dir_all(dir.join(path)).unwrap();
            for name in names {
                let entry = dir.join(path).join(name);
                let below = super::joined(path, name);
                let is_folder = self.is_folder(&below);
                if is_folder {
                    fs::create_dir_all(&entry).unwrap();
                } else if !self.links.contains_key(&below) {
                    fs::write(&entry, "").unwrap();
                }
            }
        }
        for (path, text) in &self.files {
            let Ok(text) = text else { continue };
            fs::create_dir_all(dir.join(path).parent().unwrap()).unwrap();
            fs::write(dir.join(path), format!("{text}\n")).unwrap();
        }
        if let Some(netlink) = &self.netlink {
            fs::write(dir.join("netlink.json"), netlink).unwrap();
        }
    }

    /// Whether anything is below a path.
    fn is_folder(&self, path: &str) -> bool {
        let below = format!("{path}/");
        let is_below = |found: &String| found.starts_with(&below);
        self.folders.contains_key(path)
            || self.files.keys().any(is_below)
            || self.links.keys().any(is_below)
            || self.folders.keys().any(is_below)
    }
}
