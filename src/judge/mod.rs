//! Did a metric change? Paired runs, an interval, a bound, a verdict.
//!
//! The unit is the run, not the request. Runs of two arms alternate in ABBA blocks. Two neighbouring runs form a pair.
//! For every metric, the judge takes the ratio of treatment to control on the log scale. The geometric mean over pairs
//! has a studentized bootstrap interval ([`interval`]). The judge looks at the interval after every block, and the
//! interval holds at any stopping time ([`sequential`]). Compared with a bound ([`Limit`]), the interval is `pass`,
//! `regressed` or `inconclusive`. Inconclusive is not a pass. Simulations measure the rate of wrong verdicts:
//! [`simulate`], `docs/explanation/how-it-judges.md`.
//!
//! A suite and `cargo xtask judge` share all code: [`Judge`] has no clock and no cluster, only runs.
//!
//! ```no_run
//! # async fn measure(_: &meshproof::judge::Trial, _: u32, _: meshproof::judge::Arm) -> meshproof::judge::Result<meshproof::judge::Run> { todo!() }
//! # async fn example() -> meshproof::judge::Result<()> {
//! use meshproof::judge::{Bounds, Decision, Judge, Mode, recorded};
//!
//! let bounds = Bounds::load("fixtures/perf/bounds.toml".as_ref(), Mode::selected()?)?;
//! let trial = bounds.trial("bypass_p99/16").expect("it is in the file");
//! let runs = meshproof::report::directory("perf").join("runs");
//! recorded::clear(&runs, &trial.id)?;
//! let mut judge = Judge::new(trial);
//! let comparisons = loop {
//!     let run = measure(trial, judge.order(), judge.arm()).await?;
//!     judge.push(judge.attempted(run).record(&runs)?)?;
//!     if let Decision::Done(comparisons) = judge.decide() {
//!         break comparisons;
//!     }
//! };
//! # Ok(())
//! # }
//! ```

mod arm;
pub mod attempt;
pub mod baseline;
pub mod bounds;
mod comparison;
mod counter;
mod error;
pub mod growth;
pub mod interim;
pub mod interval;
mod limit;
pub mod recorded;
mod refusal;
pub mod resample;
mod run;
pub mod sequential;
mod share;
pub mod simulate;
mod trial;

use std::collections::BTreeMap;

pub use arm::{Arm, arm, turns};
pub use attempt::{Refusal, Selection, Undecided};
pub use baseline::Baselines;
pub use bounds::Bounds;
pub use comparison::{Bound, Comparison, Receipts, Reference, change, ends};
pub use counter::Counter;
pub use error::{Error, Result};
pub use growth::Growth;
pub use interim::Schedule;
pub use limit::{Attainment, Limit, Verdict};
pub use run::{Distribution, Metric, Recording, Run, SCHEMA};
pub use share::{Share, ShareInterval};
pub use trial::{Budget, MODE_VARIABLE, MetricBound, Mode, Receipt, RunPlan, TooNoisy, Trial};

use interim::{BLOCK, InterimAnalysis};

/// The next step.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    /// Measure another run.
    Continue {
        /// The probable number of further pairs. `None` if it is too early to predict.
        pairs_needed: Option<usize>,
    },
    /// The answer is clear, or the budget is spent. One comparison per metric, metrics with a bound first.
    Done(Vec<Comparison>),
}

/// Two neighbouring runs, one of each arm.
struct Pair {
    control: Run,
    treatment: Run,
}

impl Pair {
    /// The later run.
    fn last(&self) -> &Run {
        if self.control.order > self.treatment.order { &self.control } else { &self.treatment }
    }
}

/// Judges one comparison, run by run.
pub struct Judge {
    trial: Trial,
    pairs: Vec<Pair>,
    /// The first run of an incomplete pair.
    waiting: Option<Run>,
    /// Every attempt, refused or not.
    selection: Selection,
    /// Refusals of the attempts at the next run so far: the last reason of each attempt.
    refused: Vec<Refusal>,
}

impl Judge {
    /// A judge without runs.
    pub fn new(trial: &Trial) -> Self {
        let (pairs, selection) = (Vec::new(), Selection::default());
        Self { trial: trial.clone(), pairs, waiting: None, selection, refused: Vec::new() }
    }

    /// The runs of all complete pairs.
    pub fn runs(&self) -> impl Iterator<Item = &Run> + Clone {
        self.pairs.iter().flat_map(|pair| [&pair.control, &pair.treatment])
    }

    /// Number of the next run.
    pub fn order(&self) -> u32 {
        let runs = 2 * self.pairs.len() + usize::from(self.waiting.is_some());
        u32::try_from(runs).unwrap_or(u32::MAX)
    }

    /// Arm of the next run.
    pub fn arm(&self) -> Arm {
        arm(self.order())
    }

    /// Number of the next attempt at the next run, from 1.
    pub fn attempt(&self) -> u32 {
        u32::try_from(self.refused.len() + 1).unwrap_or(u32::MAX)
    }

    /// Whether all attempts at one run were refused. Then no run can follow.
    pub fn is_abandoned(&self) -> bool {
        self.attempt() > attempt::MAX_ATTEMPTS
    }

    /// `run` as the next attempt. The attempt is refused if its measurements require it.
    pub fn attempted(&self, run: Run) -> Run {
        let refused = if run.is_refused() { run.refused.clone() } else { run.refusals() };
        Run { attempt: self.attempt(), refused, ..run }
    }

    /// Takes the next run, or a refused attempt at the next run. After a refused attempt, another attempt at the same
    /// run is due.
    ///
    /// # Errors
    /// [`Error::Refused`]: the run cannot be compared with the earlier runs. The generator was the bottleneck and the
    /// attempt is not recorded as refused, receipts are missing, too many requests failed, or host or plan differ.
    pub fn push(&mut self, run: Run) -> Result<()> {
        let first = self.pairs.first().map(|pair| &pair.control).or(self.waiting.as_ref());
        let last = self.waiting.as_ref().or(self.pairs.last().map(Pair::last));
        let due = refusal::Due { order: self.order(), attempt: self.attempt(), before: first.zip(last) };
        refusal::check(&self.trial, &due, &run)?;
        self.selection.count(run.arm, &run.refused);
        if let Some(refusal) = run.refused.last() {
            self.refused.push(refusal.clone());
            return Ok(());
        }
        self.refused.clear();
        match self.waiting.take() {
            None => self.waiting = Some(run),
            Some(first) => self.pairs.push(match run.arm {
                Arm::Treatment => Pair { control: first, treatment: run },
                Arm::Control => Pair { control: run, treatment: first },
            }),
        }
        Ok(())
    }

    /// The next step. Depends on the runs alone, so that recorded runs give the same verdict.
    pub fn decide(&self) -> Decision {
        let pairs = self.pairs.len();
        if self.is_abandoned() {
            return Decision::Done(self.compare(true, "every attempt at the next run was refused"));
        }
        if self.waiting.is_some() || !pairs.is_multiple_of(BLOCK) || pairs == 0 {
            return Decision::Continue { pairs_needed: None };
        }
        let spent = self.spent();
        if let Some(spent) = &spent {
            return Decision::Done(self.compare(true, spent));
        }
        if !self.schedule().due(pairs) {
            return Decision::Continue { pairs_needed: None };
        }
        let (mut open, mut is_lost) = (Vec::new(), false);
        for bound in &self.trial.metrics {
            let Some(gate) = bound.gate else { continue };
            let analysis = self.schedule().analyze(&self.logs(&bound.name), false);
            match gate.verdict(analysis.ends()) {
                Verdict::Inconclusive => open.push(analysis.pairs_needed(gate.distance(analysis.ratio()))),
                // More pairs would decide other metrics, and the comparison would fail all the same.
                verdict => is_lost |= verdict == Verdict::Regressed && bound.expect != Verdict::Regressed,
            }
        }
        let is_decided = self.undecided().is_none();
        if is_lost && is_decided {
            return Decision::Done(self.compare(false, "a metric is beyond its gate"));
        }
        // The other modes measure what they can.
        let is_gated = self.trial.metrics.iter().any(|bound| bound.gate.is_some());
        if open.is_empty() && is_decided && (is_gated || self.trial.plan.mode == Mode::Quick) {
            let reason = if is_gated { "the answer is clear" } else { "no metric has a gate" };
            return Decision::Done(self.compare(false, reason));
        }
        let needed = open.into_iter().collect::<Option<Vec<_>>>().and_then(|needed| needed.into_iter().max());
        Decision::Continue { pairs_needed: needed }
    }

    /// Judges the present runs as if the budget ended here, for a recording that ends early. Runs without a complete
    /// pair are left out.
    pub fn conclude(&self, reason: &str) -> Vec<Comparison> {
        self.compare(true, reason)
    }

    /// Returns `comparisons`, unless empty.
    ///
    /// # Errors
    /// [`Error::NothingCompared`].
    pub fn compared(&self, comparisons: Vec<Comparison>) -> Result<Vec<Comparison>> {
        if !comparisons.is_empty() {
            return Ok(comparisons);
        }
        let reason = self.undecided().map_or_else(|| "there is no pair of runs".into(), |reason| reason.to_string());
        Err(Error::NothingCompared { comparison: self.trial.id.as_str().into(), reason: reason.into() })
    }

    fn schedule(&self) -> Schedule {
        Schedule::new(self.trial.budget.min_pairs, self.trial.budget.max_pairs, self.trial.confidence)
    }

    /// Why no further block follows. `None` if one does.
    fn spent(&self) -> Option<String> {
        let pairs = self.pairs.len();
        if pairs >= self.trial.budget.max_pairs {
            return Some(format!("the budget of {pairs} pairs is spent"));
        }
        let end = |pairs: &[Pair]| pairs.last().map(|pair| pair.last().started + pair.last().duration);
        let began = self.runs().map(|run| run.started).fold(f64::INFINITY, f64::min);
        let ended = end(&self.pairs)?;
        // From the end of a block to the end of the next block, including the turns of other comparisons.
        let block = ended - end(&self.pairs[..pairs - BLOCK]).unwrap_or(began);
        let budget = self.trial.budget.seconds;
        (ended - began + block > budget)
            .then(|| format!("another block would not end within the budget of {budget:.0} s"))
    }

    /// Why the comparison is inconclusive, regardless of its interval.
    fn undecided(&self) -> Option<Undecided> {
        let last = self.refused.last().filter(|_| self.is_abandoned());
        let abandoned =
            last.map(|last| Undecided::Abandoned { order: self.order(), arm: self.arm(), last: last.clone() });
        abandoned.or_else(|| self.selection.excess()).or_else(|| self.unmet())
    }

    /// The first precondition that an arm does not meet. Judged on all runs of the arm together, so that it selects no
    /// run.
    fn unmet(&self) -> Option<Undecided> {
        let mean = |arm: Arm, receipt: &str| {
            let runs = self.runs().filter(|run| run.arm == arm);
            let values: Vec<f64> = runs.filter_map(|run| run.receipts.get(receipt).copied()).collect();
            values.iter().sum::<f64>() / values.len() as f64
        };
        let of_both = |(receipt, required): (&String, &Counter)| {
            let arms = [Arm::Control, Arm::Treatment].map(|arm| (arm, mean(arm, receipt)));
            let (arm, mean) = arms.into_iter().find(|(_, mean)| !required.allows(*mean))?;
            Some(Undecided::Precondition { receipt: receipt.clone(), arm, mean, required: *required })
        };
        self.trial.preconditions.iter().find_map(of_both)
    }

    fn logs(&self, metric: &str) -> Vec<f64> {
        let of = |run: &Run| run.metrics.get(metric).map_or(f64::NAN, |metric| metric.value);
        self.pairs.iter().map(|pair| (of(&pair.treatment) / of(&pair.control)).ln()).collect()
    }

    fn compare(&self, last: bool, reason: &str) -> Vec<Comparison> {
        let Some(first) = self.pairs.first() else { return Vec::new() };
        let bounds = self.trial.metrics.iter().map(|bound| bound.name.as_str());
        let others = first.control.metrics.keys().map(String::as_str).filter(|name| {
            let everywhere =
                |pair: &Pair| [&pair.control, &pair.treatment].iter().all(|run| run.metrics.contains_key(*name));
            !self.trial.metrics.iter().any(|bound| bound.name == *name) && self.pairs.iter().all(everywhere)
        });
        let names: Vec<&str> = bounds.chain(others).collect();
        names.into_iter().map(|name| self.comparison(name, &first.control, last, reason)).collect()
    }

    fn comparison(&self, name: &str, first: &Run, last: bool, reason: &str) -> Comparison {
        let logs = self.logs(name);
        let bound = self.trial.metrics.iter().find(|bound| bound.name == name);
        let mean = |values: Vec<f64>| (values.iter().map(|value| value.ln()).sum::<f64>() / values.len() as f64).exp();
        let of = |run: &Run| run.metrics[name].value;
        let schedule = self.schedule();
        // A single pair has a ratio, but no spread. An interval of fewer pairs than the first look means little.
        let analysis = (logs.len() > 1).then(|| schedule.analyze(&logs, last));
        let usual = (logs.len() > 1).then(|| Schedule { tail: 0.025, ..schedule }.analyze(&logs, last));
        let interval = analysis.map_or([None; 2], |analysis| analysis.ends().map(known));
        let judged = analysis.filter(|_| logs.len() >= schedule.min);
        let mut comparison = Comparison {
            id: self.trial.id.clone(),
            metric: name.to_owned(),
            unit: first.metrics[name].unit.clone(),
            control: mean(self.pairs.iter().map(|pair| of(&pair.control)).collect()),
            treatment: mean(self.pairs.iter().map(|pair| of(&pair.treatment)).collect()),
            ratio: (logs.iter().sum::<f64>() / logs.len() as f64).exp(),
            ci95: usual.map_or([None; 2], |analysis| analysis.ends().map(known)),
            confidence: self.trial.confidence,
            interval,
            pairs: logs.len(),
            ratios: logs.iter().map(|log| log.exp()).collect(),
            minimum_detectable: analysis.and_then(|analysis| known(analysis.minimum_detectable())),
            pairs_needed: None,
            bound: bound.map_or_else(Bound::none, MetricBound::recorded),
            verdict: Verdict::Reported,
            holds: true,
            goal: None,
            reference: bound.and_then(|bound| bound.reference),
            receipts: self.receipts(),
            selection: self.selection.clone(),
            undecided: None,
            steal: self.steal(),
            notes: vec![format!("stopped after {} pairs: {reason}", logs.len())],
        };
        if let Some(bound) = bound {
            judge(&mut comparison, bound, judged, self.undecided());
        }
        comparison
    }

    /// Receipts of all runs. Omits a receipt that is not required and is 0 in all runs: it belongs to another
    /// treatment.
    fn receipts(&self) -> Receipts {
        let of = |arm: fn(&Pair) -> &Run| {
            let mut ranges: BTreeMap<String, [f64; 2]> = BTreeMap::new();
            for (name, &value) in self.pairs.iter().flat_map(|pair| &arm(pair).receipts) {
                let [low, high] = ranges.entry(name.clone()).or_insert([value; 2]);
                (*low, *high) = (low.min(value), high.max(value));
            }
            ranges
        };
        let mut receipts = Receipts { control: of(|pair| &pair.control), treatment: of(|pair| &pair.treatment) };
        let arms = [&receipts.control, &receipts.treatment];
        let counted = |name| arms.iter().any(|ranges| ranges.get(name).is_some_and(|range| *range != [0.0; 2]));
        let names = arms.iter().flat_map(|ranges| ranges.keys());
        let idle = names.filter(|&name| !self.trial.receipts.contains_key(name) && !counted(name));
        let idle: Vec<String> = idle.cloned().collect();
        for name in idle {
            receipts.control.remove(&name);
            receipts.treatment.remove(&name);
        }
        receipts
    }

    fn steal(&self) -> Option<f64> {
        let runs = self.pairs.iter().flat_map(|pair| [&pair.control, &pair.treatment]);
        runs.filter_map(|run| run.host.steal).reduce(f64::max)
    }
}

/// Sets the verdict, once. Without an analysis, or with an `undecided` reason, the verdict is inconclusive. Then a
/// metric without a gate does not hold either: its number is unusable.
fn judge(
    comparison: &mut Comparison,
    bound: &MetricBound,
    analysis: Option<InterimAnalysis>,
    undecided: Option<Undecided>,
) {
    if let Some(undecided) = undecided {
        comparison.goal = bound.goal.map(|_| Attainment::Unclear);
        comparison.verdict = Verdict::Inconclusive;
        comparison.holds = false;
        comparison.undecided = Some(undecided);
        return;
    }
    let ends = analysis.map_or([0.0, f64::INFINITY], |analysis| analysis.ends());
    comparison.goal = bound.goal.map(|goal| goal.attainment(ends));
    if let (true, Some(tried)) = (comparison.falls_short(), &bound.tried) {
        comparison.notes.push(format!("tried for the goal of {}: {tried}", bound.name));
    }
    let Some(gate) = bound.gate else { return };
    comparison.verdict = gate.verdict(ends);
    comparison.holds = comparison.verdict == bound.expect;
    if comparison.verdict == Verdict::Inconclusive {
        comparison.pairs_needed = analysis.and_then(|analysis| analysis.pairs_needed(gate.distance(analysis.ratio())));
    }
}

/// Turns infinity into `None`: JSON has no infinity.
fn known(value: f64) -> Option<f64> {
    value.is_finite().then_some(value)
}

#[cfg(test)]
pub(crate) mod tests;
