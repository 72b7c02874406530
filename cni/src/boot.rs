//! Which boot of the node this is.

use std::{fs, io, sync::OnceLock};

/// Where the kernel tells it (Documentation/admin-guide/sysctl/kernel.rst, `random`).
pub(crate) const ID: &str = "/proc/sys/kernel/random/boot_id";

/// The boot's ID, read once.
///
/// # Errors
/// When it cannot be read, which is tried anew at the next call.
pub(crate) fn id() -> io::Result<&'static str> {
    static READ: OnceLock<String> = OnceLock::new();
    if let Some(id) = READ.get() {
        return Ok(id);
    }
    let id = fs::read_to_string(ID)?;
    Ok(READ.get_or_init(|| id.trim().to_owned()))
}
