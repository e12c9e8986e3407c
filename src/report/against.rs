//! What changed from one run of a suite to another, and only that: for a pull request.

mod summary;

use std::collections::BTreeMap;

use super::table::{outcome, quantity};
use super::truth::{Difference, TruthTable, difference};
use super::{Claim, Judgement, Report, Table};
use crate::judge::{Comparison, Verdict, ends};

pub use summary::{MOST_BYTES, summary};

/// What changed from the run `base` of a suite to the run `head`.
#[derive(Debug, Clone)]
pub struct Against<'a> {
    /// The earlier run. `None` if the suite was not run before.
    pub base: Option<&'a Report>,
    /// The later run.
    pub head: &'a Report,
    /// Claims that do not hold, and held or were not there.
    pub worse: Vec<Turned<'a, Claim>>,
    /// Claims that hold, and did not.
    pub better: Vec<Turned<'a, Claim>>,
    /// Claims that hold in neither run, for another reason than before.
    pub other: Vec<Turned<'a, Claim>>,
    /// Claims that hold, and were not there.
    pub new: Vec<&'a Claim>,
    /// Claims that are no longer there.
    pub gone: Vec<&'a Claim>,
    /// Number of claims that are as they were.
    pub same: usize,
    /// Comparisons with a gate that turned, came or went.
    pub comparisons: Vec<Compared<'a>>,
    /// What changed in the truth table, if both runs have one.
    pub truth: Option<Difference>,
    /// Why comparisons of both runs are not compared.
    pub not_compared: Option<String>,
}

/// A judgement of two runs.
#[derive(Debug, Clone, Copy)]
pub struct Turned<'a, T> {
    /// In the earlier run. `None` if it was not there.
    pub was: Option<&'a T>,
    /// In the later run.
    pub is: &'a T,
}

/// A comparison of two runs. At least one run has it.
#[derive(Debug, Clone, Copy)]
pub struct Compared<'a> {
    /// In the earlier run.
    pub was: Option<&'a Comparison>,
    /// In the later run.
    pub is: Option<&'a Comparison>,
}

impl<'a> Against<'a> {
    /// What changed from `base` to `head`.
    pub fn of(base: Option<&'a Report>, head: &'a Report) -> Self {
        let not_compared = base.and_then(|base| not_compared(base, head));
        let mut against = Self {
            base,
            head,
            worse: Vec::new(),
            better: Vec::new(),
            other: Vec::new(),
            new: Vec::new(),
            gone: Vec::new(),
            same: 0,
            comparisons: Vec::new(),
            truth: None,
            not_compared,
        };
        against.claims();
        if against.not_compared.is_none() {
            against.comparisons = compared(base, head);
        }
        against
    }

    /// The change with that of the truth table.
    #[must_use]
    pub fn with_truth(self, was: &TruthTable, is: &TruthTable) -> Self {
        Self { truth: Some(difference(was, is)), ..self }
    }

    fn claims(&mut self) {
        let claims = self.base.map(|base| base.claims.as_slice()).unwrap_or_default();
        let mut before: BTreeMap<&str, &Claim> = claims.iter().map(|claim| (claim.id(), claim)).collect();
        for is in &self.head.claims {
            let was = before.remove(is.id());
            match (was, is.holds()) {
                (None, true) => self.new.push(is),
                (Some(was), true) if was.holds() => self.same += 1,
                (Some(_), true) => self.better.push(Turned { was, is }),
                (Some(before), false) if before.holds() => self.worse.push(Turned { was, is }),
                (None, false) => self.worse.push(Turned { was, is }),
                (Some(before), false) if before.verdict() == is.verdict() => self.same += 1,
                (Some(_), false) => self.other.push(Turned { was, is }),
            }
        }
        self.gone = before.into_values().collect();
    }

    /// Whether nothing became worse: no claim, no comparison, no cell of the truth table, and nothing is gone.
    pub fn is_no_worse(&self) -> bool {
        self.truth.as_ref().is_none_or(Difference::is_no_worse)
            && self.worse.is_empty()
            && self.gone.is_empty()
            && !self.comparisons.iter().any(Compared::is_worse)
    }

    /// The counts in one line.
    pub fn counts(&self) -> String {
        let moved = self.comparisons.len();
        let counts = [
            (self.worse.len(), "worse"),
            (self.gone.len(), "gone"),
            (self.other.len(), "red for another reason"),
            (self.better.len(), "better"),
            (self.new.len(), "new"),
        ];
        let mut counts: Vec<String> =
            counts.iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}")).collect();
        counts.push(format!("{} as before", self.same));
        let comparisons = if moved == 0 { String::new() } else { format!("; {moved} of the gates changed") };
        format!("Claims: {}{comparisons}.", counts.join(", "))
    }

    /// All that changed as tables, what is worse first. Tables without rows are left out.
    pub fn tables(&self) -> Vec<Table> {
        let turned = |title: &str, all: &[Turned<Claim>]| {
            let mut table = Table::new(title, &["claim", "was", "is"]);
            table.rows = all.iter().map(|one| vec![one.is.id().into(), state(one.was), state(Some(one.is))]).collect();
            table
        };
        let listed = |title: &str, all: &[&Claim]| {
            let mut table = Table::new(title, &["claim", "required", "seen"]);
            let row = |claim: &&Claim| vec![claim.id().into(), claim.requirement().into(), state(Some(claim))];
            table.rows = all.iter().map(row).collect();
            table
        };
        let mut moved = Table::new("Gates that changed", &["comparison", "was", "is"]);
        moved.rows = self.comparisons.iter().map(Compared::row).collect();
        let all = [
            turned("Claims that became worse", &self.worse),
            moved,
            listed("Claims that are gone", &self.gone),
            turned("Claims that are red for another reason", &self.other),
            turned("Claims that became better", &self.better),
            listed("New claims", &self.new),
        ];
        let cells = self.truth.as_ref().map(Difference::table);
        all.into_iter().chain(cells).filter(|table| !table.rows.is_empty()).collect()
    }
}

impl Compared<'_> {
    /// Whether the gate holds no longer, or is gone.
    pub fn is_worse(&self) -> bool {
        !self.is.is_some_and(|is| is.holds) && self.was.is_none_or(|was| was.holds)
    }

    fn row(&self) -> Vec<String> {
        let key = self.is.or(self.was).map(Comparison::key).unwrap_or_default();
        vec![key, figures(self.was), figures(self.is)]
    }
}

/// Why the comparisons of two reports say nothing about each other.
fn not_compared(base: &Report, head: &Report) -> Option<String> {
    let (was, is) = (&base.host, &head.host);
    if base.comparisons.is_empty() && head.comparisons.is_empty() {
        return None;
    }
    let alike = was.name == is.name && was.is_of_a_kind_with(is);
    (!alike).then(|| {
        format!(
            "Latencies are not compared: the earlier run was on {} ({} × {}), the later one on {} ({} × {}).",
            was.name, was.cpus, was.cpu_model, is.name, is.cpus, is.cpu_model
        )
    })
}

/// The gates that turned, came or went, and those whose ratios lie apart.
fn compared<'a>(base: Option<&'a Report>, head: &'a Report) -> Vec<Compared<'a>> {
    let gated = |report: &'a Report| report.comparisons.iter().filter(|one| one.verdict != Verdict::Reported);
    let mut all: BTreeMap<String, Compared<'a>> = BTreeMap::new();
    for was in base.into_iter().flat_map(gated) {
        all.insert(was.key(), Compared { was: Some(was), is: None });
    }
    for is in gated(head) {
        all.entry(is.key()).or_insert(Compared { was: None, is: None }).is = Some(is);
    }
    all.retain(|_, one| match (one.was, one.is) {
        (Some(was), Some(is)) => was.verdict != is.verdict || was.holds != is.holds || lie_apart(was, is),
        _ => true,
    });
    all.into_values().collect()
}

/// Whether the 95 % intervals of both ratios have no common point. An open end reaches everything.
fn lie_apart(one: &Comparison, other: &Comparison) -> bool {
    let below = |low: &Comparison, high: &Comparison| matches!((low.ci95[1], high.ci95[0]), (Some(end), Some(start)) if end < start);
    below(one, other) || below(other, one)
}

/// A claim's verdict, and what was seen if it does not hold.
fn state(claim: Option<&Claim>) -> String {
    let Some(claim) = claim else { return "not there".into() };
    match claim.verdict() {
        Judgement::Pass => "holds".into(),
        Judgement::Fail => format!("{}, and must be {}", claim.observed(), claim.expected()),
        Judgement::Error => format!("not judged: {}", claim.observed()),
        Judgement::NotDeclared => format!("not declared: {}", claim.observed()),
    }
}

/// A comparison's verdict, ratio, interval and arms.
fn figures(comparison: Option<&Comparison>) -> String {
    let Some(one) = comparison else { return "not there".into() };
    let arms = format!("{} → {}", quantity(one.control, &one.unit), quantity(one.treatment, &one.unit));
    format!("{}, {:.2} ({}), {arms}", outcome(one), one.ratio, ends(one.ci95))
}

#[cfg(test)]
mod tests;
