//! Runs that prove nothing, and why.

use super::bounds::{Counter, Trial};
use super::run::Run;
use crate::judge::{Error, Result};

/// Refuses `run` where it is not the run in place `order` of `trial`, or cannot be compared with those `before`: the
/// first of them, and the last.
pub(super) fn check(trial: &Trial, order: u32, before: Option<(&Run, &Run)>, run: &Run) -> Result<()> {
    match reason(trial, order, before, run) {
        None => Ok(()),
        Some(reason) => Err(Error::Refused {
            comparison: trial.id.as_str().into(),
            order: run.order,
            arm: run.arm,
            reason: reason.into(),
        }),
    }
}

fn reason(trial: &Trial, order: u32, before: Option<(&Run, &Run)>, run: &Run) -> Option<String> {
    if run.comparison != trial.id {
        return Some(format!("it belongs to `{}`", run.comparison));
    }
    if run.order != order {
        return Some(format!("run {order:03} is missing"));
    }
    if run.arm != super::arm(order) {
        return Some(format!("run {order:03} of ABBA, BAAB … is a {} run", super::arm(order)));
    }
    if let Some(saturated) = &run.saturated {
        return Some(format!("the load generator was the bottleneck: {saturated}{}", stolen(run)));
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
    for (name, receipt) in &trial.receipts {
        let Some(&value) = run.receipts.get(name) else {
            return Some(format!("there is no receipt `{name}`: nothing proves what this arm was"));
        };
        let counter = match run.arm {
            super::Arm::Control => receipt.control,
            super::Arm::Treatment => receipt.treatment,
        };
        if let Some(owed) = broken(counter, value) {
            return Some(format!("receipt `{name}` is {value}, and of a {} run {owed}", run.arm));
        }
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

/// What a generator that was late may have waited for, where other guests of the machine took more of it than some ticks.
fn stolen(run: &Run) -> String {
    let share = run.host.steal.filter(|share| *share >= 0.01);
    let said = |share| format!("; meanwhile other guests of the machine took {:.0} % of its processors", share * 100.0);
    share.map(said).unwrap_or_default()
}

fn broken(counter: Counter, value: f64) -> Option<String> {
    let low = counter.at_least.filter(|&least| value < least).map(|least| format!("at least {least} is owed"));
    low.or_else(|| counter.at_most.filter(|&most| value > most).map(|most| format!("at most {most} is allowed")))
}
