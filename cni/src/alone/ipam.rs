//! host-local and static by themselves, as a plugin delegates to them.

use super::Config;
use crate::{
    ipam::{Kind, Owner, Request, Spec},
    protocol::{
        env::{Call, Verb},
        error::{CniError, code},
        gc::valid_attachments,
    },
};

pub(super) fn handle(kind: Kind, call: &Call, config: &Config) -> Result<Option<String>, CniError> {
    let owner = Owner { container_id: call.container_id.clone(), interface: call.interface.clone() };
    let request = Request { fields: &config.fields, args: &call.args, version: config.version };
    match call.verb {
        Verb::Add => {
            call.args.only(kind.known_args())?;
            let result = Spec::parse(kind, &request)?.add(&owner)?;
            result.render(config.version).map(|document| Some(document.to_string()))
        }
        // Arguments do not matter here, and must not keep anything from being given back.
        Verb::Del => Ok(kind.release(&config.fields, &owner).map(|()| None)?),
        Verb::Check => {
            let previous = config.previous()?;
            Ok(kind.check(&request, &owner, previous.as_ref()).map(|()| None)?)
        }
        Verb::Gc => {
            if let Some(valid) = valid_attachments(&config.fields)? {
                kind.collect(&config.fields, &valid)?;
            }
            Ok(None)
        }
        Verb::Status => Ok(Spec::parse(kind, &request)
            .map(|_| None)
            .map_err(|error| CniError { code: code::NOT_AVAILABLE, ..error.into() })?),
        Verb::Version => Ok(None),
    }
}
