//! Tests that went both ways on one commit.

use std::collections::{BTreeMap, BTreeSet};

use super::Ledger;
use crate::report::{Kind, Outcome};

/// Standard deviations of a two-sided interval of 95 % of a normal distribution.
const Z: f64 = 1.959_964;

/// A share of first attempts, with an interval of 95 %.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// First attempts that failed.
    pub failed: usize,
    /// First attempts that were judged.
    pub of: usize,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Rate {
    /// The interval is Wilson's (E. B. Wilson, Probable Inference, the Law of Succession, and Statistical Inference,
    /// JASA 22, 1927), which also holds for few attempts and for rates near 0 (Brown, Cai and DasGupta, Interval
    /// Estimation for a Binomial Proportion, Statistical Science 16, 2001).
    pub fn new(failed: usize, of: usize) -> Self {
        if of == 0 {
            return Self { failed, of, low: 0.0, high: 1.0 };
        }
        let (count, share) = (of as f64, failed as f64 / of as f64);
        let scale = 1.0 + Z * Z / count;
        let middle = (share + Z * Z / (2.0 * count)) / scale;
        let reach = Z / scale * (share * (1.0 - share) / count + Z * Z / (4.0 * count * count)).sqrt();
        Self { failed, of, low: (middle - reach).max(0.0), high: (middle + reach).min(1.0) }
    }

    /// The share.
    pub fn share(self) -> f64 {
        if self.of == 0 { 0.0 } else { self.failed as f64 / self.of as f64 }
    }
}

impl std::fmt::Display for Rate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let percent = |share: f64| share * 100.0;
        let Self { failed, of, low, high } = self;
        write!(f, "{failed} of {of}, {:.1} % ({:.1}–{:.1})", percent(self.share()), percent(*low), percent(*high))
    }
}

/// What became of a test on all commits.
#[derive(Debug, Clone, PartialEq)]
pub struct History {
    /// The suite.
    pub suite: String,
    /// The test.
    pub test: String,
    /// Commits on which the test passed, and on which it also failed: by an assertion or by the mesh, at any attempt.
    pub both_ways: BTreeSet<String>,
    /// First attempts that passed.
    pub passed: usize,
    /// First attempts that failed, by kind.
    pub failed: BTreeMap<Kind, usize>,
    /// How often the test fails on a commit on which it can pass. Failures of the infrastructure say nothing of the
    /// test, and a commit on which the test never passed has broken it.
    pub rate: Rate,
    /// When the test last failed on a commit on which it also passed, in seconds since 1970-01-01 UTC.
    pub last: u64,
}

impl History {
    /// Whether the test went both ways on one commit.
    pub fn is_flake(&self) -> bool {
        !self.both_ways.is_empty()
    }

    /// First attempts that failed by this kind.
    pub fn failures(&self, kind: Kind) -> usize {
        self.failed.get(&kind).copied().unwrap_or(0)
    }
}

/// What became of each test since `since`, in seconds since 1970-01-01 UTC. Flakes come first, the worst of them first.
pub fn histories(ledger: &Ledger, since: u64) -> Vec<History> {
    let mut tests: BTreeMap<(&str, &str), Vec<&super::Entry>> = BTreeMap::new();
    for entry in ledger.entries().filter(|entry| entry.time >= since) {
        tests.entry((&entry.suite, &entry.test)).or_default().push(entry);
    }
    let mut all: Vec<History> =
        tests.into_iter().map(|((suite, test), entries)| history(suite, test, &entries)).collect();
    let key = |one: &History| (!one.is_flake(), -one.rate.low);
    all.sort_by(|one, other| key(one).partial_cmp(&key(other)).unwrap_or(std::cmp::Ordering::Equal));
    all
}

fn history(suite: &str, test: &str, entries: &[&super::Entry]) -> History {
    let is_red = |outcome: Outcome| matches!(outcome, Outcome::Failed(Kind::Assertion | Kind::Mesh));
    let passed: BTreeSet<&str> =
        entries.iter().filter(|one| one.outcome == Outcome::Passed).map(|one| one.commit.as_str()).collect();
    let turned: Vec<_> =
        entries.iter().filter(|one| is_red(one.outcome) && passed.contains(one.commit.as_str())).collect();
    let first: Vec<_> = entries.iter().filter(|one| one.attempt == 1).collect();
    let mut failed = BTreeMap::new();
    for one in &first {
        if let Outcome::Failed(kind) = one.outcome {
            *failed.entry(kind).or_insert(0) += 1;
        }
    }
    let can_pass = |one: &&&&super::Entry| passed.contains(one.commit.as_str());
    let count = |is: &dyn Fn(Outcome) -> bool| first.iter().filter(can_pass).filter(|one| is(one.outcome)).count();
    let (bad, good) = (count(&is_red), count(&|outcome| outcome == Outcome::Passed));
    History {
        suite: suite.to_owned(),
        test: test.to_owned(),
        both_ways: turned.iter().map(|one| one.commit.clone()).collect(),
        passed: good,
        failed,
        rate: Rate::new(bad, bad + good),
        last: turned.iter().map(|one| one.time).max().unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use super::super::entry::tests::{entry, random};
    use super::*;

    const ASSERTION: Outcome = Outcome::Failed(Kind::Assertion);

    fn of(entries: &[(&str, &str, u32, Outcome)]) -> History {
        let ledger: Ledger =
            entries.iter().map(|(commit, run, attempt, how)| entry(commit, run, *attempt, *how)).collect();
        histories(&ledger, 0).remove(0)
    }

    #[test]
    fn only_a_test_that_went_both_ways_on_one_commit_is_a_flake() {
        let (passed, mesh) = (Outcome::Passed, Outcome::Failed(Kind::Mesh));
        assert!(of(&[("a", "1", 1, passed), ("a", "2", 1, mesh)]).is_flake());
        assert!(of(&[("a", "1", 1, ASSERTION), ("a", "1", 2, passed)]).is_flake(), "a pass on retry is no clean pass");
        assert!(!of(&[("a", "1", 1, passed), ("b", "2", 1, ASSERTION)]).is_flake(), "the commit b has broken it");
        let infrastructure = Outcome::Failed(Kind::Infrastructure);
        let shaken = of(&[("a", "1", 1, passed), ("a", "2", 1, infrastructure)]);
        assert!(!shaken.is_flake() && shaken.failures(Kind::Infrastructure) == 1);
        assert!(!of(&[("a", "1", 1, passed), ("a", "2", 1, Outcome::NotDeclared)]).is_flake());
    }

    #[test]
    fn a_rate_counts_first_attempts_on_commits_on_which_the_test_can_pass() {
        let history = of(&[
            ("a", "1", 1, ASSERTION),
            ("a", "1", 2, Outcome::Passed),
            ("b", "2", 1, Outcome::Passed),
            ("b", "3", 1, Outcome::Passed),
            ("c", "4", 1, ASSERTION),
            ("c", "5", 1, ASSERTION),
        ]);
        assert_eq!((history.rate.failed, history.rate.of), (1, 3));
        assert_eq!((history.failures(Kind::Assertion), history.both_ways.len()), (3, 1));
    }

    #[test]
    fn the_interval_is_wilsons() {
        // Newcombe, Interval Estimation for the Difference between Independent Proportions, 1998, method 3.
        let near = |rate: Rate, low: f64, high: f64| {
            assert!((rate.low - low).abs() < 5e-5 && (rate.high - high).abs() < 5e-5, "{rate:?}")
        };
        near(Rate::new(81, 263), 0.2553, 0.3662);
        near(Rate::new(15, 148), 0.0624, 0.1605);
        near(Rate::new(0, 20), 0.0, 0.1611);
        near(Rate::new(1, 29), 0.0061, 0.1718);
        assert_eq!(Rate::new(1, 29).to_string(), "1 of 29, 3.4 % (0.6–17.2)");
        assert_eq!((Rate::new(0, 0).low, Rate::new(0, 0).high), (0.0, 1.0));
    }

    #[test]
    fn the_order_of_attempts_changes_no_history() {
        for seed in 0..100 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut entries = random(&mut rng);
            let owed = histories(&entries.iter().cloned().collect(), 0);
            rng.shuffle(&mut entries);
            entries.extend_from_slice(&entries.clone()[..10]);
            assert_eq!(histories(&entries.into_iter().collect(), 0), owed, "seed {seed}");
        }
    }

    #[test]
    fn what_is_older_is_left_out() {
        let ledger: Ledger = [entry("a", "1", 1, Outcome::Passed)].into_iter().collect();
        assert_eq!(histories(&ledger, 1_796_000_000).len(), 1);
        assert!(histories(&ledger, 1_796_000_001).is_empty());
    }
}
