//! Whether the API server lets the agent do its work.

use fairlead_cni::agent_protocol::Health;
use futures::future::join_all;
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use kube::{Api, Client, api::PostParams};
use tokio::time::{Instant, timeout_at};

use crate::errors::chain;

/// Group, resource, subresource, verb: the same as in the manifests' ClusterRole.
const NEEDED: [(&str, &str, &str, &str); 8] = [
    ("k8s.cni.cncf.io", "network-attachment-definitions", "", "get"),
    ("k8s.cni.cncf.io", "network-attachment-definitions", "", "list"),
    ("k8s.cni.cncf.io", "network-attachment-definitions", "", "watch"),
    ("", "pods", "", "get"),
    ("", "pods", "", "list"),
    ("", "pods", "", "watch"),
    ("", "pods", "status", "patch"),
    ("", "events", "", "create"),
];

/// How the agent is: what it still waits for, and what it must be allowed to do and is not.
pub(crate) async fn health(client: &Client, missing: Vec<String>, deadline: Instant) -> Health {
    let mut health = Health { missing, ..Health::default() };
    let asked = join_all(NEEDED.map(|needed| ask(client, needed)));
    let Ok(answers) = timeout_at(deadline, asked).await else {
        health.unasked.push("the API server did not answer in time".into());
        return health;
    };
    for (needed, answer) in NEEDED.into_iter().zip(answers) {
        match answer {
            Ok(true) => {}
            Ok(false) => health.denied.push(words(needed)),
            Err(error) => {
                let text = chain(&error);
                if !health.unasked.contains(&text) {
                    health.unasked.push(text);
                }
            }
        }
    }
    health
}

async fn ask(client: &Client, needed: (&str, &str, &str, &str)) -> Result<bool, kube::Error> {
    let (group, resource, subresource, verb) = needed;
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let attributes = ResourceAttributes {
        group: text(group),
        resource: text(resource),
        subresource: text(subresource),
        verb: text(verb),
        ..ResourceAttributes::default()
    };
    let spec = SelfSubjectAccessReviewSpec { resource_attributes: Some(attributes), ..Default::default() };
    let review = SelfSubjectAccessReview { spec, ..SelfSubjectAccessReview::default() };
    let answer = Api::all(client.clone()).create(&PostParams::default(), &review).await?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}

fn words((_, resource, subresource, verb): (&str, &str, &str, &str)) -> String {
    let slash = if subresource.is_empty() { "" } else { "/" };
    format!("{verb} {resource}{slash}{subresource}")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::testing::api;

    #[tokio::test]
    async fn what_is_denied_and_what_could_not_be_asked_is_told() {
        let deadline = || Instant::now() + Duration::from_secs(10);
        let (client, log) = api(|asked| {
            let what = &asked.body["spec"]["resourceAttributes"];
            let allowed = what["verb"] != "watch" && what["subresource"] != "status";
            Some((201, json!({"metadata": {}, "spec": asked.body["spec"], "status": {"allowed": allowed}})))
        });
        let health = health(&client, vec!["the pods".into()], deadline()).await;
        assert_eq!(
            health.denied,
            ["watch network-attachment-definitions", "watch pods", "patch pods/status"]
        );
        assert_eq!((health.missing, health.unasked), (vec!["the pods".to_owned()], Vec::new()));
        assert_eq!(log.lock().unwrap().len(), NEEDED.len());

        let (client, _) = api(|_| {
            Some((403, json!({"kind": "Status", "code": 403, "message": "no", "reason": "Forbidden"})))
        });
        let health = super::health(&client, Vec::new(), deadline()).await;
        assert_eq!(health.unasked.len(), 1, "{health:?}");
        let (client, _) = api(|_| None);
        let health = super::health(&client, Vec::new(), Instant::now()).await;
        assert_eq!(health.unasked, ["the API server did not answer in time"]);
    }
}
