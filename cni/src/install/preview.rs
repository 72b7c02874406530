//! What `fairlead install` would do, without doing it.

use super::{
    Look,
    conflist::Conflist,
    options,
    programs::{Place, place},
};
use crate::protocol::error::CniError;

/// What an installation would bring.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Preview {
    /// The text of our configuration; none while there is no primary network.
    pub conflist: Option<String>,
    /// What would become of it.
    pub changes: Vec<String>,
    /// What the operator may want to know.
    pub notes: Vec<String>,
    /// What would not be as it should be.
    pub problems: Vec<String>,
    /// Aliases that would be made, or are ours already.
    pub aliases: Vec<String>,
    /// Aliases whose place somebody's plugin has, which would stay.
    pub left: Vec<String>,
    /// Those whose plugin would make place, and be kept.
    pub replaced: Vec<String>,
}

/// Looks what an installation with these options would bring.
///
/// # Errors
/// What is wrong with the options, or cannot be read.
pub fn preview(arguments: &[String]) -> Result<Preview, String> {
    let told = |error: CniError| error.to_string();
    let install = options::install(arguments)?;
    let (mut look, mut conflist) = (Look::default(), Conflist::dry(&install));
    if let Err(error) = conflist.settle(&mut look) {
        look.problem(&error);
    }
    let mut preview = Preview {
        conflist: conflist.text(),
        changes: look.changes,
        notes: look.notes,
        problems: look.problems,
        ..Preview::default()
    };
    let dir = install.folders.here(&install.folders.bin);
    for name in &install.aliases {
        let list = match place(&dir.join(name)).map_err(told)? {
            Place::Free | Place::Ours => &mut preview.aliases,
            Place::Taken if install.replace.contains(name) => &mut preview.replaced,
            Place::Taken => &mut preview.left,
        };
        list.push(name.clone());
    }
    Ok(preview)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn nothing_is_written_and_what_would_be_is_told() {
        let node = tempfile::tempdir().unwrap();
        let at = |path: &str| node.path().join(path);
        for dir in ["opt/cni/bin", "etc/cni/net.d"] {
            fs::create_dir_all(at(dir)).unwrap();
        }
        let root = node.path().display().to_string();
        let look = |more: &[&str]| {
            let arguments = ["--root", &root].into_iter().chain(more.iter().copied());
            preview(&arguments.map(str::to_owned).collect::<Vec<_>>()).unwrap()
        };
        let found = look(&[]);
        assert!(
            found.conflist.is_none() && found.problems[0].contains("no primary network yet"),
            "{found:?}"
        );
        let primary = r#"{"cniVersion":"1.0.0","name":"cbr0","plugins":[{"type":"bridge"}]}"#;
        fs::write(at("etc/cni/net.d/10-bridge.conflist"), primary).unwrap();
        let multus = r#"{"cniVersion":"0.3.1","name":"m","type":"multus-shim"}"#;
        fs::write(at("etc/cni/net.d/00-multus.conf"), multus).unwrap();
        fs::write(at("opt/cni/bin/macvlan"), "").unwrap();
        fs::write(at("opt/cni/bin/multus"), "").unwrap();
        let found = look(&["--replace", "multus", "--section", r#"{"strict":true}"#]);
        assert!(found.conflist.unwrap().contains("\"strict\": true"));
        assert_eq!(found.changes, ["/etc/cni/net.d/00-fairlead.conflist: written around network cbr0"]);
        assert!(
            found.notes[0].contains("00-multus.conf of type multus-shim is not used any more"),
            "{:?}",
            found.notes
        );
        assert_eq!((found.left, found.replaced), (vec!["macvlan".to_owned()], vec!["multus".to_owned()]));
        assert!(found.aliases.contains(&"sriov".to_owned()) && found.problems.is_empty());
        let names = |dir: &str| fs::read_dir(at(dir)).unwrap().count();
        assert_eq!((names("opt/cni/bin"), names("etc/cni/net.d")), (2, 2));
        assert!(preview(&["--odd".to_owned()]).is_err());
    }
}
