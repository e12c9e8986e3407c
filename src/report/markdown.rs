//! The report as Markdown for the summary of a GitHub Actions run: `$GITHUB_STEP_SUMMARY`.

use std::fmt::Write;

use super::{Claim, Concluded, Diagnosis, Judgement, Report};
use crate::judge::{Comparison, Verdict};
use crate::report::growth;
use crate::report::table::{self, Table};

/// Unfolded lines in a run's summary. The rest is folded.
pub const OPEN_LINES: usize = 60;

/// Unfolded lines other than rows of failures: the title, the counts, the header of the claims table, a line per fold,
/// and blank lines.
const FRAME: usize = 12;

/// `report` as Markdown, with at most `open` unfolded lines, but at least one failure: failures first, then counts.
/// Passed claims and measurements are folded.
pub fn markdown(report: &Report, open: usize) -> String {
    let (failed, held): (Vec<&Claim>, Vec<&Claim>) = report.claims.iter().partition(|claim| !claim.holds());
    let explained = |claim: &&Claim| report.diagnoses.iter().any(|diagnosis| diagnosis.explains(claim));
    let (explained, unexplained): (Vec<&Claim>, Vec<&Claim>) = failed.iter().copied().partition(explained);
    let lost: Vec<&Comparison> = report.comparisons.iter().filter(|comparison| !comparison.holds).collect();
    // A verdict takes a line, and a blank line follows the last one.
    let concluded = if report.conclusions.is_empty() { 0 } else { report.conclusions.len() + 1 };
    let rows = open.saturating_sub(FRAME + concluded).max(1);
    // A cause takes one row, and half of the rows at most. A blank line and a fold follow the causes.
    let shown_causes = report.diagnoses.len().min(rows / 2);
    let rows = rows.saturating_sub(if shown_causes > 0 { shown_causes + 2 } else { 0 }).max(1);
    // Reserve half of the rows for claims, as far as there are enough failed claims.
    let shown_lost = lost.len().min(rows - unexplained.len().min(rows / 2));
    let shown_failed = unexplained.len().min(rows - shown_lost);

    let undeclared = failed.iter().filter(|claim| claim.verdict() == Judgement::NotDeclared).count();
    let mark = mark(report, failed.len() - undeclared + lost.len(), undeclared);
    let mut text = format!("## {mark} meshproof: {}\n\n", plain(&report.suite));
    for one in &report.conclusions {
        let _ = writeln!(text, "- **{} {}**: {}", plain(&one.comparison), one.verdict, plain(&one.why));
    }
    if concluded > 0 {
        text.push('\n');
    }
    let (causes, more_causes) = report.diagnoses.split_at(shown_causes);
    if shown_causes > 0 {
        let _ = writeln!(text, "{}", causes.iter().map(cause).collect::<String>());
    }
    if shown_lost > 0 {
        let _ = writeln!(text, "{}", bullets(&lost[..shown_lost]));
    }
    if shown_failed > 0 {
        let _ = writeln!(text, "{}", unproven(&unexplained[..shown_failed]).markdown());
    }
    let _ = writeln!(text, "{}\n", counts(report, failed.len(), undeclared));
    if !explained.is_empty() {
        let more: String = more_causes.iter().map(cause).collect();
        let title = format!("{} claims that these causes explain", explained.len());
        fold(&mut text, &title, &format!("{more}\n{}", unproven(&explained).markdown()));
    }
    let (more_lost, more_failed) = (&lost[shown_lost..], &unexplained[shown_failed..]);
    if !(more_lost.is_empty() && more_failed.is_empty()) {
        let mut rest = bullets(more_lost);
        if !more_failed.is_empty() {
            let _ = write!(rest, "\n{}", unproven(more_failed).markdown());
        }
        fold(&mut text, &format!("{} more that do not hold", more_lost.len() + more_failed.len()), &rest);
    }
    fold(&mut text, "What was measured, and where", &measured(report));
    if !held.is_empty() {
        fold(&mut text, &format!("{} claims that hold", held.len()), &proven(&held).markdown());
    }
    // Another report may follow. A title directly below a fold would not be a title.
    text.push('\n');
    text
}

/// The sign before the title: what does not hold or did not pass counts more than what was not judged.
fn mark(report: &Report, not_held: usize, undeclared: usize) -> &'static str {
    match (not_held + report.ended(&Concluded::NO_PASS), undeclared + report.ended(&[Concluded::Unchanged])) {
        (0, 0) => "✅",
        (0, _) => "⚠️",
        _ => "❌",
    }
}

/// The counts in one line.
fn counts(report: &Report, failed: usize, undeclared: usize) -> String {
    let mut counts = Vec::new();
    if !report.claims.is_empty() {
        counts.push(format!("{} of {} claims hold.", report.claims.len() - failed, report.claims.len()));
        if undeclared > 0 {
            counts.push(format!("{undeclared} are not declared: the mesh does not offer what they need."));
        }
    }
    if !report.comparisons.is_empty() {
        let gated = || report.comparisons.iter().filter(|comparison| comparison.verdict != Verdict::Reported);
        let held = gated().filter(|comparison| comparison.holds).count();
        counts.push(format!("{held} of {} gates hold.", gated().count()));
    }
    if counts.is_empty() { "Nothing was judged.".into() } else { counts.join(" ") }
}

/// A cause in one line, with what it explains and what shows it.
fn cause(diagnosis: &Diagnosis) -> String {
    let Diagnosis { cause, claims } = diagnosis;
    format!(
        "- **{}**: {} ({} in {}; explains {}; shown by <code>{}</code>)\n",
        plain(&cause.layer.to_string()),
        plain(&cause.finding),
        plain(&cause.object),
        plain(&cause.cluster),
        if claims.len() == 1 { "1 claim".to_owned() } else { format!("{} claims", claims.len()) },
        plain(&cause.command)
    )
}

/// Comparisons that do not hold, one line per comparison.
fn bullets(lost: &[&Comparison]) -> String {
    let mut text = String::new();
    for comparison in lost {
        let _ = write!(text, "- **{}**: {}", plain(&comparison.key()), table::outcome(comparison));
        if comparison.verdict == Verdict::Inconclusive {
            let _ = write!(text, " ({})", plain(&comparison.remedy()));
        }
        text.push('\n');
    }
    text
}

/// Claims that do not hold, one row per claim.
fn unproven(failed: &[&Claim]) -> Table {
    let mut table = Table::new("Claims that do not hold", &["claim", "required", "from", "to", "expected", "seen"]);
    let row = |claim: &Claim| {
        [claim.id(), claim.requirement(), claim.source(), claim.destination(), claim.expected(), claim.observed()]
            .map(str::to_owned)
            .to_vec()
    };
    table.rows = failed.iter().map(|claim| row(claim)).collect();
    table
}

/// Claims that hold, one row per claim.
fn proven(held: &[&Claim]) -> Table {
    let mut table = Table::new("Claims that hold", &["claim", "required", "seen"]);
    let row = |claim: &Claim| [claim.id(), claim.requirement(), claim.observed()].map(str::to_owned).to_vec();
    table.rows = held.iter().map(|claim| row(claim)).collect();
    table
}

/// The tables of measurements, and the machine.
fn measured(report: &Report) -> String {
    let mut text = String::new();
    let mut section = |table: &Table| {
        let _ = writeln!(text, "### {}\n\n{}", plain(&table.title), table.markdown());
    };
    if !report.comparisons.is_empty() {
        table::beside_others(&report.comparisons).iter().for_each(&mut section);
        section(&table::comparisons(&report.comparisons));
        table::attempts(&report.comparisons).iter().for_each(&mut section);
    }
    report.tables.iter().chain(&growth::table(&report.growths)).for_each(&mut section);
    let host = &report.host;
    let _ = writeln!(
        text,
        "<sub>{}, {} CPUs, {}, Linux {}, revision {}</sub>",
        plain(&host.name),
        host.cpus,
        plain(&host.cpu_model),
        plain(&host.kernel),
        plain(&report.revision)
    );
    text
}

/// Folds `body` below one visible line. Markdown in a fold must follow a blank line.
pub(super) fn fold(text: &mut String, title: &str, body: &str) {
    let _ = writeln!(text, "<details><summary>{title}</summary>\n\n{}\n\n</details>", body.trim_end());
}

/// Escapes markup.
pub(super) fn plain(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('*', "\\*")
        .replace('`', "\\`")
        .replace('_', "\\_")
        .replace(['\r', '\n'], " ")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::host::Host;
    use crate::judge::simulate::NOISES;
    use crate::judge::tests::{runs, trial};
    use crate::judge::{Judge, recorded};
    use crate::report::SCHEMA;

    /// The lines outside of folds, with the summary line of each fold.
    fn open(text: &str) -> Vec<&str> {
        let mut folded = false;
        let mut open = Vec::new();
        for line in text.lines() {
            if line.starts_with("<details>") {
                assert!(!folded, "a fold within a fold:\n{text}");
                open.push(line);
                folded = true;
            } else if line == "</details>" {
                folded = false;
            } else if !folded {
                open.push(line);
            }
        }
        assert!(!folded, "a fold that does not end:\n{text}");
        open
    }

    /// A comparison whose treatment is slower than its gate allows.
    fn regressed() -> Comparison {
        let runs = runs(&NOISES[0].runs(20, &mut fastrand::Rng::with_seed(60)), 1.3);
        let comparisons = recorded::judge(&runs, &mut Judge::new(&trial())).unwrap();
        comparisons.into_iter().find(|comparison| !comparison.holds).expect("a gate of 1.0 does not hold at 1.3")
    }

    fn report(failed: usize, held: usize, lost: usize) -> Report {
        let claim = |id: String, verdict| match verdict {
            Judgement::Error => Claim::error(id, "nobody looked"),
            Judgement::NotDeclared => Claim::not_declared(id, "no ingress"),
            verdict => Claim::about(id, "").equals(&Judgement::Pass, &verdict),
        };
        let regressed = regressed();
        let lost = (0..lost).map(|n| Comparison { id: format!("lost-{n:03}"), ..regressed.clone() });
        Report {
            schema: SCHEMA.into(),
            suite: "example".into(),
            run: "1".into(),
            revision: "abc".into(),
            host: Host::default(),
            versions: BTreeMap::new(),
            claims: (0..failed)
                .map(|n| claim(format!("failed-{n:03}"), if n % 2 == 0 { Judgement::Fail } else { Judgement::Error }))
                .chain((0..held).map(|n| claim(format!("held-{n:03}"), Judgement::Pass)))
                .collect(),
            comparisons: lost.collect(),
            tables: vec![Table::new("measured", &["a", "b"]); 40],
            growths: Vec::new(),
            diagnoses: Vec::new(),
            tests: Vec::new(),
            conclusions: Vec::new(),
        }
    }

    /// A report whose failed claims have causes: the first `explained` of them, three to a cause.
    fn diagnosed(failed: usize, explained: usize) -> Report {
        let ids: Vec<String> = (0..explained).map(|n| format!("failed-{n:03}")).collect();
        let cause = |index: usize| {
            crate::report::diagnosis::tests::cause(crate::report::Layer::Gateway, &format!("Deployment a/b-{index}"))
        };
        let diagnoses =
            ids.chunks(3).enumerate().map(|(index, claims)| Diagnosis { cause: cause(index), claims: claims.to_vec() });
        Report { diagnoses: diagnoses.collect(), ..report(failed, 5, 3) }
    }

    #[test]
    fn a_cause_stands_once_before_the_claims_that_nothing_explains() {
        for (failed, explained) in [(4, 3), (500, 400), (500, 499)] {
            let text = markdown(&diagnosed(failed, explained), OPEN_LINES);
            let open = open(&text);
            assert!(open.len() <= OPEN_LINES, "{} open lines:\n{}", open.len(), open.join("\n"));
            assert!((0..failed).all(|n| text.contains(&format!("failed-{n:03}"))), "a claim is lost:\n{text}");
            assert_eq!(text.matches("Deployment a/b-0 in").count(), 1, "{text}");
            let unexplained = format!("failed-{explained:03}");
            assert!(text.find("Deployment a/b-0").unwrap() < text.find(&unexplained).unwrap(), "{text}");
            assert!(open.iter().any(|line| line.contains(&unexplained)), "{text}");
        }
    }

    #[test]
    fn a_summary_has_at_most_the_open_lines_that_it_may_have_and_loses_nothing() {
        for (failed, held, lost) in [(0, 0, 0), (0, 500, 0), (500, 500, 0), (0, 5, 500), (500, 500, 500), (1, 9, 500)] {
            for lines in [OPEN_LINES, OPEN_LINES / 3] {
                let text = markdown(&report(failed, held, lost), lines);
                let open = open(&text);
                assert!(open.len() <= lines, "{} open lines of {lines}:\n{}", open.len(), open.join("\n"));
                for (name, count) in [("failed", failed), ("held", held), ("lost", lost)] {
                    let mentioned = |n: usize| text.contains(&format!("{name}-{n:03}"));
                    assert!((0..count).all(mentioned), "not every {name} one is in the text");
                }
                if failed > 0 {
                    assert!(open.iter().any(|line| line.contains("failed-000")), "no failed claim is open");
                }
                if lost > 0 {
                    assert!(open.iter().any(|line| line.contains("lost-000")), "no lost comparison is open");
                }
            }
        }
    }

    #[test]
    fn failures_come_first_then_counts_and_what_holds_is_folded() {
        let text = markdown(&report(2, 3, 0), OPEN_LINES);
        let place = |part: &str| text.find(part).unwrap_or_else(|| panic!("no `{part}` in:\n{text}"));
        assert!(place("failed-000") < place("3 of 5 claims hold."), "{text}");
        assert!(place("3 of 5 claims hold.") < place("<details>"), "{text}");
        assert!(open(&text).iter().all(|line| !line.contains("held-")), "{text}");
    }

    #[test]
    fn a_comparison_that_did_not_pass_has_no_mark_of_one_that_did() {
        let of = |verdict| {
            let conclusion = crate::report::Conclusion {
                comparison: "proxies".into(),
                verdict,
                why: "p99".into(),
                may_be_inconclusive: true,
            };
            markdown(&Report { conclusions: vec![conclusion], ..report(0, 1, 0) }, OPEN_LINES)
        };
        for (verdict, mark) in [
            (Concluded::Pass, "✅"),
            (Concluded::Unchanged, "⚠️"),
            (Concluded::Regressed, "❌"),
            (Concluded::Inconclusive, "❌"),
            (Concluded::NotJudged, "❌"),
        ] {
            let owed = format!("## {mark} meshproof: example\n\n- **proxies {verdict}**: p99\n");
            assert!(of(verdict).starts_with(&owed), "{}", of(verdict));
        }
    }

    #[test]
    fn as_many_failures_are_open_as_there_is_room_for() {
        let text = markdown(&report(500, 0, 0), OPEN_LINES);
        let shown = open(&text).iter().filter(|line| line.contains("failed-")).count();
        assert_eq!(shown, OPEN_LINES - FRAME);
        assert!(text.contains(&format!("<summary>{} more that do not hold</summary>", 500 - shown)), "{text}");
    }
}
