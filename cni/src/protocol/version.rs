//! Versions of the CNI specification.

use super::{
    env::Verb,
    error::{CniError, code},
};

/// Every version that this suite speaks, oldest first. Network definitions in the field still commonly say 0.3.1.
pub const SUPPORTED: [&str; 7] = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];

/// The newest one.
pub const LATEST: &str = "1.1.0";

/// What an absent or empty `cniVersion` means (behaviour of the reference library).
pub const IMPLIED: &str = "0.1.0";

/// Takes a configuration's `cniVersion` for one that we speak.
///
/// # Errors
/// Code 1 for any other text.
pub fn check(version: Option<&str>) -> Result<&'static str, CniError> {
    let wanted = version.filter(|text| !text.is_empty()).unwrap_or(IMPLIED);
    SUPPORTED.iter().find(|known| **known == wanted).copied().ok_or_else(|| {
        CniError::new(code::INCOMPATIBLE_VERSION, "incompatible CNI versions")
            .details(format!("config is \"{wanted}\", plugin supports {SUPPORTED:?}"))
    })
}

/// Whether `version` is `floor` or newer. Both must be from [`SUPPORTED`].
pub fn at_least(version: &str, floor: &str) -> bool {
    let place = |text| SUPPORTED.iter().position(|known| *known == text);
    place(version) >= place(floor)
}

/// Refuses a verb that a configuration's version does not have yet.
///
/// # Errors
/// Code 1, naming the verb.
pub fn allows(version: &str, verb: Verb) -> Result<(), CniError> {
    let since = match verb {
        Verb::Check => "0.4.0",
        Verb::Gc | Verb::Status => "1.1.0",
        Verb::Add | Verb::Del | Verb::Version => return Ok(()),
    };
    if at_least(version, since) {
        return Ok(());
    }
    // Upstream's words and no more: callers compare them.
    Err(CniError::new(code::INCOMPATIBLE_VERSION, format!("config version does not allow {verb}")))
}

/// The version that a configuration list is run with: the newest of `cniVersion` and `cniVersions` that we speak
/// (specification 1.1.0, section 1: newer ones in the list are passed over).
///
/// # Errors
/// Code 1 when `cniVersion` is not ours and `cniVersions` offers none that is.
pub fn choose(version: Option<&str>, offered: &[String]) -> Result<&'static str, CniError> {
    let best = SUPPORTED.iter().rev().find(|known| offered.iter().any(|offer| offer == *known)).copied();
    match (best, check(version)) {
        (Some(best), Ok(own)) if at_least(own, best) => Ok(own),
        (Some(best), _) => Ok(best),
        (None, own) => own,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_absent_version_is_the_first_one() {
        assert_eq!(check(None).unwrap(), "0.1.0");
        assert_eq!(check(Some("")).unwrap(), "0.1.0");
    }

    #[test]
    fn p3_a_foreign_version_is_refused_with_both_sides_named() {
        let error = check(Some("2.0.0")).unwrap_err();
        assert_eq!(error.code, code::INCOMPATIBLE_VERSION);
        assert!(error.details.contains("2.0.0") && error.details.contains("1.1.0"), "{}", error.details);
    }

    #[test]
    fn p7_a_verb_needs_the_version_that_brought_it() {
        for (verb, before, since) in
            [(Verb::Check, "0.3.1", "0.4.0"), (Verb::Gc, "1.0.0", "1.1.0"), (Verb::Status, "1.0.0", "1.1.0")]
        {
            assert_eq!(allows(before, verb).unwrap_err().code, code::INCOMPATIBLE_VERSION);
            allows(since, verb).unwrap();
        }
        allows("0.1.0", Verb::Del).unwrap();
    }

    #[test]
    fn the_newest_offer_that_we_speak_is_chosen() {
        let offers = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        assert_eq!(choose(Some("0.4.0"), &offers(&["1.0.0", "9.0.0"])).unwrap(), "1.0.0");
        assert_eq!(choose(Some("1.1.0"), &offers(&["1.0.0"])).unwrap(), "1.1.0");
        assert_eq!(choose(Some("9.0.0"), &offers(&["0.3.1", "1.1.0"])).unwrap(), "1.1.0");
        assert_eq!(choose(None, &[]).unwrap(), "0.1.0");
        assert!(choose(Some("9.0.0"), &[]).is_err());
    }
}
