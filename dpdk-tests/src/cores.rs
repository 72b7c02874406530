//! Which processors testpmd gets.

/// The processors of one testpmd.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Cores {
    /// Where it waits for commands; idle while traffic runs.
    pub main: u32,
    /// Where it forwards; fully busy.
    pub forwarding: u32,
}

impl Cores {
    /// As EAL's `--lcores` wants it. Numbered 0 and 1, as EAL's own numbers are limited (to 128 in Debian's build), those of
    /// processors are not.
    #[must_use]
    pub fn lcores(&self) -> String {
        format!("0@{},1@{}", self.main, self.forwarding)
    }
}

/// Shares out the usable processors between two ports: a forwarding processor each, and what is left for waiting. With just
/// two, each port waits where the other forwards. `None` with fewer.
#[must_use]
pub fn share(usable: &[u32]) -> Option<[Cores; 2]> {
    match usable {
        [] | [_] => None,
        [a, b] => Some([Cores { main: *b, forwarding: *a }, Cores { main: *a, forwarding: *b }]),
        [main, a, b, ..] => {
            Some([Cores { main: *main, forwarding: *a }, Cores { main: *main, forwarding: *b }])
        }
    }
}

/// Reads a list of processors as the kernel writes it, `0-3,8`.
#[must_use]
pub fn parse_list(text: &str) -> Option<Vec<u32>> {
    let mut cores = Vec::new();
    for part in text.trim().split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.parse::<u32>().ok()?, last.parse::<u32>().ok()?);
        // No machine has more; a garbled file must not fill the memory.
        if last > 65_535 {
            return None;
        }
        cores.extend(first..=last);
    }
    Some(cores)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_processors_are_enough_and_one_is_not() {
        assert_eq!(share(&[3]), None);
        let [a, b] = share(&[3, 7]).unwrap();
        assert_eq!((a.lcores(), b.lcores()), ("0@7,1@3".to_owned(), "0@3,1@7".to_owned()));
    }

    #[test]
    fn with_more_processors_forwarding_has_its_own() {
        let [a, b] = share(&[0, 2, 4, 6]).unwrap();
        assert_eq!((a, b), (Cores { main: 0, forwarding: 2 }, Cores { main: 0, forwarding: 4 }));
    }

    #[test]
    fn lists_are_read_as_the_kernel_writes_them() {
        assert_eq!(parse_list("0-2,8\n"), Some(vec![0, 1, 2, 8]));
        assert_eq!(parse_list(""), Some(vec![]));
        for garbled in ["a", "1-", "0-4000000000", "1 2"] {
            assert_eq!(parse_list(garbled), None, "{garbled}");
        }
    }
}
