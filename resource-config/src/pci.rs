//! PCI addresses and identifiers as sysfs spells them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use thiserror::Error;

/// The address of one PCI function, `domain:bus:device.function`.
///
/// Ordered by its numbers, which for addresses of four-digit domains is also the order of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PciAddress {
    /// Usually 16 bits; Intel VMD uses more.
    domain: u32,
    bus: u8,
    device: u8,
    function: u8,
}

/// A text that is not a PCI address.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0:?} is not a PCI address; write it like 0000:3b:02.1 (or 3b:02.1)")]
pub struct InvalidPciAddress(String);

impl PciAddress {
    /// The address made of these numbers; `None` when `device` exceeds 31 or `function` exceeds 7.
    #[must_use]
    pub fn new(domain: u32, bus: u8, device: u8, function: u8) -> Option<Self> {
        (device < 32 && function < 8).then_some(Self { domain, bus, device, function })
    }

    /// The number of the function within its device, 0 to 7.
    #[must_use]
    pub fn function(&self) -> u8 {
        self.function
    }

    fn parse(text: &str) -> Option<Self> {
        let (rest, function) = text.rsplit_once('.')?;
        let mut parts = rest.rsplit(':');
        let device = hex(parts.next()?, 2)?;
        let bus = hex(parts.next()?, 2)?;
        let domain = match parts.next() {
            Some(domain) => hex(domain, 8)?,
            None => 0,
        };
        if parts.next().is_some() {
            return None;
        }
        let small = |n: u32| u8::try_from(n).ok();
        Self::new(domain, small(bus)?, small(device)?, small(hex(function, 1)?)?)
    }
}

/// A hexadecimal number of 1 to `digits` digits, without sign or prefix.
fn hex(text: &str, digits: usize) -> Option<u32> {
    let valid = (1..=digits).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit());
    valid.then(|| u32::from_str_radix(text, 16).ok())?
}

impl fmt::Display for PciAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}:{:02x}:{:02x}.{:x}", self.domain, self.bus, self.device, self.function)
    }
}

impl FromStr for PciAddress {
    type Err = InvalidPciAddress;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text).ok_or_else(|| InvalidPciAddress(text.to_owned()))
    }
}

impl Serialize for PciAddress {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PciAddress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// A vendor or device identifier: four lower-case hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PciId(pub u16);

/// A text that is not a vendor or device identifier.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0:?} is not a PCI identifier; write four hexadecimal digits, like 8086")]
pub struct InvalidPciId(String);

impl fmt::Display for PciId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}", self.0)
    }
}

impl FromStr for PciId {
    type Err = InvalidPciId;

    /// Four digits of either case, with or without `0x` (sysfs writes it, configurations do not).
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")).unwrap_or(text);
        let number = if digits.len() == 4 { hex(digits, 4) } else { None };
        number.and_then(|n| u16::try_from(n).ok()).map(Self).ok_or_else(|| InvalidPciId(text.to_owned()))
    }
}

impl Serialize for PciId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_and_short_forms_parse_and_print_in_full() {
        for (text, printed) in [
            ("0000:03:10.1", "0000:03:10.1"),
            ("03:10.1", "0000:03:10.1"),
            ("0000:3B:02.7", "0000:3b:02.7"),
            ("10000:e1:00.0", "10000:e1:00.0"),
        ] {
            assert_eq!(text.parse::<PciAddress>().unwrap().to_string(), printed);
        }
    }

    #[test]
    fn what_is_no_address_is_refused_with_its_text() {
        for text in [
            "",
            "0000:03:10",
            "03:20.0",
            "03:10.8",
            "0:0:3:10.1",
            "+3:10.1",
            "03:10.1 ",
            "000003:10.1",
            "03:100.1",
        ] {
            let error = text.parse::<PciAddress>().unwrap_err().to_string();
            assert!(error.contains(&format!("{text:?}")), "{error}");
        }
    }

    #[test]
    fn order_is_by_number() {
        let mut sorted: Vec<PciAddress> = ["0000:81:00.0", "0000:03:10.2", "0000:03:10.1", "10000:00:00.0"]
            .iter()
            .map(|text| text.parse().unwrap())
            .collect();
        sorted.sort();
        let printed: Vec<String> = sorted.iter().map(ToString::to_string).collect();
        assert_eq!(printed, ["0000:03:10.1", "0000:03:10.2", "0000:81:00.0", "10000:00:00.0"]);
    }

    #[test]
    fn serde_uses_the_text() {
        let address: PciAddress = serde_json::from_str("\"3b:02.1\"").unwrap();
        assert_eq!(serde_json::to_string(&address).unwrap(), "\"0000:3b:02.1\"");
        assert!(serde_json::from_str::<PciAddress>("\"eth0\"").is_err());
    }

    #[test]
    fn identifiers_are_four_hex_digits() {
        assert_eq!("0x8086".parse::<PciId>().unwrap().to_string(), "8086");
        assert_eq!("10CA".parse::<PciId>().unwrap().to_string(), "10ca");
        for text in ["", "086", "intel", "0x80860"] {
            assert!(text.parse::<PciId>().is_err(), "{text}");
        }
    }
}
