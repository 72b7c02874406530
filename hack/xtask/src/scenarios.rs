//! Which scenario of the CNI plugins is shown by which test, on which bed: `cni/SCENARIOS.md`, made from the outputs of the
//! test runs. A test says with its name what it shows: `p9_p12_del_may_be_repeated`.

use std::{collections::BTreeSet, fmt, fmt::Write as _, str::FromStr};

use anyhow::{Context, Result, bail, ensure};

/// Letter and number, as in `S14`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Id {
    letter: char,
    number: u8,
}

impl FromStr for Id {
    type Err = anyhow::Error;

    /// In any case, the number with or without zeros before it.
    fn from_str(text: &str) -> Result<Self> {
        let mut rest = text.chars();
        let letter = rest.next().map(|letter| letter.to_ascii_uppercase());
        let digits = rest.as_str();
        match letter {
            Some(letter)
                if "PSMIHDX".contains(letter) && digits.bytes().all(|byte| byte.is_ascii_digit()) =>
            {
                Ok(Self { letter, number: digits.parse().with_context(|| format!("number in {text}"))? })
            }
            _ => bail!("{text} is no scenario's number"),
        }
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.letter, self.number)
    }
}

/// A line of `scenarios.txt`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Scenario {
    id: Id,
    what: String,
    /// Why no test shows it.
    unshown: Option<String>,
}

/// Reads `scenarios.txt`.
///
/// # Errors
/// A line that is none, a number that comes twice.
pub(crate) fn parse_list(text: &str) -> Result<Vec<Scenario>> {
    let mut list: Vec<Scenario> = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let mut parts = line.splitn(3, " | ");
        let id: Id = parts.next().unwrap_or_default().parse()?;
        let what = parts.next().with_context(|| format!("{id} does not say what is shown"))?.to_owned();
        ensure!(list.iter().all(|scenario| scenario.id != id), "{id} is listed twice");
        list.push(Scenario { id, what, unshown: parts.next().map(str::to_owned) });
    }
    Ok(list)
}

/// What became of a test.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    Passed,
    Failed,
    Skipped(String),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passed => f.write_str("passed"),
            Self::Failed => f.write_str("FAILED"),
            Self::Skipped(why) => write!(f, "skipped: {why}"),
        }
    }
}

/// A scenario, where it was played, by which test, and how that ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    id: Id,
    bed: String,
    test: String,
    outcome: Outcome,
}

impl Row {
    /// A line of the table, the other way round.
    fn parse(line: &str) -> Option<Self> {
        let cells: Vec<&str> = line.strip_prefix("| ")?.strip_suffix(" |")?.split(" | ").collect();
        let &[id, _, bed, test, outcome] = cells.as_slice() else { return None };
        let outcome = match outcome.strip_prefix("skipped: ") {
            Some(why) => Outcome::Skipped(why.to_owned()),
            None if outcome == "passed" => Outcome::Passed,
            None => Outcome::Failed,
        };
        let test = test.trim_matches('`').to_owned();
        Some(Self { id: id.parse().ok()?, bed: bed.to_owned(), test, outcome })
    }
}

/// The scenarios that a test's name says: the numbers that it begins with.
fn shown_by(test: &str) -> Vec<Id> {
    let name = test.rsplit("::").next().unwrap_or(test);
    let numbers = name.split('_').map(|part| part.parse().ok().filter(|_| part.len() <= 3));
    numbers.map_while(|id| id).collect()
}

/// The bed that a test program is, by the line with which cargo announces it.
fn bed_of(running: &str) -> &'static str {
    match running {
        line if line.contains("unittests") && line.contains("fairlead_kernel-") => "kernel's edge",
        line if line.contains("unittests") => "unit",
        _ => "namespaces",
    }
}

/// Rows from the output of test programs. On the node all are the node's.
pub(crate) fn parse_log(log: &str, on_node: bool) -> Vec<Row> {
    let skipped = |line: &str| {
        let (test, why) = line.strip_prefix("*** SKIPPED: ")?.strip_suffix(" ***")?.split_once(": ")?;
        Some((test.to_owned(), why.to_owned()))
    };
    let skips: Vec<(String, String)> = log.lines().filter_map(skipped).collect();
    let mut bed = "node";
    let mut rows = Vec::new();
    for line in log.lines() {
        let line = line.trim_end();
        if let Some(program) = line.trim_start().strip_prefix("Running ").filter(|_| !on_node) {
            bed = bed_of(program);
        }
        let Some((test, end)) = line.strip_prefix("test ").and_then(|line| line.split_once(" ... ")) else {
            continue;
        };
        let outcome = match (end, skips.iter().find(|(name, _)| name == test)) {
            ("ok", Some((_, why))) => Outcome::Skipped(why.clone()),
            ("ok", None) => Outcome::Passed,
            (end, _) if end.starts_with("ignored") => Outcome::Skipped("ignored".to_owned()),
            _ => Outcome::Failed,
        };
        let row = |id| Row { id, bed: bed.to_owned(), test: test.to_owned(), outcome: outcome.clone() };
        rows.extend(shown_by(test).into_iter().map(row));
    }
    rows
}

/// Whether a run of the host's tests, or of the node's, gives rows of this bed.
pub(crate) fn is_of(row: &Row, on_node: bool) -> bool {
    (row.bed == "node") == on_node
}

/// Rows of a table that was made earlier.
pub(crate) fn parse_table(table: &str) -> Vec<Row> {
    table.lines().filter_map(Row::parse).collect()
}

/// The table, in the list's order.
pub(crate) fn table(list: &[Scenario], rows: &[Row]) -> String {
    let mut text = String::from(
        "# Scenarios\n\nWhich test shows what of the CNI plugins, and where it was played. Made from the outputs of `hack/test` by \
         `cargo run -p xtask -- scenarios`;\n`hack/test` fails when a scenario loses its test. Beds: *unit* (plain data and files), \
         *kernel's edge* (what is sent to the kernel, recorded or byte for\nbyte), *namespaces* (network namespaces of a machine like \
         any other), *node* (the emulated SR-IOV node: igb's VFs and every kind of link).\n",
    );
    let shown = list.iter().filter(|scenario| scenario.unshown.is_none()).count();
    let _ = writeln!(text, "\n{shown} of {} scenarios are shown by a test.\n", list.len());
    text.push_str("| # | what | bed | test | outcome |\n|---|---|---|---|---|\n");
    for scenario in list {
        let mut own: Vec<&Row> = rows.iter().filter(|row| row.id == scenario.id).collect();
        own.sort_by_key(|row| (&row.bed, &row.test));
        for (place, row) in own.iter().enumerate() {
            let what = if place == 0 { scenario.what.as_str() } else { "" };
            let _ =
                writeln!(text, "| {} | {what} | {} | `{}` | {} |", row.id, row.bed, row.test, row.outcome);
        }
    }
    text.push_str("\n## Not shown\n\n");
    for scenario in list {
        if let Some(why) = &scenario.unshown {
            let _ = writeln!(text, "- {} ({}): {why}", scenario.id, scenario.what);
        }
    }
    text
}

/// What is wrong with a table: scenarios that nothing shows and nobody explains, explanations that are out of date, numbers that are
/// no scenario's.
pub(crate) fn gaps(list: &[Scenario], rows: &[Row]) -> Vec<String> {
    let mut found = Vec::new();
    for scenario in list {
        let id = scenario.id;
        let is_shown = rows.iter().any(|row| row.id == id && row.outcome == Outcome::Passed);
        match (&scenario.unshown, is_shown) {
            (None, false) => found.push(format!(
                "{id} ({}): no test that passes has this number, and scenarios.txt gives no reason",
                scenario.what
            )),
            (Some(_), true) => {
                found.push(format!("{id}: a test shows it now; take the reason out of scenarios.txt"));
            }
            _ => {}
        }
    }
    let strange = |row: &&Row| list.iter().all(|scenario| scenario.id != row.id);
    found.extend(
        rows.iter()
            .filter(strange)
            .map(|row| format!("{}: {} is no scenario of scenarios.txt", row.test, row.id)),
    );
    found
}

/// How a run differs from the table that is checked in.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    /// Tests that were not run any more, or failed: scenarios that nothing may show now.
    pub(crate) lost: Vec<String>,
    /// Tests that the table does not know yet.
    pub(crate) added: Vec<String>,
}

/// Compares a run with the table's rows of the same beds.
pub(crate) fn changes(kept: &[Row], run: &[Row]) -> Changes {
    let keys = |rows: &[Row]| -> BTreeSet<String> {
        rows.iter().map(|row| format!("{}: {} ({})", row.id, row.test, row.bed)).collect()
    };
    let (old, new) = (keys(kept), keys(run));
    let lost = old.difference(&new).map(|row| format!("{row} was not run: a scenario has lost its test"));
    let failed = run.iter().filter(|row| row.outcome == Outcome::Failed);
    let failed = failed.map(|row| format!("{}: {} failed", row.id, row.test));
    Changes { lost: lost.chain(failed).collect(), added: new.difference(&old).cloned().collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str =
        "# comment\n\nP9 | DEL may be repeated\nS4 | VLAN protocol 802.1ad | no card here has it\n";
    const LOG: &str = "     Running unittests src/lib.rs (target/debug/deps/fairlead_kernel-1f)\n\
        test route::vf::p9_sent_twice ... ok\n\
        \x20    Running tests/live/main.rs (target/debug/deps/live-2a)\n\
        test alone::p9_p12_del ... ok\n\n*** SKIPPED: links::p9_vlan: this kernel has no vlan links ***\n\
        test links::p9_vlan ... ok\ntest links::other ... ok\ntest links::p09_last ... FAILED\n";

    fn rows(log: &str, on_node: bool) -> Vec<String> {
        let text = |row: &Row| format!("{} {} {} {}", row.id, row.bed, row.test, row.outcome);
        parse_log(log, on_node).iter().map(text).collect()
    }

    #[test]
    fn a_name_says_what_its_test_shows() {
        let ids = |name| shown_by(name).iter().map(Id::to_string).collect::<Vec<_>>();
        assert_eq!(ids("alone::p2_p09_x4_all_versions_of_s1"), ["P2", "P9", "X4"]);
        assert_eq!(ids("pods_m1"), Vec::<String>::new());
        assert_eq!(ids("x509_certificates"), Vec::<String>::new());
    }

    #[test]
    fn a_line_for_each_scenario_bed_and_test() {
        let expected = [
            "P9 kernel's edge route::vf::p9_sent_twice passed",
            "P9 namespaces alone::p9_p12_del passed",
            "P12 namespaces alone::p9_p12_del passed",
            "P9 namespaces links::p9_vlan skipped: this kernel has no vlan links",
            "P9 namespaces links::p09_last FAILED",
        ];
        assert_eq!(rows(LOG, false), expected);
        assert_eq!(rows("test a::p1_x ... ok\r\n", true), ["P1 node a::p1_x passed"]);
    }

    #[test]
    fn a_table_is_read_as_it_was_made() {
        let (list, rows) = (parse_list(LIST).unwrap(), parse_log(&LOG.replace("p9_p12", "p9"), false));
        let mut read = parse_table(&table(&list, &rows));
        assert_eq!(read.len(), 4);
        read.retain(|row| !rows.contains(row));
        assert_eq!(read, []);
        assert!(table(&list, &rows).contains("S4 (VLAN protocol 802.1ad): no card here has it"));
    }

    #[test]
    fn every_scenario_has_a_test_or_a_reason() {
        let list = parse_list(LIST).unwrap();
        let shown = parse_log("test p9_del ... ok\n", true);
        assert_eq!(gaps(&list, &shown), Vec::<String>::new());
        for (log, words) in [
            ("test p9_del ... FAILED\n", "no test that passes"),
            ("test p9_s4_del ... ok\n", "take the reason out"),
            ("test p9_p99_del ... ok\n", "no scenario of"),
        ] {
            let found = gaps(&list, &parse_log(log, true));
            assert!(found.len() == 1 && found[0].contains(words), "{found:?}");
        }
    }

    #[test]
    fn a_lost_test_is_seen_and_another_machine_is_not() {
        let kept = parse_log("test p9_del ... ok\n", true);
        let skipped = "*** SKIPPED: p9_del: no igb ***\ntest p9_del ... ok\n";
        assert_eq!(changes(&kept, &parse_log(skipped, true)), Changes::default());
        let other = changes(&kept, &parse_log("test p9_others ... ok\n", true));
        assert!(other.lost.len() == 1 && other.lost[0].contains("lost its test"), "{other:?}");
        assert!(other.added.len() == 1 && other.added[0].contains("p9_others"), "{other:?}");
        let failed = changes(&kept, &parse_log("test p9_del ... FAILED\n", true));
        assert!(failed.lost[0].contains("failed"), "{failed:?}");
    }

    #[test]
    fn a_wrong_list_is_refused() {
        for text in ["Q1 | what\n", "P1\n", "P1 | a\nP1 | b\n", "Px | what\n"] {
            assert!(parse_list(text).is_err(), "{text}");
        }
    }
}
