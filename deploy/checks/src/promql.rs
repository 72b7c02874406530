//! Names of metrics and labels in Prometheus' expressions. Whether an expression is one, promtool says.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail, ensure};

/// Metrics that there are, with their labels.
pub type Metrics = BTreeMap<String, BTreeSet<String>>;

/// Functions, aggregations and words of the language that our expressions use.
const WORDS: &[&str] =
    &["and", "bool", "by", "count", "histogram_quantile", "increase", "max", "on", "rate", "sum", "topk"];

/// Words that a list of labels in parentheses follows.
const GROUPING: &[&str] = &["by", "on"];

/// The metrics of a table whose first columns are name, type and labels, as it is exposed.
#[must_use]
pub fn of_table(table: &str) -> Metrics {
    let mut metrics = Metrics::new();
    for line in table.lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, name, kind, labels, _, ..] = cells.as_slice() else { continue };
        let Some(name) = name.strip_prefix('`').and_then(|name| name.strip_suffix('`')) else { continue };
        let mut labels: BTreeSet<String> = labels.split('`').skip(1).step_by(2).map(str::to_owned).collect();
        if *kind == "histogram" {
            for part in ["_sum", "_count"] {
                metrics.insert(format!("{name}{part}"), labels.clone());
            }
            labels.insert("le".into());
            metrics.insert(format!("{name}_bucket"), labels);
        } else if ["gauge", "counter"].contains(kind) {
            metrics.insert(name.to_owned(), labels);
        }
    }
    metrics
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Token<'a> {
    Word(&'a str),
    Mark(char),
}

/// Words and marks, without numbers, durations and texts.
fn tokens(expression: &str) -> Result<Vec<Token<'_>>> {
    let (mut tokens, mut rest) = (Vec::new(), expression);
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '"' => 2 + rest[1..].find('"').with_context(|| format!("a text without end: {rest}"))?,
            '[' => 1 + rest.find(']').with_context(|| format!("a range without end: {rest}"))?,
            _ if first.is_ascii_alphanumeric() || first == '_' => rest
                .find(|letter: char| !letter.is_ascii_alphanumeric() && !"_:.".contains(letter))
                .unwrap_or(rest.len()),
            _ => first.len_utf8(),
        };
        let (token, after) = rest.split_at(length);
        if first.is_ascii_alphabetic() || first == '_' {
            tokens.push(Token::Word(token));
        } else if !first.is_ascii_alphanumeric() && !first.is_whitespace() && !"\"[".contains(first) {
            tokens.push(Token::Mark(first));
        }
        rest = after;
    }
    Ok(tokens)
}

/// The metrics of an expression.
///
/// # Errors
/// When it has a metric that there is not, or a label that none of its metrics has.
pub fn check(expression: &str, metrics: &Metrics, of_targets: &BTreeSet<String>) -> Result<BTreeSet<String>> {
    let mut used = BTreeSet::new();
    let mut grouped = BTreeSet::new();
    let mut words = tokens(expression)?.into_iter().peekable();
    while let Some(token) = words.next() {
        let Token::Word(word) = token else { continue };
        if WORDS.contains(&word) {
            if GROUPING.contains(&word) {
                ensure!(words.next() == Some(Token::Mark('(')), "{word} without labels");
                grouped.extend(labels_until(')', &mut words).into_iter().map(str::to_owned));
            }
            continue;
        }
        let labels = metrics.get(word).with_context(|| format!("there is no metric {word}"))?;
        used.insert(word.to_owned());
        if words.next_if_eq(&Token::Mark('{')).is_some() {
            for label in labels_until('}', &mut words) {
                if !labels.contains(label) && !of_targets.contains(label) {
                    bail!("{word} has no label {label}");
                }
            }
        }
    }
    let has = |label: &String| {
        used.iter().any(|metric| metrics[metric].contains(label)) || of_targets.contains(label)
    };
    let foreign: Vec<&String> = grouped.iter().filter(|label| !has(label)).collect();
    ensure!(foreign.is_empty(), "grouped by {foreign:?}, which no metric of {used:?} has");
    ensure!(!used.is_empty(), "no metric in {expression}");
    Ok(used)
}

/// The words up to a mark, which goes with them.
fn labels_until<'a>(end: char, words: &mut impl Iterator<Item = Token<'a>>) -> Vec<&'a str> {
    let inside = words.take_while(|token| *token != Token::Mark(end));
    inside
        .filter_map(|token| match token {
            Token::Word(label) => Some(label),
            Token::Mark(_) => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
| Name | Type | Labels | Meaning |\n|---|---|---|---|\n\
| `a_things` | gauge | `kind`, `way` | of `other` |\n| `a_seconds` | histogram | | |\n\n| `kind` | |\n";

    fn check(expression: &str) -> Result<Vec<String>> {
        let used = super::check(expression, &of_table(TABLE), &["node".to_owned()].into())?;
        Ok(used.into_iter().collect())
    }

    #[test]
    fn metrics_are_those_of_the_table_as_they_are_exposed() {
        let names: Vec<String> = of_table(TABLE).into_keys().collect();
        assert_eq!(names, ["a_seconds_bucket", "a_seconds_count", "a_seconds_sum", "a_things"]);
    }

    #[test]
    fn what_there_is_may_be_used() {
        let expression = r#"sum by (kind, node) (rate(a_things{way=~"x|y{", node!="b"}[5m])) > 1e3 and on (node) a_seconds_sum"#;
        assert_eq!(check(expression).unwrap(), ["a_seconds_sum", "a_things"]);
        assert_eq!(
            check("histogram_quantile(0.9, sum by (le) (a_seconds_bucket))").unwrap(),
            ["a_seconds_bucket"]
        );
    }

    #[test]
    fn what_there_is_not_is_told() {
        for (expression, word) in [
            ("a_thing", "a_thing"),
            (r#"a_things{reason="x"}"#, "reason"),
            ("sum by (le) (a_things)", "le"),
            ("median(a_things)", "median"),
            ("1 > 0", "no metric"),
            (r#"a_things{kind="x}"#, "without end"),
        ] {
            let error = check(expression).unwrap_err().to_string();
            assert!(error.contains(word), "{expression}: {error}");
        }
    }
}
