//! A judged comparison: one metric of two arms.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::judge::{Attainment, Limit, Selection, Undecided, Verdict};

/// The bound of a comparison, and its source.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Bound {
    /// Limit that fails the test.
    pub gate: Option<Limit>,
    /// Limit to aim for.
    pub goal: Option<Limit>,
    /// The verdict of a healthy system. `regressed` for a comparison that proves that it can fail.
    pub expect: Verdict,
    /// The source of the numbers, or the reason why there is no gate.
    pub source: String,
}

impl Bound {
    /// The bound of a metric that has none.
    pub(super) fn none() -> Self {
        let source = "measured beside what is judged; it has no bound".into();
        Self { gate: None, goal: None, expect: Verdict::Reported, source }
    }
}

/// A measurement by others, in the comparison's unit.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reference {
    /// Control arm.
    pub control: f64,
    /// Treatment arm.
    pub treatment: f64,
}

impl Reference {
    /// Treatment over control.
    pub fn ratio(&self) -> f64 {
        self.treatment / self.control
    }
}

/// Counters that prove which arm used the treatment: smallest and largest value of any run, by receipt.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Receipts {
    /// Control arm.
    pub control: BTreeMap<String, [f64; 2]>,
    /// Treatment arm.
    pub treatment: BTreeMap<String, [f64; 2]>,
}

/// One metric, compared over pairs of runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// The comparison's id. Id and metric together are unique within the suite.
    pub id: String,
    /// The metric.
    pub metric: String,
    /// The metric's unit.
    pub unit: String,
    /// Geometric mean over the runs of the control arm.
    pub control: f64,
    /// Geometric mean over the runs of the treatment arm.
    pub treatment: f64,
    /// Ratio of treatment to control: the geometric mean over pairs.
    pub ratio: f64,
    /// 95 % interval of the ratio, valid at any stopping time. `None` for an end that the pairs are too few to give.
    pub ci95: [Option<f64>; 2],
    /// The required confidence of the verdict.
    pub confidence: f64,
    /// The interval at that confidence. The verdict is based on this interval.
    pub interval: [Option<f64>; 2],
    /// Number of judged pairs.
    pub pairs: usize,
    /// The ratio of each pair, in the order of execution.
    pub ratios: Vec<f64>,
    /// The smallest true change, as a fraction, that this many pairs with this noise detect with a power of 80 %.
    /// `None` if there are too few pairs.
    pub minimum_detectable: Option<f64>,
    /// For an inconclusive comparison: the probable number of further pairs until a decision. `None` if no number
    /// suffices.
    pub pairs_needed: Option<usize>,
    /// The bound.
    pub bound: Bound,
    /// The verdict.
    pub verdict: Verdict,
    /// Whether the gate holds: the verdict is the expected one, or there is no gate.
    pub holds: bool,
    /// Attainment of the goal, if there is one.
    pub goal: Option<Attainment>,
    /// Measurement by others.
    pub reference: Option<Reference>,
    /// Receipts of both arms.
    pub receipts: Receipts,
    /// Attempts and refusals of each arm.
    #[serde(default)]
    pub selection: Selection,
    /// Why the comparison is inconclusive regardless of its interval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undecided: Option<Undecided>,
    /// Largest share of CPU time stolen by other guests of the machine, over all runs. `None` if unknown.
    pub steal: Option<f64>,
    /// Notes for the reader: the reason for stopping, omissions.
    pub notes: Vec<String>,
}

impl Comparison {
    /// Whether the comparison has a goal that was not shown to be reached.
    pub fn falls_short(&self) -> bool {
        self.goal.is_some_and(|goal| goal != Attainment::Reached)
    }

    /// Whether even the estimate misses the goal. Such a miss needs an explanation, otherwise only more pairs are
    /// needed.
    pub fn misses(&self) -> bool {
        self.bound.goal.is_some_and(|goal| goal.attainment([self.ratio; 2]) != Attainment::Reached)
    }

    /// What would decide an inconclusive comparison, as text.
    pub fn remedy(&self) -> String {
        self.undecided.as_ref().map_or_else(|| needed(self.pairs_needed), ToString::to_string)
    }

    /// The comparison's unique name within a suite.
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

/// A fractional change as text. Large changes are given as a factor.
pub fn change(fraction: f64) -> String {
    if fraction < 1.0 { format!("{:.1} %", fraction * 100.0) } else { format!("× {:.1}", fraction + 1.0) }
}

/// The number of further pairs as text.
fn needed(pairs: Option<usize>) -> String {
    pairs.map_or_else(
        || "the estimate is on the bound: more pairs cannot decide".into(),
        |pairs| format!("about {pairs} more pairs"),
    )
}
