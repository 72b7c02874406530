//! What the endpoint tells after real calls.

use fairlead_cni::{agent_protocol::Timing, protocol::error::code};
use fairlead_resource_config::test_support;
use tonic::Status;

use super::*;

const STATUS: &str = "k8s.v1.cni.cncf.io/network-status";

fn timing(network: &str, step: &str, us: u64) -> Timing {
    Timing { network: network.into(), step: step.into(), us }
}

/// The report of a pod of this name.
fn report(name: &str, networks: &[&str], timings: Vec<Timing>) -> Call {
    let entry = |name: &&str| NetworkStatus { name: (*name).into(), ..NetworkStatus::default() };
    Call::Report(Report {
        pod: PodRef { name: name.into(), ..testing::pod() },
        container_id: "c".into(),
        networks: networks.iter().map(entry).collect(),
        warnings: Vec::new(),
        timings,
        deadline_ms: 1000,
    })
}

fn notify(what: Happening, code: u32, timings: Vec<Timing>, swept: u32) -> Call {
    let (pod, container_id, message) = (testing::pod(), "c".into(), "why".into());
    Call::Notify(Notify { pod, container_id, what, message, code, timings, swept, deadline_ms: 1000 })
}

/// What the endpoint tells.
async fn metrics(address: std::net::SocketAddr) -> String {
    let answer = probe(address, "/metrics").await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200") && head.contains("application/openmetrics-text"), "{head}");
    body.to_owned()
}

#[track_caller]
fn has(text: &str, lines: &[&str]) {
    for line in lines {
        let line = format!("fairlead_agent_{line}");
        assert!(text.lines().any(|found| found == line), "{line} is missing in:\n{text}");
    }
}

/// A pod of the API server that has these networks already.
fn attached(name: &str, networks: &Value) -> Value {
    let mut pod = pod_object(name, "");
    pod["metadata"]["name"] = name.into();
    pod["metadata"]["annotations"][STATUS] = networks.to_string().into();
    pod
}

#[tokio::test(start_paused = true)]
async fn the_endpoint_tells_names_labels_and_values_of_what_happened() {
    let networks = json!([{"name": "cluster"}, {"name": "default/vf"}, {"name": "default/vf"}]);
    let pods = vec![attached("a", &networks), attached("b", &json!({"name": "no list"}))];
    let mut rest = with(vec![nad("vf", Some("intel.com/sriov")), nad("macvlan", None)], pods);
    let running = start(move |asked| match asked.line.starts_with("PATCH") {
        true if asked.line.contains("/pods/late/") => Some(status(503, "away")),
        true if asked.line.contains("/pods/gone/") => Some(status(404, "gone")),
        true => Some((200, pod_object("u", ""))),
        false => rest(asked),
    });
    let address = probes(&running.agent).await;
    running.agent.complete(Instant::now() + Duration::from_secs(30)).await;
    let rows = resources(&[("intel.com/sriov", &["0000:01:10.0"])]);
    running
        .kubelet
        .lists
        .lock()
        .unwrap()
        .extend([Err(Status::resource_exhausted("rate limit")), Ok(vec![rows])]);

    planned(running.resolve("vf,macvlan").await);
    failed(running.resolve("macvlan,").await);
    failed(running.resolve("vf,vf").await);
    let timings = vec![
        timing("default/vf", "ipam", 700),
        timing("default/vf", "sriov", 7000),
        timing("", "total", 20_000),
        timing("", "lock", 90),
    ];
    assert_eq!(
        running.ask(report("router", &["cluster", "default/macvlan"], timings), 30_000).await,
        Answer::Published
    );
    failed(running.ask(report("late", &["default/late"], Vec::new()), 30_000).await);
    failed(running.ask(report("gone", &["default/vf"], Vec::new()), 30_000).await);
    let del = vec![timing("default/vf", "sriov", 40_000)];
    for call in [
        notify(Happening::AddFailed, code::TRY_AGAIN, Vec::new(), 0),
        notify(Happening::RemoveFailed, 101, del, 2),
        notify(Happening::Swept, 0, Vec::new(), 1),
    ] {
        assert_eq!(running.ask(call, 1000).await, Answer::Taken);
    }

    let text = metrics(address).await;
    has(
        &text,
        &[
            r#"attachments{network="cluster"} 1"#,
            r#"attachments{network="default/vf"} 2"#,
            r#"attachments{network="default/late"} 1"#,
            r#"attachment_seconds_count{verb="add",network="default/vf",step="ipam"} 1"#,
            r#"attachment_seconds_bucket{le="0.005",verb="add",network="default/vf",step="sriov"} 0"#,
            r#"attachment_seconds_bucket{le="0.01",verb="add",network="default/vf",step="sriov"} 1"#,
            r#"attachment_seconds_sum{verb="del",network="default/vf",step="sriov"} 0.04"#,
            r#"call_seconds_sum{verb="add",part="total"} 0.02"#,
            r#"call_seconds_count{verb="add",part="lock"} 1"#,
            r#"failures_total{verb="add",reason="annotation"} 1"#,
            r#"failures_total{verb="add",reason="devices"} 1"#,
            r#"failures_total{verb="add",reason="busy"} 1"#,
            r#"failures_total{verb="del",reason="plugin"} 1"#,
            r#"resolves_total{outcome="planned"} 1"#,
            r#"resolves_total{outcome="refused"} 2"#,
            "resolve_seconds_count 3",
            r#"reports_total{outcome="published"} 1"#,
            r#"reports_total{outcome="pending"} 1"#,
            r#"reports_total{outcome="gone"} 1"#,
            "reports_pending 1",
            r#"cache_synced{cache="networks"} 1"#,
            r#"cache_synced{cache="pods"} 1"#,
            r#"cache_objects{cache="networks"} 2"#,
            r#"cache_objects{cache="pods"} 2"#,
            r#"cache_failures_total{cache="pods"} 0"#,
            r#"kubelet_calls_total{method="get",result="failed"} 1"#,
            r#"kubelet_calls_total{method="list",result="busy"} 1"#,
            r#"kubelet_calls_total{method="list",result="ok"} 2"#,
            r#"kubelet_call_seconds_count{method="list"} 3"#,
            "swept_sandboxes_total 3",
        ],
    );
    let table = include_str!("../../../METRICS.md");
    assert_eq!(test_support::table_differences(table, &text), Vec::<String>::new());
}

#[tokio::test]
async fn an_agent_without_the_api_server_tells_so() {
    let running = start(|_| Some(status(503, "away")));
    let address = probes(&running.agent).await;
    while running.log.lock().unwrap().len() < 2 {
        tokio::task::yield_now().await;
    }
    let failures = |text: &str| text.contains(r#"cache_failures_total{cache="networks"} 1"#);
    let mut text = metrics(address).await;
    while !failures(&text) {
        text = metrics(address).await;
    }
    has(&text, &[r#"cache_synced{cache="networks"} 0"#, r#"cache_objects{cache="networks"} 0"#]);
}
