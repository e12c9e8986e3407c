use std::collections::BTreeMap;

use super::*;
use crate::host::Host;
use crate::judge::simulate::NOISES;
use crate::judge::tests::{runs, trial};
use crate::judge::{Judge, recorded};
use crate::report::OPEN_LINES;

fn report(claims: Vec<Claim>, comparisons: Vec<Comparison>) -> Report {
    Report {
        run: "1".into(),
        revision: "abc".into(),
        host: Host { name: "here".into(), ..Host::default() },
        versions: BTreeMap::new(),
        claims,
        comparisons,
        ..crate::report::of("example", BTreeMap::new())
    }
}

fn claim(id: &str, holds: bool) -> Claim {
    Claim::about(id, "must hold").equals(&true, &holds)
}

/// The gate of a comparison whose treatment takes `factor` times as long.
fn gate(factor: f64) -> Comparison {
    let runs = runs(&NOISES[0].runs(20, &mut fastrand::Rng::with_seed(60)), factor);
    let comparisons = recorded::judge(&runs, &mut Judge::new(&trial())).unwrap();
    comparisons.into_iter().find(|comparison| comparison.verdict != Verdict::Reported).expect("there is a gate")
}

fn ids<'a>(claims: impl IntoIterator<Item = &'a Claim>) -> Vec<&'a str> {
    claims.into_iter().map(Claim::id).collect()
}

#[test]
fn each_claim_is_told_once_by_what_became_of_it() {
    let base = report(
        vec![
            claim("better", false),
            claim("gone", true),
            claim("other", false),
            claim("red", false),
            claim("same", true),
            claim("worse", true),
        ],
        Vec::new(),
    );
    let head = report(
        vec![
            claim("better", true),
            claim("new", true),
            claim("new-and-red", false),
            Claim::error("other", "nobody looked"),
            claim("red", false),
            claim("same", true),
            Claim::not_declared("worse", "no ingress"),
        ],
        Vec::new(),
    );
    let against = Against::of(Some(&base), &head);
    assert_eq!(ids(against.worse.iter().map(|one| one.is)), ["new-and-red", "worse"]);
    assert_eq!(ids(against.better.iter().map(|one| one.is)), ["better"]);
    assert_eq!(ids(against.other.iter().map(|one| one.is)), ["other"]);
    assert_eq!(ids(against.new.iter().copied()), ["new"]);
    assert_eq!(ids(against.gone.iter().copied()), ["gone"]);
    assert_eq!(against.same, 2);
    assert!(!against.is_no_worse());
    assert_eq!(against.counts(), "Claims: 2 worse, 1 gone, 1 red for another reason, 1 better, 1 new, 2 as before.");
    assert!(Against::of(Some(&base), &base).is_no_worse());
    assert!(Against::of(Some(&base), &base).tables().is_empty());
}

#[test]
fn a_gate_that_turned_is_told_and_only_of_one_machine() {
    let (base, head) = (report(Vec::new(), vec![gate(0.7)]), report(Vec::new(), vec![gate(1.3)]));
    let against = Against::of(Some(&base), &head);
    assert_eq!(against.comparisons.len(), 1);
    assert!(!against.is_no_worse());
    assert!(Against::of(Some(&head), &base).is_no_worse(), "what became better is no worse");
    assert!(Against::of(Some(&base), &base).comparisons.is_empty());
    // A gate that is no longer judged.
    assert!(!Against::of(Some(&base), &report(Vec::new(), Vec::new())).is_no_worse());

    let elsewhere = Report { host: Host { name: "there".into(), ..Host::default() }, ..base };
    let against = Against::of(Some(&elsewhere), &head);
    assert!(against.comparisons.is_empty() && against.is_no_worse());
    let text = summary(&[against], OPEN_LINES, MOST_BYTES, "changes.html");
    assert!(text.contains("Latencies are not compared: the earlier run was on there"), "{text}");
}

#[test]
fn the_markdown_keeps_within_lines_and_bytes_and_counts_what_it_leaves_out() {
    let many = |holds: bool| (0..500).map(|n| claim(&format!("claim-{n:03}"), holds)).collect::<Vec<_>>();
    let more =
        |holds: bool| (0..500).map(|n| claim(&format!("a-{}{n:03}", "ü".repeat(300)), holds)).collect::<Vec<_>>();
    for (was, is) in
        [(many(true), many(false)), (many(false), many(true)), (many(true), more(true)), (more(true), many(true))]
    {
        let (base, head) = (report(was, vec![gate(0.7)]), report(is, vec![gate(1.3)]));
        for suites in [1, 12] {
            let all = vec![Against::of(Some(&base), &head); suites];
            let text = summary(&all, OPEN_LINES, MOST_BYTES, "changes.html");
            let folded: usize = text
                .split("<details>")
                .skip(1)
                .map(|fold| fold.split("</details>").next().unwrap().lines().count() - 1)
                .sum();
            let open = text.lines().count() - folded;
            assert!(open <= OPEN_LINES, "{open} open lines:\n{text}");
            assert!(text.len() <= MOST_BYTES, "{} bytes:\n{text}", text.len());
            assert!(text.contains("more rows are in changes.html."), "{text}");
        }
    }
}

#[test]
fn nothing_changed_is_said_in_a_line() {
    let base = report(vec![claim("a", true)], Vec::new());
    let text = summary(&[Against::of(Some(&base), &base)], OPEN_LINES, MOST_BYTES, "changes.html");
    assert!(text.starts_with("## ✅ meshproof: what changed\n"), "{text}");
    assert!(text.contains("| example | – | – | – | – | 1 | – | abc → abc |"), "{text}");
    assert_eq!(text.lines().count(), 6, "{text}");
}

#[test]
fn a_cell_of_the_truth_table_that_became_red_is_worse() {
    use crate::report::State;
    use crate::report::truth::tests::{cell, table};
    let base = report(vec![claim("a", true)], Vec::new());
    let was = table("1", vec![cell("r", "c", State::Holds, "answered")]);
    let is = table("2", vec![cell("r", "c", State::Red, "answered")]);
    let against = Against::of(Some(&base), &base).with_truth(&was, &is);
    assert!(!against.is_no_worse());
    let text = summary(&[against], OPEN_LINES, MOST_BYTES, "changes.html");
    assert!(text.starts_with("## ❌") && text.contains("What changed in the truth table (1)"), "{text}");
}
