//! The results as a table for a terminal.

use super::Finding;
use crate::stats::number;

/// A line for each result, under a heading; empty without any.
#[must_use]
pub fn table(findings: &[Finding]) -> String {
    if findings.is_empty() {
        return String::new();
    }
    let head =
        ["path", "mode", "size", "from", "to", "sent/s", "received/s", "spread", "Gbit/s", "of line", "loss"];
    let mut rows = vec![head.map(str::to_owned)];
    for finding in findings {
        let trip = finding.round_trip_us.map(|trip| format!("{:.1} µs", trip.median));
        rows.push([
            finding.path.as_str().to_owned(),
            finding.mode.as_str().to_owned(),
            finding.frame_size.to_string(),
            finding.from.clone(),
            finding.to.clone(),
            number(finding.sent_pps.median),
            number(finding.received_pps.median),
            percent(finding.received_pps.spread),
            trip.unwrap_or_else(|| format!("{:.3}", finding.received_gbps)),
            finding.line_share().map_or_else(|| "?".to_owned(), percent),
            percent(finding.loss),
        ]);
    }
    let widths: Vec<usize> = (0..head.len())
        .map(|column| {
            rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
        })
        .collect();
    let line = |row: &[String; 11]| {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, width))| {
            // Names to the left, numbers to the right.
            if matches!(column, 0 | 1 | 3 | 4) {
                format!("{cell:<width$}")
            } else {
                format!("{cell:>width$}")
            }
        });
        format!("  {}", cells.collect::<Vec<_>>().join("  "))
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// A part as a percentage.
pub(super) fn percent(part: f64) -> String {
    format!("{:.1} %", 100.0 * part)
}

#[cfg(test)]
mod tests {
    use super::super::tests::finding;
    use super::*;
    use crate::plan::Mode;

    #[test]
    fn the_table_has_a_line_per_result_and_columns_that_stand_under_each_other() {
        assert_eq!(table(&[]), "");
        let table =
            table(&[finding(Mode::Forth, 64, &[20_123.4, 20_123.4]), finding(Mode::Macswap, 1518, &[999.6])]);
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines.len(), 3);
        let cells: Vec<&str> = lines[1].split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect();
        assert_eq!(
            cells,
            [
                "dpdk",
                "forth",
                "64",
                "0000:01:10.0",
                "0000:01:10.2",
                "1 234 567",
                "20 123",
                "0.0 %",
                "0.010",
                "1.4 %",
                "98.4 %"
            ]
        );
        let widths: Vec<usize> = lines.iter().map(|line| line.chars().count()).collect();
        assert!(widths.iter().all(|width| *width == widths[0]), "{table}");
    }
}
