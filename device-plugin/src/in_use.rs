//! Which devices pods have: what kubelet says, and what it has just been given.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use fairlead_resource_config::pools::DeviceId;
use tokio::time::Instant;

/// How long an allocation counts before kubelet has to know of it: the pod may be refused for another reason, and then it never
/// does.
const GRACE: Duration = Duration::from_secs(30);

/// Devices by the full name of their resource.
pub(crate) type ByResource = BTreeMap<String, BTreeSet<DeviceId>>;

/// Devices that pods have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct InUse {
    /// Whether kubelet, or its checkpoint, has said anything yet.
    is_known: bool,
    /// What kubelet said last.
    told: ByResource,
    /// Allocated, and not told of since.
    allocated: BTreeMap<(String, DeviceId), Instant>,
}

impl InUse {
    /// kubelet was given devices.
    pub(crate) fn allocate(&mut self, resource: &str, ids: impl IntoIterator<Item = DeviceId>, now: Instant) {
        self.allocated.extend(ids.into_iter().map(|id| ((resource.to_owned(), id), now)));
    }

    /// Takes over all that kubelet said when it was asked at `asked`. Whether that is anything new.
    pub(crate) fn tell(&mut self, told: ByResource, asked: Instant) -> bool {
        let before = self.clone();
        self.is_known = true;
        self.told = told;
        let told = &self.told;
        let has = |resource: &str, id: &DeviceId| told.get(resource).is_some_and(|ids| ids.contains(id));
        // What kubelet knows of ends when kubelet says so.
        self.allocated.retain(|(resource, id), since| !has(resource, id) && *since + GRACE > asked);
        before != *self
    }

    /// Whether what is not here is in use by nobody; else, nothing is known yet.
    pub(crate) fn is_known(&self) -> bool {
        self.is_known
    }

    /// The devices of a resource.
    pub(crate) fn of(&self, resource: &str) -> BTreeSet<DeviceId> {
        let allocated = self.allocated.keys().filter(|(name, _)| name == resource).map(|(_, id)| id);
        self.told.get(resource).into_iter().flatten().chain(allocated).cloned().collect()
    }

    /// The resources that have devices in use.
    pub(crate) fn resources(&self) -> BTreeSet<&str> {
        let told = self.told.iter().filter(|(_, ids)| !ids.is_empty()).map(|(name, _)| name.as_str());
        told.chain(self.allocated.keys().map(|(name, _)| name.as_str())).collect()
    }

    pub(crate) fn contains(&self, resource: &str, id: &DeviceId) -> bool {
        self.told.get(resource).is_some_and(|ids| ids.contains(id))
            || self.allocated.contains_key(&(resource.to_owned(), id.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> DeviceId {
        text.parse().unwrap()
    }

    fn told(ids: &[&str]) -> ByResource {
        BTreeMap::from([("a/b".to_owned(), ids.iter().map(|text| id(text)).collect())])
    }

    #[test]
    fn an_allocation_counts_until_kubelet_knows_and_forgets() {
        let (mut in_use, start) = (InUse::default(), Instant::now());
        let one = id("0000:01:10.0");
        in_use.allocate("a/b", [one.clone()], start);
        assert!(in_use.contains("a/b", &one) && !in_use.contains("a/c", &one));
        // A list that was made before kubelet had noted it.
        in_use.tell(told(&[]), start + Duration::from_secs(1));
        assert!(in_use.contains("a/b", &one));
        assert!(in_use.tell(told(&["0000:01:10.0"]), start + Duration::from_secs(2)));
        assert!(!in_use.tell(told(&["0000:01:10.0"]), start + Duration::from_secs(3)));
        assert_eq!(in_use.of("a/b"), BTreeSet::from([one.clone()]));
        assert!(in_use.tell(told(&[]), start + Duration::from_secs(4)));
        assert!(!in_use.contains("a/b", &one) && in_use.resources().is_empty());
    }

    #[test]
    fn an_allocation_that_kubelet_never_knows_of_is_forgotten() {
        let (mut in_use, start) = (InUse::default(), Instant::now());
        in_use.allocate("a/b", [id("0000:01:10.0")], start);
        assert_eq!(in_use.resources(), BTreeSet::from(["a/b"]));
        in_use.tell(told(&[]), start + GRACE);
        assert!(in_use.resources().is_empty());
    }
}
