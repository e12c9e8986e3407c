//! Error rate and power of the judge on a real machine: comparisons of pairs that are drawn from a recording of two equal
//! arms.
//!
//! [`super::simulate`] makes its noise. Here the noise is that of recorded runs. A comparison draws its pairs with
//! replacement (Efron & Tibshirani, *An Introduction to the Bootstrap*, 1993, §6), and exchanges the arms of each by
//! chance: equal arms may be exchanged. What the machine does to neighbouring pairs alike is lost by drawing.
//! `cargo xtask judge --resample DIR` prints the results.

use std::collections::BTreeMap;

use super::simulate::{Made, Outcomes};
use super::{Arm, Comparison, Decision, Error, Judge, Limit, Result, Run, Trial, Verdict};

/// Fewest recorded pairs: fewer have too little of the machine's noise.
pub const MIN_PAIRS: usize = 8;

/// The results of drawn comparisons.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Resampled {
    /// Of all metrics together: `regressed` if one is, `pass` if all are.
    pub whole: Outcomes,
    /// Of each metric that has a gate.
    pub metrics: BTreeMap<String, Outcomes>,
}

/// Draws comparisons of `trial` from `runs`, and judges them. Each gated metric of the treatment is worse by the factor
/// `made.effect`.
///
/// # Errors
/// [`Error::Recording`]: there are fewer than [`MIN_PAIRS`] pairs. [`Error::Refused`]: a run proves nothing.
pub fn resample(trial: &Trial, runs: &[Run], made: &Made) -> Result<Resampled> {
    let pairs = pairs(runs);
    if pairs.len() < MIN_PAIRS {
        return Err(Error::Recording {
            directory: trial.id.as_str().into(),
            reason: format!("it has {} pairs of runs, and {MIN_PAIRS} are the fewest to draw from", pairs.len()),
        });
    }
    let (begun, last) = (&pairs[0][0], &pairs[pairs.len() - 1][1]);
    let seconds = (last.started + last.duration - begun.started) / (2 * pairs.len()) as f64;
    let drawing = Drawing { trial, pairs: &pairs, effect: made.effect, seconds };
    let mut random = fastrand::Rng::with_seed(made.seed);
    let mut seen = Resampled::default();
    for _ in 0..made.comparisons {
        let comparisons = drawing.judged(&mut random)?;
        let gated = || comparisons.iter().filter(|one| one.bound.gate.is_some());
        let whole = gated().map(|one| one.verdict).fold(Verdict::Pass, worse);
        let pairs = comparisons.first().map_or(0, |one| one.pairs);
        seen.whole.count(whole, pairs);
        for one in gated() {
            let of_metric = seen.metrics.entry(one.metric.clone()).or_default();
            of_metric.count(one.verdict, one.pairs);
            of_metric.log_ratios += one.ratio.ln();
        }
    }
    Ok(seen)
}

/// The accepted runs in pairs: control, treatment.
fn pairs(runs: &[Run]) -> Vec<[Run; 2]> {
    let mut accepted: Vec<&Run> = runs.iter().filter(|run| !run.is_refused()).collect();
    accepted.sort_by_key(|run| run.order);
    let of_pair = |pair: &[&Run]| match pair {
        [one, other] if one.order + 1 == other.order && one.arm != other.arm => {
            let (one, other) = ((*one).clone(), (*other).clone());
            Some(if one.arm == Arm::Control { [one, other] } else { [other, one] })
        }
        _ => None,
    };
    accepted.chunks_exact(2).filter_map(of_pair).collect()
}

struct Drawing<'a> {
    trial: &'a Trial,
    pairs: &'a [[Run; 2]],
    effect: f64,
    /// From the start of a run to the start of the next one.
    seconds: f64,
}

impl Drawing<'_> {
    fn judged(&self, random: &mut fastrand::Rng) -> Result<Vec<Comparison>> {
        let mut judge = Judge::new(self.trial);
        loop {
            let [one, other] = &self.pairs[random.usize(..self.pairs.len())];
            let [control, treatment] = if random.bool() { [one, other] } else { [other, one] };
            for _ in 0..2 {
                let (arm, order) = (judge.arm(), judge.order());
                let drawn = if arm == Arm::Control { control } else { treatment };
                judge.push(self.run(drawn, arm, order))?;
            }
            if let Decision::Done(comparisons) = judge.decide() {
                return judge.compared(comparisons);
            }
        }
    }

    /// A recorded run in another place of the order, and in the treatment with the effect.
    fn run(&self, drawn: &Run, arm: Arm, order: u32) -> Run {
        let mut run = Run {
            arm,
            order,
            block: order / 4,
            attempt: 1,
            started: f64::from(order) * self.seconds,
            duration: drawn.duration.min(self.seconds),
            ..drawn.clone()
        };
        if arm == Arm::Treatment {
            for bound in &self.trial.metrics {
                let Some(metric) = run.metrics.get_mut(&bound.name) else { continue };
                match bound.gate {
                    Some(Limit::AtLeast(_)) => metric.value /= self.effect,
                    Some(_) => metric.value *= self.effect,
                    None => {}
                }
            }
        }
        run
    }
}

fn worse(one: Verdict, other: Verdict) -> Verdict {
    match (one, other) {
        (Verdict::Regressed, _) | (_, Verdict::Regressed) => Verdict::Regressed,
        (Verdict::Inconclusive, _) | (_, Verdict::Inconclusive) => Verdict::Inconclusive,
        _ => Verdict::Pass,
    }
}

#[cfg(test)]
mod tests;
