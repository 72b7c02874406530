//! What upstream's plugin wrote down of an interface before it changed it: one file in its own folder.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{Original, Properties};
use crate::{
    disk::remove,
    drivers::Leftover,
    protocol::error::{CniError, code},
};

/// Upstream's folder, unless key `dataDir` names another.
const FOLDER: &str = "/run/cni/tuning";

/// Upstream's document.
#[derive(Default, Deserialize)]
struct Backup {
    #[serde(default)]
    mac: String,
    #[serde(flatten)]
    rest: Properties,
}

fn file(left: &Leftover<'_>) -> Result<PathBuf, CniError> {
    let folder = left.fields.text("dataDir")?.filter(|folder| !folder.is_empty()).unwrap_or(FOLDER);
    Ok(Path::new(folder).join(format!("{}_{}.json", left.container_id, left.interface)))
}

/// Removes upstream's file.
///
/// # Errors
/// Code 5, naming it.
pub(in crate::drivers) fn forget_upstream(left: &Leftover<'_>) -> Result<(), CniError> {
    remove(&file(left)?)
}

/// What undoes upstream's changes.
///
/// # Errors
/// Code 5 for a file that cannot be read. One that is no such document says nothing.
pub(in crate::drivers) fn of_upstream(left: &Leftover<'_>) -> Result<Option<Original>, CniError> {
    let file = file(left)?;
    let bytes = match std::fs::read(&file) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(CniError::new(code::IO, format!("read {}: {error}", file.display()))),
    };
    let backup: Backup = serde_json::from_slice(&bytes).unwrap_or_default();
    let before = Properties { mac: backup.mac.parse().ok(), ..backup.rest };
    Ok(Some(Original { interface: left.interface.to_owned(), before, ..Original::default() }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::Fields;

    fn read(document: &str) -> Properties {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("c1_net1.json"), document).unwrap();
        let fields: Fields = serde_json::from_value(json!({"dataDir": dir.path()})).unwrap();
        let left = Leftover { interface: "net1", container_id: "c1", fields: &fields };
        let before = of_upstream(&left).unwrap().unwrap().before;
        forget_upstream(&left).unwrap();
        forget_upstream(&left).unwrap();
        assert_eq!(of_upstream(&left).unwrap(), None);
        before
    }

    #[test]
    fn upstreams_file_is_understood() {
        let document =
            r#"{"mac":"02:00:00:00:00:01","promisc":false,"mtu":1500,"allmulti":true,"txQLen":1000}"#;
        let wanted = Properties {
            mac: Some("02:00:00:00:00:01".parse().unwrap()),
            mtu: Some(1500),
            promisc: Some(false),
            allmulti: Some(true),
            tx_queue_len: Some(1000),
        };
        assert_eq!(read(document), wanted);
        assert_eq!(read("{}"), Properties::default());
        assert_eq!(read("torn"), Properties::default());
    }
}
