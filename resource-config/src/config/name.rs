//! Names of resources.

use std::fmt;

use serde::{Serialize, Serializer};

/// The full name of a resource, `prefix/name`, as pods ask for it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResourceName {
    prefix: String,
    name: String,
}

impl ResourceName {
    /// The name made of these parts, or which part is wrong and what it may be.
    ///
    /// # Errors
    /// kubelet would refuse to register the resource: it asks for an extended resource name.
    pub fn new(prefix: &str, name: &str) -> Result<Self, InvalidName> {
        if !is_subdomain(prefix) || prefix == "kubernetes.io" || prefix.ends_with(".kubernetes.io") {
            return Err(InvalidName::Prefix);
        }
        if !is_name(name) {
            return Err(InvalidName::Name);
        }
        Ok(Self { prefix: prefix.to_owned(), name: name.to_owned() })
    }

    /// The part before the slash.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The part after the slash.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for ResourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.prefix, self.name)
    }
}

impl Serialize for ResourceName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The part of a resource name that is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InvalidName {
    /// The prefix.
    Prefix,
    /// The name.
    Name,
}

impl InvalidName {
    /// What that part may be.
    pub(super) fn allowed(self) -> &'static str {
        match self {
            Self::Prefix => "a DNS name in lower case that does not end in kubernetes.io, such as intel.com",
            Self::Name => "letters, digits, _ and -, at most 63, beginning and ending with a letter or digit",
        }
    }
}

/// RFC 1123 subdomain; kubelet checks `requests.<name>`, which leaves 253 - 9 characters.
fn is_subdomain(text: &str) -> bool {
    let is_label = |label: &str| {
        let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= 244 && text.split('.').all(is_label)
}

/// Upstream's characters within what Kubernetes allows for a qualified name.
fn is_name(text: &str) -> bool {
    let ends = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_alphanumeric());
    let inner = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    text.len() <= 63 && text.bytes().all(inner) && ends(text.bytes().next()) && ends(text.bytes().last())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_kubelet_registers_are_accepted() {
        for (prefix, name) in [("intel.com", "sriov_dpdk"), ("acme-lab.io", "net-A"), ("x", "1")] {
            assert_eq!(ResourceName::new(prefix, name).unwrap().to_string(), format!("{prefix}/{name}"));
        }
    }

    #[test]
    fn others_name_the_part_that_is_wrong() {
        for prefix in
            ["", "Intel.com", "intel..com", "a_b.io", "kubernetes.io", "node.kubernetes.io", "-a.io"]
        {
            assert_eq!(ResourceName::new(prefix, "x"), Err(InvalidName::Prefix), "{prefix}");
        }
        let long = "a".repeat(64);
        for name in ["", "a.b", "a/b", "_a", "a-", "ä", &long] {
            assert_eq!(ResourceName::new("intel.com", name), Err(InvalidName::Name), "{name}");
        }
    }
}
