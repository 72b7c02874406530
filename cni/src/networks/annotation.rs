//! The pod's `k8s.v1.cni.cncf.io/networks` annotation: a short form `[namespace/]name[@interface],...` and a JSON list
//! (multi-network specification, section 4.1).

use std::{fmt, net::IpAddr};

use serde_json::{Map, Value};
use thiserror::Error;

use super::syntax::{
    INTERFACE_RULE, LABEL_RULE, OBJECT_NAME_RULE, is_interface_name, is_label, is_object_name,
};
use crate::agent_protocol::PodRef;

mod json_form;

/// Key of the annotation in which a pod asks for networks.
pub const NETWORKS_ANNOTATION: &str = "k8s.v1.cni.cncf.io/networks";

/// Key of the annotation in which a pod asks for another primary network (Multus).
pub const DEFAULT_NETWORK_ANNOTATION: &str = "v1.multus-cni.io/default-network";

/// One network that a pod asks for, with what it asks of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NetworkSelection {
    /// Namespace of the network's definition; the pod's own unless given.
    pub namespace: String,
    /// Name of the network's definition.
    pub name: String,
    /// Name of the interface, when the pod wants a certain one.
    pub interface: Option<String>,
    /// Addresses, each with or without prefix length.
    pub ips: Vec<String>,
    /// Hardware address, as the pod spelled it.
    pub mac: Option<String>,
    /// InfiniBand GUID, as the pod spelled it.
    pub infiniband_guid: Option<String>,
    /// `ingressRate`, `ingressBurst`, `egressRate` and `egressBurst` in bits, with these spellings; absent ones are 0.
    pub bandwidth: Option<Map<String, Value>>,
    /// `hostPort`, `containerPort`, `protocol` and, when given, `hostIP`, with these spellings.
    pub port_mappings: Vec<Value>,
    /// Gateways of the default routes over this network; an empty list is not the same as none.
    pub default_route: Option<Vec<IpAddr>>,
    /// Values for `args.cni` of the network's configuration.
    pub cni_args: Map<String, Value>,
    /// The device that the pod means, one of those allocated to it.
    pub device_id: Option<String>,
}

impl NetworkSelection {
    /// `namespace/name` of the network's definition.
    pub fn network(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

/// An annotation in which pods ask for networks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Annotation {
    /// [`NETWORKS_ANNOTATION`].
    Networks,
    /// [`DEFAULT_NETWORK_ANNOTATION`].
    DefaultNetwork,
}

impl fmt::Display for Annotation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Networks => NETWORKS_ANNOTATION,
            Self::DefaultNetwork => DEFAULT_NETWORK_ANNOTATION,
        })
    }
}

/// The annotation of a pod cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("annotation {annotation} of pod {pod}{}: {problem}", place(*element, text))]
pub struct AnnotationError {
    /// Which annotation it is.
    pub annotation: Annotation,
    /// `namespace/name` of the pod.
    pub pod: String,
    /// Which element, counted from 1; 0 for the whole annotation.
    pub element: usize,
    /// The element in the short form, its `name` in the JSON form; may be empty.
    pub text: String,
    /// What is wrong.
    pub problem: Problem,
}

fn place(element: usize, text: &str) -> String {
    match (element, text) {
        (0, _) => String::new(),
        (number, "") => format!(", network {number}"),
        (number, text) => format!(", network {number} ({text})"),
    }
}

/// What is wrong with an annotation.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Problem {
    /// It looks like JSON and is none.
    #[error("the value looks like JSON but cannot be read as such ({0})")]
    NoJson(String),
    /// It is JSON of another type.
    #[error("the JSON form is a list of objects, as in [{{\"name\": \"a\"}}], not {0}")]
    NoList(&'static str),
    /// An element of the JSON list is something else than an object.
    #[error("this is {0}, allowed is an object, as in {{\"name\": \"a\"}}")]
    NoObject(&'static str),
    /// An element of the short form is empty.
    #[error("nothing stands between two commas or at an end: remove the comma or name a network")]
    Empty,
    /// An element of the short form has too many separators.
    #[error("more than one `{0}`: the form is [namespace/]name[@interface]")]
    TooMany(char),
    /// There is more than one element where only one may be.
    #[error("it names {0} networks, but a pod has one primary network: name one")]
    NotOne(usize),
    /// A required key is absent.
    #[error("`name` is missing: it names the NetworkAttachmentDefinition")]
    NoName,
    /// The value of a key has another type.
    #[error("`{key}` is {found}, allowed is {allowed}")]
    Type {
        /// The key.
        key: &'static str,
        /// The JSON type that is there.
        found: &'static str,
        /// The type that should be.
        allowed: &'static str,
    },
    /// The value of a key is none that is allowed.
    #[error("`{key}` {value:?} is not allowed: {allowed}")]
    Value {
        /// The key.
        key: &'static str,
        /// The value.
        value: String,
        /// What is allowed.
        allowed: &'static str,
    },
}

impl Problem {
    fn value(key: &'static str, value: &str, allowed: &'static str) -> Self {
        Self::Value { key, value: value.to_owned(), allowed }
    }
}

/// Reads the networks annotation of `pod` in the order of its elements. Blank text and an empty list ask for nothing.
///
/// As upstream, text with any of `[`, `{` and `"` in it is the JSON form. Unknown keys are ignored.
///
/// # Errors
/// When an element cannot be read or holds a value that is not allowed; nothing is skipped.
pub fn parse(text: &str, pod: &PodRef) -> Result<Vec<NetworkSelection>, AnnotationError> {
    Source { annotation: Annotation::Networks, pod, namespace: &pod.namespace }.parse(text)
}

/// Reads the default-network annotation of `pod`: at most one element, in `namespace` unless it says otherwise.
///
/// # Errors
/// As [`parse`], and when there is more than one element.
pub fn parse_default(
    text: &str,
    pod: &PodRef,
    namespace: &str,
) -> Result<Option<NetworkSelection>, AnnotationError> {
    let source = Source { annotation: Annotation::DefaultNetwork, pod, namespace };
    let mut all = source.parse(text)?;
    match all.len() {
        0 | 1 => Ok(all.pop()),
        count => Err(source.error(0, "", Problem::NotOne(count))),
    }
}

/// An annotation to be read.
#[derive(Clone, Copy)]
struct Source<'a> {
    annotation: Annotation,
    pod: &'a PodRef,
    /// Of networks without one.
    namespace: &'a str,
}

impl Source<'_> {
    fn parse(self, text: &str) -> Result<Vec<NetworkSelection>, AnnotationError> {
        if text.trim().is_empty() {
            return Ok(Vec::new());
        }
        if text.contains(['[', '{', '"']) { json_form::parse(text, self) } else { self.parse_short(text) }
    }

    fn parse_short(self, text: &str) -> Result<Vec<NetworkSelection>, AnnotationError> {
        let element = |(index, element): (usize, &str)| {
            let element = element.trim();
            short_element(element, self.namespace).map_err(|problem| self.error(index + 1, element, problem))
        };
        text.split(',').enumerate().map(element).collect()
    }

    fn error(self, element: usize, text: &str, problem: Problem) -> AnnotationError {
        let (annotation, pod, text) = (self.annotation, self.pod.to_string(), text.to_owned());
        AnnotationError { annotation, pod, element, text, problem }
    }
}

fn short_element(text: &str, default_namespace: &str) -> Result<NetworkSelection, Problem> {
    if text.is_empty() {
        return Err(Problem::Empty);
    }
    if let Some(separator) = ['/', '@'].into_iter().find(|&c| text.matches(c).count() > 1) {
        return Err(Problem::TooMany(separator));
    }
    let (network, interface) = match text.split_once('@') {
        Some((network, interface)) => (network, Some(interface)),
        None => (text, None),
    };
    let (namespace, name) = network.split_once('/').unwrap_or((default_namespace, network));
    let mut selection = NetworkSelection::default();
    (selection.namespace, selection.name) = checked_network(namespace, name)?;
    selection.interface = interface.map(checked_interface).transpose()?;
    Ok(selection)
}

fn checked_network(namespace: &str, name: &str) -> Result<(String, String), Problem> {
    if !is_label(namespace) {
        return Err(Problem::value("namespace", namespace, LABEL_RULE));
    }
    if !is_object_name(name) {
        return Err(Problem::value("name", name, OBJECT_NAME_RULE));
    }
    Ok((namespace.to_owned(), name.to_owned()))
}

fn checked_interface(name: &str) -> Result<String, Problem> {
    if is_interface_name(name) {
        Ok(name.to_owned())
    } else {
        Err(Problem::value("interface", name, INTERFACE_RULE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod() -> PodRef {
        PodRef { namespace: "default".into(), name: "router".into(), uid: String::new() }
    }

    fn one(text: &str) -> NetworkSelection {
        let mut all = parse(text, &pod()).unwrap();
        assert_eq!(all.len(), 1);
        all.remove(0)
    }

    #[test]
    fn the_short_form_names_namespace_network_and_interface() {
        let all = parse(" a, other/b@up0 ,a@x", &pod()).unwrap();
        let seen: Vec<_> = all.iter().map(|s| (s.network(), s.interface.as_deref())).collect();
        assert_eq!(
            seen,
            [("default/a".into(), None), ("other/b".into(), Some("up0")), ("default/a".into(), Some("x"))]
        );
    }

    #[test]
    fn blank_text_asks_for_nothing() {
        for text in ["", "  \n", "[]", " [ ] "] {
            assert_eq!(parse(text, &pod()), Ok(vec![]), "{text:?}");
        }
    }

    #[test]
    fn an_error_names_the_pod_the_element_and_what_is_allowed() {
        let text = parse("a,b/c@much-too-long-name", &pod()).unwrap_err().to_string();
        assert_eq!(
            text,
            "annotation k8s.v1.cni.cncf.io/networks of pod default/router, network 2 (b/c@much-too-long-name): \
             `interface` \"much-too-long-name\" is not allowed: 1 to 15 characters without space, `/` or `:`, and \
             neither `.` nor `..`"
        );
    }

    #[test]
    fn a_bad_short_element_is_refused() {
        for (text, problem) in [
            ("a,,b", Problem::Empty),
            ("a,", Problem::Empty),
            ("a/b/c", Problem::TooMany('/')),
            ("a@b@c", Problem::TooMany('@')),
            ("/a", Problem::value("namespace", "", LABEL_RULE)),
            ("a/", Problem::value("name", "", OBJECT_NAME_RULE)),
            ("A", Problem::value("name", "A", OBJECT_NAME_RULE)),
            ("a@", Problem::value("interface", "", INTERFACE_RULE)),
            ("a b", Problem::value("name", "a b", OBJECT_NAME_RULE)),
        ] {
            assert_eq!(parse(text, &pod()).map_err(|error| error.problem), Err(problem), "{text}");
        }
    }

    #[test]
    fn the_default_network_is_one_and_in_a_namespace_of_its_own() {
        let read = |text: &str| parse_default(text, &pod(), "kube-system");
        assert_eq!(read("a").unwrap().unwrap().network(), "kube-system/a");
        assert_eq!(read(r#"[{"name":"a","namespace":"b"}]"#).unwrap().unwrap().network(), "b/a");
        assert_eq!(read(" "), Ok(None));
        let error = read("a,b").unwrap_err().to_string();
        assert!(
            error
                .starts_with("annotation v1.multus-cni.io/default-network of pod default/router: it names 2")
        );
    }

    #[test]
    fn quotes_make_it_json() {
        assert_eq!(one(r#"[{"name":"a"}]"#).network(), "default/a");
        let error = parse(r#"{"name":"a"}"#, &pod()).unwrap_err();
        assert_eq!(error.problem, Problem::NoList("an object"));
        assert!(matches!(parse(r#""a""#, &pod()).unwrap_err().problem, Problem::NoList("a string")));
        assert!(matches!(parse("[a]", &pod()).unwrap_err().problem, Problem::NoJson(_)));
    }
}
