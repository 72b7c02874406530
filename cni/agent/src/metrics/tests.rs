use super::*;

fn timing(network: &str, step: &str) -> Timing {
    Timing { network: network.into(), step: step.into(), us: 1500 }
}

fn lines(metrics: &Metrics, start: &str) -> usize {
    metrics.text().unwrap().lines().filter(|line| line.starts_with(start)).count()
}

#[test]
fn many_networks_do_not_grow_without_limit() {
    const COUNT: &str = "fairlead_agent_attachment_seconds_count";
    let metrics = Metrics::default();
    let names: Vec<String> = (0..10_000).map(|number| format!("default/n{number}")).collect();
    for name in &names {
        metrics.took(Verb::Add, &[timing("default/often", "macvlan"), timing(name, "macvlan")]);
    }
    assert_eq!(lines(&metrics, COUNT), LATENCIES);
    let often = format!(r#"{COUNT}{{verb="add",network="default/often",step="macvlan"}} 10000"#);
    assert_eq!(lines(&metrics, &often), 1, "what is used stays");
    assert_eq!(lines(&metrics, &format!(r#"{COUNT}{{verb="add",network="default/n9999""#)), 1);

    let often = ["default/often"; 3];
    metrics.attached(names.iter().map(String::as_str).chain(often));
    assert_eq!(lines(&metrics, "fairlead_agent_attachments{"), NETWORKS + 1);
    assert_eq!(lines(&metrics, r#"fairlead_agent_attachments{network="default/often"} 3"#), 1);
    let others = names.len() - (NETWORKS - 1);
    assert_eq!(lines(&metrics, &format!(r#"fairlead_agent_attachments{{network="others"}} {others}"#)), 1);
    metrics.attached(["default/a"].into_iter());
    assert_eq!(lines(&metrics, "fairlead_agent_attachments{"), 1);
}

#[test]
fn what_a_newer_executable_tells_and_what_is_too_long_has_its_place() {
    let metrics = Metrics::default();
    metrics.took(Verb::Del, &[timing("", "detach"), timing("", "dance"), timing(&"ä".repeat(1000), "x")]);
    for part in ["detach", "other"] {
        let line = format!(r#"fairlead_agent_call_seconds_count{{verb="del",part="{part}"}} 1"#);
        assert_eq!(lines(&metrics, &line), 1, "{part}");
    }
    let name = "ä".repeat(LONGEST_NAME / 2);
    let line =
        format!(r#"fairlead_agent_attachment_seconds_count{{verb="del",network="{name}",step="x"}} 1"#);
    assert_eq!(lines(&metrics, &line), 1);
}

#[test]
fn codes_have_reasons() {
    for (code, reason) in
        [(7, "configuration"), (8, "sandbox"), (5, "node"), (11, "busy"), (100, "plugin"), (999, "other")]
    {
        assert_eq!(Reason::of_code(code).word(), reason, "{code}");
    }
}
