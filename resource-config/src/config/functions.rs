//! A PF with some or all of its functions: `ens1f0`, `ens1f0#0-3,5`.

use std::fmt;
use std::ops::RangeInclusive;

/// What an element of `pfNames` or `rootDevices` may be.
pub(super) const GRAMMAR: &str = "a PF, alone or with VF indexes, as in \"pf#0-3,5\"";

/// An element of `pfNames` or `rootDevices`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Functions<T> {
    /// The PF.
    pub pf: T,
    /// VF indexes; `None` for every one.
    indexes: Option<Vec<RangeInclusive<u32>>>,
    text: String,
}

impl<T> Functions<T> {
    /// Reads an element, the PF with `pf`; `None` when it is not of the form [`GRAMMAR`].
    pub(super) fn parse(text: &str, pf: impl FnOnce(&str) -> Option<T>) -> Option<Self> {
        let (name, indexes) = match text.split_once('#') {
            Some((name, list)) => (name, Some(list.split(',').map(range).collect::<Option<Vec<_>>>()?)),
            None => (text, None),
        };
        Some(Self { pf: pf(name)?, indexes, text: text.to_owned() })
    }

    /// Whether the VF of this index is among them; one whose index is unknown is only where no list is given.
    #[must_use]
    pub fn contains(&self, index: Option<u32>) -> bool {
        match (&self.indexes, index) {
            (None, _) => true,
            (Some(ranges), Some(index)) => ranges.iter().any(|range| range.contains(&index)),
            (Some(_), None) => false,
        }
    }

    /// Whether indexes are listed.
    #[must_use]
    pub fn has_indexes(&self) -> bool {
        self.indexes.is_some()
    }

    /// The element as written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What of this element the other one has too, when they are of one PF.
    pub(super) fn overlap(&self, other: &Self) -> Option<Indexes>
    where
        T: PartialEq,
    {
        if self.pf != other.pf {
            return None;
        }
        match (&self.indexes, &other.indexes) {
            (None, None) => Some(Indexes::All),
            (Some(ranges), None) | (None, Some(ranges)) => ranges.first().cloned().map(Indexes::Some),
            (Some(a), Some(b)) => a.iter().flat_map(|a| b.iter().map(move |b| (a, b))).find_map(common),
        }
    }

    /// Indexes that the element has twice itself.
    pub(super) fn repeated(&self) -> Option<Indexes> {
        let ranges = self.indexes.as_deref().unwrap_or_default();
        let pairs =
            ranges.iter().enumerate().flat_map(|(n, a)| ranges.iter().skip(n + 1).map(move |b| (a, b)));
        pairs.into_iter().find_map(common)
    }
}

/// Functions of a PF.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Indexes {
    All,
    Some(RangeInclusive<u32>),
}

impl fmt::Display for Indexes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all functions"),
            Self::Some(range) if range.start() == range.end() => write!(f, "function {}", range.start()),
            Self::Some(range) => write!(f, "functions {}-{}", range.start(), range.end()),
        }
    }
}

fn common((a, b): (&RangeInclusive<u32>, &RangeInclusive<u32>)) -> Option<Indexes> {
    let (first, last) = (*a.start().max(b.start()), *a.end().min(b.end()));
    (first <= last).then_some(Indexes::Some(first..=last))
}

/// The name of a network device, in lower case: names of PFs are compared without regard to case, as upstream.
pub(super) fn netdev(text: &str) -> Option<String> {
    let valid = !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || c == '/');
    valid.then(|| text.to_ascii_lowercase())
}

/// `3` or `0-3`; a range that runs backwards is refused.
fn range(text: &str) -> Option<RangeInclusive<u32>> {
    let number = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse::<u32>().ok())?;
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (number(first)?, number(last)?);
    (first <= last).then_some(first..=last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Option<Functions<String>> {
        Functions::parse(text, netdev)
    }

    #[test]
    fn lists_select_their_indexes_and_no_list_selects_all() {
        let some = parse("ens785f0#0-3,5").unwrap();
        let selected: Vec<u32> = (0..10).filter(|n| some.contains(Some(*n))).collect();
        assert_eq!(selected, [0, 1, 2, 3, 5]);
        assert!(!some.contains(None));
        let all = parse("ens785f0").unwrap();
        assert!(all.contains(Some(63)) && all.contains(None));
    }

    #[test]
    fn malformed_lists_are_refused() {
        for text in [
            "",
            "#1",
            "p0#",
            "p0#1#2",
            "p0#1-2-3",
            "p0#a",
            "p0#3-1",
            "p0#1,",
            "p0#+1",
            "p0#-1",
            "p 0",
            "p0 #1",
            "p0#4294967296",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn what_two_elements_of_a_pf_both_have_is_found() {
        let overlap = |a: &str, b: &str| {
            let found = parse(a).unwrap().overlap(&parse(b).unwrap());
            found.map(|found| found.to_string()).unwrap_or_default()
        };
        assert_eq!(overlap("p0#0-3", "P0#2-7"), "functions 2-3");
        assert_eq!(overlap("p0#0-3,9", "p0#9"), "function 9");
        assert_eq!(overlap("p0", "p0#1"), "function 1");
        assert_eq!(overlap("p0", "p0"), "all functions");
        assert_eq!(overlap("p0#0-3", "p0#4"), "");
        assert_eq!(overlap("p0#0", "p1#0"), "");
        assert_eq!(parse("p0#0-3,2").unwrap().repeated().unwrap().to_string(), "function 2");
        assert_eq!(parse("p0#0-3,4").unwrap().repeated(), None);
    }
}
