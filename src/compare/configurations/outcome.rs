//! What is said of a comparison, in one line.

use std::fmt;

use super::conformance::Conformance;
use super::measure::Measurement;
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
        let open: Vec<String> =
            of(Verdict::Inconclusive).map(|one| format!("{}, {}", told(one), needs(one, measurement))).collect();
        if !open.is_empty() {
            return Self { verdict: Verdict::Inconclusive, why: open.join("; ") };
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

/// What would decide an inconclusive metric.
fn needs(one: &Comparison, measurement: &Measurement) -> String {
    match (&one.undecided, one.pairs_needed) {
        (None, Some(pairs)) => {
            let minutes = pairs as f64 * measurement.seconds_per_pair / 60.0;
            format!("about {:.0} more minutes would decide it", minutes.ceil())
        }
        _ => one.remedy(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::tests::{run, trial};
    use crate::judge::{Arm, Judge};

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

    #[test]
    fn a_noisy_comparison_says_how_many_minutes_would_decide_it() {
        let outcome = Outcome::of(&conformance(Vec::new()), &measurement(1.0, 1.0));
        assert_eq!(outcome.verdict, Verdict::Inconclusive, "{outcome}");
        assert!(outcome.why.contains("minutes would decide it") || outcome.why.contains("on the bound"), "{outcome}");
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
