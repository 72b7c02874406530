//! Reading attributes, links and folders of the running system, and writing files of ours. Provisioning changes what it reads,
//! so it never reads a recorded tree.

use std::path::Path;
use std::{fs, io};

use crate::sysfs::{has_no_value, last_part};

/// The trimmed text of an attribute; `None` when there is none, or none that can be read.
pub(super) fn attribute(dir: &Path, name: &str) -> Option<String> {
    let bytes = fs::read(dir.join(name)).ok()?;
    Some(String::from_utf8_lossy(&bytes).trim().to_owned())
}

/// The last part of where a symbolic link points; `None` when there is no such link.
pub(super) fn link_name(dir: &Path, name: &str) -> Option<String> {
    let target = fs::read_link(dir.join(name)).ok()?;
    Some(last_part(&target.to_string_lossy()).to_owned())
}

/// The sorted names in a folder; none when there is no such folder.
pub(super) fn names(dir: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if has_no_value(&error) => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut names = entries
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<io::Result<Vec<String>>>()?;
    names.sort();
    Ok(names)
}

/// Writes a file in place of the one before: nobody sees half of it. The folder is made if need be.
pub(super) fn replace(folder: &Path, name: &str, text: &[u8]) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let temporary = folder.join(format!(".{name}.{}.tmp", std::process::id()));
    fs::write(&temporary, text)?;
    fs::rename(&temporary, folder.join(name))
}
