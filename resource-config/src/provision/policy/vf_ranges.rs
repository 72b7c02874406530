//! VF indexes as people write them: `0-3,5`.

use std::ops::RangeInclusive;

/// What a range may be.
pub(super) const GRAMMAR: &str = "VF indexes, such as 3, 0-3 or 0-3,5";

/// A set of VF indexes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VfRanges(Vec<RangeInclusive<u32>>);

impl VfRanges {
    /// Reads a list of indexes and ranges; `None` when it is not of that form or a range runs backwards.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        text.split(',').map(|part| range(part.trim())).collect::<Option<Vec<_>>>().map(Self)
    }

    /// Whether the index is among them.
    #[must_use]
    pub fn contains(&self, index: u32) -> bool {
        self.0.iter().any(|range| range.contains(&index))
    }

    /// The highest index.
    #[must_use]
    pub fn highest(&self) -> Option<u32> {
        self.0.iter().map(|range| *range.end()).max()
    }

    /// An index that is in both, if any is.
    #[must_use]
    pub fn common(&self, other: &Self) -> Option<u32> {
        let starts = self.0.iter().chain(&other.0).map(|range| *range.start());
        // Where two ranges overlap, the later of their starts is in both.
        starts.into_iter().find(|start| self.contains(*start) && other.contains(*start))
    }
}

fn range(text: &str) -> Option<RangeInclusive<u32>> {
    let number = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse::<u32>().ok())?;
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (number(first)?, number(last)?);
    (first <= last).then_some(first..=last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_contain_their_indexes() {
        let ranges = VfRanges::parse("0-2, 5").unwrap();
        assert_eq!((0..9).filter(|n| ranges.contains(*n)).collect::<Vec<_>>(), [0, 1, 2, 5]);
        assert_eq!(ranges.highest(), Some(5));
    }

    #[test]
    fn what_two_have_in_common_is_found() {
        let common = |a: &str, b: &str| VfRanges::parse(a).unwrap().common(&VfRanges::parse(b).unwrap());
        assert_eq!(common("0-3", "4-6"), None);
        assert_eq!(common("0-3", "3"), Some(3));
        assert_eq!(common("5,9", "0-9"), Some(5));
    }

    #[test]
    fn what_is_no_list_is_refused() {
        for text in ["", "a", "3-1", "1-", "-1", "0-3,", "1-2-3", "+1", "4294967296"] {
            assert_eq!(VfRanges::parse(text), None, "{text}");
        }
    }
}
