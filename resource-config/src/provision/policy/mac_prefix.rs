//! Administrative addresses of VFs that stay the same over reboots.

use fairlead_kernel::Mac;

/// What a prefix may be.
pub(super) const GRAMMAR: &str = "one to five bytes of a unicast MAC address, such as 02:fa";

/// The first bytes of administrative MAC addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MacPrefix(Vec<u8>);

impl MacPrefix {
    /// Reads one to five two-digit hexadecimal numbers with colons between; a group address is refused.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let byte = |part: &str| {
            let digits = part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit());
            digits.then(|| u8::from_str_radix(part, 16).ok())?
        };
        let bytes = text.split(':').map(byte).collect::<Option<Vec<u8>>>()?;
        let unicast = bytes.first().is_some_and(|first| first & 1 == 0);
        (bytes.len() <= 5 && unicast).then_some(Self(bytes))
    }

    /// The address of a VF: the prefix, then the last bytes of the PF's own address as far as there is room, then the VF's
    /// index. With a prefix of two bytes a PF's last three are in it, which tell ports and nodes of one vendor apart.
    /// `None` when the index does not fit into a byte or the PF's address is not an Ethernet one.
    #[must_use]
    pub fn address(&self, pf: Mac, index: u32) -> Option<Mac> {
        let index = u8::try_from(index).ok()?;
        let own = pf.ethernet()?;
        let room = 5_usize.checked_sub(self.0.len())?;
        let middle = own.get(own.len().checked_sub(room)?..)?;
        let bytes = [self.0.as_slice(), middle, &[index]].concat();
        Mac::from_bytes(&bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(prefix: &str, index: u32) -> Option<String> {
        let pf: Mac = "52:54:00:fa:01:07".parse().unwrap();
        MacPrefix::parse(prefix).unwrap().address(pf, index).map(|mac| mac.to_string())
    }

    #[test]
    fn the_room_is_filled_from_the_pf_and_the_index() {
        assert_eq!(address("02:aa", 6).unwrap(), "02:aa:fa:01:07:06");
        assert_eq!(address("02", 0).unwrap(), "02:00:fa:01:07:00");
        assert_eq!(address("02:aa:bb:cc:dd", 255).unwrap(), "02:aa:bb:cc:dd:ff");
        assert_eq!(address("02:aa", 256), None);
    }

    #[test]
    fn what_is_no_prefix_is_refused() {
        for text in ["", "2", "02:", "01:00", "02:aa:bb:cc:dd:ee", "02-aa", "0g"] {
            assert_eq!(MacPrefix::parse(text), None, "{text}");
        }
    }
}
