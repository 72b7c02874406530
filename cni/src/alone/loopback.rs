//! loopback by itself, as containerd calls it for every pod. It keeps no records: `lo` goes with the namespace.

use std::path::Path;

use fairlead_kernel::Netns;

use super::Config;
use crate::{
    drivers::{Pod, kernel, loopback},
    protocol::{
        env::{Call, Verb},
        error::{CniError, code},
    },
};

pub(super) fn handle(call: &Call, config: &Config) -> Result<Option<String>, CniError> {
    match call.verb {
        Verb::Add => {
            let result = loopback::bring_up(&mut open(call)?, config.previous()?)?;
            result.render(config.version).map(|document| Some(document.to_string()))
        }
        Verb::Del => del(call.netns_path()).map(|()| None),
        Verb::Check => loopback::check(&mut open(call)?).map(|()| None),
        Verb::Gc | Verb::Status | Verb::Version => Ok(None),
    }
}

fn open(call: &Call) -> Result<Pod, CniError> {
    let path = call.netns.clone().unwrap_or_default();
    let netns = Netns::open(&path)
        .map_err(|error| CniError::new(code::INVALID_NETNS, format!("CNI_NETNS: {}", kernel(error).msg)))?;
    Pod::open(netns)
}

fn del(netns: Option<&Path>) -> Result<(), CniError> {
    let Some(path) = netns else { return Ok(()) };
    match Netns::open(path) {
        Ok(netns) => loopback::bring_down(&mut Pod::open(netns)?),
        Err(error) if error.is_gone() => Ok(()),
        Err(error) => Err(kernel(error)),
    }
}
