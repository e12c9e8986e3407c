//! Error rate and power of the judge: comparisons of simulated runs with a known truth.
//!
//! Simulated and real comparisons share the code: [`Schedule::analyze`] and [`Limit::verdict`]. Only the source of the
//! log ratios differs. `cargo xtask judge --power` prints the results. `docs/measurements/judge-simulations.md` records
//! them.

use statrs::distribution::{Beta, ContinuousCDF};

use super::interval::Method;
use super::{Arm, Limit, Schedule, Verdict, arm};

/// Deviation of a run's result from its arm's truth, on the log scale.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Noise {
    /// Name for tables.
    pub name: &'static str,
    /// Standard deviation of the normal part.
    pub normal: f64,
    /// Shape and scale of a Lomax (shifted Pareto) distributed slowdown: occasionally a run is several times slower.
    pub spikes: Option<(f64, f64)>,
    /// Standard deviation of the machine's drift, AR(1) from run to run. 0.15 is ±30 % and more.
    pub drift: f64,
    /// Correlation of the drift between consecutive runs.
    pub persistence: f64,
}

/// From a quiet machine to a machine with all kinds of noise at once.
pub const NOISES: [Noise; 5] = [
    Noise { name: "quiet: log-normal 3 %", normal: 0.03, spikes: None, drift: 0.0, persistence: 0.0 },
    Noise { name: "spikes: Pareto 1.5", normal: 0.02, spikes: Some((1.5, 0.05)), drift: 0.0, persistence: 0.0 },
    Noise { name: "drift: AR(1) 0.9, ±30 %", normal: 0.03, spikes: None, drift: 0.15, persistence: 0.9 },
    Noise { name: "weather: AR(1) 0.5, ±30 %", normal: 0.02, spikes: None, drift: 0.15, persistence: 0.5 },
    Noise {
        name: "both: AR(1) 0.9 and Pareto 1.5",
        normal: 0.02,
        spikes: Some((1.5, 0.05)),
        drift: 0.15,
        persistence: 0.9,
    },
];

impl Noise {
    /// Log results of `runs` consecutive runs without an effect.
    pub fn runs(&self, runs: usize, random: &mut fastrand::Rng) -> Vec<f64> {
        let mut drift = self.drift * gauss(random);
        let innovation = self.drift * (1.0 - self.persistence.powi(2)).sqrt();
        let run = |_| {
            drift = self.persistence * drift + innovation * gauss(random);
            drift + self.disturbance(random)
        };
        (0..runs).map(run).collect()
    }

    /// Log ratios of `pairs` pairs in the order of [`arm`]. The treatment multiplies by `effect`.
    pub fn pairs(&self, pairs: usize, effect: f64, random: &mut fastrand::Rng) -> Vec<f64> {
        let runs = self.runs(2 * pairs, random);
        let pair = |(index, runs): (usize, &[f64])| {
            let forward = arm(u32::try_from(2 * index).unwrap_or(0)) == Arm::Control;
            effect.ln() + if forward { runs[1] - runs[0] } else { runs[0] - runs[1] }
        };
        runs.chunks_exact(2).enumerate().map(pair).collect()
    }
}

/// Refused and repeated attempts in a simulation.
///
/// Simulates the worst case: a variable that refuses exactly the slowest attempts. The rest is refused at random.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Refusing {
    /// Refused share of the control arm's attempts.
    pub control: f64,
    /// Refused share of the treatment arm's attempts. Differs from `control` if the treatment affects the variable.
    pub treatment: f64,
    /// Share of the refused attempts that are refused for being slow.
    pub dependence: f64,
}

impl Refusing {
    /// The valid case: the same share in both arms.
    pub fn equally(share: f64, dependence: f64) -> Self {
        Self { control: share, treatment: share, dependence }
    }

    fn share(&self, arm: Arm) -> f64 {
        match arm {
            Arm::Control => self.control,
            Arm::Treatment => self.treatment,
        }
    }
}

/// Sample size for finding the slowest attempts of a noise.
const SAMPLE: usize = 4_001;

impl Noise {
    /// The deviation that an attempt adds to the machine's drift.
    fn disturbance(&self, random: &mut fastrand::Rng) -> f64 {
        let spike = |(shape, scale): (f64, f64)| (scale * ((1.0 - random.f64()).powf(-1.0 / shape) - 1.0)).ln_1p();
        let spike = self.spikes.map_or(0.0, spike);
        self.normal * gauss(random) + spike
    }

    /// The threshold of the slowest `share` of attempts.
    fn slowest(&self, share: f64) -> f64 {
        let mut random = fastrand::Rng::with_seed(1);
        let mut sample: Vec<f64> = (0..SAMPLE).map(|_| self.disturbance(&mut random)).collect();
        sample.sort_by(f64::total_cmp);
        sample[((1.0 - share) * (SAMPLE - 1) as f64).round() as usize]
    }

    /// Log ratios of `pairs` pairs like [`Self::pairs`], from the first accepted attempt at each run. A refused attempt
    /// takes time, during which the machine drifts.
    pub fn selected(&self, pairs: usize, effect: f64, refusing: &Refusing, random: &mut fastrand::Rng) -> Vec<f64> {
        let beyond = [Arm::Control, Arm::Treatment].map(|arm| self.slowest(refusing.share(arm)));
        let innovation = self.drift * (1.0 - self.persistence.powi(2)).sqrt();
        let mut drift = self.drift * gauss(random);
        let mut logs = [Vec::with_capacity(pairs), Vec::with_capacity(pairs)];
        for order in 0..u32::try_from(2 * pairs).unwrap_or(0) {
            let arm = arm(order);
            let result = loop {
                drift = self.persistence * drift + innovation * gauss(random);
                let disturbance = self.disturbance(random);
                let by_chance = random.f64() >= refusing.dependence;
                let is_refused = match by_chance {
                    true => random.f64() < refusing.share(arm),
                    false => disturbance > beyond[arm as usize],
                };
                if !is_refused {
                    break drift + disturbance;
                }
            };
            logs[arm as usize].push(result);
        }
        let [control, treatment] = logs;
        control.into_iter().zip(treatment).map(|(control, treatment)| effect.ln() + treatment - control).collect()
    }
}

/// A standard normal number (Box & Muller, 1958).
fn gauss(random: &mut fastrand::Rng) -> f64 {
    let (radius, angle) = (1.0 - random.f64(), random.f64());
    (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
}

/// A verdict, and the number of pairs until the verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settled {
    /// The verdict.
    pub verdict: Verdict,
    /// Number of pairs.
    pub pairs: usize,
}

/// Judges log ratios one by one.
pub fn verdict(schedule: Schedule, limit: Limit, logs: &[f64]) -> Settled {
    for pairs in 1..=schedule.max.min(logs.len()) {
        if !schedule.due(pairs) {
            continue;
        }
        let last = pairs == schedule.max;
        let verdict = limit.verdict(schedule.analyze(&logs[..pairs], last).ends());
        if last || verdict != Verdict::Inconclusive {
            return Settled { verdict, pairs };
        }
    }
    Settled { verdict: Verdict::Inconclusive, pairs: logs.len() }
}

/// A share of simulated comparisons.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Share {
    /// The share, from 0 to 1.
    pub share: f64,
    /// Upper end of the share's exact one-sided 95 % interval (Clopper & Pearson, Biometrika 26, 1934).
    pub upper: f64,
}

/// Results of simulated comparisons.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Outcomes {
    /// Number of comparisons.
    pub comparisons: u32,
    /// Number of passes.
    pub pass: u32,
    /// Number of regressions.
    pub regressed: u32,
    /// Number of inconclusive comparisons.
    pub inconclusive: u32,
    /// Total number of pairs.
    pub pairs: usize,
    /// Sum of the log ratios estimated with all pairs of the budget.
    pub log_ratios: f64,
}

impl Outcomes {
    /// Counts a comparison, judged after so many pairs.
    pub(super) fn count(&mut self, verdict: Verdict, pairs: usize) {
        self.comparisons += 1;
        self.pairs += pairs;
        match verdict {
            Verdict::Pass => self.pass += 1,
            Verdict::Regressed => self.regressed += 1,
            Verdict::Inconclusive | Verdict::Reported => self.inconclusive += 1,
        }
    }

    /// The share of `count` comparisons.
    pub fn share(&self, count: u32) -> Share {
        let (count, all) = (f64::from(count), f64::from(self.comparisons));
        let upper =
            Beta::new(count + 1.0, (all - count).max(f64::MIN_POSITIVE)).map_or(1.0, |beta| beta.inverse_cdf(0.95));
        Share { share: count / all, upper }
    }

    /// The geometric mean of the estimated ratios, divided by the true ratio.
    pub fn bias(&self, effect: f64) -> f64 {
        (self.log_ratios / f64::from(self.comparisons) - effect.ln()).exp()
    }

    /// Mean number of pairs per comparison.
    pub fn mean_pairs(&self) -> f64 {
        self.pairs as f64 / f64::from(self.comparisons)
    }
}

/// Results of `comparisons` simulated comparisons with the true ratio `effect`.
pub fn outcomes(schedule: Schedule, limit: Limit, noise: &Noise, effect: f64, comparisons: u32, seed: u64) -> Outcomes {
    of_each(schedule, limit, comparisons, seed, |random| noise.pairs(schedule.max, effect, random))
}

/// Like [`outcomes`], with refused attempts.
pub fn selected_outcomes(
    schedule: Schedule,
    limit: Limit,
    noise: &Noise,
    refusing: &Refusing,
    made: &Made,
) -> Outcomes {
    let Made { effect, comparisons, seed } = *made;
    of_each(schedule, limit, comparisons, seed, |random| noise.selected(schedule.max, effect, refusing, random))
}

/// Comparisons to simulate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Made {
    /// True ratio.
    pub effect: f64,
    /// Number of comparisons.
    pub comparisons: u32,
    /// Seed. The same seed gives the same numbers.
    pub seed: u64,
}

fn of_each(
    schedule: Schedule,
    limit: Limit,
    comparisons: u32,
    seed: u64,
    mut pairs: impl FnMut(&mut fastrand::Rng) -> Vec<f64>,
) -> Outcomes {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut outcomes = Outcomes::default();
    for _ in 0..comparisons {
        let logs = pairs(&mut random);
        outcomes.log_ratios += logs.iter().sum::<f64>() / logs.len().max(1) as f64;
        let Settled { verdict, pairs } = verdict(schedule, limit, &logs);
        outcomes.count(verdict, pairs);
    }
    outcomes
}

/// Results with one method.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OfMethod {
    /// The method.
    pub method: Method,
    /// The results.
    pub outcomes: Outcomes,
}

/// How often a single interval of `pairs` pairs misses the truth, by method. The declared confidence is `1 − 2·tail`.
pub fn misses(noise: &Noise, pairs: usize, tail: f64, comparisons: u32, seed: u64) -> Vec<OfMethod> {
    let of = |method| {
        let schedule = Schedule { min: pairs, max: pairs, tail, method };
        OfMethod { method, outcomes: outcomes(schedule, Limit::AtMost(1.0), noise, 1.0, comparisons, seed) }
    };
    [Method::Percentile, Method::Accelerated, Method::Studentized, Method::Symmetric].map(of).to_vec()
}

#[cfg(test)]
mod tests;
