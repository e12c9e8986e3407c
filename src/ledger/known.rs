//! The tests of reports and of the ledger.

use std::collections::BTreeSet;

use super::Ledger;
use crate::report::{Concluded, Kind, Outcome, Report, Tested};

/// All tests that exist.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// The reports of this run.
    pub reports: &'a [Report],
    /// Earlier attempts.
    pub ledger: &'a Ledger,
}

impl Known<'_> {
    /// Whether there is such a test.
    pub fn knows(&self, suite: &str, test: &str) -> bool {
        let has = |report: &Report| report.suite == suite && outcomes(report).iter().any(|one| one.test == test);
        self.reports.iter().any(has) || self.ledger.knows(suite, test)
    }
}

/// The tests of a report. What does not hold and is no test's, as in a report without tests, stands for itself. So does a
/// comparison that ended before its test could be recorded.
pub(super) fn outcomes(report: &Report) -> Vec<Tested> {
    let told: BTreeSet<&str> = report.tests.iter().flat_map(|one| one.red.iter().map(String::as_str)).collect();
    let has_tests = !report.tests.is_empty();
    let claims = report.claims.iter().map(|claim| (claim.id().to_owned(), Outcome::of(&[claim], &[])));
    let comparisons = report.comparisons.iter().map(|one| (one.key(), Outcome::of(&[], &[one])));
    let own = claims.chain(comparisons).filter(|(id, outcome)| match outcome {
        Outcome::Passed => !has_tests,
        _ => !told.contains(id.as_str()),
    });
    let ended = report.conclusions.iter().filter(|one| !report.tests.iter().any(|test| test.test == one.comparison));
    let ended = ended.filter_map(|one| Some((one.comparison.clone(), concluded(one.verdict)?)));
    let own = own.chain(ended).map(|(id, outcome)| Tested { attempt: 1, ..Tested::now(id, outcome) });
    report.tests.iter().cloned().chain(own).collect()
}

/// What became of a comparison whose test is not recorded. `None`: there was nothing to compare.
fn concluded(verdict: Concluded) -> Option<Outcome> {
    match verdict {
        Concluded::Unchanged => None,
        Concluded::Regressed => Some(Outcome::Failed(Kind::Assertion)),
        // A pass without a recorded test is not one.
        Concluded::Pass | Concluded::Inconclusive | Concluded::NotJudged => Some(Outcome::Failed(Kind::Infrastructure)),
    }
}
