//! What a PCI function is for.

use std::str::FromStr;

use super::Kind;

/// The text of `class`: 24 bits, the upper eight being the base class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Class(u32);

impl FromStr for Class {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.strip_prefix("0x").unwrap_or(text);
        let number = u32::from_str_radix(digits, 16).ok().filter(|number| *number <= 0xff_ffff);
        number.map(Self).ok_or_else(|| "not a PCI class".to_owned())
    }
}

impl Class {
    /// `None` for classes that are not wanted.
    pub(super) fn kind(self) -> Option<Kind> {
        match self.0 >> 16 {
            0x02 => Some(Kind::Network),
            0x12 => Some(Kind::Accelerator),
            _ => None,
        }
    }

    /// The class in a `modalias`: `pci:v00008086d000010CAsv00008086sd00000000bc02sc00i00`.
    pub(super) fn from_modalias(modalias: &str) -> Option<Self> {
        let base = hex_after(modalias, "bc", 2)?;
        Some(Self(base << 16))
    }
}

/// Vendor and device in a `modalias`.
pub(super) fn identifiers(modalias: &str) -> Option<(u16, u16)> {
    let ids = modalias.strip_prefix("pci:")?;
    let number = |start: &str| hex_after(ids, start, 8).and_then(|number| u16::try_from(number).ok());
    Some((number("v")?, number("d")?))
}

/// The number of so many digits that follows the first `start`. Digits are upper case, so that `bc` and `d` are none.
fn hex_after(text: &str, start: &str, digits: usize) -> Option<u32> {
    let (_, rest) = text.split_once(start)?;
    u32::from_str_radix(rest.get(..digits)?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_modalias_tells_class_and_identifiers() {
        let modalias = "pci:v000015B3d0000101Esv000015B3sd00000058bc02sc00i00";
        assert_eq!(Class::from_modalias(modalias).unwrap().kind(), Some(Kind::Network));
        assert_eq!(identifiers(modalias), Some((0x15b3, 0x101e)));
        for garbled in ["", "pci:", "pci:v0000", "usb:v0000d0000", "pci:v000015B3d00é01"] {
            assert_eq!((Class::from_modalias(garbled), identifiers(garbled)), (None, None), "{garbled}");
        }
    }

    #[test]
    fn a_class_is_hexadecimal() {
        assert_eq!("0x120000".parse::<Class>().unwrap().kind(), Some(Kind::Accelerator));
        assert_eq!("0x060400".parse::<Class>().unwrap().kind(), None);
        for garbled in ["", "?", "0x1200000", "-1"] {
            assert!(garbled.parse::<Class>().is_err(), "{garbled}");
        }
    }
}
