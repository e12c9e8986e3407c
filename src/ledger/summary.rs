//! The gate and the flakes as tables, and as Markdown for a pull request.

use std::fmt::Write;

use super::gate::{Gate, Red};
use super::{History, Quarantined};
use crate::report::{Kind, Table};

/// Most rows of failures in the Markdown.
const ROWS: usize = 12;

/// Most characters of a cell.
const WIDTH: usize = 120;

/// The gate as Markdown, of a few lines. `histories` are those of the ledger: a failure that is a known flake says so.
/// `url` is a page with more, if there is one.
pub fn markdown(gate: &Gate, histories: &[History], url: Option<&str>) -> String {
    let mark = match (gate.holds(), gate.was_judged()) {
        (true, _) => "✅ meshproof: holds",
        (false, true) => "❌ meshproof: does not hold",
        (false, false) => "⚠️ meshproof: nothing was judged",
    };
    let mut text = format!("## {mark}\n\n{}", counts(gate));
    if let Some(url) = url {
        let _ = write!(text, " [The run]({url}).");
    }
    text.push_str("\n\n");
    for table in [failures(gate, histories), quarantined(gate), over(&gate.over)] {
        if !table.rows.is_empty() {
            let _ = writeln!(text, "**{}**\n\n{}", table.title, table.markdown());
        }
    }
    text
}

/// The counts in one line.
fn counts(gate: &Gate) -> String {
    let of = |kind: Kind| gate.failed.iter().filter(|red| red.outcome == crate::report::Outcome::Failed(kind)).count();
    let failed = [
        (of(Kind::Assertion), "failed"),
        (of(Kind::Mesh), "not judged because of the mesh"),
        (of(Kind::Infrastructure), "not judged because of the infrastructure"),
        (gate.quarantined.len(), "in quarantine"),
        (gate.not_declared.len(), "not declared"),
    ];
    let failed = failed.into_iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}"));
    let all: Vec<String> = std::iter::once(format!("{} tests passed", gate.passed)).chain(failed).collect();
    format!("{}.", all.join(", "))
}

fn failures(gate: &Gate, histories: &[History]) -> Table {
    let more = gate.failed.len().saturating_sub(ROWS);
    let title = match more {
        0 => "What fails".to_owned(),
        more => format!("What fails, and {more} more"),
    };
    let mut table = Table::new(title, &["test", "outcome", "what does not hold", "known"]);
    table.rows = gate.failed.iter().take(ROWS).map(|red| row(red, known(red, histories))).collect();
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
    vec![format!("{}/{}", red.suite, red.test), red.outcome.to_string(), short(&claims), last]
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
        vec![format!("{}/{}", one.suite, one.test), one.until.to_string(), one.owner.clone(), one.line.to_string()]
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
    fn the_markdown_stays_short_and_counts_what_it_leaves_out() {
        let failed = (0..200).map(|n| red(&format!("t{n}"), Outcome::Failed(Kind::Mesh))).collect();
        let text = markdown(&Gate { passed: 1, failed, ..Gate::default() }, &[], None);
        assert!(
            text.contains("What fails, and 188 more") && text.contains("200 not judged because of the mesh"),
            "{text}"
        );
        assert!(text.lines().count() < 25 && text.len() < 4_000, "{text}");
    }
}
