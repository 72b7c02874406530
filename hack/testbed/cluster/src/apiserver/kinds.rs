//! The kinds of objects that are served, and what a request path names.

/// One kind of object.
#[derive(Debug, PartialEq, Eq)]
pub struct Kind {
    /// Such as `Pod`.
    pub kind: &'static str,
    /// The name in paths, such as `pods`.
    pub plural: &'static str,
    /// API group, empty for core.
    pub group: &'static str,
    /// Version in the group.
    pub version: &'static str,
    /// Objects live in namespaces.
    pub namespaced: bool,
    /// There is a `/status` subresource, and writes to the object itself leave its status alone.
    pub has_status: bool,
    /// Defined by a CustomResourceDefinition: lists repeat kind and apiVersion in each item, generations are counted.
    pub custom: bool,
    /// What a field selector may name besides metadata.name and metadata.namespace.
    pub selectable: &'static [&'static str],
    /// What kubectl accepts for it too.
    pub short_names: &'static [&'static str],
}

const fn core(kind: &'static str, plural: &'static str) -> Kind {
    Kind {
        kind,
        plural,
        group: "",
        version: "v1",
        namespaced: true,
        has_status: true,
        custom: false,
        selectable: &[],
        short_names: &[],
    }
}

/// Everything that is served.
pub static KINDS: [Kind; 5] = [
    Kind {
        selectable: &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
        ],
        short_names: &["po"],
        ..core("Pod", "pods")
    },
    Kind {
        namespaced: false,
        selectable: &["spec.unschedulable"],
        short_names: &["no"],
        ..core("Node", "nodes")
    },
    Kind {
        namespaced: false,
        selectable: &["status.phase"],
        short_names: &["ns"],
        ..core("Namespace", "namespaces")
    },
    Kind {
        has_status: false,
        selectable: &[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "reason",
            "type",
        ],
        short_names: &["ev"],
        ..core("Event", "events")
    },
    Kind {
        group: "k8s.cni.cncf.io",
        has_status: false,
        custom: true,
        short_names: &["net-attach-def"],
        ..core("NetworkAttachmentDefinition", "network-attachment-definitions")
    },
];

impl Kind {
    /// Finds a kind by group, version and plural.
    pub fn find(group: &str, version: &str, plural: &str) -> Option<&'static Self> {
        KINDS.iter().find(|k| k.group == group && k.version == version && k.plural == plural)
    }

    /// Finds a kind by its name, singular, plural or a short name, as kubectl does.
    pub fn named(name: &str) -> Option<&'static Self> {
        let name = name.to_ascii_lowercase();
        KINDS.iter().find(|k| {
            k.kind.to_ascii_lowercase() == name
                || k.plural == name
                || k.short_names.contains(&name.as_str())
                || format!("{}.{}", k.plural, k.group) == name
        })
    }

    /// `v1` or `group/version`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.into() } else { format!("{}/{}", self.group, self.version) }
    }

    /// The name that error texts use: the plural, with its group unless that is core.
    pub fn qualified(&self) -> String {
        if self.group.is_empty() { self.plural.into() } else { format!("{}.{}", self.plural, self.group) }
    }
}

/// What a request path names.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Target<'a> {
    pub(super) kind: &'static Kind,
    /// Absent for cluster-wide kinds and for lists over all namespaces.
    pub(super) namespace: Option<&'a str>,
    /// Absent for the collection.
    pub(super) name: Option<&'a str>,
    pub(super) subresource: Option<&'a str>,
}

/// Reads a path below `/api/v1` or `/apis/GROUP/VERSION`.
pub(super) fn parse_path(path: &str) -> Option<Target<'_>> {
    let mut parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let (group, version) = match *parts.first()? {
        "api" if parts.len() >= 2 => {
            let version = parts[1];
            parts.drain(..2);
            ("", version)
        }
        "apis" if parts.len() >= 3 => {
            let (group, version) = (parts[1], parts[2]);
            parts.drain(..3);
            (group, version)
        }
        _ => return None,
    };
    // namespaces/NS/PLURAL...; namespaces/NS and namespaces/NS/status name the Namespace itself.
    let namespace = match parts.as_slice() {
        ["namespaces", namespace, plural, ..] if *plural != "status" => Some(*namespace),
        _ => None,
    };
    if namespace.is_some() {
        parts.drain(..2);
    }
    let kind = Kind::find(group, version, parts.first()?)?;
    let name = parts.get(1).copied();
    let known = kind.namespaced == namespace.is_some() || (kind.namespaced && name.is_none());
    (known && parts.len() <= 3).then_some(Target {
        kind,
        namespace,
        name,
        subresource: parts.get(2).copied(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        let pod = parse_path("/api/v1/namespaces/default/pods/a/status").unwrap();
        assert_eq!(
            (pod.kind.kind, pod.namespace, pod.name, pod.subresource),
            ("Pod", Some("default"), Some("a"), Some("status"))
        );
        let all = parse_path("/api/v1/pods").unwrap();
        assert_eq!((all.kind.kind, all.namespace, all.name), ("Pod", None, None));
        let nad = parse_path("/apis/k8s.cni.cncf.io/v1/namespaces/x/network-attachment-definitions").unwrap();
        assert_eq!((nad.kind.plural, nad.namespace), ("network-attachment-definitions", Some("x")));
        let namespace = parse_path("/api/v1/namespaces/x/status").unwrap();
        assert_eq!(
            (namespace.kind.kind, namespace.name, namespace.subresource),
            ("Namespace", Some("x"), Some("status"))
        );
        let node = parse_path("/api/v1/nodes/n").unwrap();
        assert_eq!((node.kind.kind, node.name), ("Node", Some("n")));
    }

    #[test]
    fn paths_of_nothing() {
        for path in ["/", "/api", "/apis/x", "/api/v1/pods/a", "/api/v1/namespaces/x/nodes/n", "/api/v2/pods"]
        {
            assert_eq!(parse_path(path), None, "{path}");
        }
    }

    #[test]
    fn names_people_type() {
        for name in ["po", "pod", "Pods"] {
            assert_eq!(Kind::named(name).unwrap().kind, "Pod");
        }
        assert_eq!(
            Kind::named("network-attachment-definitions.k8s.cni.cncf.io").unwrap().plural,
            "network-attachment-definitions"
        );
        assert_eq!(Kind::named("deployment"), None);
    }
}
