//! What became of each test of a run.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::{Claim, Judgement};
use crate::judge::{Comparison, Verdict};

/// Environment variable of cargo-nextest: which attempt at a test this is.
const ATTEMPT_VARIABLE: &str = "NEXTEST_ATTEMPT";

/// What kept a test from passing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A claim was judged and does not hold, a gate regressed, or the test panicked.
    Assertion,
    /// The mesh kept a claim from being judged: a pod that is not ready, a call that was not made.
    Mesh,
    /// The surroundings kept a claim from being judged: a lock, a Lease, a machine too noisy to measure on.
    Infrastructure,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Assertion => "assertion",
            Self::Mesh => "mesh",
            Self::Infrastructure => "infrastructure",
        })
    }
}

/// What became of a test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(tag = "outcome", content = "kind", rename_all = "kebab-case")]
pub enum Outcome {
    /// Every claim holds.
    Passed,
    /// The mesh does not offer what a claim needs, and nothing else is wrong.
    NotDeclared,
    /// Something does not hold, or was not judged.
    Failed(Kind),
}

impl Outcome {
    /// Whether the test failed.
    pub fn is_failed(self) -> bool {
        matches!(self, Self::Failed(_))
    }

    /// What became of a test with these judgements. A claim that was not judged is the mesh's.
    pub fn of(claims: &[&Claim], comparisons: &[&Comparison]) -> Self {
        let any = |verdict| claims.iter().any(|claim| claim.verdict() == verdict);
        let lost = |inconclusive| {
            let mut lost = comparisons.iter().filter(|one| !one.holds);
            lost.any(|one| (one.verdict == Verdict::Inconclusive) == inconclusive)
        };
        if any(Judgement::Fail) || lost(false) {
            Self::Failed(Kind::Assertion)
        } else if any(Judgement::Error) {
            Self::Failed(Kind::Mesh)
        } else if lost(true) {
            Self::Failed(Kind::Infrastructure)
        } else if any(Judgement::NotDeclared) {
            Self::NotDeclared
        } else {
            Self::Passed
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passed => f.write_str("passed"),
            Self::NotDeclared => f.write_str("not declared"),
            Self::Failed(kind) => write!(f, "failed ({kind})"),
        }
    }
}

/// A test of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tested {
    /// Name of the test, unique within the suite.
    pub test: String,
    /// Which attempt of this run it was, from 1. A runner that tries again makes further attempts.
    pub attempt: u32,
    /// What became of it.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// When it ended, in seconds since 1970-01-01 UTC.
    pub time: u64,
    /// Claims and comparisons that do not hold, by id.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub red: Vec<String>,
}

impl Tested {
    /// A test that ends now.
    pub fn now(test: impl Into<String>, outcome: Outcome) -> Self {
        let attempt = std::env::var(ATTEMPT_VARIABLE).ok().and_then(|attempt| attempt.parse().ok());
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { test: test.into(), attempt: attempt.unwrap_or(1), outcome, time: since.as_secs(), red: Vec::new() }
    }

    /// Names what does not hold.
    #[must_use]
    pub fn with_red(self, red: Vec<String>) -> Self {
        Self { red, ..self }
    }
}

/// Adds the tests of an older report of the same run. Of one attempt that was recorded twice, the failure counts.
pub(super) fn merge(tests: &mut Vec<Tested>, older: Vec<Tested>) {
    for one in older {
        let is_same = |other: &&mut Tested| (&other.test, other.attempt) == (&one.test, one.attempt);
        match tests.iter_mut().find(is_same) {
            Some(other) if one.outcome > other.outcome => *other = one,
            Some(_) => {}
            None => tests.push(one),
        }
    }
    tests.sort_by(|one, other| (&one.test, one.attempt).cmp(&(&other.test, other.attempt)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_outweighs_what_was_not_judged() {
        let (holds, fails) = (Claim::about("a", "").equals(&1, &1), Claim::about("b", "").equals(&1, &2));
        let (error, undeclared) = (Claim::error("c", "no pod"), Claim::not_declared("d", "no ingress"));
        assert_eq!(Outcome::of(&[&holds], &[]), Outcome::Passed);
        assert_eq!(Outcome::of(&[&holds, &undeclared], &[]), Outcome::NotDeclared);
        assert_eq!(Outcome::of(&[&undeclared, &error], &[]), Outcome::Failed(Kind::Mesh));
        assert_eq!(Outcome::of(&[&error, &fails], &[]), Outcome::Failed(Kind::Assertion));
    }

    #[test]
    fn an_attempt_that_was_recorded_twice_counts_once_and_its_failure_stays() {
        let tested = |test: &str, attempt, outcome| Tested { attempt, ..Tested::now(test, outcome) };
        let failed = Outcome::Failed(Kind::Mesh);
        let mut tests = vec![tested("b", 1, Outcome::Passed), tested("a", 1, failed)];
        merge(
            &mut tests,
            vec![tested("b", 1, failed), tested("a", 1, Outcome::Passed), tested("a", 2, Outcome::Passed)],
        );
        let seen: Vec<_> = tests.iter().map(|one| (one.test.as_str(), one.attempt, one.outcome)).collect();
        assert_eq!(seen, [("a", 1, failed), ("a", 2, Outcome::Passed), ("b", 1, failed)]);
    }

    #[test]
    fn an_outcome_is_flat_in_json() {
        let json = serde_json::to_value(Tested { time: 7, ..Tested::now("a", Outcome::Failed(Kind::Mesh)) }).unwrap();
        assert_eq!(
            json,
            serde_json::json!({"test": "a", "attempt": 1, "outcome": "failed", "kind": "mesh", "time": 7})
        );
        let passed: Tested = serde_json::from_str(r#"{"test":"a","attempt":1,"outcome":"passed","time":7}"#).unwrap();
        assert_eq!(passed.outcome, Outcome::Passed);
    }
}
