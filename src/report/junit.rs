//! JUnit XML for CI servers: one test case per claim or comparison.

use quick_junit::{NonSuccessKind, Property, TestCase, TestCaseStatus, TestSuite};

use super::{Claim, Diagnosis, Error, Judgement, Report, Result, grouped};
use crate::judge::{Comparison, Verdict};
use crate::report::table::outcome;

/// `report` as JUnit XML.
///
/// # Errors
/// [`Error`]: the XML cannot be written.
pub fn junit(report: &Report) -> Result<String> {
    let mut suite = TestSuite::new(&*report.suite);
    suite.extra.insert("hostname".into(), report.host.name.as_str().into());
    suite.add_property(Property::new("run", &*report.run));
    suite.add_property(Property::new("revision", &*report.revision));
    suite.add_properties(report.versions.iter().map(|(name, version)| Property::new(&**name, &**version)));
    suite.add_test_cases(report.claims.iter().map(|one| {
        let diagnosis = report.diagnoses.iter().find(|diagnosis| diagnosis.explains(one));
        claim(&report.suite, one, diagnosis)
    }));
    if !report.diagnoses.is_empty() {
        let red: Vec<&Claim> = report.claims.iter().filter(|claim| !claim.holds()).collect();
        suite.set_system_out(grouped(&red, &report.diagnoses, |_| None).join("\n"));
    }
    suite.add_test_cases(report.comparisons.iter().map(|one| comparison(&report.suite, one)));
    let mut all = quick_junit::Report::new("meshproof");
    all.add_test_suite(suite);
    all.to_string().map_err(|error| Error { path: "junit.xml".into(), reason: error.to_string() })
}

/// A claim. The suite's output has each cause in full, once.
fn claim(suite: &str, claim: &Claim, diagnosis: Option<&Diagnosis>) -> TestCase {
    let text = claim.to_string();
    let mut message = format!("expected {}, seen {}", claim.expected(), claim.observed());
    if let Some(Diagnosis { cause, .. }) = diagnosis {
        message = format!("{}: {} in {}; {message}", cause.layer, cause.object, cause.cluster);
    }
    match claim.verdict() {
        Judgement::Pass => passed(suite, claim.id(), &text),
        Judgement::Fail => failed(suite, claim.id(), NonSuccessKind::Failure, "claim", &message, &text),
        Judgement::Error => failed(suite, claim.id(), NonSuccessKind::Error, "not judged", &message, &text),
        Judgement::NotDeclared => skipped(suite, claim.id(), claim.observed()),
    }
}

fn comparison(suite: &str, comparison: &Comparison) -> TestCase {
    let text = comparison.to_string();
    if comparison.holds {
        return passed(suite, &comparison.key(), &text);
    }
    let message = format!("{}: ratio {:.3}", outcome(comparison), comparison.ratio);
    failed(suite, &comparison.key(), NonSuccessKind::Failure, verdict(comparison.verdict), &message, &text)
}

fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "pass",
        Verdict::Regressed => "regressed",
        Verdict::Inconclusive => "inconclusive",
        Verdict::Reported => "reported",
    }
}

fn passed(suite: &str, name: &str, text: &str) -> TestCase {
    let mut case = TestCase::new(name, TestCaseStatus::success());
    case.set_classname(suite).set_system_out(text);
    case
}

fn skipped(suite: &str, name: &str, reason: &str) -> TestCase {
    let mut status = TestCaseStatus::skipped();
    status.set_message(reason).set_type("not declared");
    let mut case = TestCase::new(name, status);
    case.set_classname(suite);
    case
}

fn failed(suite: &str, name: &str, kind: NonSuccessKind, class: &str, message: &str, text: &str) -> TestCase {
    let mut status = TestCaseStatus::non_success(kind);
    status.set_message(message).set_type(class).set_description(text);
    let mut case = TestCase::new(name, status);
    case.set_classname(suite);
    case
}
