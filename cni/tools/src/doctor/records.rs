//! What is left of pods that are gone: by the records, and of what no record owns.

use fairlead_cni::{
    cli::{Cli, left_over},
    engine::Engine,
    ipam,
    record::Store,
};
use serde_json::Value;

use super::Node;
use crate::finding::Finding;

/// What `fairlead reconcile` would find, without doing anything.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    /// How many attachments there are.
    attachments: usize,
    /// What is wrong with one of them.
    problems: Vec<String>,
    /// Files that are no records.
    broken: Vec<String>,
    /// What nobody owns, or why that could not be looked at.
    left: Result<Vec<String>, String>,
}

impl Facts {
    fn none() -> Self {
        Self { attachments: 0, problems: Vec::new(), broken: Vec::new(), left: Ok(Vec::new()) }
    }

    pub(super) fn gather(node: &Node) -> Self {
        let state = node.root.path(&node.section.state_dir);
        let store = Store::new(&state);
        let mut facts = Self::none();
        match store.all() {
            Ok(records) => facts.attachments = records.len(),
            Err(error) => facts.left = Err(error.to_string()),
        }
        let unreadable = store.unreadable().unwrap_or_default();
        facts.broken.extend(unreadable.iter().map(ToString::to_string));
        facts.broken.extend(
            store.broken().unwrap_or_default().iter().map(|file| format!("{} was set aside", file.display())),
        );
        if !node.root.is_own() {
            facts.left = Err("whether sandboxes live, and which namespace a device is in, can be told on the node itself alone".into());
            return facts;
        }
        match problems(node) {
            Ok(problems) => facts.problems = problems,
            Err(error) => facts.left = Err(error),
        }
        if facts.left.is_ok() {
            let found = Engine::open(&node.section.state_dir, &node.section.run_dir)
                .and_then(|engine| left_over(&engine, std::path::Path::new(ipam::DATA_DIR)));
            // Files that are no records are told already.
            let is_other = |line: &String| !line.starts_with("record ") && !line.contains(".broken");
            facts.left = found
                .map(|lines| lines.into_iter().filter(is_other).collect())
                .map_err(|error| error.to_string());
        }
        facts
    }
}

/// What `fairlead list` says.
fn problems(node: &Node) -> Result<Vec<String>, String> {
    let folders = [("--state-dir", &node.section.state_dir), ("--run-dir", &node.section.run_dir)];
    let options = folders.iter().flat_map(|(option, dir)| [(*option).to_owned(), dir.display().to_string()]);
    let call = ["list", "-o", "json"].map(str::to_owned).into_iter().chain(options);
    let answer = Cli::parse(call)?.run().map_err(|error| error.to_string())?;
    let document: Value = serde_json::from_str(&answer.text).map_err(|error| error.to_string())?;
    let rows = document["attachments"].as_array().into_iter().flatten();
    Ok(rows.flat_map(of_row).collect())
}

fn of_row(row: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let pod = format!("{}/{}", text(&row["pod"]["namespace"]), text(&row["pod"]["name"]));
    let problems = row["problems"].as_array().into_iter().flatten();
    problems.map(|problem| format!("{} of pod {pod}: {}", text(&row["interface"]), text(problem))).collect()
}

/// Says what is left.
pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    let each = |lines: &[String], id, remedy: &str| -> Vec<Finding> {
        lines.iter().map(|line| Finding::warning(id, line.clone(), remedy)).collect()
    };
    findings.extend(each(
        &facts.problems,
        "records.attachments",
        "`fairlead reconcile` undoes what is left of sandboxes that are gone",
    ));
    findings.extend(each(
        &facts.broken,
        "records.broken",
        "see what is in it, then remove it: nobody undoes what it tells of",
    ));
    match &facts.left {
        Ok(left) => findings.extend(each(
            left,
            "records.left",
            "where nobody else owns it: remove the reservation, or bring the device back",
        )),
        Err(why) => findings.push(Finding::unknown(
            "records.left",
            why.clone(),
            "call `fairlead doctor` on the node, as root",
        )),
    }
    if findings.is_empty() {
        findings.push(Finding::ok(
            "records",
            format!("{} attachments, and nothing is left of any other", facts.attachments),
        ));
    }
    findings
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{
        super::testing::{MadeNode, assert_found},
        *,
    };
    use crate::finding::Severity;

    #[test]
    fn what_is_left_is_told_one_by_one() {
        let row = json!({"pod": {"namespace": "a", "name": "b"}, "interface": "net1", "problems": ["its sandbox is gone"]});
        let facts = Facts {
            attachments: 1,
            problems: of_row(&row),
            broken: vec!["x.broken was set aside".into()],
            left: Ok(vec!["a reservation".into()]),
        };
        let all = judge(&facts);
        assert_found(
            &all,
            "records.attachments",
            Severity::Warning,
            &["net1 of pod a/b: its sandbox is gone", "reconcile"],
        );
        assert_found(&all, "records.broken", Severity::Warning, &["x.broken"]);
        assert_found(&all, "records.left", Severity::Warning, &["a reservation"]);
        assert_found(&judge(&Facts::none()), "records", Severity::Ok, &["0 attachments"]);
    }

    #[test]
    fn of_another_roots_node_only_files_are_judged() {
        let node = MadeNode::new();
        node.write("/var/lib/fairlead/attachments/a-net1.json", "{");
        let all = judge(&Facts::gather(&node.node()));
        assert_found(&all, "records.broken", Severity::Warning, &["a-net1.json"]);
        assert_found(&all, "records.left", Severity::Unknown, &["on the node itself"]);
    }
}
