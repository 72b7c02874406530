//! Shortening long lists: a run of VFs that differ only in their numbers, names and addresses is one line.

use super::drawing::{Item, Place};

/// Fewer than this are not worth it.
const SHORTEST: usize = 4;

/// One or more devices that take one line.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row<'a> {
    items: &'a [Item],
}

/// The rows of a list; with `unfold` one for each device.
pub(super) fn rows(items: &[Item], unfold: bool) -> Vec<Row<'_>> {
    let mut rows = Vec::new();
    for run in items.chunk_by(|a, b| !unfold && is_next(a, b)) {
        if run.len() < SHORTEST {
            rows.extend(run.chunks(1).map(|items| Row { items }));
        } else {
            rows.push(Row { items: run });
        }
    }
    rows
}

/// Whether there is nothing to tell two devices apart but that the second is the next one.
fn is_next(a: &Item, b: &Item) -> bool {
    let follows = match (a.place, b.place) {
        (Place::Vf(Some(a)), Place::Vf(Some(b))) | (Place::Sf(Some(a)), Place::Sf(Some(b))) => {
            a.checked_add(1) == Some(b)
        }
        _ => false,
    };
    let same_but_names = Item {
        place: a.place,
        device: a.device.clone(),
        netdevs: a.netdevs.clone(),
        group: a.group,
        representor: a.representor.clone(),
        ..b.clone()
    };
    follows
        && same_but_names == *a
        && a.netdevs.len() == b.netdevs.len()
        && a.netdevs.len() < 2
        && a.group.is_some() == b.group.is_some()
        && a.representor.is_some() == b.representor.is_some()
}

impl Row<'_> {
    /// A row of one device.
    pub(super) fn single(item: &Item) -> Row<'_> {
        Row { items: std::slice::from_ref(item) }
    }

    /// One of its devices, for what is the same in all.
    pub(super) fn any(&self) -> Option<&Item> {
        self.items.first()
    }

    /// `vf 0`, `vf 0-31`, `sf 4`; nothing for a port.
    pub(super) fn label(&self) -> String {
        let (Some(first), Some(last)) = (self.items.first(), self.items.last()) else { return String::new() };
        let number = |number: Option<u32>| number.map_or_else(|| "?".to_owned(), |number| number.to_string());
        match (first.place, last.place) {
            (Place::Vf(a), Place::Vf(b)) => format!("vf {}", span(&[number(a), number(b)], "-")),
            (Place::Sf(a), Place::Sf(b)) => format!("sf {}", span(&[number(a), number(b)], "-")),
            _ => String::new(),
        }
    }

    pub(super) fn device(&self) -> String {
        self.span_of(|item| Some(&item.device))
    }

    pub(super) fn netdev(&self) -> String {
        match self.items {
            [one] => one.netdevs.join(","),
            _ => self.span_of(|item| item.netdevs.first()),
        }
    }

    pub(super) fn representor(&self) -> String {
        self.span_of(|item| item.representor.as_ref())
    }

    /// The number of its IOMMU group, the first and the last of several that follow each other, or how many there are.
    pub(super) fn group(&self) -> String {
        let mut groups: Vec<u32> = self.items.iter().filter_map(|item| item.group).collect();
        groups.dedup();
        match groups[..] {
            [] => String::new(),
            [one] => one.to_string(),
            [first, .., last] if groups.windows(2).all(|pair| pair[0].checked_add(1) == Some(pair[1])) => {
                format!("{first}-{last}")
            }
            _ => format!("{} groups", groups.len()),
        }
    }

    fn span_of<'a>(&'a self, value: impl Fn(&'a Item) -> Option<&'a String>) -> String {
        let values: Vec<String> = self.items.iter().filter_map(|item| value(item).cloned()).collect();
        span(&values, "..")
    }
}

/// The first and the last, where they are different.
fn span(values: &[String], between: &str) -> String {
    match values {
        [] => String::new(),
        [first, .., last] if first != last => format!("{first}{between}{last}"),
        [first, ..] => first.clone(),
    }
}
