//! The plugin of the same name that is not us, for configurations with keys that we leave to it.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use crate::{exec::is_program, install::REPLACED};

/// The plugin that our own file hides from the runtime: the one that made place for it when it was installed, else the first
/// one of this name in the folders after the last that has our file. In folders before, the runtime would have found it
/// itself; and two copies of us never execute each other in turn.
pub(super) fn find_hidden(kind: &str, path: &[PathBuf], own: &Path) -> Option<PathBuf> {
    let identity = |file: &Path| fs::metadata(file).ok().map(|found| (found.dev(), found.ino()));
    let own = identity(own)?;
    let is_own = |dir: &PathBuf| identity(&dir.join(kind)) == Some(own);
    let after = path.iter().rposition(is_own).map_or(0, |place| place + 1);
    let replaced = path.iter().filter(|dir| is_own(dir)).map(|dir| dir.join(REPLACED).join(kind));
    replaced.chain(path.iter().skip(after).map(|dir| dir.join(kind))).find(|file| is_program(file))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_first_other_file_behind_our_own_is_taken() {
        let root = tempfile::tempdir().unwrap();
        let dirs: Vec<PathBuf> = ["a", "b", "c", "d"].iter().map(|name| root.path().join(name)).collect();
        for dir in &dirs {
            fs::create_dir(dir).unwrap();
        }
        let program = |dir: &Path| {
            let file = dir.join("bridge");
            fs::write(&file, "").unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        };
        let own = root.path().join("fairlead");
        fs::write(&own, "").unwrap();
        program(&dirs[0]);
        std::os::unix::fs::symlink(&own, dirs[1].join("bridge")).unwrap();
        assert_eq!(find_hidden("bridge", &dirs, &own), None);
        // What cannot be executed is no plugin.
        fs::write(dirs[2].join("bridge"), "").unwrap();
        program(&dirs[3]);
        assert_eq!(find_hidden("bridge", &dirs, &own), Some(dirs[3].join("bridge")));
        // We are in none of the folders.
        assert_eq!(find_hidden("bridge", &dirs[2..], &own), Some(dirs[3].join("bridge")));
        assert_eq!(find_hidden("bridge", &dirs, &root.path().join("gone")), None);
        // It made place for us.
        let replaced = dirs[1].join(REPLACED);
        fs::create_dir(&replaced).unwrap();
        program(&replaced);
        assert_eq!(find_hidden("bridge", &dirs, &own), Some(replaced.join("bridge")));
    }
}
