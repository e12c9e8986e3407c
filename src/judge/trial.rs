//! The plan of a comparison: duration, receipts, and bounds.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::counter::Counter;
use super::limit::{Limit, Verdict};
use crate::judge::{Bound, Error, Reference, Result};

/// Schema identifier in the bounds file.
pub(super) const SCHEMA: &str = "meshproof.bounds/v1";

/// Environment variable that selects a [`Mode`] by its name, in lower case.
pub const MODE_VARIABLE: &str = "MESHPROOF_PERF";

/// How long to measure.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Short enough for a pull request.
    #[default]
    Quick,
    /// With the seed's durations.
    Full,
    /// Run lengths of a pull request, with enough pairs for a baseline.
    Baseline,
}

impl Mode {
    const ALL: [Self; 3] = [Self::Quick, Self::Full, Self::Baseline];

    /// The mode that the environment selects.
    ///
    /// # Errors
    /// [`Error::Mode`]: the mode is unknown.
    pub fn selected() -> Result<Self> {
        match std::env::var_os(MODE_VARIABLE) {
            None => Ok(Self::default()),
            Some(name) => Self::named(&name.to_string_lossy()),
        }
    }

    pub(super) fn named(name: &str) -> Result<Self> {
        let mode = Self::ALL.into_iter().find(|mode| mode.name() == name);
        let known = || Self::ALL.map(Self::name).into();
        mode.ok_or_else(|| Error::Mode { variable: MODE_VARIABLE, name: name.into(), known: known() })
    }

    /// Name of the mode, as in the environment and in records.
    pub fn name(self) -> &'static str {
        match self {
            Self::Quick => "quick",
            Self::Full => "full",
            Self::Baseline => "baseline",
        }
    }
}

/// The plan of a run. The record contains the plan unchanged: runs of different plans are not compared.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunPlan {
    /// The mode.
    pub mode: Mode,
    /// Length of the measured window, in seconds.
    pub run_s: f64,
    /// Length of the warm-up before the measured window, in seconds.
    pub warmup_s: f64,
    /// Number of open connections.
    pub connections: u32,
    /// Requests per second over all connections, in an open loop. `None`: a closed loop, as fast as answers arrive.
    pub rate: Option<f64>,
}

/// Limits of a comparison's duration.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// Pairs before the first look. At least 4, the fewest that give a usable interval.
    pub min_pairs: usize,
    /// Pairs at the last look.
    pub max_pairs: usize,
    /// Seconds since the start of the first run. A block that would end later is not started.
    pub seconds: f64,
}

impl Budget {
    /// Whether the machine is too noisy: with `needed` further pairs after those that are measured, there are more than
    /// planned.
    pub fn exceeded(&self, measured: usize, needed: usize) -> Option<TooNoisy> {
        let pairs = measured + needed;
        (pairs > self.max_pairs).then_some(TooNoisy { pairs })
    }
}

/// A machine that is too noisy for a budget, in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooNoisy {
    /// Number of pairs that would probably decide.
    pub pairs: usize,
}

impl fmt::Display for TooNoisy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "as noisy as this machine is now, about {} pairs would decide", self.pairs)
    }
}

/// Required values of a receipt in every run of an arm, to prove that only one arm had the treatment.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    /// In the control arm.
    pub control: Counter,
    /// In the treatment arm.
    pub treatment: Counter,
}

/// The bound of a metric.
#[derive(Debug, Clone, PartialEq)]
pub struct MetricBound {
    /// The metric.
    pub name: String,
    /// Limit that fails the test. `None`: reported only.
    pub gate: Option<Limit>,
    /// A gate as a multiple of the baseline's ratio for this kind of machine. [`Baselines::apply`] turns it into an
    /// absolute gate.
    ///
    /// [`Baselines::apply`]: super::Baselines::apply
    pub gate_of_baseline: Option<Limit>,
    /// Limit to aim for.
    pub goal: Option<Limit>,
    /// What was tried to reach the goal, for the report of a missed goal.
    pub tried: Option<String>,
    /// The gate's verdict for a healthy system.
    pub expect: Verdict,
    /// The source of the numbers, or the reason why there is no gate.
    pub source: String,
    /// Measurement by others.
    pub reference: Option<Reference>,
}

impl MetricBound {
    /// What a report says of the bound.
    pub(super) fn recorded(&self) -> Bound {
        Bound { gate: self.gate, goal: self.goal, expect: self.expect, source: self.source.clone() }
    }
}

/// A planned comparison.
#[derive(Debug, Clone, PartialEq)]
pub struct Trial {
    /// Id, for example `bypass_p99/16`.
    pub id: String,
    /// Description of the control arm.
    pub control: String,
    /// Description of the treatment arm.
    pub treatment: String,
    /// Required confidence of a verdict: 1 − the rate of wrong intervals, over both sides and all looks.
    pub confidence: f64,
    /// A run is refused if a larger share of requests fails or is not sent.
    pub max_failed_share: f64,
    /// Plan of each run.
    pub plan: RunPlan,
    /// Limits of the duration.
    pub budget: Budget,
    /// Required receipts, to prove which arm had the treatment.
    pub receipts: BTreeMap<String, Receipt>,
    /// Required mean of a receipt over the runs of each arm. A comparison that misses the mean is inconclusive. No run
    /// is refused for it.
    pub preconditions: BTreeMap<String, Counter>,
    /// The judged metrics, in the order of the file.
    pub metrics: Vec<MetricBound>,
}

impl Trial {
    /// The highest latency quantile that a verdict depends on: 0.99 if a metric at p99 has a gate or a goal. Above this
    /// quantile, the generator may be late.
    pub fn judged_quantile(&self) -> f64 {
        let judged =
            |metric: &MetricBound| metric.gate.is_some() || metric.gate_of_baseline.is_some() || metric.goal.is_some();
        let at_p99 = self.metrics.iter().any(|metric| judged(metric) && metric.name.contains("p99"));
        if at_p99 { 0.99 } else { 0.5 }
    }
}
