//! Files that others read at any moment.

use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use crate::protocol::error::{CniError, code};

pub(super) fn failed(what: &str, path: &Path, error: &io::Error) -> CniError {
    let hint = match error.kind() {
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
            ": it takes root and a folder that can be written, see --bin-dir, --conf-dir and --root"
        }
        _ => "",
    };
    CniError::new(code::IO, format!("{what} {}: {error}{hint}", path.display()))
}

/// Where a file is written before it is renamed: a hidden name with an ending that no runtime takes for a configuration.
fn passing(file: &Path) -> PathBuf {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    file.with_file_name(format!(".{name}.fairlead-tmp"))
}

/// Puts a file in its place, whatever is there: complete and on disk, or not at all. A program that runs is not disturbed.
pub(super) fn put(file: &Path, bytes: &[u8], mode: u32) -> Result<(), CniError> {
    place(file, |passing| {
        let mut out = File::options().write(true).create_new(true).mode(mode).open(passing)?;
        out.write_all(bytes)?;
        // The umask does not count.
        out.set_permissions(fs::Permissions::from_mode(mode))?;
        out.sync_all()
    })
}

/// Puts a symbolic link in its place, whatever is there.
pub(super) fn put_link(link: &Path, target: &Path) -> Result<(), CniError> {
    place(link, |passing| std::os::unix::fs::symlink(target, passing))
}

fn place(file: &Path, make: impl FnOnce(&Path) -> io::Result<()>) -> Result<(), CniError> {
    let passing = passing(file);
    // A call that was killed may have left it; nobody else is at work here.
    let _ = fs::remove_file(&passing);
    let placed = make(&passing).and_then(|()| fs::rename(&passing, file)).and_then(|()| {
        let dir = file.parent().unwrap_or(Path::new("/"));
        File::open(dir)?.sync_all()
    });
    placed.map_err(|error| {
        let _ = fs::remove_file(&passing);
        failed("write", file, &error)
    })
}

/// Removes a file; whether there was one.
pub(super) fn remove(file: &Path) -> Result<bool, CniError> {
    match fs::remove_file(file) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(failed("remove", file, &error)),
    }
}

/// Names in a folder, in the order of runtimes; none where there is no folder.
pub(super) fn names(dir: &Path) -> Result<Vec<String>, CniError> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed("read", dir, &error)),
    };
    let names = entries.map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()));
    let mut names = names.collect::<Result<Vec<_>, _>>().map_err(|error| failed("read", dir, &error))?;
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_nothing_else_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.conflist");
        fs::write(passing(&file), "torn").unwrap();
        put(&file, b"one", 0o644).unwrap();
        let open = File::open(&file).unwrap();
        put(&file, b"two", 0o755).unwrap();
        assert_eq!(io::read_to_string(open).unwrap(), "one", "who reads the old one reads it to its end");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o755);
        put_link(&file, Path::new("other")).unwrap();
        assert_eq!(fs::read_link(&file).unwrap(), Path::new("other"));
        assert_eq!(names(dir.path()).unwrap(), ["a.conflist"]);
    }

    #[test]
    fn a_failure_names_the_file_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a");
        fs::create_dir(&file).unwrap();
        let error = put(&file, b"x", 0o644).unwrap_err();
        assert!(error.msg.contains(file.to_str().unwrap()), "{error}");
        assert_eq!(names(dir.path()).unwrap(), ["a"]);
    }
}
