//! Which names objects may have.

/// RFC 1123 label: at most 63 lower case letters, digits and dashes, no dash at either end.
pub(super) fn is_label(name: &str) -> bool {
    name.len() <= 63 && is_label_of_any_length(name)
}

/// RFC 1123 subdomain: labels with dots between, at most 253 characters; the API server does not limit each label.
pub(super) fn is_subdomain(name: &str) -> bool {
    name.len() <= 253 && name.split('.').all(is_label_of_any_length)
}

fn is_label_of_any_length(name: &str) -> bool {
    let known = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    !name.is_empty() && name.chars().all(known) && !name.starts_with('-') && !name.ends_with('-')
}

/// The API server's words for a name that is no label.
pub(super) fn bad_label(path: &str, name: &str) -> String {
    format!(
        "{path}: Invalid value: \"{name}\": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', \
         and must start and end with an alphanumeric character"
    )
}

/// The API server's words for a name that is no subdomain.
pub(super) fn bad_subdomain(path: &str, name: &str) -> String {
    format!(
        "{path}: Invalid value: \"{name}\": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, \
         '-' or '.', and must start and end with an alphanumeric character"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert!(is_label("a-1") && is_subdomain("a.b-c.9"));
        for bad in ["", "-a", "a-", "A", "a_b", "a.b"] {
            assert!(!is_label(bad), "{bad}");
        }
        for bad in ["", ".", "a..b", "a.", "A.b"] {
            assert!(!is_subdomain(bad), "{bad}");
        }
        assert!(!is_label(&"a".repeat(64)) && is_subdomain(&"a".repeat(64)));
    }
}
