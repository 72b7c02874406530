//! The `CNI_*` environment of a call.

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

use super::error::{CniError, code};

/// What the runtime wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Attach the container.
    Add,
    /// Detach it; may be repeated.
    Del,
    /// Compare what is with what should be.
    Check,
    /// Remove what no live container owns.
    Gc,
    /// Tell whether an ADD could succeed.
    Status,
    /// Tell the supported versions.
    Version,
}

impl Verb {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Del => "DEL",
            Self::Check => "CHECK",
            Self::Gc => "GC",
            Self::Status => "STATUS",
            Self::Version => "VERSION",
        }
    }

    /// Variables that must be set and not empty, beside `CNI_COMMAND` (as the reference library enforces them).
    fn required(self) -> &'static [&'static str] {
        match self {
            Self::Add | Self::Check => &["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"],
            Self::Del => &["CNI_CONTAINERID", "CNI_IFNAME", "CNI_PATH"],
            Self::Gc | Self::Status => &["CNI_PATH"],
            Self::Version => &[],
        }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Verb {
    type Err = CniError;

    fn from_str(text: &str) -> Result<Self, CniError> {
        [Self::Add, Self::Del, Self::Check, Self::Gc, Self::Status, Self::Version]
            .into_iter()
            .find(|verb| verb.as_str() == text)
            .ok_or_else(|| CniError::new(code::INVALID_ENVIRONMENT, format!("unknown CNI_COMMAND: {text}")))
    }
}

/// `CNI_ARGS`: pairs in any order (containerd's come from a random map iteration).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CniArgs(Vec<(String, String)>);

impl CniArgs {
    /// Splits `K=V;K2=V2`. A value may hold `=`.
    ///
    /// # Errors
    /// Code 4 for a part without `=`.
    pub fn parse(text: &str) -> Result<Self, CniError> {
        let pair = |part: &str| {
            part.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned())).ok_or_else(|| {
                CniError::new(code::INVALID_ENVIRONMENT, format!("CNI_ARGS: \"{part}\" is no KEY=VALUE pair"))
            })
        };
        text.split(';').filter(|part| !part.is_empty()).map(pair).collect::<Result<_, _>>().map(Self)
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// All pairs.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// Refuses keys that nobody knows, unless the caller has set `IgnoreUnknown` (behaviour of the reference library).
    ///
    /// # Errors
    /// Code 4, naming the unknown pairs.
    pub fn only(&self, known: &[&str]) -> Result<(), CniError> {
        let ignore = self.get("IgnoreUnknown").unwrap_or_default();
        if ignore == "1" || ignore.eq_ignore_ascii_case("true") {
            return Ok(());
        }
        let is_known = |key: &str| key == "IgnoreUnknown" || known.contains(&key);
        let unknown: Vec<String> = self
            .0
            .iter()
            .filter(|(key, _)| !is_known(key))
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        if unknown.is_empty() {
            return Ok(());
        }
        Err(CniError::new(code::INVALID_ENVIRONMENT, format!("CNI_ARGS: unknown args {unknown:?}"))
            .details("remove them, or add IgnoreUnknown=1"))
    }

    /// Takes a key out.
    pub fn remove(&mut self, key: &str) -> Option<String> {
        let place = self.0.iter().position(|(name, _)| name == key)?;
        Some(self.0.remove(place).1)
    }

    /// Sets a key, replacing its value if there is one.
    pub fn set(&mut self, key: &str, value: &str) {
        match self.0.iter_mut().find(|(name, _)| name == key) {
            Some(pair) => value.clone_into(&mut pair.1),
            None => self.0.push((key.to_owned(), value.to_owned())),
        }
    }
}

impl fmt::Display for CniArgs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (key, value)) in self.0.iter().enumerate() {
            let separator = if place == 0 { "" } else { ";" };
            write!(f, "{separator}{key}={value}")?;
        }
        Ok(())
    }
}

/// A call's environment, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// What is wanted.
    pub verb: Verb,
    /// Sandbox ID; empty where the verb has none.
    pub container_id: String,
    /// Path of the network namespace; on DEL it may be missing.
    pub netns: Option<PathBuf>,
    /// Name of the interface inside the container; empty where the verb has none.
    pub interface: String,
    /// Extra arguments.
    pub args: CniArgs,
    /// Folders that hold plugins.
    pub path: Vec<PathBuf>,
    /// Whether the network namespace may be the plugin's own (`CNI_NETNS_OVERRIDE`, of the reference library).
    pub own_netns: bool,
}

impl Call {
    /// Reads and checks the environment, through `get` so that tests need not touch the process's own.
    ///
    /// # Errors
    /// Code 4, naming every missing variable at once, or the malformed one.
    pub fn read(get: impl Fn(&str) -> Option<String>) -> Result<Self, CniError> {
        let get = |name: &str| get(name).filter(|value| !value.is_empty());
        let verb: Verb = get("CNI_COMMAND")
            .ok_or_else(|| {
                CniError::new(code::INVALID_ENVIRONMENT, "required env variables [CNI_COMMAND] missing")
            })?
            .parse()?;
        let missing: Vec<&str> = verb.required().iter().filter(|name| get(name).is_none()).copied().collect();
        if !missing.is_empty() {
            let text = format!("required env variables [{}] missing", missing.join(","));
            return Err(CniError::new(code::INVALID_ENVIRONMENT, text));
        }
        let call = Self {
            verb,
            container_id: get("CNI_CONTAINERID").unwrap_or_default(),
            netns: get("CNI_NETNS").map(PathBuf::from),
            interface: get("CNI_IFNAME").unwrap_or_default(),
            args: CniArgs::parse(&get("CNI_ARGS").unwrap_or_default())?,
            path: get("CNI_PATH")
                .map(|path| path.split(':').map(PathBuf::from).collect())
                .unwrap_or_default(),
            own_netns: get("CNI_NETNS_OVERRIDE")
                .is_some_and(|value| value == "1" || value.eq_ignore_ascii_case("true")),
        };
        if verb.required().contains(&"CNI_CONTAINERID") {
            check_identifier("CNI_CONTAINERID", &call.container_id)?;
            check_interface(&call.interface)?;
        }
        Ok(call)
    }

    /// `CNI_PATH` again.
    pub fn path_text(&self) -> String {
        self.path.iter().map(|dir| dir.to_string_lossy()).collect::<Vec<_>>().join(":")
    }

    /// The network namespace's path, if there is one.
    pub fn netns_path(&self) -> Option<&Path> {
        self.netns.as_deref()
    }
}

/// Container IDs and network names: a letter or digit, then letters, digits, `_`, `.`, `-` (specification, section 2).
///
/// # Errors
/// Code 4, naming what is malformed.
pub fn check_identifier(what: &str, text: &str) -> Result<(), CniError> {
    let mut characters = text.chars();
    let good = characters.next().is_some_and(|first| first.is_ascii_alphanumeric())
        && characters.all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
    if good {
        return Ok(());
    }
    let text =
        format!("{what} \"{text}\" is malformed: a letter or digit, then letters, digits, _ . - are allowed");
    Err(CniError::new(code::INVALID_ENVIRONMENT, text))
}

/// Interface names: 1 to 15 bytes, neither `.` nor `..`, without `/`, `:` and white space (kernel: `dev_valid_name`).
///
/// # Errors
/// Code 4, saying which rule is broken.
pub fn check_interface(name: &str) -> Result<(), CniError> {
    let reason = if name.is_empty() {
        "it is empty"
    } else if name.len() > 15 {
        "it is longer than 15 bytes"
    } else if name == "." || name == ".." {
        "it names a folder"
    } else if name.contains(['/', ':']) || name.contains(char::is_whitespace) {
        "it holds a slash, a colon or white space"
    } else {
        return Ok(());
    };
    Err(CniError::new(code::INVALID_ENVIRONMENT, format!("interface name \"{name}\" is malformed: {reason}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Call, CniError> {
        Call::read(|name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()))
    }

    const ADD: [(&str, &str); 5] = [
        ("CNI_COMMAND", "ADD"),
        ("CNI_CONTAINERID", "c-1"),
        ("CNI_NETNS", "/run/netns/a"),
        ("CNI_IFNAME", "eth0"),
        ("CNI_PATH", "/a:/b"),
    ];

    #[test]
    fn p4_all_missing_variables_are_named_at_once() {
        let error = read(&[("CNI_COMMAND", "ADD"), ("CNI_PATH", "/a"), ("CNI_NETNS", "")]).unwrap_err();
        assert_eq!(error.msg, "required env variables [CNI_CONTAINERID,CNI_NETNS,CNI_IFNAME] missing");
        assert_eq!(error.code, code::INVALID_ENVIRONMENT);
    }

    #[test]
    fn a_del_needs_no_namespace_and_version_needs_nothing() {
        let call = read(&[
            ("CNI_COMMAND", "DEL"),
            ("CNI_CONTAINERID", "c"),
            ("CNI_IFNAME", "eth0"),
            ("CNI_PATH", "/a"),
        ]);
        assert_eq!(call.unwrap().netns, None);
        assert_eq!(read(&[("CNI_COMMAND", "VERSION")]).unwrap().verb, Verb::Version);
    }

    #[test]
    fn the_environment_is_taken_apart() {
        let mut pairs = ADD.to_vec();
        pairs.push(("CNI_ARGS", "IgnoreUnknown=1;K8S_POD_NAME=a=b"));
        let call = read(&pairs).unwrap();
        assert_eq!(call.args.get("K8S_POD_NAME"), Some("a=b"));
        assert_eq!(call.path, [PathBuf::from("/a"), PathBuf::from("/b")]);
        assert_eq!(call.path_text(), "/a:/b");
        assert_eq!(call.args.to_string(), "IgnoreUnknown=1;K8S_POD_NAME=a=b");
    }

    #[test]
    fn p6_malformed_values_are_refused() {
        for (key, value) in [
            ("CNI_COMMAND", "ADDD"),
            ("CNI_CONTAINERID", "../x"),
            ("CNI_IFNAME", "sixteen-bytes-xx"),
            ("CNI_IFNAME", "a b"),
            ("CNI_IFNAME", ".."),
            ("CNI_ARGS", "novalue"),
        ] {
            let mut pairs: Vec<_> = ADD.iter().copied().filter(|(name, _)| *name != key).collect();
            pairs.push((key, value));
            assert_eq!(read(&pairs).unwrap_err().code, code::INVALID_ENVIRONMENT, "{key}={value}");
        }
    }

    #[test]
    fn p14_unknown_arguments_are_refused_unless_they_are_to_be_ignored() {
        let only = |text: &str| CniArgs::parse(text).unwrap().only(&["IP"]);
        only("IP=10.0.0.1;IgnoreUnknown=0").unwrap();
        only("K8S_POD_NAME=a;IgnoreUnknown=1").unwrap();
        only("IgnoreUnknown=True;K8S_POD_NAME=a").unwrap();
        let error = only("IP=10.0.0.1;ODD=x").unwrap_err();
        assert!(error.code == code::INVALID_ENVIRONMENT && error.msg.contains("ODD=x"), "{error}");
    }

    #[test]
    fn p15_arguments_come_in_any_order() {
        for text in ["A=1;B=2;IgnoreUnknown=1", "IgnoreUnknown=1;A=1;B=2", "B=2;IgnoreUnknown=1;A=1"] {
            let args = CniArgs::parse(text).unwrap();
            args.only(&["A"]).unwrap();
            assert_eq!((args.get("A"), args.get("B")), (Some("1"), Some("2")), "{text}");
        }
    }

    #[test]
    fn a_set_argument_replaces_the_old_value() {
        let mut args = CniArgs::parse("MAC=a;B=c").unwrap();
        args.set("MAC", "d");
        args.set("IP", "e");
        assert_eq!(args.to_string(), "MAC=d;B=c;IP=e");
    }
}
