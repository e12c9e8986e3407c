//! Whether a change may pass: what its reports say, but for what is in quarantine.

use std::fmt;
use std::time::SystemTime;

use super::known::outcomes;
use super::{Quarantine, Quarantined};
use crate::report::{Concluded, Conclusion, Kind, Outcome, Report, Tested};

/// A test that did not pass at its first attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Red {
    /// The suite.
    pub suite: String,
    /// The test.
    pub test: String,
    /// What became of it.
    pub outcome: Outcome,
    /// Claims and comparisons that do not hold.
    pub claims: Vec<String>,
    /// Whether a further attempt passed. That is no pass.
    pub passed_later: bool,
    /// The quarantine that it is in.
    pub quarantine: Option<Quarantined>,
}

/// The gate's verdict on a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GateVerdict {
    /// The change may pass.
    Holds,
    /// A test fails, or a quarantine is over.
    DoesNotHold,
    /// No test has a verdict.
    NothingJudged,
}

impl fmt::Display for GateVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Holds => "holds",
            Self::DoesNotHold => "does not hold",
            Self::NothingJudged => "nothing was judged",
        })
    }
}

/// What the gate found of a change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Gate {
    /// Tests that passed.
    pub passed: usize,
    /// Tests that did not pass, and fail the gate.
    pub failed: Vec<Red>,
    /// Tests that did not pass, and are in quarantine.
    pub quarantined: Vec<Red>,
    /// Tests of which the mesh does not offer what they need, where that is allowed.
    pub not_declared: Vec<Red>,
    /// Comparisons that the time did not decide, where that is allowed. They are no pass.
    pub undecided: Vec<Red>,
    /// The verdict on each comparison of two configurations.
    pub conclusions: Vec<Conclusion>,
    /// Quarantines whose last day has passed. They fail the gate, whatever became of their tests.
    pub over: Vec<Quarantined>,
}

impl Gate {
    /// Judges first attempts. `allows_undeclared` tells that a test may need what the mesh does not offer.
    pub fn of(reports: &[Report], quarantine: &Quarantine, allows_undeclared: bool, now: SystemTime) -> Self {
        let over = quarantine.tests.iter().filter(|one| one.is_over(now)).cloned().collect();
        let mut gate = Self { over, ..Self::default() };
        for report in reports {
            gate.conclusions.extend_from_slice(&report.conclusions);
            let tests = outcomes(report);
            for one in tests.iter().filter(|one| is_first(one, &tests)) {
                if one.outcome == Outcome::Passed {
                    gate.passed += 1;
                    continue;
                }
                let later = |other: &Tested| other.test == one.test && other.outcome == Outcome::Passed;
                let held = quarantine.of(&report.suite, &one.test).filter(|held| !held.is_over(now));
                let red = Red {
                    suite: report.suite.clone(),
                    test: one.test.clone(),
                    outcome: one.outcome,
                    claims: one.red.clone(),
                    passed_later: tests.iter().any(later),
                    quarantine: held.cloned(),
                };
                match one.outcome {
                    _ if red.quarantine.is_some() => gate.quarantined.push(red),
                    Outcome::NotDeclared if allows_undeclared => gate.not_declared.push(red),
                    Outcome::Failed(Kind::Infrastructure) if may_be_open(report, &red.test) => gate.undecided.push(red),
                    _ => gate.failed.push(red),
                }
            }
        }
        gate
    }

    /// The verdict: nothing, without a test that was judged.
    pub fn verdict(&self) -> GateVerdict {
        if !self.was_judged() {
            GateVerdict::NothingJudged
        } else if self.failed.is_empty() && self.over.is_empty() {
            GateVerdict::Holds
        } else {
            GateVerdict::DoesNotHold
        }
    }

    /// Whether the change may pass.
    pub fn holds(&self) -> bool {
        self.verdict() == GateVerdict::Holds
    }

    /// Whether any test has a verdict. A test that the surroundings stopped has none.
    fn was_judged(&self) -> bool {
        let judged = |red: &Red| red.outcome == Outcome::Failed(Kind::Assertion);
        self.passed > 0 || self.failed.iter().chain(&self.quarantined).any(judged)
    }
}

/// Whether this test is a comparison that the time did not decide, and the change may pass without.
fn may_be_open(report: &Report, test: &str) -> bool {
    let is_open = |one: &Conclusion| one.verdict == Concluded::Inconclusive && one.may_be_inconclusive;
    report.conclusions.iter().any(|one| one.comparison == test && is_open(one))
}

fn is_first(one: &Tested, all: &[Tested]) -> bool {
    !all.iter().any(|other| other.test == one.test && other.attempt < one.attempt)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::ledger::quarantine::tests::GOOD;
    use crate::report::Claim;

    fn report(tests: &[(&str, u32, Outcome)], claims: Vec<Claim>) -> Report {
        let directory = tempfile::tempdir().unwrap();
        crate::report::record(directory.path(), "s", BTreeMap::new(), &claims, &[], Vec::new()).unwrap();
        let mut report = crate::report::read(directory.path()).unwrap();
        let red: Vec<String> =
            claims.iter().filter(|claim| !claim.holds()).map(|claim| claim.id().to_owned()).collect();
        let tested = |(test, attempt, outcome): &(&str, u32, Outcome)| {
            let red = if outcome.is_failed() { red.clone() } else { Vec::new() };
            Tested { attempt: *attempt, red, ..Tested::now(*test, *outcome) }
        };
        report.tests = tests.iter().map(tested).collect();
        report
    }

    /// The gate on a day of November 2026.
    fn gate(report: Report, day: u64) -> Gate {
        let now = UNIX_EPOCH + Duration::from_secs((20_757 + day) * 86_400);
        let file = GOOD.replace("\"a\"", "\"flaky\"").replace("2026-12-31", "2026-11-27");
        let quarantine = Quarantine::parse(Path::new("q.toml"), &file).unwrap();
        Gate::of(&[report], &quarantine, false, now)
    }

    const ASSERTION: Outcome = Outcome::Failed(Kind::Assertion);

    #[test]
    fn a_quarantined_test_does_not_fail_the_gate_and_is_shown_until_its_end() {
        let tests = [("good", 1, Outcome::Passed), ("flaky", 1, ASSERTION)];
        let held = gate(report(&tests, Vec::new()), 27);
        assert!(held.holds() && held.quarantined.len() == 1 && held.quarantined[0].quarantine.is_some());
        let over = gate(report(&tests, Vec::new()), 28);
        assert!(!over.holds() && over.failed.len() == 1 && over.over.len() == 1);
        let mended = gate(report(&[("flaky", 1, Outcome::Passed)], Vec::new()), 28);
        assert!(!mended.holds(), "a quarantine that is over is removed, also where its test passes");
    }

    #[test]
    fn the_first_attempt_counts_and_a_later_pass_is_shown() {
        let gate =
            gate(report(&[("a", 1, ASSERTION), ("a", 2, Outcome::Passed), ("b", 1, Outcome::Passed)], Vec::new()), 1);
        assert!(!gate.holds());
        assert_eq!((gate.failed.len(), gate.passed), (1, 1));
        assert!(gate.failed[0].passed_later);
    }

    #[test]
    fn a_claim_that_no_test_answers_for_fails_the_gate() {
        let claims = vec![Claim::about("c", "").equals(&1, &2), Claim::about("d", "").equals(&1, &1)];
        let passed = gate(report(&[("a", 1, Outcome::Passed)], claims.clone()), 1);
        assert!(!passed.holds() && passed.failed[0].test == "c" && passed.passed == 1);
        let without_tests = gate(report(&[], claims.clone()), 1);
        assert_eq!((without_tests.failed.len(), without_tests.passed), (1, 1));
        let told = gate(report(&[("a", 1, ASSERTION)], claims), 1);
        assert_eq!((told.failed.len(), told.failed[0].test.as_str()), (1, "a"));
    }

    #[test]
    fn nothing_is_judged_where_the_surroundings_stopped_every_test() {
        let stopped = gate(report(&[("a", 1, Outcome::Failed(Kind::Infrastructure))], Vec::new()), 1);
        assert_eq!(stopped.verdict(), GateVerdict::NothingJudged);
        let empty = Gate::of(&[], &Quarantine::default(), false, UNIX_EPOCH);
        assert_eq!(empty.verdict(), GateVerdict::NothingJudged);
    }

    #[test]
    fn what_is_not_declared_fails_unless_that_is_allowed() {
        let report = report(&[("a", 1, Outcome::NotDeclared), ("b", 1, Outcome::Passed)], Vec::new());
        assert!(!gate(report.clone(), 1).holds());
        let allowed = Gate::of(&[report], &Quarantine::default(), true, UNIX_EPOCH);
        assert!(allowed.holds() && allowed.not_declared.len() == 1);
    }

    /// The report of a comparison that ended like this.
    fn compared(verdict: Concluded, outcome: Option<Outcome>, may_be_inconclusive: bool) -> Report {
        let tests: Vec<_> = outcome.into_iter().map(|outcome| ("proxies", 1, outcome)).collect();
        let mut report = report(&tests, Vec::new());
        let why = "p99".into();
        report.conclusions = vec![Conclusion { comparison: "proxies".into(), verdict, why, may_be_inconclusive }];
        report
    }

    #[test]
    fn a_comparison_that_is_not_decided_fails_the_gate_unless_that_is_allowed_and_never_holds_by_itself() {
        let open = Some(Outcome::Failed(Kind::Infrastructure));
        let passed = report(&[("a", 1, Outcome::Passed)], Vec::new());
        let of = |compared: Report, with: Option<&Report>| {
            let reports: Vec<Report> = with.cloned().into_iter().chain([compared]).collect();
            Gate::of(&reports, &Quarantine::default(), false, UNIX_EPOCH)
        };
        let inconclusive = |may| compared(Concluded::Inconclusive, open, may);
        assert!(!of(inconclusive(false), Some(&passed)).holds());
        let allowed = of(inconclusive(true), Some(&passed));
        assert!(allowed.holds() && allowed.undecided.len() == 1 && allowed.passed == 1);
        let alone = of(inconclusive(true), None);
        assert_eq!(alone.verdict(), GateVerdict::NothingJudged, "no verdict at all is no pass");
        // The choice is about what the time did not decide, and nothing else.
        for verdict in [Concluded::Regressed, Concluded::NotJudged] {
            assert!(!of(compared(verdict, open, true), Some(&passed)).holds(), "{verdict}");
        }
        let lost = compared(Concluded::Inconclusive, Some(Outcome::Failed(Kind::Mesh)), true);
        assert!(!of(lost, Some(&passed)).holds(), "a claim that was not judged is not a matter of time");
    }

    #[test]
    fn what_a_change_leaves_as_it_is_needs_no_comparison_and_a_verdict_without_a_test_is_none() {
        let of = |verdict| {
            let passed = report(&[("a", 1, Outcome::Passed)], Vec::new());
            Gate::of(&[passed, compared(verdict, None, false)], &Quarantine::default(), false, UNIX_EPOCH)
        };
        let unchanged = of(Concluded::Unchanged);
        assert!(unchanged.holds() && unchanged.conclusions.len() == 1 && unchanged.passed == 1);
        for verdict in [Concluded::Pass, Concluded::Regressed, Concluded::NotJudged, Concluded::Inconclusive] {
            assert!(!of(verdict).holds(), "{verdict}");
        }
    }
}
