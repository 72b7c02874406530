//! Which processors testpmd gets.

use serde::{Deserialize, Serialize};

/// The processors of one testpmd.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cores {
    /// Where it waits for commands; idle while traffic runs.
    pub main: u32,
    /// Where it forwards; fully busy.
    pub forwarding: Vec<u32>,
}

impl Cores {
    /// As EAL's `--lcores` wants it. Numbered from 0, as EAL's own numbers are limited (to 128 in Debian's build), those of
    /// processors are not.
    #[must_use]
    pub fn lcores(&self) -> String {
        let all = std::iter::once(&self.main).chain(&self.forwarding);
        let mapped: Vec<String> =
            all.enumerate().map(|(lcore, processor)| format!("{lcore}@{processor}")).collect();
        mapped.join(",")
    }
}

/// How many processors a run wants to be busy on.
#[must_use]
pub fn busy(ports: usize, per_port: u16) -> usize {
    ports * usize::from(per_port)
}

/// Shares out the usable processors between ports: to each so many that forward, and one more, if there is one left, on which
/// all wait. With none left, each port waits where another forwards. With too few, ports share them, which is slow. `None` with
/// fewer than two.
#[must_use]
pub fn share(usable: &[u32], ports: usize, per_port: u16) -> Option<Vec<Cores>> {
    let (first, others) = usable.split_first()?;
    if others.is_empty() || ports == 0 || per_port == 0 {
        return None;
    }
    let (waiting, forwarding) =
        if usable.len() > busy(ports, per_port) { (Some(*first), others) } else { (None, usable) };
    let mut endless = forwarding.iter().copied().cycle();
    let shares: Vec<Vec<u32>> =
        (0..ports).map(|_| endless.by_ref().take(usize::from(per_port)).collect()).collect();
    let main = |port: usize, own: &[u32]| {
        let next = shares.get((port + 1) % ports).and_then(|share| share.first());
        let elsewhere = next.filter(|processor| !own.contains(processor));
        waiting.or(elsewhere.copied()).or_else(|| usable.iter().find(|p| !own.contains(p)).copied())
    };
    let cores = shares
        .iter()
        .enumerate()
        .map(|(port, own)| Cores { main: main(port, own).unwrap_or(*first), forwarding: own.clone() });
    Some(cores.collect())
}

/// Those of `near` first, otherwise in order.
#[must_use]
pub fn nearest_first(usable: &[u32], near: &[u32]) -> Vec<u32> {
    let (mut first, last): (Vec<u32>, Vec<u32>) =
        usable.iter().partition(|processor| near.contains(processor));
    first.extend(last);
    first
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

/// Writes a list of processors as the kernel does.
#[must_use]
pub fn write_list(cores: &[u32]) -> String {
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for core in cores {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == *core => *last = *core,
            _ => runs.push((*core, *core)),
        }
    }
    let write = |(first, last): &(u32, u32)| {
        if first == last { first.to_string() } else { format!("{first}-{last}") }
    };
    runs.iter().map(write).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lcores(usable: &[u32], ports: usize, per_port: u16) -> Vec<String> {
        share(usable, ports, per_port).unwrap().iter().map(Cores::lcores).collect()
    }

    #[test]
    fn two_processors_are_enough_and_one_is_not() {
        assert_eq!(share(&[3], 2, 1), None);
        assert_eq!(share(&[], 1, 1), None);
        assert_eq!(lcores(&[3, 7], 2, 1), ["0@7,1@3", "0@3,1@7"]);
        assert_eq!(lcores(&[3, 7], 1, 1), ["0@3,1@7"]);
    }

    #[test]
    fn with_more_processors_forwarding_has_its_own() {
        assert_eq!(lcores(&[0, 2, 4, 6], 2, 1), ["0@0,1@2", "0@0,1@4"]);
        assert_eq!(lcores(&[0, 1, 2, 3, 4], 2, 2), ["0@0,1@1,2@2", "0@0,1@3,2@4"]);
    }

    #[test]
    fn with_too_few_processors_ports_share_them() {
        assert_eq!(lcores(&[0, 1], 3, 1), ["0@1,1@0", "0@0,1@1", "0@1,1@0"]);
        assert_eq!(lcores(&[0, 1, 2, 3], 2, 2), ["0@2,1@0,2@1", "0@0,1@2,2@3"]);
    }

    #[test]
    fn processors_near_the_device_come_first() {
        assert_eq!(nearest_first(&[0, 1, 2, 3], &[2, 3]), [2, 3, 0, 1]);
        assert_eq!(nearest_first(&[0, 1], &[]), [0, 1]);
    }

    #[test]
    fn lists_are_read_and_written_as_the_kernel_writes_them() {
        assert_eq!(parse_list("0-2,8\n"), Some(vec![0, 1, 2, 8]));
        assert_eq!(parse_list(""), Some(vec![]));
        for garbled in ["a", "1-", "0-4000000000", "1 2"] {
            assert_eq!(parse_list(garbled), None, "{garbled}");
        }
        assert_eq!(write_list(&[0, 1, 2, 8]), "0-2,8");
        assert_eq!(write_list(&[]), "");
    }
}
