//! An interval around the mean of a few log ratios, one per pair of runs.
//!
//! The unit is the pair. Requests of one run share its conditions, so ten thousand requests say no more about the next
//! run than one number. With 4 to 12 pairs, textbook intervals are too narrow. `docs/measurements/judge-simulations.md`
//! compares methods (reproduce with `cargo xtask judge --power`).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use statrs::distribution::{ContinuousCDF, Normal};

/// Resamples per interval. The outermost level of any look is about 0.3 % per side: the sixth smallest resample, which
/// is still an estimate and not the extreme.
pub const RESAMPLES: usize = 2_000;

/// Factor by which intervals are widened. With machine drift (AR(1) with correlation ρ between consecutive runs), the
/// two pairs of an ABBA block are correlated by ρ(1−ρ)/2, at most 1/8. Pairs are treated as independent, so theory asks
/// for √(9/8) = 1.06. The rest is empirical: in the noisiest simulation, equal arms were told apart in 5.8 % of cases
/// with 1.06, and in 4.6 % with this factor. The declared rate is 5 %.
pub const DRIFT: f64 = 1.10;

/// Width, in standard deviations, of the normal kernel that smooths resampled residuals. Without the kernel, a few
/// residuals of equal size give resamples with little variance, and quiet pairs get a wide interval. Smoothed
/// bootstrap: Efron & Tibshirani, §16.5; Silverman & Young, Biometrika 74, 1987.
pub const KERNEL: f64 = 0.5;

/// Smallest half-width of an interval, in log ratio: the resolution of an HDR histogram with three digits.
pub const RESOLUTION: f64 = 0.001;

/// Method for making an interval from resamples. The judge uses [`Method::Symmetric`]. The others serve comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// The plain percentile bootstrap (Efron & Tibshirani, *An Introduction to the Bootstrap*, 1993, §13.3).
    Percentile,
    /// Bias-corrected and accelerated (ibid., §14.3).
    Accelerated,
    /// Studentized, "bootstrap-t" (ibid., §12.5).
    Studentized,
    /// Studentized, on residuals mirrored about their mean. Under the null hypothesis, control and treatment of a pair
    /// are exchangeable. An exchange flips the sign of the log ratio, so the distribution is symmetric by design. Twice
    /// as many residuals, smoothed by a [`KERNEL`], keep bootstrap-t stable with few pairs. The judge uses this method.
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

/// The interval with probability `tail` outside on each side.
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
    // With too few pairs for the level, the end is infinite.
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
    // The jackknife values of a mean are its scaled residuals.
    let squares = residuals.iter().map(|residual| residual.powi(2)).sum::<f64>();
    let skew = residuals.iter().map(|residual| residual.powi(3)).sum::<f64>() / (6.0 * squares.powf(1.5));
    let acceleration = if skew.is_finite() { skew } else { 0.0 };
    let mut end = |z: f64| {
        let shifted = bias + (bias + z) / (1.0 - acceleration * (bias + z));
        quantile(&mut means, normal.cdf(shifted))
    };
    (end(normal.inverse_cdf(tail)), end(normal.inverse_cdf(1.0 - tail)))
}

/// The `p` quantile of B `values`: the value of rank p(B+1).
fn quantile(values: &mut [f64], p: f64) -> f64 {
    let rank = (p * (values.len() + 1) as f64).round() as usize;
    let index = rank.clamp(1, values.len()) - 1;
    *values.select_nth_unstable_by(index, f64::total_cmp).1
}

/// Resamples as weights: one row of `count` weights per resample.
struct Draws {
    count: usize,
    /// Draws of each value. Mirrored draws count negative.
    signed: Vec<f64>,
    /// Draws of each value. Mirrored draws count positive.
    times: Vec<f64>,
    /// Sum of the standard normal numbers that smooth the draws of a value, with the sign of each draw.
    blur: Vec<f64>,
    /// Sum of a resample's normal numbers, and sum of their squares.
    blurs: Vec<[f64; 2]>,
}

impl Draws {
    fn make(count: usize, mirrored: bool) -> Self {
        let mut random = fastrand::Rng::with_seed(0x6d65_7368 + count as u64);
        let empty = || vec![0.0; count * RESAMPLES];
        let mut draws =
            Self { count, signed: empty(), times: empty(), blur: empty(), blurs: vec![[0.0; 2]; RESAMPLES] };
        for row in 0..RESAMPLES {
            // Every other mirrored resample is its predecessor with reversed smoothing. So exchanging the arms mirrors
            // the interval exactly.
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

    /// The mean of each resample divided by its own standard error. Each drawn residual r becomes r + kernel·z with a
    /// normal z. A resample of a single repeated value has no error, and counts as the most extreme on its side.
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

/// Draws are made once per number of pairs, from a fixed seed. So the same runs have the same interval on any machine.
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
