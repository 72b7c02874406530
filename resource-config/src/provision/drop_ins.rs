//! udev rules that keep udev's names and NetworkManager away from VFs. One file for each PF that asks for it.
//!
//! NetworkManager takes its word from udev too (the property `NM_UNMANAGED`), which can match VFs by their PF; its own
//! configuration cannot.

use std::collections::BTreeMap;
use std::path::Path;
use std::{fs, io};

use super::choice::Chosen;
use super::plan::DropIn;
use crate::pci::PciAddress;
use crate::provision::files;

/// Before udev's own rules that give names (80-net-setup-link.rules).
const PREFIX: &str = "70-fairlead-";
const SUFFIX: &str = ".rules";

/// The files that differ from what the sections ask for; ours that nobody asks for any more go.
pub(super) fn changes(chosen: &[Chosen<'_>], present: &BTreeMap<String, String>) -> Vec<DropIn> {
    let wanted: BTreeMap<String, String> = chosen.iter().filter_map(file).collect();
    let gone = present.keys().filter(|name| !wanted.contains_key(*name));
    let gone = gone.map(|name| DropIn { file: name.clone(), text: None }).collect::<Vec<_>>();
    let changed = wanted.into_iter().filter(|(name, text)| present.get(name) != Some(text));
    gone.into_iter().chain(changed.map(|(file, text)| DropIn { file, text: Some(text) })).collect()
}

fn file(chosen: &Chosen<'_>) -> Option<(String, String)> {
    let section = chosen.section;
    let address = chosen.pf.address;
    let assignments: Vec<&str> = [
        section.unmanaged.then_some("ENV{NM_UNMANAGED}=\"1\""),
        section.kernel_names.then_some("NAME=\"%k\""),
    ]
    .into_iter()
    .flatten()
    .collect();
    (!assignments.is_empty()).then(|| (format!("{PREFIX}{address}{SUFFIX}"), rules(address, &assignments)))
}

fn rules(address: PciAddress, assignments: &[&str]) -> String {
    let matches = format!(
        "ACTION!=\"remove\", SUBSYSTEM==\"net\", TEST==\"device/physfn\", \
         PROGRAM==\"/usr/bin/readlink -f %S%p/device/physfn\", RESULT==\"*/{address}\""
    );
    let lines: String = assignments.iter().map(|assignment| format!("{matches}, {assignment}\n")).collect();
    format!(
        "# Written by fairlead-config apply for the VFs of {address}; removed when the policy asks for it no more.\n{lines}"
    )
}

/// Our files in the folder of rules.
///
/// # Errors
/// The folder or a file cannot be read. A folder that is missing has none.
pub(super) fn read(folder: &Path) -> io::Result<BTreeMap<String, String>> {
    let ours = |name: &String| name.starts_with(PREFIX) && name.ends_with(SUFFIX);
    let names = files::names(folder)?.into_iter().filter(ours);
    names.map(|name| Ok((name.clone(), fs::read_to_string(folder.join(&name))?))).collect()
}
