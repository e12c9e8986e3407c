//! What is said of a comparison, in one line.

use std::collections::BTreeSet;
use std::fmt;

use super::conformance::Conformance;
use super::measure::Measurement;
use super::plan::Minutes;
use crate::judge::{Comparison, Verdict, ends};
use crate::report::{Claim, Judgement};

/// The verdict of a comparison, and why.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// `pass`, `regressed` or `inconclusive`.
    pub verdict: Verdict,
    /// Why, in one line.
    pub why: String,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.verdict, self.why)
    }
}

impl Outcome {
    /// The outcome of arms that were not measured, because the treatment lacks what the control has.
    pub(super) fn lost(claim: &Claim) -> Self {
        Self { verdict: Verdict::Regressed, why: format!("{} ({})", claim.requirement(), claim.observed()) }
    }

    /// The outcome of a measurement: what is worse counts before what is unclear.
    pub(super) fn of(conformance: &Conformance, measurement: &Measurement) -> Self {
        if measurement.errors.verdict() == Judgement::Fail {
            return Self::lost(&measurement.errors);
        }
        let of = |verdict: Verdict| measurement.comparisons.iter().filter(move |one| one.verdict == verdict);
        let regressed: Vec<String> = of(Verdict::Regressed).map(told).collect();
        if !regressed.is_empty() {
            return Self { verdict: Verdict::Regressed, why: regressed.join("; ") };
        }
        let open: Vec<&Comparison> = of(Verdict::Inconclusive).collect();
        if !open.is_empty() {
            return Self { verdict: Verdict::Inconclusive, why: undecided(&open, measurement) };
        }
        if let Some(claim) = conformance.unjudged() {
            let why = format!("{} could not be judged: {}", claim.id(), claim.observed());
            return Self { verdict: Verdict::Inconclusive, why };
        }
        let pairs = measurement.comparisons.first().map_or(0, |one| one.pairs);
        let gates = measurement.comparisons.iter().filter(|one| one.verdict == Verdict::Pass).count();
        Self { verdict: Verdict::Pass, why: format!("{gates} metrics are within their bounds after {pairs} pairs") }
    }
}

fn told(one: &Comparison) -> String {
    let gate = one.bound.gate.map(|gate| gate.to_string()).unwrap_or_default();
    format!("{} {:.3} ({}), bound {gate}", one.metric, one.ratio, ends(one.interval))
}

/// Why metrics are open, and what would decide them, once for all. Then the metrics.
fn undecided(open: &[&Comparison], measurement: &Measurement) -> String {
    let metrics = open.iter().map(|one| told(one)).collect::<Vec<_>>().join("; ");
    let reasons: BTreeSet<String> =
        open.iter().filter_map(|one| one.undecided.as_ref()).map(ToString::to_string).collect();
    if !reasons.is_empty() {
        return format!("{}; not decided: {metrics}", Vec::from_iter(reasons).join("; "));
    }
    let gates = measurement.comparisons.iter().filter(|one| one.bound.gate.is_some()).count();
    let pairs = open.iter().map(|one| one.pairs).max().unwrap_or(0);
    format!("{pairs} pairs do not decide {} of {gates} metrics, {}: {metrics}", open.len(), needed(open, measurement))
}

/// What would decide open metrics: time, unless their estimates are on their bounds.
fn needed(open: &[&Comparison], measurement: &Measurement) -> String {
    let (in_time, never): (Vec<&Comparison>, Vec<&Comparison>) =
        open.iter().partition(|one| one.pairs_needed.is_some());
    let Some(longest) = in_time.iter().max_by_key(|one| one.pairs_needed) else {
        return "and no time can be named that would (too few pairs, or estimates too near the bounds)".into();
    };
    let pairs = longest.pairs_needed.unwrap_or(0);
    let minutes = |pairs: usize| (pairs as f64 * measurement.seconds_per_pair / 60.0).ceil();
    let all = minutes(longest.pairs + pairs);
    let how = match Minutes::try_from(all) {
        Ok(all) => format!("about {} more minutes would (--minutes {all})", minutes(pairs)),
        Err(_) => format!("and a day would not (it takes about {all} minutes, on a machine as busy as this one)"),
    };
    let never: Vec<&str> = never.iter().map(|one| one.metric.as_str()).collect();
    match never.as_slice() {
        [] => how,
        never => format!("{how}, except for {} (too near the bound)", never.join(" and ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::tests::{run, trial};
    use crate::judge::{Arm, Counter, Judge, Undecided};

    fn measurement(slower: f64, spread: f64) -> Measurement {
        let mut judge = Judge::new(&trial());
        for order in 0..20 {
            let noise = 1.0 + spread * f64::from(order * 7 % 5);
            let mut run = run(order, 1_000.0 * noise);
            if run.arm == Arm::Treatment {
                run = crate::judge::tests::run(order, 1_000.0 * noise * slower);
            }
            judge.push(judge.attempted(run)).unwrap();
        }
        let comparisons = judge.conclude("enough");
        let errors = super::super::conformance::errors(0.001, Default::default(), Default::default());
        Measurement { comparisons, errors, seconds_per_pair: 30.0, pushes: None }
    }

    fn conformance(claims: Vec<Claim>) -> Conformance {
        Conformance { claims, silent: None }
    }

    #[test]
    fn a_slower_arm_is_regressed_and_the_line_names_the_metric_and_its_bound() {
        let outcome = Outcome::of(&conformance(Vec::new()), &measurement(2.0, 0.001));
        assert_eq!(outcome.verdict, Verdict::Regressed, "{outcome}");
        assert!(outcome.to_string().starts_with("regressed: p99_us 2.0"), "{outcome}");
    }

    /// Three open metrics that need so many further pairs, and one that is decided.
    fn open(needed: [Option<usize>; 3]) -> Measurement {
        let mut measurement = measurement(1.0, 1.0);
        let one = measurement.comparisons.remove(0);
        assert_eq!(one.verdict, Verdict::Inconclusive);
        let metric = |(name, pairs_needed): (&str, _)| Comparison {
            metric: name.into(),
            ratio: 1.04,
            interval: [Some(0.93), Some(1.16)],
            pairs: 4,
            pairs_needed,
            undecided: None,
            ..one.clone()
        };
        let decided = Comparison { verdict: Verdict::Pass, ..metric(("p50_us", None)) };
        let open = ["p90_us", "p99_us", "memory_bytes"].into_iter().zip(needed).map(metric);
        Measurement { comparisons: std::iter::once(decided).chain(open).collect(), ..measurement }
    }

    /// The line. What is said of a metric stands for it once.
    fn said(measurement: &Measurement) -> String {
        let line = Outcome::of(&conformance(Vec::new()), measurement).to_string();
        line.replace(" 1.040 (0.930 to 1.160), bound ≤ 1.00", " R")
    }

    #[test]
    fn an_open_comparison_says_once_why_and_how_many_minutes_would_decide_it_then_the_metrics() {
        // Pairs of 30 s.
        insta::assert_snapshot!(said(&open([Some(5), Some(20), Some(1)])), @r"inconclusive: 4 pairs do not decide 3 of 4 metrics, about 10 more minutes would (--minutes 12): p90_us R; p99_us R; memory_bytes R");
        insta::assert_snapshot!(said(&open([Some(5), None, Some(1)])), @r"inconclusive: 4 pairs do not decide 3 of 4 metrics, about 3 more minutes would (--minutes 5), except for p99_us (too near the bound): p90_us R; p99_us R; memory_bytes R");
        insta::assert_snapshot!(said(&open([None; 3])), @r"inconclusive: 4 pairs do not decide 3 of 4 metrics, and no time can be named that would (too few pairs, or estimates too near the bounds): p90_us R; p99_us R; memory_bytes R");
        insta::assert_snapshot!(said(&open([Some(9_000), None, None])), @r"inconclusive: 4 pairs do not decide 3 of 4 metrics, and a day would not (it takes about 4502 minutes, on a machine as busy as this one), except for p99_us and memory_bytes (too near the bound): p90_us R; p99_us R; memory_bytes R");
    }

    #[test]
    fn what_time_does_not_decide_is_said_once_before_the_metrics() {
        let mut measurement = open([Some(5); 3]);
        let (receipt, required) = ("redirected".to_owned(), Counter { at_least: Some(1.0), at_most: None });
        let why = Undecided::Precondition { receipt, arm: Arm::Control, mean: 0.5, required };
        measurement.comparisons.iter_mut().for_each(|one| one.undecided = Some(why.clone()));
        insta::assert_snapshot!(said(&measurement), @r"inconclusive: `redirected` is 0.500 in the mean over the control runs, and at least 1 is required of both arms; not decided: p90_us R; p99_us R; memory_bytes R");
    }

    #[test]
    fn what_could_not_be_judged_is_no_pass() {
        let quick = measurement(0.5, 0.001);
        assert_eq!(Outcome::of(&conformance(Vec::new()), &quick).verdict, Verdict::Pass);
        let unjudged = conformance(vec![Claim::error("conformance/plaintext", "no probe")]);
        let outcome = Outcome::of(&unjudged, &quick);
        assert_eq!(outcome.verdict, Verdict::Inconclusive);
        assert!(outcome.why.contains("conformance/plaintext could not be judged"), "{outcome}");
    }
}
