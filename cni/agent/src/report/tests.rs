use std::time::Duration;

use serde_json::Map;

use super::*;
use crate::testing::{Asked, api, pod, status};

fn report() -> Report {
    let network = |name: &str, interface: &str, ips: &[&str], default| NetworkStatus {
        name: name.into(),
        interface: interface.into(),
        ips: ips.iter().map(|ip| (*ip).into()).collect(),
        default,
        dns: Map::new(),
        ..NetworkStatus::default()
    };
    Report {
        pod: pod(),
        container_id: "c".into(),
        networks: vec![
            network("bridge", "eth0", &["10.0.0.5"], true),
            network("default/a", "net1", &[], false),
        ],
        warnings: Vec::new(),
        timings: Vec::new(),
        deadline_ms: 1000,
    }
}

/// Publishes against an API server with these answers.
async fn published(
    respond: impl FnMut(&Asked) -> Option<(u16, Value)> + Send + 'static,
) -> (Result<(), ReportError>, Vec<Asked>) {
    let (client, log) = api(respond);
    let deadline = Instant::now() + Duration::from_secs(30);
    let result = publish(&client, &report(), "u", deadline).await;
    let asked = log.lock().unwrap().clone();
    (result, asked)
}

fn object(uid: &str) -> (u16, Value) {
    (200, json!({"metadata": {"name": "router", "namespace": "default", "uid": uid}}))
}

#[tokio::test]
async fn only_the_annotation_and_the_uid_are_sent() {
    let (result, asked) = published(|_| Some(object("u"))).await;
    result.unwrap();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].line, "PATCH /api/v1/namespaces/default/pods/router/status?");
    let text = asked[0].body["metadata"]["annotations"][STATUS_ANNOTATION].as_str().unwrap();
    assert_eq!(asked[0].body, json!({"metadata": {"uid": "u", "annotations": {STATUS_ANNOTATION: text}}}));
    assert_eq!(
        text,
        "[{\n    \"name\": \"bridge\",\n    \"interface\": \"eth0\",\n    \"ips\": [\n        \"10.0.0.5\"\n    ],\n    \
         \"default\": true,\n    \"dns\": {}\n},{\n    \"name\": \"default/a\",\n    \"interface\": \"net1\",\n    \
         \"dns\": {}\n}]"
    );
}

#[test]
fn without_a_uid_there_is_no_precondition() {
    assert!(patch("[]", "")["metadata"].get("uid").is_none());
}

#[tokio::test]
async fn a_pod_that_is_gone_is_an_answer() {
    let (result, asked) = published(|_| Some(status(404, "pods \"router\" not found"))).await;
    let error = result.unwrap_err();
    assert!(matches!(error, ReportError::Gone(_)));
    assert!(!error.may_pass() && !error.to_string().contains("not found"));
    assert_eq!(asked.len(), 1);
}

#[tokio::test]
async fn another_pod_of_the_same_name_is_an_answer() {
    for code in [409, 422] {
        let respond = move |asked: &Asked| {
            Some(if asked.line.starts_with("PATCH") { status(code, "no") } else { object("other") })
        };
        let error = published(respond).await.0.unwrap_err();
        assert!(matches!(error, ReportError::Replaced(_)), "{error}");
        assert!(!error.may_pass());
    }
}

#[tokio::test(start_paused = true)]
async fn conflicts_and_a_server_that_is_away_are_tried_again() {
    let mut answers =
        [status(503, "away"), status(429, "busy"), status(409, "modified"), object("u"), object("u")]
            .into_iter();
    let respond = move |_: &Asked| answers.next();
    let (result, asked) = published(respond).await;
    result.unwrap();
    let methods: Vec<_> = asked.iter().map(|asked| asked.line.split(' ').next().unwrap()).collect();
    assert_eq!(methods, ["PATCH", "PATCH", "PATCH", "GET", "PATCH"]);
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_stays_away_is_a_failure_that_may_pass() {
    let (result, asked) = published(|_| Some(status(503, "away"))).await;
    let error = result.unwrap_err();
    assert!(error.may_pass() && asked.len() > 3);
    assert_eq!(error.to_string(), "network-status of pod default/router could not be written yet: away");
    let (result, _) = published(|_| None).await;
    assert!(result.unwrap_err().to_string().contains("did not answer in time"));
}

#[tokio::test]
async fn a_refusal_is_not_tried_again() {
    let respond = |asked: &Asked| {
        Some(if asked.line.starts_with("PATCH") { status(422, "annotations: Too long") } else { object("u") })
    };
    let (result, asked) = published(respond).await;
    assert!(matches!(result, Err(ReportError::Refused { reason, .. }) if reason == "annotations: Too long"));
    assert_eq!(asked.len(), 2);
}
