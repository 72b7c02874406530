//! Pods that the old stack made: whether our DEL understands what was noted of them.

use fairlead_cni::meta::{NotedSandbox, survey};

use super::Node;
use crate::finding::Finding;

const ID: &str = "migrate.pods";
/// The name that runtimes give to the primary interface.
const PRIMARY: &str = "eth0";

/// Looks at all notes.
pub(super) fn look(node: &Node<'_>) -> Vec<Finding> {
    let sandboxes = match survey(&node.section, &node.path(), PRIMARY) {
        Ok(sandboxes) => sandboxes,
        Err(error) => {
            return vec![Finding::error(ID, error.to_string(), "let this program read it: it must be root")];
        }
    };
    let mut findings: Vec<Finding> = sandboxes.iter().map(|sandbox| judge(sandbox, node)).collect();
    if findings.is_empty() {
        let dir = node.section.cni_dir.display();
        findings.push(Finding::info(
            ID,
            format!("nothing is noted of pods of others ({dir}, and the runtime's cache)"),
        ));
    }
    findings
}

fn judge(sandbox: &NotedSandbox, node: &Node<'_>) -> Finding {
    let id: String = sandbox.container_id.chars().take(13).collect();
    let pod = sandbox.pod.as_deref().map_or_else(|| "a pod".to_owned(), |pod| format!("pod {pod}"));
    let who = format!("{pod} (sandbox {id})");
    if let Some(problem) = &sandbox.problem {
        let remedy = "delete the pod before the switch: without its notes nothing of it can be undone";
        return Finding::error(ID, format!("{who}: {problem}"), remedy);
    }
    let one = |attachment: &fairlead_cni::meta::NotedAttachment| {
        format!("{} ({}: {})", attachment.interface, attachment.network, attachment.plugins.join(", "))
    };
    let list: Vec<String> = sandbox.attachments.iter().map(one).collect();
    let problems: Vec<&str> =
        sandbox.attachments.iter().filter_map(|attachment| attachment.problem.as_deref()).collect();
    if !problems.is_empty() {
        let remedy = "install the plugin, or delete the pod before the switch";
        return Finding::error(ID, format!("{who}: its DEL would fail: {}", problems.join("; ")), remedy);
    }
    let is_gone = sandbox.netns.as_ref().is_some_and(|netns| !node.root.exists(netns));
    match is_gone {
        true => {
            let text =
                format!("{who}: its network namespace is gone, and its notes are left: {}", list.join(", "));
            let remedy = "the old stack leaked it; the runtime's DEL will not come. Remove its notes and free its addresses by hand";
            Finding::warning(ID, text, remedy)
        }
        false => Finding::info(ID, format!("{who}: will be deleted by its notes: {}", list.join(", "))),
    }
}
