//! The node's list of kernel settings that networks may change, upstream's file in upstream's form: a regular expression a
//! line, of which one must match some part of the setting's name as it is written. Without the file all may be changed.

use std::{io, path::Path};

use regex_lite::Regex;

use crate::protocol::error::{CniError, code};

/// Refuses what is not on the list.
///
/// # Errors
/// Code 7, naming setting and file; code 5 for a list that cannot be read: then nothing is allowed.
pub(super) fn check<'a>(file: &Path, names: impl Iterator<Item = &'a str>) -> Result<(), CniError> {
    let mut names = names.peekable();
    if names.peek().is_none() {
        return Ok(());
    }
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => {
            return Err(CniError::new(code::IO, format!("tuning: read {}: {error}", file.display())));
        }
    };
    let list = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let list: Vec<Regex> = list.map(|line| expression(file, line)).collect::<Result<_, _>>()?;
    match names.find(|name| !list.iter().any(|allowed| allowed.is_match(name))) {
        None => Ok(()),
        Some(name) => {
            let text = format!("tuning: Sysctl {name} is not allowed by {} of this node", file.display());
            Err(CniError::new(code::INVALID_CONFIG, text))
        }
    }
}

fn expression(file: &Path, line: &str) -> Result<Regex, CniError> {
    Regex::new(line).map_err(|error| {
        let text = format!("tuning: {}: \"{line}\" is no regular expression: {error}", file.display());
        CniError::new(code::INVALID_CONFIG, text)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_with(list: &str, name: &str) -> Result<(), CniError> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("allowlist.conf");
        std::fs::write(&file, list).unwrap();
        check(&file, [name].into_iter())
    }

    #[test]
    fn x7_only_what_is_listed_is_allowed() {
        let list = "\n^net\\.ipv4\\.conf\\.IFNAME\\.[a-z_]*$  \n^net.core.somaxconn$\n";
        check_with(list, "net.ipv4.conf.IFNAME.arp_notify").unwrap();
        check_with(list, "net.core.somaxconn").unwrap();
        for name in ["net.ipv4.conf.all.arp_notify", "net.ipv4.conf.IFNAME.x/../y", "net.core.somaxconn2"] {
            let error = check_with(list, name).unwrap_err();
            assert!(error.msg.contains(name) && error.msg.contains("allowlist.conf"), "{error}");
        }
        // As upstream's: any part may match.
        check_with("conf", "net.ipv4.conf.all.arp_notify").unwrap();
    }

    #[test]
    fn without_the_file_all_is_allowed_and_with_an_empty_or_broken_one_nothing_is() {
        check(Path::new("/nonexistent/allowlist.conf"), ["net.core.x"].into_iter()).unwrap();
        assert!(check_with("", "net.core.x").is_err());
        assert!(check_with("(", "net.core.x").unwrap_err().msg.contains("regular expression"));
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(check(dir.path(), ["net.core.x"].into_iter()).unwrap_err().code, code::IO);
        check(dir.path(), std::iter::empty()).unwrap();
    }
}
