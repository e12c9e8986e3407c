//! Refusal of runs that prove nothing.

use super::run::Run;
use super::trial::Trial;
use crate::judge::{Error, Result};

/// The run that is due.
pub(super) struct Due<'a> {
    /// Number of the run.
    pub(super) order: u32,
    /// Number of the attempt.
    pub(super) attempt: u32,
    /// The first and the last run so far.
    pub(super) before: Option<(&'a Run, &'a Run)>,
}

/// Refuses `run` and the comparison if the run or attempt is not the one that is due, or cannot be compared with the
/// earlier runs.
pub(super) fn check(trial: &Trial, due: &Due<'_>, run: &Run) -> Result<()> {
    let reason = misplaced(trial, due, run);
    let reason = reason.or_else(|| if run.is_refused() { None } else { reason_of_judged(trial, due.before, run) });
    match reason {
        None => Ok(()),
        Some(reason) => Err(Error::Refused {
            comparison: trial.id.as_str().into(),
            order: run.order,
            arm: run.arm,
            reason: reason.into(),
        }),
    }
}

fn misplaced(trial: &Trial, due: &Due<'_>, run: &Run) -> Option<String> {
    let order = due.order;
    if run.comparison != trial.id {
        return Some(format!("it belongs to `{}`", run.comparison));
    }
    if run.order != order {
        return Some(format!("run {order:03} is missing"));
    }
    if run.arm != super::arm(order) {
        return Some(format!("run {order:03} of ABBA, BAAB … is a {} run", super::arm(order)));
    }
    (run.attempt != due.attempt).then(|| {
        format!(
            "it is attempt {}, and attempt {} is due: refused attempts are missing from the recording",
            run.attempt, due.attempt
        )
    })
}

fn reason_of_judged(trial: &Trial, before: Option<(&Run, &Run)>, run: &Run) -> Option<String> {
    if let Some(refusal) = run.refusals().first() {
        return Some(format!("{refusal}{}", stolen(run)));
    }
    let (failed, requests) = (run.errors.saturating_add(run.dropped), run.requests);
    let share = failed as f64 / requests.max(1) as f64;
    if share > trial.max_failed_share {
        return Some(format!(
            "{} errors and {} requests not sent, of {requests}: {:.3} % where {:.3} % is allowed",
            run.errors,
            run.dropped,
            share * 100.0,
            trial.max_failed_share * 100.0
        ));
    }
    if let Some(reason) = receipts(trial, run) {
        return Some(reason);
    }
    if let Some(bound) = trial.metrics.iter().find(|bound| !run.metrics.contains_key(&bound.name)) {
        return Some(format!("there is no metric `{}`, which is to be judged", bound.name));
    }
    let (first, last) = before?;
    if run.started < last.started + last.duration {
        return Some(format!(
            "it began before run {:03} ended: runs of two recordings are mixed, or ran at once",
            last.order
        ));
    }
    let differences = first.host.differences(&run.host);
    if !differences.is_empty() {
        return Some(format!("it was made on another host than the runs before it: {}", differences.join(", ")));
    }
    if first.plan != run.plan {
        return Some(format!("its plan {} is not that of the runs before it, {}", run.plan, first.plan));
    }
    if first.tls != run.tls {
        let words = |tls: &[String]| if tls.is_empty() { "none".into() } else { tls.join(" and ") };
        return Some(format!(
            "its TLS is not that of the runs before it: {}, and was {}; arms may differ by the treatment alone",
            words(&run.tls),
            words(&first.tls)
        ));
    }
    let differs = |(name, metric): (&String, &super::Metric)| {
        let before = &first.metrics.get(name)?.unit;
        (*before != metric.unit).then(|| format!("`{name}` is in {}, and was in {before}", metric.unit))
    };
    run.metrics.iter().find_map(differs)
}

/// A hint that other guests of the machine may have delayed the generator. Empty if the stolen share is small.
fn stolen(run: &Run) -> String {
    let share = run.host.steal.filter(|share| *share >= 0.01);
    let said = |share| format!("; meanwhile other guests of the machine took {:.0} % of its processors", share * 100.0);
    share.map(said).unwrap_or_default()
}

/// The first receipt that is missing, or contradicts the arm.
fn receipts(trial: &Trial, run: &Run) -> Option<String> {
    if let Some(name) = trial.preconditions.keys().find(|name| !run.receipts.contains_key(*name)) {
        return Some(format!("there is no receipt `{name}`, which is a precondition of the comparison"));
    }
    trial.receipts.iter().find_map(|(name, receipt)| {
        let Some(&value) = run.receipts.get(name) else {
            return Some(format!("there is no receipt `{name}`: nothing proves what this arm was"));
        };
        let required = match run.arm {
            super::Arm::Control => receipt.control,
            super::Arm::Treatment => receipt.treatment,
        };
        (!required.allows(value)).then(|| format!("receipt `{name}` is {value}; a {} run requires {required}", run.arm))
    })
}
