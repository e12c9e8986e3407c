//! Limits of a ratio, and the verdict on an interval.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A bound on the ratio of treatment to control.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// For metrics that should be small: latency, CPU time, memory.
    AtMost(f64),
    /// For metrics that should be large: throughput.
    AtLeast(f64),
    /// Equivalence: from `1/r` to `r`.
    Within(f64),
    /// No effect: the interval must contain 1 and lie within `1/r` to `r`. Unlike with [`Limit::Within`], a small but
    /// certain effect fails. Suits A/A runs, where any certain effect is a fault of the measurement.
    SameWithin(f64),
}

/// The verdict on a bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The whole interval is within the bound.
    Pass,
    /// The whole interval is beyond the bound.
    Regressed,
    /// The interval is neither within nor beyond the bound. Not a pass.
    Inconclusive,
    /// There is no bound: the metric is only reported.
    Reported,
}

/// Attainment of a goal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Attainment {
    /// The whole interval is within the goal.
    Reached,
    /// The whole interval is beyond the goal.
    NotReached,
    /// The interval is neither within nor beyond the goal.
    Unclear,
}

impl Limit {
    /// The limit's number.
    pub fn ratio(self) -> f64 {
        match self {
            Self::AtMost(ratio) | Self::AtLeast(ratio) | Self::Within(ratio) | Self::SameWithin(ratio) => ratio,
        }
    }

    /// A one-sided limit multiplied by `unit`. Two-sided limits are centred on 1 and stay.
    #[must_use]
    pub fn scaled(self, unit: f64) -> Self {
        match self {
            Self::AtMost(ratio) => Self::AtMost(ratio * unit),
            Self::AtLeast(ratio) => Self::AtLeast(ratio * unit),
            both => both,
        }
    }

    /// The verdict on an interval of ratios.
    pub fn verdict(self, [low, high]: [f64; 2]) -> Verdict {
        let (within, beyond) = match self {
            Self::AtMost(most) => (high <= most, low > most),
            Self::AtLeast(least) => (low >= least, high < least),
            Self::Within(factor) => (low >= 1.0 / factor && high <= factor, low > factor || high < 1.0 / factor),
            Self::SameWithin(factor) => {
                let holds_one = low <= 1.0 && high >= 1.0;
                (holds_one && low >= 1.0 / factor && high <= factor, !holds_one)
            }
        };
        match (within, beyond) {
            (true, _) => Verdict::Pass,
            (_, true) => Verdict::Regressed,
            _ => Verdict::Inconclusive,
        }
    }

    /// Like [`Self::verdict`], for a goal.
    pub fn attainment(self, interval: [f64; 2]) -> Attainment {
        match self.verdict(interval) {
            Verdict::Pass => Attainment::Reached,
            Verdict::Regressed => Attainment::NotReached,
            Verdict::Inconclusive | Verdict::Reported => Attainment::Unclear,
        }
    }

    /// Distance of a ratio from the point where the verdict changes, on the log scale.
    pub fn distance(self, ratio: f64) -> f64 {
        match self {
            Self::AtMost(limit) | Self::AtLeast(limit) => (ratio.ln() - limit.ln()).abs(),
            Self::Within(factor) | Self::SameWithin(factor) => (factor.ln() - ratio.ln().abs()).abs(),
        }
    }

    /// Whether every ratio within `self` is also within `other`. `None` if the two cannot be compared.
    pub fn as_strict_as(self, other: Self) -> Option<bool> {
        match (self, other) {
            (Self::AtMost(goal), Self::AtMost(gate)) | (Self::Within(goal), Self::Within(gate)) => Some(goal <= gate),
            (Self::AtLeast(goal), Self::AtLeast(gate)) => Some(goal >= gate),
            _ => None,
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtMost(ratio) => write!(f, "≤ {ratio:.2}"),
            Self::AtLeast(ratio) => write!(f, "≥ {ratio:.2}"),
            Self::Within(ratio) => write!(f, "{:.2} to {ratio:.2}", 1.0 / ratio),
            Self::SameWithin(ratio) => write!(f, "1 within {:.2} to {ratio:.2}", 1.0 / ratio),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Pass => "pass",
            Self::Regressed => "regressed",
            Self::Inconclusive => "inconclusive",
            Self::Reported => "reported",
        })
    }
}

impl fmt::Display for Attainment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Reached => "reached",
            Self::NotReached => "not reached",
            Self::Unclear => "unclear",
        })
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::latency_below(Limit::AtMost(1.0), [0.9, 1.0], Verdict::Pass)]
    #[case::latency_above(Limit::AtMost(1.0), [1.01, 1.2], Verdict::Regressed)]
    #[case::latency_across(Limit::AtMost(1.0), [0.99, 1.2], Verdict::Inconclusive)]
    #[case::throughput_above(Limit::AtLeast(1.12), [1.12, 1.3], Verdict::Pass)]
    #[case::throughput_below(Limit::AtLeast(1.12), [0.9, 1.11], Verdict::Regressed)]
    #[case::throughput_across(Limit::AtLeast(1.12), [1.0, 1.13], Verdict::Inconclusive)]
    #[case::equivalent_although_certain(Limit::Within(1.1), [1.02, 1.05], Verdict::Pass)]
    #[case::not_equivalent(Limit::Within(1.1), [0.7, 0.8], Verdict::Regressed)]
    #[case::too_wide_for_equivalence(Limit::Within(1.1), [0.8, 1.05], Verdict::Inconclusive)]
    #[case::same(Limit::SameWithin(1.1), [0.95, 1.05], Verdict::Pass)]
    #[case::certainly_not_the_same(Limit::SameWithin(1.1), [1.02, 1.05], Verdict::Regressed)]
    #[case::too_wide_to_be_the_same(Limit::SameWithin(1.1), [0.5, 2.0], Verdict::Inconclusive)]
    #[case::unbounded_proves_nothing(Limit::AtMost(1.0), [0.0, f64::INFINITY], Verdict::Inconclusive)]
    fn an_interval_has_a_verdict(#[case] limit: Limit, #[case] interval: [f64; 2], #[case] verdict: Verdict) {
        assert_eq!(limit.verdict(interval), verdict);
    }
}
