//! The agent: whether it answers, knows the cluster, and may do there what it must.

use std::{path::PathBuf, time::Duration};

use fairlead_cni::{
    agent_client,
    agent_protocol::{Answer, Call, Health},
};

use super::Node;
use crate::finding::Finding;

const LIMIT: Duration = Duration::from_secs(5);

/// What it answers.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    socket: PathBuf,
    exists: bool,
    health: Result<Health, String>,
}

impl Facts {
    pub(super) fn gather(node: &Node) -> Self {
        let socket = node.section.agent_socket.clone();
        let exists = node.root.path(&socket).exists();
        let health = ask(node, &Call::Health { deadline_ms: 0 }).and_then(|answer| match answer {
            Answer::Health(health) => Ok(health),
            other => Err(format!("it answers {other:?}")),
        });
        Self { socket, exists, health }
    }
}

/// The agent's answer.
///
/// # Errors
/// When its socket is not there, or it does not answer.
pub(crate) fn ask(node: &Node, call: &Call) -> Result<Answer, String> {
    let socket = node.root.path(&node.section.agent_socket);
    if !socket.exists() {
        return Err(format!("{} is not there", socket.display()));
    }
    agent_client::call(&socket, call, LIMIT).map_err(|error| error.to_string())
}

/// Says what of it keeps pods from their networks.
pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let runs = "see that the DaemonSet fairlead-cni runs here, and the log of its container agent";
    let shown = facts.socket.display();
    let health = match &facts.health {
        _ if !facts.exists => {
            let seen = format!("{shown} is not there: pods that ask for networks wait and are tried again");
            return vec![Finding::error("agent.socket", seen, runs)];
        }
        // One of another version does not know the question.
        Err(why) if why.contains("cannot be read") || why.contains("protocol") => {
            let remedy = "install agent, executable and tools from one release";
            return vec![Finding::warning(
                "agent.socket",
                format!("the agent is of another version: {why}"),
                remedy,
            )];
        }
        Err(why) => return vec![Finding::error("agent.socket", format!("{shown}: {why}"), runs)],
        Ok(health) => health,
    };
    let mut findings = vec![match health.missing.as_slice() {
        [] => Finding::ok("agent.socket", "the agent answers, and has all that it must know"),
        missing => Finding::error(
            "agent.socket",
            format!(
                "the agent answers, and waits for {}: pods that ask for networks wait",
                missing.join(", ")
            ),
            "see the agent's log, and whether it reaches the API server",
        ),
    }];
    if !health.denied.is_empty() {
        findings.push(Finding::error(
            "agent.rights",
            format!("the API server does not let the agent {}", health.denied.join(", ")),
            "apply the ClusterRole and ClusterRoleBinding fairlead-agent of the manifests",
        ));
    } else if !health.unasked.is_empty() {
        let seen = format!("the agent's rights are not known: {}", health.unasked.join("; "));
        findings.push(Finding::unknown(
            "agent.rights",
            seen,
            "kubectl auth can-i --list --as system:serviceaccount:fairlead:fairlead-agent",
        ));
    } else {
        findings.push(Finding::ok("agent.rights", "the API server lets the agent do all that it must"));
    }
    findings
}

#[cfg(test)]
mod tests {
    use fairlead_cni::agent_protocol::Failure;

    use super::{
        super::testing::{self, MadeNode, assert_found},
        *,
    };
    use crate::finding::Severity;

    /// What is found of an agent that answers so.
    fn answered(answer: Answer) -> Vec<Finding> {
        let node = MadeNode::new();
        let agent = testing::agent(&node.at("/"), answer);
        let found = judge(&Facts::gather(&node.node()));
        assert!(matches!(agent.join().unwrap(), Call::Health { .. }));
        found
    }

    #[test]
    fn an_agent_that_knows_and_may_do_everything_is_good() {
        let all = answered(Answer::Health(Health::default()));
        assert!(all.len() == 2 && all.iter().all(|finding| finding.severity == Severity::Ok), "{all:#?}");
    }

    #[test]
    fn what_it_lacks_is_told() {
        let health = |missing: &[&str], denied: &[&str], unasked: &[&str]| {
            let list = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
            Answer::Health(Health { missing: list(missing), denied: list(denied), unasked: list(unasked) })
        };
        let all = answered(health(&["the pods"], &["list pods"], &[]));
        assert_found(&all, "agent.socket", Severity::Error, &["waits for the pods"]);
        assert_found(&all, "agent.rights", Severity::Error, &["list pods", "ClusterRole"]);
        assert_found(
            &answered(health(&[], &[], &["refused"])),
            "agent.rights",
            Severity::Unknown,
            &["refused"],
        );
        let old = Failure { retry: false, message: "the request cannot be read: unknown variant".into() };
        assert_found(&answered(Answer::Failed(old)), "agent.socket", Severity::Warning, &["another version"]);
        let all = judge(&Facts::gather(&MadeNode::new().node()));
        assert_found(&all, "agent.socket", Severity::Error, &["is not there"]);
    }
}
