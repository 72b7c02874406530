//! Which networks a pod gets: by its annotations, and by what the node's operator says.

use std::collections::BTreeMap;

use thiserror::Error;

use super::{
    annotation::{self, AnnotationError, NetworkSelection},
    syntax::is_object_name,
};
use crate::agent_protocol::{PodRef, Policy};

/// A pod's annotations, as far as they ask for networks.
#[derive(Clone, Copy, Debug, Default)]
pub struct Annotations<'a> {
    /// [`annotation::NETWORKS_ANNOTATION`].
    pub networks: Option<&'a str>,
    /// [`annotation::DEFAULT_NETWORK_ANNOTATION`].
    pub default_network: Option<&'a str>,
}

impl<'a> Annotations<'a> {
    /// From all that a pod has.
    pub fn of(all: &'a BTreeMap<String, String>) -> Self {
        let text = |key: &str| all.get(key).map(String::as_str);
        Self {
            networks: text(annotation::NETWORKS_ANNOTATION),
            default_network: text(annotation::DEFAULT_NETWORK_ANNOTATION),
        }
    }
}

/// A network, with who asks for it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Asked {
    /// What is asked for. A path on the node's disk has it for a name.
    pub selection: NetworkSelection,
    /// The operator does: it may be on the node's disk, and no pod's rights matter.
    pub by_operator: bool,
}

/// The networks of a pod, not looked up yet.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Networks {
    /// Name of the primary interface.
    pub interface: String,
    /// The primary network, where it is not that of the runtime's folder.
    pub primary: Option<Asked>,
    /// All others, in order.
    pub others: Vec<Asked>,
    /// How many networks come between the primary one and these.
    pub before: usize,
}

/// What a pod asks for cannot be given.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AskError {
    /// It cannot be read.
    #[error(transparent)]
    Annotation(#[from] AnnotationError),
    /// It is in a namespace that the pod may not use.
    #[error(
        "pod {pod} asks for network {network}, but namespaceIsolation lets it use those of its own namespace{} only: have the \
         network defined there, or add its namespace to globalNamespaces",
        others(global)
    )]
    Isolated {
        /// `namespace/name` of the pod.
        pod: String,
        /// `namespace/name` of the network.
        network: String,
        /// Namespaces that every pod may use.
        global: Vec<String>,
    },
}

impl Networks {
    /// Puts together what a pod asks for and what the operator says. The order is Multus': the primary network, default
    /// networks, then those of the annotation.
    ///
    /// # Errors
    /// When the annotations cannot be read, or ask for what the pod may not use.
    pub fn of(
        pod: &PodRef,
        interface: &str,
        annotations: Annotations<'_>,
        policy: &Policy,
    ) -> Result<Self, AskError> {
        let namespace = &policy.multus_namespace;
        let by_operator = |name: &String| Asked {
            selection: NetworkSelection {
                namespace: namespace.clone(),
                name: name.clone(),
                ..NetworkSelection::default()
            },
            by_operator: true,
        };
        let by_pod = |selection: NetworkSelection| match may_use(pod, &selection, policy) {
            Ok(()) => Ok(Asked { selection, by_operator: false }),
            Err(error) => Err(error),
        };
        let text = annotations.default_network.unwrap_or_default();
        let primary = match annotation::parse_default(text, pod, namespace)? {
            Some(selection) => Some(by_pod(selection)?),
            // A path is the executable's to read.
            None => policy.cluster_network.as_ref().filter(|name| !name.contains('/')).map(by_operator),
        };
        let mut others: Vec<Asked> = policy.default_networks.iter().map(by_operator).collect();
        for selection in annotation::parse(annotations.networks.unwrap_or_default(), pod)? {
            others.push(by_pod(selection)?);
        }
        Ok(Self { interface: interface.to_owned(), primary, others, before: policy.inline })
    }

    /// All, the primary one first.
    pub fn iter(&self) -> impl Iterator<Item = &Asked> {
        self.primary.iter().chain(&self.others)
    }

    /// Namespace and name of every definition that there may be, and whether nothing is amiss where there is none: the network
    /// is on the node's disk then.
    pub fn definitions(&self) -> Vec<(&str, &str, bool)> {
        let mut names: Vec<(&str, &str, bool)> = self
            .iter()
            .map(|asked| (&asked.selection, asked.by_operator))
            .filter(|(selection, _)| is_object_name(&selection.name))
            .map(|(selection, optional)| (selection.namespace.as_str(), selection.name.as_str(), optional))
            .collect();
        names.sort_unstable();
        names.dedup_by_key(|(namespace, name, _)| (*namespace, *name));
        names
    }
}

fn others(global: &[String]) -> String {
    if global.is_empty() { String::new() } else { format!(" and of {}", global.join(", ")) }
}

fn may_use(pod: &PodRef, selection: &NetworkSelection, policy: &Policy) -> Result<(), AskError> {
    let Some(global) = &policy.global_namespaces else { return Ok(()) };
    if selection.namespace == pod.namespace || global.contains(&selection.namespace) {
        return Ok(());
    }
    let (pod, network) = (pod.to_string(), selection.network());
    Err(AskError::Isolated { pod, network, global: global.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod() -> PodRef {
        PodRef { namespace: "team".into(), name: "router".into(), uid: "u".into() }
    }

    fn of(networks: &str, default_network: &str, policy: &Policy) -> Result<Networks, String> {
        let annotations = Annotations { networks: Some(networks), default_network: Some(default_network) };
        Networks::of(&pod(), "eth0", annotations, policy).map_err(|error| error.to_string())
    }

    fn names(networks: &Networks) -> Vec<(String, bool)> {
        networks.iter().map(|asked| (asked.selection.network(), asked.by_operator)).collect()
    }

    #[test]
    fn default_networks_come_before_the_annotations_and_the_annotations_primary_before_the_operators() {
        let policy = Policy {
            cluster_network: Some("cluster".into()),
            default_networks: vec!["storage".into(), "/etc/x.conf".into()],
            ..Policy::default()
        };
        let networks = of("a", "", &policy).unwrap();
        assert_eq!(
            names(&networks),
            [
                ("kube-system/cluster".to_owned(), true),
                ("kube-system/storage".to_owned(), true),
                ("kube-system//etc/x.conf".to_owned(), true),
                ("team/a".to_owned(), false),
            ]
        );
        assert_eq!(
            networks.definitions(),
            [("kube-system", "cluster", true), ("kube-system", "storage", true), ("team", "a", false)]
        );
        let networks = of("a,a", "other/b", &policy).unwrap();
        assert_eq!(names(&networks)[0], ("other/b".to_owned(), false));
        assert_eq!(networks.others.len(), 4);
        let path = Policy { cluster_network: Some("/etc/cni/x.conflist".into()), ..Policy::default() };
        assert_eq!(of("", " ", &path).unwrap(), Networks { interface: "eth0".into(), ..Networks::default() });
    }

    #[test]
    fn isolation_holds_for_both_annotations_and_not_for_the_operator() {
        let policy = Policy {
            cluster_network: Some("cluster".into()),
            default_networks: vec!["storage".into()],
            global_namespaces: Some(vec!["default".into(), "shared".into()]),
            ..Policy::default()
        };
        of("a,default/b,shared/c", "team/d", &policy).unwrap();
        let error = of("other/a", "", &policy).unwrap_err();
        assert_eq!(
            error,
            "pod team/router asks for network other/a, but namespaceIsolation lets it use those of its own namespace and of \
             default, shared only: have the network defined there, or add its namespace to globalNamespaces"
        );
        // Without a namespace it is the operator's, which is no pod's own either.
        assert!(of("", "a", &policy).unwrap_err().contains("kube-system/a"));
        let open = Policy { global_namespaces: None, ..policy };
        of("other/a", "a", &open).unwrap();
    }
}
