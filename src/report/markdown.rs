//! The report as GitHub shows it below a job: `$GITHUB_STEP_SUMMARY`.

use std::fmt::Write;

use super::{Claim, Report};
use crate::judge::Verdict;
use crate::judge::needed;
use crate::report::table::{self, Table};

/// `report` as Markdown: failures first, then the tables.
pub fn markdown(report: &Report) -> String {
    let failed: Vec<&Claim> = report.claims.iter().filter(|claim| !claim.holds()).collect();
    let lost: Vec<_> = report.comparisons.iter().filter(|comparison| !comparison.holds).collect();
    let mark = if failed.is_empty() && lost.is_empty() { "✅" } else { "❌" };
    let mut text = format!("## {mark} meshproof: {}\n\n", report.suite);
    if !report.claims.is_empty() {
        let _ = writeln!(text, "{} of {} claims hold.", report.claims.len() - failed.len(), report.claims.len());
    }
    if !report.comparisons.is_empty() {
        let gated = || report.comparisons.iter().filter(|comparison| comparison.verdict != Verdict::Reported);
        let held = gated().filter(|comparison| comparison.holds).count();
        let _ = writeln!(text, "{held} of {} gates hold.", gated().count());
    }
    for comparison in &lost {
        let mut line = format!("\n- **{}**: {}", plain(&comparison.key()), table::outcome(comparison));
        if comparison.verdict == Verdict::Inconclusive {
            let _ = write!(line, " ({})", needed(comparison.pairs_needed));
        }
        text.push_str(&line);
    }
    if !failed.is_empty() {
        let mut table = Table::new("Claims that do not hold", &["claim", "owed", "from", "to", "expected", "seen"]);
        table.rows = failed
            .iter()
            .map(|claim| {
                [
                    claim.id(),
                    claim.requirement(),
                    claim.source(),
                    claim.destination(),
                    claim.expected(),
                    claim.observed(),
                ]
                .map(str::to_owned)
                .to_vec()
            })
            .collect();
        section(&mut text, &table);
    }
    if !report.comparisons.is_empty() {
        table::beside_others(&report.comparisons).iter().for_each(|table| section(&mut text, table));
        section(&mut text, &table::comparisons(&report.comparisons));
    }
    report.tables.iter().for_each(|table| section(&mut text, table));
    let host = &report.host;
    let _ = writeln!(
        text,
        "\n<sub>{}, {} CPUs, {}, Linux {}, revision {}</sub>",
        plain(&host.name),
        host.cpus,
        plain(&host.cpu_model),
        plain(&host.kernel),
        plain(&report.revision)
    );
    text
}

fn section(text: &mut String, table: &Table) {
    let _ = write!(text, "\n\n### {}\n\n{}", plain(&table.title), table.markdown());
}

/// Text that begins no markup.
fn plain(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('*', "\\*")
        .replace('`', "\\`")
        .replace('_', "\\_")
        .replace(['\r', '\n'], " ")
}
