//! Comparisons: tables, then each comparison with its drawings.

use maud::{Markup, html};

use super::parts::{Tone, table};
use super::{percentiles, ratios};
use crate::judge::{Comparison, Recording, Run, Verdict, change};
use crate::report::table::{attempts, beside_others, comparisons as all, outcome};

pub(super) fn section(comparisons: &[Comparison], runs: &Recording) -> Markup {
    // Show bounded metrics first: most metrics have no bound.
    let (bounded, others): (Vec<_>, Vec<_>) = comparisons
        .iter()
        .cloned()
        .partition(|comparison| comparison.bound.gate.is_some() || comparison.bound.goal.is_some());
    html! {
        section {
            h2 { "Comparisons" }
            p.note {
                "The run is the unit: arms alternate in ABBA blocks, and every ratio is treatment to control within a pair of "
                "neighbouring runs. The interval is a bootstrap over pairs that holds however early a comparison stopped."
            }
            @for beside in &beside_others(comparisons) { (table(beside)) }
            @if !bounded.is_empty() { (table(&all(&bounded))) }
            @if !others.is_empty() {
                details.many {
                    summary { (others.len()) " metrics have no bound and are reported only" }
                    (table(&all(&others)))
                }
            }
            @if let Some(selection) = attempts(comparisons) { (table(&selection)) }
            @for family in comparisons.chunk_by(|one, other| one.id == other.id) { (one(family, runs)) }
        }
    }
}

/// The notes of all metrics, without duplicates.
fn notes(metrics: &[Comparison]) -> Vec<&String> {
    let mut notes = Vec::new();
    for note in metrics.iter().flat_map(|metric| &metric.notes) {
        if !notes.contains(&note) {
            notes.push(note);
        }
    }
    notes
}

/// The runs of the first `pairs` pairs, without refused attempts.
fn judged(runs: &[Run], pairs: usize) -> Vec<&Run> {
    runs.iter().filter(|run| !run.is_refused()).take(2 * pairs).collect()
}

/// All metrics of one comparison.
fn one(metrics: &[Comparison], runs: &Recording) -> Markup {
    let Some(first) = metrics.first() else { return html! {} };
    let measured: Vec<&Run> = runs.get(&first.id).map(|runs| judged(runs, first.pairs)).unwrap_or_default();
    html! {
        h3 { code { (first.id) } }
        p.note {
            @for note in notes(metrics) { (note) ". " }
            @if let Some(steal) = first.steal { "Other guests of the machine took at most " (format!("{:.1} %", steal * 100.0)) " of its processors. " }
            @if !first.selection.is_unknown() { "Attempts: " (first.selection) ". " }
            @if measured.first().is_some_and(|run| run.host.awake) { "Idle processors were kept awake. " }
            (receipts(first))
        }
        div.grid {
            (percentiles::figure(&measured))
            @for comparison in metrics {
                figure {
                    h4 { span { (comparison.metric) } (badge(comparison)) }
                    (ratios::drawing(comparison))
                    figcaption { (caption(comparison)) }
                }
            }
        }
    }
}

fn badge(comparison: &Comparison) -> Markup {
    let tone = match (comparison.verdict, comparison.holds) {
        (Verdict::Reported, _) => Tone::Plain,
        (Verdict::Inconclusive, _) => Tone::Unsure,
        (_, true) => Tone::Good,
        (_, false) => Tone::Bad,
    };
    html! { span.badge.(tone.class()) { (outcome(comparison)) } }
}

fn caption(comparison: &Comparison) -> String {
    let mut text = format!("Ratio {:.3} over {} pairs", comparison.ratio, comparison.pairs);
    if let Some(least) = comparison.minimum_detectable {
        text.push_str(&format!("; a true change of {} would be seen four times in five", change(least)));
    }
    if comparison.verdict == Verdict::Inconclusive {
        text.push_str(&format!("; to decide: {}", comparison.remedy()));
    }
    if let (Some(goal), Some(seen)) = (comparison.bound.goal, comparison.goal) {
        text.push_str(&format!("; goal {goal}: {seen}"));
    }
    format!("{text}. Source: {}.", comparison.bound.source)
}

fn receipts(comparison: &Comparison) -> Markup {
    let both = comparison
        .receipts
        .control
        .iter()
        .filter_map(|(name, control)| Some((name, control, comparison.receipts.treatment.get(name)?)));
    let range = |[low, high]: &[f64; 2]| if low == high { format!("{low}") } else { format!("{low} to {high}") };
    html! {
        @for (name, control, treatment) in both {
            "Receipt " code { (name) } ": " (range(control)) " in a control run, " (range(treatment)) " in a treatment run. "
        }
    }
}
