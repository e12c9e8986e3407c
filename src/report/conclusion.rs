//! What is said of a comparison of two configurations as a whole.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Report;
use crate::judge::Verdict;

/// How a comparison of two configurations ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Concluded {
    /// Every metric is within its bound.
    Pass,
    /// A metric is worse than its bound, or a claim is lost.
    Regressed,
    /// The time did not decide it.
    Inconclusive,
    /// Both sides declare the same objects, so there was nothing to compare.
    Unchanged,
    /// Something kept the comparison from being made.
    NotJudged,
}

impl Concluded {
    /// What was to be judged, and did not pass.
    pub const NO_PASS: [Self; 3] = [Self::Regressed, Self::Inconclusive, Self::NotJudged];
}

impl fmt::Display for Concluded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pass => "pass",
            Self::Regressed => "regressed",
            Self::Inconclusive => "inconclusive",
            Self::Unchanged => "unchanged",
            Self::NotJudged => "not judged",
        })
    }
}

impl From<Verdict> for Concluded {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Pass => Self::Pass,
            Verdict::Regressed => Self::Regressed,
            Verdict::Inconclusive => Self::Inconclusive,
            // Without a gate, nothing was judged.
            Verdict::Reported => Self::NotJudged,
        }
    }
}

/// The verdict on a comparison of two configurations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conclusion {
    /// Name of the comparison, which is also the name of its test.
    pub comparison: String,
    /// How it ended.
    pub verdict: Concluded,
    /// Why, in one line.
    pub why: String,
    /// Whether the gate lets a change pass that this comparison did not decide.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub may_be_inconclusive: bool,
}

impl fmt::Display for Conclusion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.verdict, self.why)
    }
}

impl Report {
    /// How many comparisons of two configurations ended in one of these ways.
    pub(super) fn ended(&self, ways: &[Concluded]) -> usize {
        self.conclusions.iter().filter(|one| ways.contains(&one.verdict)).count()
    }
}
