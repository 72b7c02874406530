//! A page that stands alone: no script, no font, no picture from elsewhere.

use std::fmt::Write as _;

use super::finding::gbps;
use super::plot::{Line, plot};
use super::table::percent;
use super::{Finding, Offered, Outcome, Report};
use crate::plan::Mode;
use crate::preflight::{Check, Verdict};
use crate::stats::number;

const STYLE: &str = "body{font:15px/1.45 system-ui,sans-serif;margin:2em auto;max-width:76em;padding:0 1em;color:#222}\
h1{font-size:1.5em}h2{font-size:1.15em;margin-top:2em}table{border-collapse:collapse;width:100%;font-size:.93em}\
th,td{padding:.25em .6em;border-bottom:1px solid #ddd;text-align:left;vertical-align:top}\
td.n,th.n{text-align:right}td.n,.w{white-space:nowrap}.ok{color:#0a6b2d}.warn{color:#9a5b00}.fail{color:#b00020}\
.banner{padding:.7em 1em;border-radius:6px;background:#eee}.banner.ok{background:#e2f4e6}.banner.fail{background:#fbe3e6}\
figure{margin:1em 0}figcaption{font-weight:600}svg{width:100%;height:auto}svg text{font:12px system-ui,sans-serif;fill:#333}\
code,pre{font-size:.88em;overflow-wrap:anywhere;white-space:pre-wrap}small{color:#666}";

/// Text with everything that means something to a browser taken out of force.
pub(super) fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            // Of control characters XML takes these only, and a terminal's escapes tell a reader nothing.
            '\n' | '\t' => safe.push(character),
            control if control.is_control() => safe.push('\u{fffd}'),
            other => safe.push(other),
        }
    }
    safe
}

/// The page.
#[must_use]
pub fn html(report: &Report) -> String {
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>DPDK check: {}</title>\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\"><style>{STYLE}</style></head><body>\n\
         <h1>DPDK check</h1>\n",
        report.outcome.title()
    );
    banner(report, &mut page);
    let findings = &report.measurements.results;
    if !findings.is_empty() {
        page.push_str("<h2>Throughput</h2>\n");
        plots(findings, &mut page);
        results(findings, &mut page);
    }
    ratios(report, &mut page);
    page.push_str("<h2>Preflight</h2>\n");
    checks(report.checks(), &mut page);
    if !report.afterwards.is_empty() {
        page.push_str("<h2>Afterwards</h2>\n");
        checks(report.afterwards.iter(), &mut page);
    }
    repeat(report, &mut page);
    page.push_str("</body></html>\n");
    page
}

fn banner(report: &Report, page: &mut String) {
    let class = if report.outcome == Outcome::Ok { "ok" } else { "fail" };
    let reason = report.reason.as_deref().unwrap_or("everything was measured, and is good enough");
    let _ = writeln!(
        page,
        "<p class=\"banner {class}\"><strong>{}</strong>: {}</p>\n<p><small>Begun {}, took {:.1} s. \
         fairlead-dpdk-check {}, {}. Host {}, kernel {}, {}, processors {}.</small></p>",
        report.outcome.title(),
        escape(reason),
        date(report.started),
        report.seconds,
        escape(&report.version),
        escape(report.measurements.dpdk_version.as_deref().unwrap_or("DPDK was not started")),
        escape(&report.machine.host),
        escape(&report.machine.kernel),
        escape(&report.machine.processor),
        escape(&report.machine.usable),
    );
}

/// Seconds since 1970 as a date, in UTC.
fn date(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Days from the civil calendar, counted from March so that the leap day is the last of a year.
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let of_era = shifted % 146_097;
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02} UTC", rest / 3600, rest % 3600 / 60, rest % 60)
}

fn plots(findings: &[Finding], page: &mut String) {
    let of_traffic: Vec<&Finding> = findings.iter().filter(|finding| finding.mode != Mode::Latency).collect();
    let lines = |value: fn(&Finding) -> f64, limit: fn(f64, u16) -> f64| {
        let mut lines: Vec<Line> = Vec::new();
        for finding in &of_traffic {
            let (path, mode) = (finding.path.as_str(), finding.mode.as_str());
            let name = format!("{path} {mode}: {} -> {}", finding.from, finding.to);
            let point = (finding.frame_size, value(finding));
            match lines.iter_mut().find(|line| line.name == name) {
                Some(line) => line.points.push(point),
                None => lines.push(Line { name, points: vec![point], limit: false }),
            }
        }
        let mut limits: Vec<(u16, f64)> = of_traffic
            .iter()
            .filter_map(|finding| {
                Some((finding.frame_size, limit(finding.line_rate_pps?, finding.frame_size)))
            })
            .collect();
        limits.sort_by_key(|(size, _)| *size);
        limits.dedup_by_key(|(size, _)| *size);
        for line in &mut lines {
            line.points.sort_by_key(|(size, _)| *size);
        }
        if !limits.is_empty() {
            lines.push(Line { name: "line rate".into(), points: limits, limit: true });
        }
        lines
    };
    let packets = lines(|finding| finding.received_pps.median, |line, _| line);
    let bits = lines(|finding| finding.received_gbps, gbps);
    page.extend(plot("Packets per second by frame size", &packets));
    page.extend(plot("Gbit/s of frames by frame size", &bits));
}

fn results(findings: &[Finding], page: &mut String) {
    page.push_str(
        "<table><tr><th>path</th><th>mode</th><th class=\"n\">bytes</th><th>from, to</th><th class=\"n\">sent/s</th>\
         <th class=\"n\">received/s</th><th class=\"n\">lowest to highest</th><th class=\"n\">Gbit/s</th>\
         <th class=\"n\">of line rate</th><th class=\"n\">loss</th><th class=\"n\">round trip</th></tr>\n",
    );
    for finding in findings {
        let trip = finding.round_trip_us.map_or_else(String::new, |trip| format!("{:.1} µs", trip.median));
        let offered = match finding.offered {
            Offered::Saturated => "as fast as it can".to_owned(),
            Offered::Paced { mbps } => format!("at {mbps} Mbit/s"),
            Offered::Circulating { frames: 1 } => "one frame".to_owned(),
            Offered::Circulating { frames } => format!("{frames} frames circulate"),
        };
        let note = finding.note.as_ref().map(|note| format!("<br><small>{}</small>", escape(note)));
        let _ = writeln!(
            page,
            "<tr><td>{}</td><td class=\"w\">{}<br><small>{offered}</small></td><td class=\"n\">{}</td><td><span class=\"w\">{}</span> → <span class=\"w\">{}</span>{}</td>\
             <td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{} – {}</td><td class=\"n\">{:.3}</td>\
             <td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{trip}</td></tr>",
            finding.path.as_str(),
            finding.mode.as_str(),
            finding.frame_size,
            escape(&finding.from),
            escape(&finding.to),
            note.unwrap_or_default(),
            number(finding.sent_pps.median),
            number(finding.received_pps.median),
            number(finding.received_pps.min),
            number(finding.received_pps.max),
            finding.received_gbps,
            finding.line_share().map_or_else(|| "?".to_owned(), percent),
            percent(finding.loss),
        );
    }
    page.push_str("</table>\n");
    page.push_str(
        "<p><small>Medians over the trials. Gbit/s count whole frames with their checksum; line rate counts preamble and gap, \
         too, and is no limit between VFs of one PF, whose frames never see the wire. Loss is over all frames of all trials, warm-up included.</small></p>\n",
    );
    let search = findings.iter().filter_map(|finding| Some((finding, finding.search.as_ref()?)));
    for (finding, search) in search {
        let steps: Vec<String> = search
            .steps
            .iter()
            .map(|step| format!("{} Mbit/s: {} lost", step.mbps, percent(step.loss)))
            .collect();
        let found = search.mbps.map_or_else(|| "none passed".to_owned(), |mbps| format!("{mbps} Mbit/s"));
        let _ = writeln!(
            page,
            "<p>Search for {} B with at most {} loss, {} s each: <strong>{found}</strong><br><small>{}</small></p>",
            finding.frame_size,
            percent(search.acceptable_loss),
            search.trial,
            steps.join("; ")
        );
    }
}

fn ratios(report: &Report, page: &mut String) {
    let Some(first) = report.ratios.first() else { return };
    let _ = writeln!(
        page,
        "<h2>{0} against {1}</h2>\n<table><tr><th>mode</th><th class=\"n\">bytes</th><th class=\"n\">{0}, packets/s</th>\
         <th class=\"n\">{1}, packets/s</th><th class=\"n\">ratio</th></tr>",
        escape(&first.of),
        escape(&first.to)
    );
    for ratio in &report.ratios {
        let _ = writeln!(
            page,
            "<tr><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{:.3}</td></tr>",
            ratio.mode.as_str(),
            ratio.frame_size,
            number(ratio.of_pps.median),
            number(ratio.to_pps.median),
            ratio.ratio
        );
    }
    page.push_str("</table>\n");
}

fn checks<'a>(checks: impl Iterator<Item = &'a Check>, page: &mut String) {
    page.push_str("<table>\n");
    for check in checks {
        let (class, word) = match check.verdict {
            Verdict::Ok => ("ok", "ok"),
            Verdict::Warn => ("warn", "warning"),
            Verdict::Fail => ("fail", "FAILED"),
        };
        let remedy =
            check.remedy.as_ref().map(|remedy| format!("<br><small>Remedy: {}</small>", escape(remedy)));
        let _ = writeln!(
            page,
            "<tr><td class=\"{class}\">{word}</td><td>{}</td><td>{}{}</td></tr>",
            escape(&check.what),
            escape(&check.found),
            remedy.unwrap_or_default()
        );
    }
    page.push_str("</table>\n");
}

/// What is needed to do it again; samples are in the JSON report.
fn repeat(report: &Report, page: &mut String) {
    let _ = writeln!(page, "<h2>To repeat it</h2>\n<pre>{}</pre>", escape(&report.command.join(" ")));
    if let Some(settings) = &report.settings
        && let Ok(text) = serde_json::to_string_pretty(settings)
    {
        let _ = writeln!(page, "<pre>{}</pre>", escape(&text));
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{finding, report};
    use super::*;

    #[test]
    fn the_page_stands_alone_and_holds_what_was_found() {
        let mut report = report(vec![
            finding(Mode::Forth, 64, &[20_000.0]),
            finding(Mode::Forth, 1518, &[15_000.0]),
            finding(Mode::Latency, 64, &[900.0]),
        ]);
        report.reason = Some("<script>alert(1)</script>\u{1b}[0m".into());
        let page = html(&report);
        for forbidden in ["<script", "http", "src=", "\u{1b}"] {
            assert!(!page.contains(forbidden), "{forbidden}");
        }
        for word in
            ["20 000", "line rate", "0000:01:10.0</span> → ", "huge pages &lt;2Mi&gt;", "Remedy: more"]
        {
            assert!(page.contains(word), "{word}");
        }
        // Two plots, each with one line of traffic and the limit; one frame that goes to and fro is no throughput.
        assert_eq!((page.matches("<svg").count(), page.matches("<polyline").count()), (2, 4));
    }

    #[test]
    fn a_check_that_ended_early_has_a_page_too() {
        let page = html(&report(Vec::new()));
        assert!(page.contains("<h2>Preflight</h2>") && !page.contains("<svg"));
    }

    #[test]
    fn dates() {
        assert_eq!(date(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(date(951_782_400), "2000-02-29 00:00:00 UTC");
        assert_eq!(date(1_795_785_495), "2026-11-27 13:18:15 UTC");
    }
}
