//! Files and folders of the node that may be missing.

use std::{fs, io, path::Path};

use crate::protocol::error::{CniError, code};

/// Code 5: what could not be done with a file, and why.
pub(crate) fn failed(what: &str, path: &Path, error: &io::Error) -> CniError {
    CniError::new(code::IO, format!("{what} {}: {error}", path.display()))
}

/// Removes a file, if it is there.
pub(crate) fn remove(file: &Path) -> Result<(), CniError> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", file, &error)),
        _ => Ok(()),
    }
}

/// Names of what is in a folder, in no particular order; none where there is no folder.
pub(crate) fn names(dir: &Path) -> Result<Vec<String>, CniError> {
    let failed = |error: io::Error| failed("read", dir, &error);
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let name = |entry: io::Result<fs::DirEntry>| {
        entry.map(|entry| entry.file_name().to_string_lossy().into_owned()).map_err(failed)
    };
    entries.map(name).collect()
}
