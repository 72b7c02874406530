//! Whether a pool selects a device.

use super::Reason;
use super::checks::{self, Check, Subject};
use crate::config::{Resource, Selectors};

/// What turned a device away.
#[derive(Clone, Copy)]
pub(super) enum Mismatch<'a> {
    /// A rule of the pool as a whole.
    Pool(&'static Check<Resource>),
    /// A check of one of its objects of selectors.
    Selectors(&'a Selectors, &'static Check<Selectors>),
}

/// The index of the first object of the pool's selectors that selects the device, or what the one that came furthest missed.
pub(super) fn select<'a>(resource: &'a Resource, it: &Subject<'_>) -> Result<usize, Mismatch<'a>> {
    if let Some((_, check)) = first_missed(&checks::OF_POOL, resource, it) {
        return Err(Mismatch::Pool(check));
    }
    let mut furthest = None;
    for (index, selectors) in resource.selectors.iter().enumerate() {
        let Some((step, check)) = first_missed(&checks::OF_SELECTORS, selectors, it) else {
            return Ok(index);
        };
        if furthest.is_none_or(|(best, _)| step > best) {
            furthest = Some((step, Mismatch::Selectors(selectors, check)));
        }
    }
    // Without any object nothing is asked; one that was read from a file has at least one.
    furthest.map_or(Ok(0), |(_, mismatch)| Err(mismatch))
}

fn first_missed<Wanted>(
    checks: &'static [Check<Wanted>],
    wanted: &Wanted,
    it: &Subject<'_>,
) -> Option<(usize, &'static Check<Wanted>)> {
    checks.iter().enumerate().find(|(_, check)| !(check.met)(wanted, it))
}

impl Mismatch<'_> {
    /// The selector or rule.
    pub(super) fn selector(self) -> &'static str {
        match self {
            Self::Pool(check) => check.name,
            Self::Selectors(_, check) => check.name,
        }
    }

    /// In words.
    pub(super) fn reason(self, resource: &Resource, it: &Subject<'_>) -> Reason {
        let (found, wanted) = match self {
            Self::Pool(check) => ((check.found)(resource, it), (check.wanted)(resource)),
            Self::Selectors(selectors, check) => ((check.found)(selectors, it), (check.wanted)(selectors)),
        };
        Reason { resource: resource.name.clone(), selector: self.selector(), found, wanted }
    }
}
