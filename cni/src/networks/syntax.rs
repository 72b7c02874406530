//! How names and addresses in the annotation are spelled.

/// What [`is_interface_name`] takes, for error texts.
pub(super) const INTERFACE_RULE: &str =
    "1 to 15 characters without space, `/` or `:`, and neither `.` nor `..`";
/// What [`is_label`] takes, for error texts.
pub(super) const LABEL_RULE: &str =
    "lower case letters, digits and `-`, with a letter or digit at both ends, at most 63 characters";
/// What [`is_object_name`] takes, for error texts.
pub(super) const OBJECT_NAME_RULE: &str =
    "lower case letters, digits, `-` and `.`, with a letter or digit at both ends, at most 253 characters";

/// Whether CNI and the kernel take `name` for an interface (the rule of CNI's reference plugin library).
pub(super) fn is_interface_name(name: &str) -> bool {
    (1..=15).contains(&name.len())
        && name != "."
        && name != ".."
        && !name.contains(|c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control())
}

/// Whether `name` can be a namespace: an RFC 1123 label.
pub(super) fn is_label(name: &str) -> bool {
    name.len() <= 63 && is_dns(name, |byte| byte == b'-')
}

/// Whether `name` can be the name of a custom resource: an RFC 1123 subdomain.
pub(super) fn is_object_name(name: &str) -> bool {
    name.len() <= 253 && name.split('.').all(|part| is_dns(part, |byte| byte == b'-'))
}

fn is_dns(name: &str, inner: impl Fn(u8) -> bool) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = name.as_bytes();
    bytes.first().copied().is_some_and(plain)
        && bytes.last().copied().is_some_and(plain)
        && bytes.iter().all(|&byte| plain(byte) || inner(byte))
}

/// Number of bytes of a hardware address in one of the spellings that Go's `net.ParseMAC` takes: pairs of digits between
/// colons or dashes, or groups of four between dots.
pub(super) fn hardware_address_len(text: &str) -> Option<usize> {
    let (separator, digits) = match text.find([':', '-', '.']).map(|at| &text[at..=at])? {
        "." => (".", 4),
        other => (other, 2),
    };
    let mut groups = 0;
    for group in text.split(separator) {
        if group.len() != digits || !group.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        groups += 1;
    }
    Some(groups * digits / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interface_names() {
        for good in ["net1", "a", "eth0.100", "abcdefghijklmno", "..."] {
            assert!(is_interface_name(good), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "a:b", "a b", "a\tb", "abcdefghijklmnop", "a\0"] {
            assert!(!is_interface_name(bad), "{bad}");
        }
    }

    #[test]
    fn object_names() {
        for good in ["a", "a-b", "a.b-c.d", "1a"] {
            assert!(is_object_name(good), "{good}");
        }
        for bad in ["", "A", "-a", "a-", "a..b", "a_b", "../x", "a/b"] {
            assert!(!is_object_name(bad), "{bad}");
        }
        assert!(is_label("kube-system") && !is_label("a.b") && !is_label(&"a".repeat(64)));
    }

    #[test]
    fn hardware_addresses() {
        assert_eq!(hardware_address_len("02:00:5e:10:00:01"), Some(6));
        assert_eq!(hardware_address_len("02-00-5E-10-00-01"), Some(6));
        assert_eq!(hardware_address_len("0200.5e10.0001"), Some(6));
        assert_eq!(hardware_address_len("02:00:5e:10:00:00:00:01"), Some(8));
        for bad in ["", "02", "02:00:5e:10:00:0g", "02:00:5e:10:00:1", "02:00-5e:10:00:01", "ä:00"] {
            assert_eq!(hardware_address_len(bad), None, "{bad}");
        }
    }
}
