//! The node's folders, and what else may keep an installation from being as simple as elsewhere.

use super::Node;
use crate::finding::Finding;

/// Where other distributions have the folder of configurations, by a path that only they have.
const ELSEWHERE: [(&str, &str, &str); 3] = [
    (
        "/var/lib/rancher/k3s",
        "k3s",
        "--conf-dir /var/lib/rancher/k3s/agent/etc/cni/net.d --bin-dir /var/lib/rancher/k3s/data/cni",
    ),
    (
        "/etc/kubernetes/cni/net.d",
        "OpenShift",
        "--conf-dir /etc/kubernetes/cni/net.d --bin-dir /var/lib/cni/bin",
    ),
    ("/var/snap/microk8s", "MicroK8s", "--conf-dir and --bin-dir of the snap"),
];

/// Looks at both.
pub(super) fn look(node: &Node<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let options = &node.options.places;
    for dir in [&options.bin_dir, &options.conf_dir] {
        if !node.root.exists(dir) {
            let remedy = "name the folders that the runtime uses with --bin-dir and --conf-dir, and give `fairlead install` the same";
            findings.push(Finding::error("migrate.paths", format!("{} is not there", dir.display()), remedy));
        }
    }
    for (mark, name, folders) in ELSEWHERE {
        let is_looked_at = folders.starts_with(&format!("--conf-dir {} ", options.conf_dir.display()));
        if node.root.exists(mark) && !is_looked_at {
            let text = format!(
                "{mark} is there: {name} has other folders, and {} was looked at",
                options.conf_dir.display()
            );
            findings.push(Finding::warning("migrate.paths", text, format!("try {folders}")));
        }
    }
    findings.push(selinux(node));
    findings
}

fn selinux(node: &Node<'_>) -> Finding {
    const ID: &str = "migrate.selinux";
    match node.root.value("/sys/fs/selinux/enforce").as_deref() {
        Some("1") => {
            let text = "SELinux enforces: the installer and the agent need a type that may write there, and the program has to carry the label of \
                        the folder it is put into";
            Finding::warning(
                ID,
                text,
                "take the component selinux, or the overlay of the distribution (deploy/README.md)",
            )
        }
        Some(_) => Finding::info(ID, "SELinux is there and does not enforce"),
        None => Finding::info(ID, "there is no SELinux"),
    }
}
