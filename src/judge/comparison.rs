//! A comparison, as judged: one metric of two arms.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::judge::{Attainment, Limit, Selection, Undecided, Verdict};

/// The bound that a comparison was judged by, and where it comes from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Bound {
    /// What fails the test.
    pub gate: Option<Limit>,
    /// What is aimed at.
    pub goal: Option<Limit>,
    /// The verdict that a healthy system has: `regressed` for a comparison that proves that it can fail.
    pub expect: Verdict,
    /// Where the numbers come from; why there is no gate, where there is none.
    pub source: String,
}

/// What others measured, in the comparison's unit.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reference {
    /// Without the treatment.
    pub control: f64,
    /// With it.
    pub treatment: f64,
}

impl Reference {
    /// Treatment over control.
    pub fn ratio(&self) -> f64 {
        self.treatment / self.control
    }
}

/// Counters that prove which arm used the treatment: the smallest and the largest of any run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Receipts {
    /// Without the treatment.
    pub control: BTreeMap<String, [f64; 2]>,
    /// With it.
    pub treatment: BTreeMap<String, [f64; 2]>,
}

/// One metric, compared over pairs of runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// The comparison's id; with the metric it is unique within the suite.
    pub id: String,
    /// What was measured.
    pub metric: String,
    /// Its unit.
    pub unit: String,
    /// Geometric mean over the runs of the control arm.
    pub control: f64,
    /// That of the treatment arm.
    pub treatment: f64,
    /// Treatment over control: the geometric mean over pairs.
    pub ratio: f64,
    /// 95 % interval of the ratio, which holds however early the comparison stopped. `None` at an end that so few
    /// pairs do not give.
    pub ci95: [Option<f64>; 2],
    /// How sure the verdict had to be.
    pub confidence: f64,
    /// The interval at that confidence, which the verdict was given on.
    pub interval: [Option<f64>; 2],
    /// Pairs that were judged.
    pub pairs: usize,
    /// The ratio of each pair, in the order of execution.
    pub ratios: Vec<f64>,
    /// The smallest true change, as a fraction, that pairs so many and so noisy show four times in five. `None` where
    /// there are too few to say.
    pub minimum_detectable: Option<f64>,
    /// Where inconclusive: how many more pairs would probably decide. `None` where no number would.
    pub pairs_needed: Option<usize>,
    /// What it was judged by.
    pub bound: Bound,
    /// The verdict.
    pub verdict: Verdict,
    /// Whether the gate holds: the verdict is the expected one, or there is no gate.
    pub holds: bool,
    /// What became of the goal, where there is one.
    pub goal: Option<Attainment>,
    /// What others measured.
    pub reference: Option<Reference>,
    /// Proof of what was compared.
    pub receipts: Receipts,
    /// Every attempt at a run of each arm, and what was refused.
    #[serde(default)]
    pub selection: Selection,
    /// Why it is inconclusive whatever the interval is, if something else than the interval makes it so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undecided: Option<Undecided>,
    /// Share of processor time stolen by other guests of the machine: the most in any run. `None` where unknown.
    pub steal: Option<f64>,
    /// What else a reader has to know: why it stopped, what was left out.
    pub notes: Vec<String>,
}

impl Comparison {
    /// Whether it has a goal that was not shown to be reached.
    pub fn falls_short(&self) -> bool {
        self.goal.is_some_and(|goal| goal != Attainment::Reached)
    }

    /// Whether not even the estimate reaches its goal: there is something to explain, where otherwise only pairs are
    /// missing.
    pub fn misses(&self) -> bool {
        self.bound.goal.is_some_and(|goal| goal.attainment([self.ratio; 2]) != Attainment::Reached)
    }

    /// What would decide an inconclusive one, in words.
    pub fn remedy(&self) -> String {
        self.undecided.as_ref().map_or_else(|| needed(self.pairs_needed), ToString::to_string)
    }

    /// Names it within a suite.
    pub fn key(&self) -> String {
        format!("{} {}", self.id, self.metric)
    }
}

/// An interval's end as text.
fn end(end: Option<f64>) -> String {
    end.map_or_else(|| "?".into(), |end| format!("{end:.3}"))
}

/// An interval as text.
pub fn ends(interval: [Option<f64>; 2]) -> String {
    format!("{} to {}", end(interval[0]), end(interval[1]))
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let holds = if self.holds { "holds" } else { "does not hold" };
        writeln!(f, "comparison {} {holds}: {}", self.key(), self.verdict)?;
        let mut row = |name: &str, text: String| writeln!(f, "  {name:<9} {text}");
        if let Some(gate) = self.bound.gate {
            row("gate", format!("ratio {gate}, expected {} ({})", self.bound.expect, self.bound.source))?;
        }
        if let (Some(goal), Some(seen)) = (self.bound.goal, self.goal) {
            row("goal", format!("ratio {goal}: {seen}"))?;
        }
        row("control", format!("{:.4} {}", self.control, self.unit))?;
        row("treatment", format!("{:.4} {}", self.treatment, self.unit))?;
        row("ratio", format!("{:.3} ({} with {:.0} %)", self.ratio, ends(self.interval), self.confidence * 100.0))?;
        let detectable = self
            .minimum_detectable
            .map_or_else(String::new, |least| format!(", which show a change of {} four times in five", change(least)));
        row("pairs", format!("{}{detectable}", self.pairs))?;
        if self.verdict == Verdict::Inconclusive {
            row("needed", self.remedy())?;
        }
        if !self.selection.is_unknown() {
            row("attempts", self.selection.to_string())?;
        }
        self.notes.iter().try_for_each(|note| row("note", note.clone()))
    }
}

/// A change as a fraction, in words: a factor where it is that large.
pub fn change(fraction: f64) -> String {
    if fraction < 1.0 { format!("{:.1} %", fraction * 100.0) } else { format!("× {:.1}", fraction + 1.0) }
}

/// How many more pairs, in words.
fn needed(pairs: Option<usize>) -> String {
    pairs.map_or_else(
        || "the estimate is on the bound: more pairs cannot decide".into(),
        |pairs| format!("about {pairs} more pairs"),
    )
}
