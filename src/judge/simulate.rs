//! How often the judge is wrong, and what it can see: comparisons of made-up runs whose truth is known.
//!
//! What a comparison of simulated runs goes through is what a real one does: [`Schedule::look`] and [`Limit::verdict`]. Only where the
//! log ratios come from differs. Printed by `cargo xtask judge --power`, recorded in `docs/measurements/judge-simulations.md`.

use statrs::distribution::{Beta, ContinuousCDF};

use super::interval::Method;
use super::{Arm, Limit, Schedule, Verdict, arm};

/// How the result of a run strays from its arm's truth, on the log scale.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Noise {
    /// Its name in tables.
    pub name: &'static str,
    /// Standard deviation of what is normal about it.
    pub normal: f64,
    /// Shape and scale of a Lomax (shifted Pareto) distributed slowdown: now and then a run is several times as slow.
    pub spikes: Option<(f64, f64)>,
    /// Standard deviation of the machine's own drift, AR(1) from run to run; 0.15 goes ±30 % and beyond.
    pub drift: f64,
    /// Correlation of the drift between one run and the next.
    pub persistence: f64,
}

/// From a quiet machine to one that has everything wrong with it at once.
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
    /// Log results of `runs` consecutive runs without any effect.
    pub fn runs(&self, runs: usize, random: &mut fastrand::Rng) -> Vec<f64> {
        let mut drift = self.drift * gauss(random);
        let innovation = self.drift * (1.0 - self.persistence.powi(2)).sqrt();
        let run = |_| {
            drift = self.persistence * drift + innovation * gauss(random);
            let spike = self
                .spikes
                .map_or(0.0, |(shape, scale)| (scale * ((1.0 - random.f64()).powf(-1.0 / shape) - 1.0)).ln_1p());
            drift + self.normal * gauss(random) + spike
        };
        (0..runs).map(run).collect()
    }

    /// Log ratios of `pairs` pairs in the order that [`arm`] gives, where the treatment multiplies by `effect`.
    pub fn pairs(&self, pairs: usize, effect: f64, random: &mut fastrand::Rng) -> Vec<f64> {
        let runs = self.runs(2 * pairs, random);
        let pair = |(index, runs): (usize, &[f64])| {
            let forward = arm(u32::try_from(2 * index).unwrap_or(0)) == Arm::Control;
            effect.ln() + if forward { runs[1] - runs[0] } else { runs[0] - runs[1] }
        };
        runs.chunks_exact(2).enumerate().map(pair).collect()
    }
}

/// A standard normal number (Box & Muller, 1958).
fn gauss(random: &mut fastrand::Rng) -> f64 {
    let (radius, angle) = (1.0 - random.f64(), random.f64());
    (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
}

/// Judges log ratios as they come: the verdict, and after how many pairs.
pub fn verdict(schedule: Schedule, limit: Limit, logs: &[f64]) -> (Verdict, usize) {
    for pairs in 1..=schedule.max.min(logs.len()) {
        if !schedule.due(pairs) {
            continue;
        }
        let last = pairs == schedule.max;
        let verdict = limit.verdict(schedule.look(&logs[..pairs], last).ends());
        if last || verdict != Verdict::Inconclusive {
            return (verdict, pairs);
        }
    }
    (Verdict::Inconclusive, logs.len())
}

/// How simulated comparisons ended.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Outcomes {
    /// How many there were.
    pub comparisons: u32,
    /// Of these, passed.
    pub pass: u32,
    /// Regressed.
    pub regressed: u32,
    /// Inconclusive.
    pub inconclusive: u32,
    /// Pairs that all of them took together.
    pub pairs: usize,
}

impl Outcomes {
    /// Share of comparisons, with the upper end of its exact one-sided 95 % interval (Clopper & Pearson, Biometrika 26,
    /// 1934).
    pub fn share(&self, count: u32) -> (f64, f64) {
        let (count, all) = (f64::from(count), f64::from(self.comparisons));
        let upper =
            Beta::new(count + 1.0, (all - count).max(f64::MIN_POSITIVE)).map_or(1.0, |beta| beta.inverse_cdf(0.95));
        (count / all, upper)
    }

    /// Pairs that one of them took, on average.
    pub fn mean_pairs(&self) -> f64 {
        self.pairs as f64 / f64::from(self.comparisons)
    }
}

/// Judges `comparisons` of them, whose true ratio is `effect`.
pub fn outcomes(schedule: Schedule, limit: Limit, noise: &Noise, effect: f64, comparisons: u32, seed: u64) -> Outcomes {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut outcomes = Outcomes { comparisons, ..Outcomes::default() };
    for _ in 0..comparisons {
        let (verdict, pairs) = verdict(schedule, limit, &noise.pairs(schedule.max, effect, &mut random));
        outcomes.pairs += pairs;
        match verdict {
            Verdict::Pass => outcomes.pass += 1,
            Verdict::Regressed => outcomes.regressed += 1,
            Verdict::Inconclusive | Verdict::Reported => outcomes.inconclusive += 1,
        }
    }
    outcomes
}

/// How often a single interval of `pairs` pairs misses the truth, by each method, where `1 − 2·tail` is declared.
pub fn misses(noise: &Noise, pairs: usize, tail: f64, comparisons: u32, seed: u64) -> Vec<(Method, Outcomes)> {
    let of = |method| {
        let schedule = Schedule { min: pairs, max: pairs, tail, method };
        (method, outcomes(schedule, Limit::AtMost(1.0), noise, 1.0, comparisons, seed))
    };
    [Method::Percentile, Method::Accelerated, Method::Studentized, Method::Symmetric].map(of).to_vec()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use statrs::distribution::{Binomial, DiscreteCDF};

    use super::super::interval::interval;
    use super::*;

    /// What a pull request's comparison is judged with.
    fn schedule() -> Schedule {
        Schedule::new(4, 10, 0.95)
    }

    /// Of each noise: 2,500 in all; `cargo xtask judge --power` does many more.
    const COMPARISONS: u32 = 500;

    /// The most that chance gives once in a thousand times where the true rate is the declared one.
    fn allowed(rate: f64, comparisons: u32) -> u32 {
        let count = Binomial::new(rate, comparisons.into()).unwrap().inverse_cdf(0.999);
        u32::try_from(count).unwrap()
    }

    #[rstest]
    #[case::quiet(0)]
    #[case::spikes(1)]
    #[case::drift(2)]
    #[case::weather(3)]
    #[case::both(4)]
    fn two_equal_arms_raise_no_more_false_alarms_than_declared(#[case] noise: usize) {
        let noise = NOISES[noise];
        // At a gate of 1.00 two equal arms are on the bound: either certain verdict is wrong.
        let seen = outcomes(schedule(), Limit::AtMost(1.0), &noise, 1.0, COMPARISONS, 41);
        let (side, both) = (allowed(0.025, COMPARISONS), allowed(0.05, COMPARISONS));
        assert!(seen.regressed <= side, "false alarms on {}: {seen:?}, at most {side}", noise.name);
        assert!(seen.pass <= side, "false passes on {}: {seen:?}, at most {side}", noise.name);
        assert!(seen.pass + seen.regressed <= both, "{}: {seen:?}, at most {both}", noise.name);
        // And an improvement that is not there is not seen: the truth is well outside of this bound.
        let seen = outcomes(schedule(), Limit::AtMost(0.88), &noise, 1.0, 200, 42);
        assert!(seen.pass <= allowed(0.005, 200), "improvements seen on {}: {seen:?}", noise.name);
    }

    #[test]
    fn a_real_change_is_seen_and_a_larger_one_sooner() {
        let of = |effect| outcomes(schedule(), Limit::AtMost(1.0), &NOISES[0], effect, 200, 43);
        let (small, middle, large) = (of(1.05), of(1.10), of(1.20));
        assert!(small.regressed >= 110, "{small:?}");
        assert!(middle.regressed >= 195, "{middle:?}");
        assert!(large.regressed == 200 && large.mean_pairs() < middle.mean_pairs(), "{large:?}");
    }

    /// Why the textbook interval is not used.
    #[test]
    fn the_plain_percentile_bootstrap_does_not_hold_its_level() {
        let schedule = Schedule { method: Method::Percentile, ..schedule() };
        let seen = outcomes(schedule, Limit::AtMost(1.0), &NOISES[0], 1.0, 400, 44);
        assert!(seen.pass + seen.regressed > 2 * allowed(0.05, 400), "{seen:?}");
    }

    /// Why looks are paid for.
    #[test]
    fn stopping_at_the_first_clear_look_without_correction_does_not_hold_its_level() {
        let mut random = fastrand::Rng::with_seed(45);
        let mut clear = 0;
        for _ in 0..400 {
            let logs = NOISES[0].pairs(20, 1.0, &mut random);
            let stops = |pairs: usize| {
                let seen = interval(&logs[..pairs], schedule().tail, schedule().method);
                seen.low > 0.0 || seen.high < 0.0
            };
            clear += u32::from((4..=20).step_by(2).any(stops));
        }
        assert!(clear > allowed(0.05, 400) + 10, "{clear}");
    }

    #[test]
    fn shares_have_exact_upper_ends() {
        let seen = Outcomes { comparisons: 100, ..Outcomes::default() };
        // 1 − 0.05^(1/100), for none in a hundred.
        let (share, upper) = seen.share(0);
        assert!(share == 0.0 && (upper - 0.029_513).abs() < 1e-4, "{upper}");
        assert!((seen.share(100).1 - 1.0).abs() < 1e-6);
    }
}
