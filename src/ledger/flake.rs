//! Tests that went both ways on one commit.

use std::collections::{BTreeMap, BTreeSet};

use super::Ledger;
use crate::judge::{Share, ShareInterval};
use crate::report::{Kind, Outcome};

/// The probability that an interval leaves out the true rate, at most.
const ERROR: f64 = 0.05;

/// A share of first attempts that failed, with an interval of 95 %.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// First attempts that failed, of those that were judged.
    pub failed: Share,
    /// The rates that they are consistent with.
    pub interval: ShareInterval,
}

impl Rate {
    /// The rate of `failed` with its exact interval.
    pub fn new(failed: Share) -> Self {
        Self { failed, interval: failed.interval(ERROR) }
    }
}

impl std::fmt::Display for Rate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { failed: Share { hits, trials }, interval: ShareInterval { low, high } } = self;
        let share = if *trials == 0 { 0.0 } else { *hits as f64 / *trials as f64 };
        write!(f, "{hits} of {trials}, {:.1} % ({:.1}–{:.1})", 100.0 * share, 100.0 * low, 100.0 * high)
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
    let key = |one: &History| (!one.is_flake(), -one.rate.interval.low);
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
        rate: Rate::new(Share { hits: bad, trials: bad + good }),
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
        assert_eq!(history.rate.failed, Share { hits: 1, trials: 3 });
        assert_eq!((history.failures(Kind::Assertion), history.both_ways.len()), (3, 1));
    }

    #[test]
    fn a_rate_has_the_exact_interval() {
        // Newcombe, Two-sided confidence intervals for the single proportion, 1998, method 5.
        for (hits, trials, low, high) in
            [(81, 263, 0.2527, 0.3676), (15, 148, 0.0578, 0.1617), (0, 20, 0.0, 0.1684), (1, 29, 0.0009, 0.1776)]
        {
            let ShareInterval { low: below, high: above } = Rate::new(Share { hits, trials }).interval;
            assert!((below - low).abs() < 5e-5 && (above - high).abs() < 5e-5, "{hits} of {trials}: {below} {above}");
        }
        assert_eq!(Rate::new(Share { hits: 1, trials: 29 }).to_string(), "1 of 29, 3.4 % (0.1–17.8)");
        assert_eq!(Rate::new(Share { hits: 0, trials: 0 }).to_string(), "0 of 0, 0.0 % (0.0–100.0)");
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
