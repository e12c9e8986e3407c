//! One comparison as it is planned: how long, what is counted, and what must hold.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::counter::Counter;
use super::limit::{Limit, Verdict};
use crate::judge::{Error, Reference, Result};

/// Schema identifier in the file.
pub(super) const SCHEMA: &str = "meshproof.bounds/v1";

/// Environment variable that selects a [`Mode`] by its name, in lower case.
pub const MODE_VARIABLE: &str = "MESHPROOF_PERF";

/// How long to measure.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Within the time that a pull request may take.
    #[default]
    Quick,
    /// With the seed's own durations.
    Full,
    /// As a pull request, but with as many pairs as what others are to be judged by needs.
    Baseline,
}

impl Mode {
    const ALL: [Self; 3] = [Self::Quick, Self::Full, Self::Baseline];

    /// As the environment says.
    ///
    /// # Errors
    /// [`Error::Mode`] for what is no mode's name.
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

    /// Its name, as the environment and records have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Quick => "quick",
            Self::Full => "full",
            Self::Baseline => "baseline",
        }
    }
}

/// What a run does. It goes into the record as it is: runs of two plans are not compared.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunPlan {
    /// Which durations.
    pub mode: Mode,
    /// Length of the measured window, in seconds.
    pub run_s: f64,
    /// What is left out before it, in seconds.
    pub warmup_s: f64,
    /// Connections kept open.
    pub connections: u32,
    /// Requests a second over all connections, open loop; `None` is a closed loop, as fast as answers come.
    pub rate: Option<f64>,
}

/// When to stop at the latest.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// Pairs before the first look. At least 4, the fewest that give a usable interval.
    pub min_pairs: usize,
    /// Pairs at the last look.
    pub max_pairs: usize,
    /// Seconds from the beginning of the first run; a block that would not end by then is not begun.
    pub seconds: f64,
}

/// What a receipt must show in every run of an arm: that the treatment was at work in one arm and not in the other.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    /// In the control arm.
    pub control: Counter,
    /// In the treatment arm.
    pub treatment: Counter,
}

/// What one metric is judged by.
#[derive(Debug, Clone, PartialEq)]
pub struct MetricBound {
    /// The metric.
    pub name: String,
    /// What fails the test; `None` is reported only.
    pub gate: Option<Limit>,
    /// A gate on the ratio as a multiple of the one in the baseline of such machines: [`Baselines::apply`] makes a gate
    /// of it.
    ///
    /// [`Baselines::apply`]: super::Baselines::apply
    pub gate_of_baseline: Option<Limit>,
    /// What is aimed at.
    pub goal: Option<Limit>,
    /// What was tried to get there, for the report where it is not reached.
    pub tried: Option<String>,
    /// The verdict of a healthy system on the gate.
    pub expect: Verdict,
    /// Where the numbers come from, or why there is no gate.
    pub source: String,
    /// What others measured.
    pub reference: Option<Reference>,
}

/// A comparison that is to be made.
#[derive(Debug, Clone, PartialEq)]
pub struct Trial {
    /// `bypass_p99/16`.
    pub id: String,
    /// What the control arm is.
    pub control: String,
    /// What the treatment arm is.
    pub treatment: String,
    /// How sure a verdict has to be: 1 − the rate of wrong intervals, over both sides and all looks.
    pub confidence: f64,
    /// Share of requests that may be answered with an error, or not sent, before a run is refused.
    pub max_failed_share: f64,
    /// What each run does.
    pub plan: RunPlan,
    /// When to stop at the latest.
    pub budget: Budget,
    /// What proves which arm had the treatment.
    pub receipts: BTreeMap<String, Receipt>,
    /// What the mean of a receipt must be, over the runs of each arm. A comparison that does not meet it is
    /// inconclusive; no run is refused for it.
    pub preconditions: BTreeMap<String, Counter>,
    /// What is judged, in the file's order.
    pub metrics: Vec<MetricBound>,
}

impl Trial {
    /// The highest quantile of latency that a verdict hangs on: 0.99 where a metric at p99 has a gate or a goal. The
    /// generator may be late above it.
    pub fn judged_quantile(&self) -> f64 {
        let judged =
            |metric: &MetricBound| metric.gate.is_some() || metric.gate_of_baseline.is_some() || metric.goal.is_some();
        let at_p99 = self.metrics.iter().any(|metric| judged(metric) && metric.name.contains("p99"));
        if at_p99 { 0.99 } else { 0.5 }
    }
}
