//! Link-layer addresses.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Ethernet, and everything that looks like it.
const ETHERNET: usize = 6;
/// IP over InfiniBand.
const INFINIBAND: usize = 20;

/// A link-layer address: 6 bytes (Ethernet) or 20 bytes (IP over InfiniBand).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mac {
    /// Bytes beyond `length` are zero, so that the derived comparisons hold.
    bytes: [u8; INFINIBAND],
    length: u8,
}

/// A text or byte string that is no link-layer address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is not a MAC address: write six (InfiniBand: twenty) two-digit hexadecimal numbers separated by colons"
)]
pub struct MacError {
    text: String,
}

impl Mac {
    /// The Ethernet address of zeros: "no address". Given to a VF by its PF, it leaves the choice to the VF.
    pub const ZERO: Self = Self { bytes: [0; INFINIBAND], length: 6 };

    /// The address made of these bytes; `None` unless there are 6 or 20 of them.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        if bytes.len() != ETHERNET && bytes.len() != INFINIBAND {
            return None;
        }
        let mut mac = Self { bytes: [0; INFINIBAND], length: u8::try_from(bytes.len()).ok()? };
        mac.bytes.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(mac)
    }

    /// The address as the kernel takes it, 6 or 20 bytes long.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.length)).unwrap_or(&self.bytes)
    }

    /// The six bytes of an Ethernet address; `None` for InfiniBand.
    #[must_use]
    pub fn ethernet(&self) -> Option<[u8; 6]> {
        self.as_bytes().try_into().ok()
    }

    /// All bytes are zero: "no address", as drivers report VFs without an administrative one.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        self.bytes == [0; INFINIBAND]
    }

    /// An Ethernet group address (broadcast included), which no interface can have as its own.
    #[must_use]
    pub fn is_multicast(&self) -> bool {
        self.ethernet().is_some_and(|bytes| bytes[0] & 1 == 1)
    }
}

impl From<[u8; 6]> for Mac {
    fn from(ethernet: [u8; 6]) -> Self {
        let mut bytes = [0; INFINIBAND];
        bytes[..ETHERNET].copy_from_slice(&ethernet);
        Self { bytes, length: 6 }
    }
}

impl FromStr for Mac {
    type Err = MacError;

    /// Groups of two hexadecimal digits separated by all colons or all dashes, in either case (what Go's parser takes
    /// of the forms that people write; its dotted form is not taken).
    fn from_str(text: &str) -> Result<Self, MacError> {
        let error = || MacError { text: text.to_owned() };
        let separator = if text.contains(':') { ':' } else { '-' };
        let bytes = text
            .split(separator)
            .map(|group| {
                let two_digits = group.len() == 2 && group.bytes().all(|digit| digit.is_ascii_hexdigit());
                two_digits.then(|| u8::from_str_radix(group, 16).ok()).flatten()
            })
            .collect::<Option<Vec<u8>>>()
            .ok_or_else(error)?;
        Self::from_bytes(&bytes).ok_or_else(error)
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, byte) in self.as_bytes().iter().enumerate() {
            if position > 0 {
                f.write_str(":")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Mac {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Mac {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IPOIB: &str = "80:00:02:08:fe:80:00:00:00:00:00:00:00:02:c9:03:00:0a:6f:d1";

    #[test]
    fn both_lengths_survive_text_and_json() {
        for text in ["02:00:5e:10:00:ff", IPOIB] {
            let mac: Mac = text.parse().unwrap();
            assert_eq!(mac.to_string(), text);
            let json = serde_json::to_string(&mac).unwrap();
            assert_eq!(json, format!("\"{text}\""));
            assert_eq!(serde_json::from_str::<Mac>(&json).unwrap(), mac);
        }
        assert_eq!("02-00-5E-10-00-FF".parse::<Mac>().unwrap().to_string(), "02:00:5e:10:00:ff");
    }

    #[test]
    fn what_is_no_address_is_refused_with_its_text() {
        for text in [
            "",
            "02:00:5e:10:00",
            "02:00:5e:10:00:ff:01",
            "02:00:5e:10:00:f",
            "02:00:5e:10:00:+f",
            "02-00:5e:10:00:ff",
        ] {
            let error = text.parse::<Mac>().unwrap_err();
            assert!(error.to_string().contains(&format!("{text:?}")), "{error}");
        }
    }

    #[test]
    fn zero_and_group_addresses_are_recognised() {
        let mac = |text: &str| text.parse::<Mac>().unwrap();
        assert!(mac("00:00:00:00:00:00").is_zero());
        assert!(!mac("00:00:00:00:00:01").is_zero());
        assert!(mac("01:00:5e:00:00:01").is_multicast());
        assert!(mac("ff:ff:ff:ff:ff:ff").is_multicast());
        assert!(!mac("02:00:00:00:00:01").is_multicast());
        assert!(!mac(IPOIB).is_multicast());
    }
}
