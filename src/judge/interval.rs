//! An interval around the mean of a few log ratios, one a pair of runs.
//!
//! The pair is the unit: requests of one run share its weather, so ten thousand of them say no more about the next run
//! than one number does. With 4 to 12 pairs the textbook intervals are too narrow; which one holds its level here is
//! measured in `docs/measurements/judge-simulations.md` (`cargo xtask judge --power` prints it again).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use statrs::distribution::{ContinuousCDF, Normal};

/// Resamples an interval is made from. The outermost level that a look asks for is about 0.3 % a side: the sixth of
/// these, which still is an estimate and not the extreme.
pub const RESAMPLES: usize = 2_000;

/// What an interval is widened by. Where the machine drifts (AR(1) with correlation ρ between one run and the next),
/// the two pairs of an ABBA block are correlated by ρ(1−ρ)/2, at worst by 1/8; the pairs are taken as independent, which
/// would call for √(9/8) = 1.06. The rest is measured: with 1.06, equal arms in the worst weather were told apart in
/// 5.8 % of cases where 5 % is declared, with this in 4.6 %.
pub const DRIFT: f64 = 1.10;

/// Width of the normal kernel that resampled residuals are blurred with, in standard deviations. Without it a few
/// residuals that happen to be of one size make resamples that hardly vary, and a wide interval of quiet pairs: the
/// smoothed bootstrap (Efron & Tibshirani, §16.5; Silverman & Young, Biometrika 74, 1987).
pub const KERNEL: f64 = 0.5;

/// Half the width, in log ratio, below which no interval goes: an HDR histogram of three digits is no finer.
pub const RESOLUTION: f64 = 0.001;

/// How an interval is made from resamples. All but [`Method::Symmetric`] are here to be compared with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// The plain percentile bootstrap (Efron & Tibshirani, *An Introduction to the Bootstrap*, 1993, §13.3).
    Percentile,
    /// Bias-corrected and accelerated (ibid., §14.3).
    Accelerated,
    /// Studentized, "bootstrap-t" (ibid., §12.5).
    Studentized,
    /// Studentized, on residuals mirrored about their mean: control and treatment of a pair can be exchanged where the
    /// treatment does nothing, which flips the sign of the log ratio, so its distribution is symmetric by design.
    /// Twice the residuals to draw from, blurred by a [`KERNEL`], is what makes bootstrap-t steady with few pairs. What
    /// is judged with.
    Symmetric,
}

/// An interval on the log scale.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// Mean of the log ratios.
    pub estimate: f64,
    /// Standard error of the mean.
    pub error: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// The interval that leaves `tail` outside on each side.
pub fn interval(logs: &[f64], tail: f64, method: Method) -> Interval {
    let (estimate, error) = mean_and_error(logs);
    let residuals: Vec<f64> = logs.iter().map(|log| log - estimate).collect();
    let draws = draws(logs.len(), method == Method::Symmetric);
    let (low, high) = match method {
        Method::Percentile => {
            let mut means = draws.means(&residuals);
            (quantile(&mut means, tail), quantile(&mut means, 1.0 - tail))
        }
        Method::Accelerated => accelerated(&residuals, tail, draws.means(&residuals)),
        Method::Studentized => {
            let mut scores = draws.scores(&residuals, 0.0);
            (-error * quantile(&mut scores, 1.0 - tail), -error * quantile(&mut scores, tail))
        }
        Method::Symmetric => {
            let kernel = KERNEL * error * (logs.len() as f64).sqrt();
            let mut scores: Vec<f64> = draws.scores(&residuals, kernel).into_iter().map(f64::abs).collect();
            let reach = error * quantile(&mut scores, 1.0 - 2.0 * tail) * DRIFT;
            (-reach, reach)
        }
    };
    // Too few pairs for the level: no end in sight.
    let reach = |side: f64| if side.is_finite() { side.max(RESOLUTION) } else { f64::INFINITY };
    Interval { estimate, error, low: estimate - reach(-low), high: estimate + reach(high) }
}

/// Mean, and standard error of the mean.
fn mean_and_error(values: &[f64]) -> (f64, f64) {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let squares = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>();
    (mean, (squares / (count - 1.0) / count).sqrt())
}

/// Ends of the BCa interval, as residuals.
fn accelerated(residuals: &[f64], tail: f64, mut means: Vec<f64>) -> (f64, f64) {
    let normal = Normal::standard();
    let below = means.iter().filter(|&&mean| mean < 0.0).count() as f64 / means.len() as f64;
    let bias = normal.inverse_cdf(below.clamp(0.001, 0.999));
    // The jackknife's values of a mean are its residuals, scaled.
    let squares = residuals.iter().map(|residual| residual.powi(2)).sum::<f64>();
    let skew = residuals.iter().map(|residual| residual.powi(3)).sum::<f64>() / (6.0 * squares.powf(1.5));
    let acceleration = if skew.is_finite() { skew } else { 0.0 };
    let mut end = |z: f64| {
        let shifted = bias + (bias + z) / (1.0 - acceleration * (bias + z));
        quantile(&mut means, normal.cdf(shifted))
    };
    (end(normal.inverse_cdf(tail)), end(normal.inverse_cdf(1.0 - tail)))
}

/// The `p` quantile of B `values`: the one of rank p(B+1).
fn quantile(values: &mut [f64], p: f64) -> f64 {
    let rank = (p * (values.len() + 1) as f64).round() as usize;
    let index = rank.clamp(1, values.len()) - 1;
    *values.select_nth_unstable_by(index, f64::total_cmp).1
}

/// Resamples, as weights: one row of `count` a resample.
struct Draws {
    count: usize,
    /// How often a value is in it; mirrored ones count as taken away.
    signed: Vec<f64>,
    /// How often a value is in it, either way.
    times: Vec<f64>,
    /// Sum of the standard normal numbers that blur the draws of a value, with the sign of each draw.
    blur: Vec<f64>,
    /// Sum of the normal numbers of a resample, and of their squares.
    blurs: Vec<[f64; 2]>,
}

impl Draws {
    fn make(count: usize, mirrored: bool) -> Self {
        let mut random = fastrand::Rng::with_seed(0x6d65_7368 + count as u64);
        let empty = || vec![0.0; count * RESAMPLES];
        let mut draws =
            Self { count, signed: empty(), times: empty(), blur: empty(), blurs: vec![[0.0; 2]; RESAMPLES] };
        for row in 0..RESAMPLES {
            // Every other mirrored resample is the one before with its blur turned round: then exchanging the arms
            // turns the interval round, exactly.
            if mirrored && row % 2 == 1 {
                for slot in row * count..(row + 1) * count {
                    draws.signed[slot] = draws.signed[slot - count];
                    draws.times[slot] = draws.times[slot - count];
                    draws.blur[slot] = -draws.blur[slot - count];
                }
                let [sum, squares] = draws.blurs[row - 1];
                draws.blurs[row] = [-sum, squares];
                continue;
            }
            for _ in 0..count {
                let slot = row * count + random.usize(..count);
                let sign = if mirrored && random.bool() { -1.0 } else { 1.0 };
                let normal = Normal::standard().inverse_cdf(random.f64().clamp(1e-12, 1.0 - 1e-12));
                draws.signed[slot] += sign;
                draws.times[slot] += 1.0;
                draws.blur[slot] += sign * normal;
                draws.blurs[row][0] += normal;
                draws.blurs[row][1] += normal * normal;
            }
        }
        draws
    }

    /// The mean of each resample.
    fn means(&self, residuals: &[f64]) -> Vec<f64> {
        let mean = |row: &[f64]| row.iter().zip(residuals).map(|(times, residual)| times * residual).sum::<f64>();
        self.signed.chunks_exact(self.count).map(|row| mean(row) / self.count as f64).collect()
    }

    /// The mean of each resample over its own standard error, where each drawn residual r becomes r + kernel·z with a
    /// normal z. A resample of one value repeated has no error: it counts as the most extreme on its side.
    fn scores(&self, residuals: &[f64], kernel: f64) -> Vec<f64> {
        let count = self.count as f64;
        let squared: Vec<f64> = residuals.iter().map(|residual| residual * residual).collect();
        let score = |(row, [blurs, blurred]): (usize, &[f64; 2])| {
            let slots = row * self.count..(row + 1) * self.count;
            let (signed, times, blur) = (&self.signed[slots.clone()], &self.times[slots.clone()], &self.blur[slots]);
            let (mut sum, mut squares) = (kernel * blurs, kernel * kernel * blurred);
            for index in 0..self.count {
                sum += signed[index] * residuals[index];
                squares += times[index] * squared[index] + 2.0 * kernel * blur[index] * residuals[index];
            }
            let mean = sum / count;
            let variance = (squares - count * mean * mean).max(0.0) / (count - 1.0);
            if mean == 0.0 { 0.0 } else { mean / (variance / count).sqrt() }
        };
        self.blurs.iter().enumerate().map(score).collect()
    }
}

/// Draws are made once for each number of pairs and from a fixed seed: the same runs have the same interval wherever
/// they are judged.
fn draws(count: usize, mirrored: bool) -> Arc<Draws> {
    type Made = Mutex<BTreeMap<(usize, bool), Arc<Draws>>>;
    static MADE: OnceLock<Made> = OnceLock::new();
    let mut made = MADE.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    Arc::clone(made.entry((count, mirrored)).or_insert_with(|| Arc::new(Draws::make(count, mirrored))))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::percentile(Method::Percentile)]
    #[case::accelerated(Method::Accelerated)]
    #[case::studentized(Method::Studentized)]
    #[case::symmetric(Method::Symmetric)]
    fn many_quiet_pairs_give_the_normal_interval(#[case] method: Method) {
        // Normal scores of 100 ranks: mean 0, standard deviation just below 1.
        let normal = Normal::standard();
        let logs: Vec<f64> = (0..100).map(|rank| 0.3 + normal.inverse_cdf((f64::from(rank) + 0.5) / 100.0)).collect();
        let seen = interval(&logs, 0.025, method);
        let reach = 1.98 * seen.error * if method == Method::Symmetric { DRIFT } else { 1.0 };
        assert!((seen.estimate - 0.3).abs() < 1e-9, "{seen:?}");
        assert!((seen.high - 0.3 - reach).abs() < 0.12 * reach, "{method:?} {seen:?} {reach}");
        assert!((0.3 - seen.low - reach).abs() < 0.12 * reach, "{method:?} {seen:?} {reach}");
    }

    #[test]
    fn the_same_pairs_have_the_same_interval_and_mirrored_pairs_a_mirrored_one() {
        let logs = [0.05, -0.02, 0.11, 0.03, 0.0, 0.07];
        let seen = interval(&logs, 0.025, Method::Symmetric);
        assert_eq!(seen, interval(&logs, 0.025, Method::Symmetric));
        let mirrored = interval(&logs.map(|log| -log), 0.025, Method::Symmetric);
        assert!((seen.low + mirrored.high).abs() < 1e-12 && (seen.high + mirrored.low).abs() < 1e-12);
    }

    #[test]
    fn no_interval_is_finer_than_a_histogram() {
        let seen = interval(&[0.0; 6], 0.025, Method::Symmetric);
        assert_eq!((seen.low, seen.high), (-RESOLUTION, RESOLUTION));
    }
}
