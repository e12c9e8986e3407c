//! JUnit, in the dialect that CI servers read: one test case a claim or comparison.

use std::fmt::Write;

use super::{Claim, Judgement, Report};
use crate::judge::{Comparison, Verdict};
use crate::report::table::outcome;

/// `report` as JUnit XML.
pub fn junit(report: &Report) -> String {
    let failures = report.claims.iter().filter(|claim| claim.verdict() == Judgement::Fail).count()
        + report.comparisons.iter().filter(|comparison| !comparison.holds).count();
    let errors = report.claims.iter().filter(|claim| claim.verdict() == Judgement::Error).count();
    let tests = report.claims.len() + report.comparisons.len();
    let suite = escape(&report.suite);
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let counts = format!("tests=\"{tests}\" failures=\"{failures}\" errors=\"{errors}\" skipped=\"0\"");
    let _ = writeln!(xml, "<testsuites name=\"meshproof\" {counts}>");
    let _ = writeln!(xml, "  <testsuite name=\"{suite}\" {counts} hostname=\"{}\">", escape(&report.host.name));
    let _ = writeln!(xml, "    <properties>");
    let properties = [("run", &report.run), ("revision", &report.revision)];
    for (name, value) in
        properties.into_iter().chain(report.versions.iter().map(|(name, value)| (name.as_str(), value)))
    {
        let _ = writeln!(xml, "      <property name=\"{}\" value=\"{}\"/>", escape(name), escape(value));
    }
    let _ = writeln!(xml, "    </properties>");
    report.claims.iter().for_each(|one| claim(&mut xml, &suite, one));
    report.comparisons.iter().for_each(|one| comparison(&mut xml, &suite, one));
    xml.push_str("  </testsuite>\n</testsuites>\n");
    xml
}

fn claim(xml: &mut String, suite: &str, claim: &Claim) {
    let (element, kind) = match claim.verdict() {
        Judgement::Pass => ("system-out", ""),
        Judgement::Fail => ("failure", "claim"),
        Judgement::Error => ("error", "not judged"),
    };
    let message = format!("expected {}, seen {}", claim.expected(), claim.observed());
    case(xml, suite, claim.id(), element, kind, &message, &claim.to_string());
}

fn comparison(xml: &mut String, suite: &str, comparison: &Comparison) {
    let (element, kind) = if comparison.holds { ("system-out", "") } else { ("failure", verdict(comparison.verdict)) };
    let message = format!("{}: ratio {:.3}", outcome(comparison), comparison.ratio);
    case(xml, suite, &comparison.key(), element, kind, &message, &comparison.to_string());
}

fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "pass",
        Verdict::Regressed => "regressed",
        Verdict::Inconclusive => "inconclusive",
        Verdict::Reported => "reported",
    }
}

fn case(xml: &mut String, suite: &str, name: &str, element: &str, kind: &str, message: &str, text: &str) {
    let attributes = if kind.is_empty() {
        String::new()
    } else {
        format!(" type=\"{}\" message=\"{}\"", escape(kind), escape(message))
    };
    let _ = writeln!(xml, "    <testcase classname=\"{suite}\" name=\"{}\">", escape(name));
    let _ = writeln!(xml, "      <{element}{attributes}>{}</{element}>", escape(text));
    xml.push_str("    </testcase>\n");
}

/// Text as it may stand in an element or between quotes. What XML 1.0 forbids outright becomes U+FFFD.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\n' => escaped.push('\n'),
            '\t' => escaped.push(' '),
            '\u{0}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => escaped.push('\u{fffd}'),
            other => escaped.push(other),
        }
    }
    escaped
}
