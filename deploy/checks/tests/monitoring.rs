//! Alerts, dashboard and what is scraped: all about metrics that there are. Tests of both programs compare the tables of metrics that
//! are read here with what the programs expose.

#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use fairlead_deploy_checks::{
    deploy, documents, kustomize, markdown,
    objects::name,
    promql::{self, Metrics},
    read,
};
use serde_json::Value;

fn monitoring() -> PathBuf {
    deploy().join("monitoring")
}

/// Those of both programs, and Prometheus' own of each target.
fn metrics() -> Metrics {
    let mut metrics = Metrics::from([("up".to_owned(), BTreeSet::new())]);
    for table in ["../cni/agent/METRICS.md", "../device-plugin/METRICS.md"] {
        let found = promql::of_table(&read(&deploy().join(table)).unwrap());
        assert!(found.len() > 5, "{table} lists no metrics");
        metrics.extend(found);
    }
    metrics
}

/// Labels that Prometheus gives a target by pod-monitors.yaml.
fn of_targets() -> BTreeSet<String> {
    ["job", "node"].map(str::to_owned).into()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn groups(file: &str, at: &str) -> Value {
    let [document] = documents(&monitoring().join(file)).unwrap().try_into().unwrap();
    document.pointer(at).unwrap().clone()
}

#[test]
fn alerts_are_about_metrics_that_there_are_and_say_what_to_do() {
    let (metrics, of_targets) = (metrics(), of_targets());
    let help = markdown::anchors(&read(&deploy().join("docs/troubleshooting.md")).unwrap());
    let mut names = BTreeSet::new();
    for rule in list(&groups("rules.yaml", "/groups")).iter().flat_map(|group| list(&group["rules"])) {
        let alert = rule["alert"].as_str().unwrap();
        assert!(names.insert(alert.to_owned()), "{alert} is there twice");
        let expression = rule["expr"].as_str().unwrap();
        let used =
            promql::check(expression, &metrics, &of_targets).unwrap_or_else(|e| panic!("{alert}: {e}"));
        let severity = rule["labels"]["severity"].as_str().unwrap();
        assert!(["critical", "warning", "info"].contains(&severity), "{alert}: severity {severity}");
        let annotations = &rule["annotations"];
        for key in ["summary", "remedy"] {
            assert!(annotations[key].as_str().is_some_and(|text| text.ends_with('.')), "{alert}: {key}");
        }
        for label in annotations["summary"].as_str().unwrap().split("$labels.").skip(1) {
            let label = label.split(' ').next().unwrap();
            let has = of_targets.contains(label) || used.iter().any(|metric| metrics[metric].contains(label));
            assert!(has, "{alert}: its summary names a label {label}");
        }
        let (document, heading) = annotations["runbook"].as_str().unwrap().split_once('#').unwrap();
        assert_eq!(document, "deploy/docs/troubleshooting.md", "{alert}");
        assert!(help.contains(heading), "{alert}: troubleshooting.md has no heading {heading}");
    }
    assert!(names.len() > 10);
}

#[test]
fn the_operators_alerts_are_the_same() {
    let plain = groups("rules.yaml", "/groups");
    assert_eq!(groups("prometheus-rule.yaml", "/spec/groups"), plain);
    assert_eq!(groups("prometheus-rule.yaml", "/kind"), "PrometheusRule");
}

#[test]
fn the_dashboard_shows_every_metric_and_nothing_else() {
    let (metrics, of_targets) = (metrics(), of_targets());
    let dashboard: Value =
        serde_json::from_str(&read(&monitoring().join("dashboard.json")).unwrap()).unwrap();
    let mut shown = BTreeSet::new();
    for variable in list(&dashboard["templating"]["list"]) {
        if let Some((metric, label)) = variable["query"]
            .as_str()
            .and_then(|query| query.strip_prefix("label_values(")?.strip_suffix(')')?.split_once(", "))
        {
            let has = metrics[metric].contains(label) || of_targets.contains(label);
            assert!(has, "variable {}: {metric} has no label {label}", variable["name"]);
            shown.insert(metric.to_owned());
        }
    }
    let (mut ids, mut places) = (BTreeSet::new(), BTreeSet::new());
    for panel in list(&dashboard["panels"]) {
        let title = panel["title"].as_str().unwrap();
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}: its id is another's, too");
        let place = |key: &str| panel["gridPos"][key].as_u64().unwrap();
        assert!(place("x") + place("w") <= 24, "{title}: it is beyond the edge");
        for (x, y) in (place("x")..place("x") + place("w"))
            .flat_map(|x| (place("y")..place("y") + place("h")).map(move |y| (x, y)))
        {
            assert!(places.insert((x, y)), "{title}: it covers another panel");
        }
        assert_eq!(panel["type"] == "row", list(&panel["targets"]).is_empty(), "{title}");
        for target in list(&panel["targets"]) {
            assert_eq!(target["datasource"]["uid"], "${datasource}", "{title}");
            let expression = target["expr"].as_str().unwrap();
            let used = promql::check(expression, &metrics, &of_targets);
            shown.extend(used.unwrap_or_else(|e| panic!("{title}: {e}")));
        }
    }
    // Of a histogram any part does.
    let stem = |name: &String| {
        let part = ["_bucket", "_sum", "_count"].iter().find_map(|part| name.strip_suffix(part));
        part.unwrap_or(name).to_owned()
    };
    let all: BTreeSet<String> = metrics.keys().map(stem).collect();
    let shown: BTreeSet<String> = shown.iter().map(stem).collect();
    assert_eq!(all, shown);
}

/// The overlay with both options for metrics: where each program serves them.
#[test]
fn what_is_scraped_is_there() {
    let mut served = BTreeMap::new();
    for object in kustomize::render(&deploy().join("kustomize/overlays/all")).unwrap() {
        let template = &object["spec"]["template"];
        for container in list(&template["spec"]["containers"]) {
            let address = list(&container["args"])
                .iter()
                .find_map(|argument| argument.as_str()?.strip_prefix("--http-address=")?.rsplit(':').next());
            if let Some(port) = address {
                let labels = template["metadata"]["labels"]["app.kubernetes.io/name"].as_str().unwrap();
                let container = container["name"].as_str().unwrap().to_owned();
                served.insert(labels.to_owned(), (container, port.to_owned()));
            }
        }
    }
    let monitors = documents(&monitoring().join("pod-monitors.yaml")).unwrap();
    assert_eq!(monitors.len(), served.len());
    for monitor in monitors {
        let what = name(&monitor);
        let app = monitor["spec"]["selector"]["matchLabels"]["app.kubernetes.io/name"].as_str().unwrap();
        let (container, port) = &served[app];
        let [endpoint] = list(&monitor["spec"]["podMetricsEndpoints"]) else {
            panic!("{what}: one endpoint")
        };
        let rules = list(&endpoint["relabelings"]);
        let kept = rules.iter().find(|rule| rule["action"] == "keep").unwrap();
        assert_eq!(kept["regex"], *container, "{what}");
        let addresses: Vec<&str> = rules
            .iter()
            .filter(|rule| rule["targetLabel"] == "__address__")
            .map(|rule| rule["replacement"].as_str().unwrap())
            .collect();
        assert_eq!(addresses, [format!("$1:{port}"), format!("[$1]:{port}")], "{what}");
        assert!(rules.iter().any(|rule| rule["targetLabel"] == "node"), "{what}");
    }
}
