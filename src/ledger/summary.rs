//! The gate and the flakes as tables, and as Markdown for a pull request.

use std::fmt::Write;

use super::gate::{Gate, GateVerdict, Red};
use super::{History, Quarantined};
use crate::report::{Conclusion, Kind, Outcome, Table};

/// Most rows of all tables in the Markdown, but for [`FEWEST`] of each.
const ROWS: usize = 16;

/// Rows that a table has at least, if it has as many.
const FEWEST: usize = 3;

/// Most bytes of the Markdown. What changed shares the rest of a comment with it.
const BYTES: usize = 7_000;

/// Most characters of a cell.
const WIDTH: usize = 120;

/// The gate as Markdown, of a few lines. `histories` are those of the ledger: a failure that is a known flake says so.
/// `url` is a page with more, if there is one.
pub fn markdown(gate: &Gate, histories: &[History], url: Option<&str>) -> String {
    let mut rows = ROWS;
    loop {
        let text = of_rows(gate, histories, url, rows);
        if text.len() <= BYTES || rows == 1 {
            return text;
        }
        rows -= 1;
    }
}

/// The Markdown with at most so many rows, but for the fewest of each table.
fn of_rows(gate: &Gate, histories: &[History], url: Option<&str>, rows: usize) -> String {
    let verdict = gate.verdict();
    let mark = match verdict {
        GateVerdict::Holds => "✅",
        GateVerdict::DoesNotHold => "❌",
        GateVerdict::NothingJudged => "⚠️",
    };
    let mut text = format!("## {mark} meshproof: {verdict}\n\n{}", counts(gate));
    if let Some(url) = url {
        let _ = write!(text, " [The run]({url}).");
    }
    text.push_str("\n\n");
    let tables = [failures(gate, histories), compared(&gate.conclusions), quarantined(gate), over(&gate.over)];
    let mut left = rows;
    for mut table in tables.into_iter().filter(|table| !table.rows.is_empty()) {
        // The first rows of each table: one must not hide another.
        let shown = table.rows.len().min(left.max(rows.min(FEWEST)));
        let more = table.rows.len() - shown;
        table.rows.truncate(shown);
        left = left.saturating_sub(shown);
        let more = if more == 0 { String::new() } else { format!(", and {more} more") };
        let _ = writeln!(text, "**{}{more}**\n\n{}", table.title, table.markdown());
    }
    text
}

/// The counts in one line.
fn counts(gate: &Gate) -> String {
    let of = |kind: Kind| gate.failed.iter().filter(|red| red.outcome == Outcome::Failed(kind)).count();
    let failed = [
        (of(Kind::Assertion), "failed"),
        (of(Kind::Mesh), "not judged because of the mesh"),
        (of(Kind::Infrastructure), "not judged because of the infrastructure"),
        (gate.quarantined.len(), "in quarantine"),
        (gate.not_declared.len(), "not declared"),
        (gate.undecided.len(), "not decided, which this repository allows"),
    ];
    let failed = failed.into_iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}"));
    let all: Vec<String> = std::iter::once(format!("{} tests passed", gate.passed)).chain(failed).collect();
    format!("{}.", all.join(", "))
}

fn failures(gate: &Gate, histories: &[History]) -> Table {
    let mut table = Table::new("What fails", &["test", "outcome", "what does not hold", "known"]);
    table.rows = gate.failed.iter().map(|red| row(red, known(red, histories))).collect();
    table
}

/// The verdict on each comparison, in one line.
fn compared(all: &[Conclusion]) -> Table {
    let mut table = Table::new("Compared with the base", &["comparison", "verdict", "why"]);
    let row = |one: &Conclusion| vec![short(&one.comparison), one.verdict.to_string(), short(&one.why)];
    table.rows = all.iter().map(row).collect();
    table
}

/// What is known of a test that failed.
fn known(red: &Red, histories: &[History]) -> String {
    let flake = histories.iter().find(|one| one.suite == red.suite && one.test == red.test && one.is_flake());
    let again = red.passed_later.then(|| "passed when tried again".to_owned());
    let flake = flake.map(|flake| format!("flake: {}", flake.rate));
    let known: Vec<String> = again.into_iter().chain(flake).collect();
    if known.is_empty() { "–".into() } else { known.join("; ") }
}

fn row(red: &Red, last: String) -> Vec<String> {
    let claims = if red.claims.is_empty() { "–".into() } else { red.claims.join(", ") };
    vec![short(&format!("{}/{}", red.suite, red.test)), red.outcome.to_string(), short(&claims), last]
}

fn quarantined(gate: &Gate) -> Table {
    let mut table =
        Table::new("In quarantine: these do not fail the gate", &["test", "outcome", "what does not hold", "until"]);
    let until = |red: &Red| {
        red.quarantine
            .as_ref()
            .map_or_else(String::new, |held| format!("{}, {}: {}", held.until, held.owner, held.reason))
    };
    table.rows = gate.quarantined.iter().map(|red| row(red, short(&until(red)))).collect();
    table
}

fn over(all: &[Quarantined]) -> Table {
    let mut table = Table::new(
        "Quarantines that are over: mend the test, and remove the line",
        &["test", "ended", "owner", "line"],
    );
    let row = |one: &Quarantined| {
        let test = short(&format!("{}/{}", one.suite, one.test));
        vec![test, one.until.to_string(), short(&one.owner), one.line.to_string()]
    };
    table.rows = all.iter().map(row).collect();
    table
}

/// The flakes as a table.
pub fn flakes(histories: &[History]) -> Table {
    let header = ["test", "fails (95 % interval)", "commits", "assertion", "mesh", "infrastructure", "passed"];
    let mut table = Table::new("Tests that went both ways on one commit", &header);
    let row = |one: &History| {
        let mut row =
            vec![format!("{}/{}", one.suite, one.test), one.rate.to_string(), one.both_ways.len().to_string()];
        let kinds = [Kind::Assertion, Kind::Mesh, Kind::Infrastructure];
        row.extend(kinds.map(|kind| one.failures(kind).to_string()));
        row.push(one.passed.to_string());
        row
    };
    table.rows = histories.iter().filter(|one| one.is_flake()).map(row).collect();
    table
}

/// A cell, cut at [`WIDTH`].
fn short(cell: &str) -> String {
    match cell.char_indices().nth(WIDTH) {
        Some((end, _)) => format!("{}…", &cell[..end]),
        None => cell.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::entry::tests::entry;
    use super::super::{Ledger, histories};
    use super::*;
    use crate::report::Outcome;

    fn red(test: &str, outcome: Outcome) -> Red {
        let claims = vec!["plaintext/cluster1".into()];
        Red { suite: "s".into(), test: test.into(), outcome, claims, passed_later: false, quarantine: None }
    }

    #[test]
    fn a_failure_that_is_a_known_flake_says_so() {
        let assertion = Outcome::Failed(Kind::Assertion);
        let ledger: Ledger = [entry("c", "1", 1, assertion), entry("c", "2", 1, Outcome::Passed)].into_iter().collect();
        let histories = histories(&ledger, 0);
        let failed = vec![red("a", assertion), red("b", Outcome::Failed(Kind::Mesh))];
        let gate = Gate { passed: 3, failed, ..Gate::default() };
        let text = markdown(&gate, &histories, Some("https://example.com/run"));
        insta::assert_snapshot!(text.trim_end(), @r"
        ## ❌ meshproof: does not hold

        3 tests passed, 1 failed, 1 not judged because of the mesh. [The run](https://example.com/run).

        **What fails**

        | test | outcome | what does not hold | known |
        |---|---:|---:|---:|
        | s/a | failed (assertion) | plaintext/cluster1 | flake: 1 of 2, 50.0 % (1.3–98.7) |
        | s/b | failed (mesh) | plaintext/cluster1 | – |
        ");
        insta::assert_snapshot!(flakes(&histories).markdown().trim_end(), @r"
        | test | fails (95 % interval) | commits | assertion | mesh | infrastructure | passed |
        |---|---:|---:|---:|---:|---:|---:|
        | s/a | 1 of 2, 50.0 % (1.3–98.7) | 1 | 1 | 0 | 0 | 1 |
        ");
    }

    #[test]
    fn the_markdown_stays_short_whatever_is_in_it_and_counts_what_it_leaves_out() {
        let long = "x_".repeat(150);
        let all = |outcome| (0..200).map(|n| red(&format!("t{n}-{long}"), outcome)).collect::<Vec<_>>();
        let one = crate::report::Concluded::Regressed;
        let conclusion =
            Conclusion { comparison: long.clone(), verdict: one, why: long.clone(), may_be_inconclusive: false };
        let path = std::path::Path::new("q.toml");
        let entry = |n: usize| {
            format!(
                "[[quarantine]]\nsuite = \"s\"\ntest = \"{n}{long}\"\nowner = \"{long}\"\nuntil = 2020-01-01\nreason = \"{long}\"\n"
            )
        };
        let over = super::super::Quarantine::parse(path, &(0..50).map(entry).collect::<String>()).unwrap().tests;
        let gate = Gate {
            passed: 1,
            failed: all(Outcome::Failed(Kind::Mesh)),
            quarantined: all(Outcome::Failed(Kind::Assertion)),
            over,
            conclusions: vec![conclusion; 50],
            ..Gate::default()
        };
        let text = markdown(&gate, &[], None);
        for said in ["What fails, and 1", "200 not judged because of the mesh", "Compared with the base, and 4"] {
            assert!(text.contains(said), "no `{said}` in:\n{text}");
        }
        assert!(
            text.lines().count() < 50 && text.len() <= BYTES,
            "{} lines, {} bytes",
            text.lines().count(),
            text.len()
        );
    }

    #[test]
    fn the_verdict_on_each_comparison_has_a_line() {
        let one = |verdict, why: &str| Conclusion {
            comparison: "proxies".into(),
            verdict,
            why: why.into(),
            may_be_inconclusive: true,
        };
        let conclusions = vec![
            one(crate::report::Concluded::Unchanged, "both sides declare the same: 1 objects"),
            one(crate::report::Concluded::Inconclusive, "about 4 more minutes would decide it"),
        ];
        let undecided = vec![red("proxies", Outcome::Failed(Kind::Infrastructure))];
        let text = markdown(&Gate { passed: 2, conclusions, undecided, ..Gate::default() }, &[], None);
        insta::assert_snapshot!(text.trim_end(), @r"
        ## ✅ meshproof: holds

        2 tests passed, 1 not decided, which this repository allows.

        **Compared with the base**

        | comparison | verdict | why |
        |---|---:|---:|
        | proxies | unchanged | both sides declare the same: 1 objects |
        | proxies | inconclusive | about 4 more minutes would decide it |
        ");
    }
}
