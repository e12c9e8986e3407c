//! Repeated looks without more false alarms: group-sequential boundaries by alpha spending.
//!
//! Stopping as soon as a 95 % interval looks clear is wrong far more often than 5 % of the time. Here the error is a
//! budget, spent over the looks by the power family of Kim & DeMets (Biometrika 74, 1987): `α·tᵖ` is spent at the
//! fraction `t` of the pairs. The boundary of a look spends exactly its part, given that no earlier look stopped (Lan &
//! DeMets, Biometrika 70, 1983). The recursive integration of Armitage, McPherson & Rowe (JRSS A 132, 1969) computes
//! the boundary. Each look's interval has the look's nominal level. So all intervals of a comparison hold
//! simultaneously (repeated confidence intervals: Jennison & Turnbull, JRSS B 51, 1989), and stopping for any reason is
//! valid.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use statrs::distribution::{Continuous, ContinuousCDF, Normal};

/// Exponent of the spending function: between those of Pocock (≈ 1) and O'Brien & Fleming (≈ 3).
pub const EXPONENT: f64 = 1.5;

/// Integration points of a density.
const POINTS: usize = 161;

/// Half the integration range of a standard score. The probability beyond the range is below 10⁻⁹ per side.
const RANGE: f64 = 6.0;

/// The nominal level of each look: its one-sided error.
///
/// `looks` are numbers of pairs, ascending. At the last look, all of `alpha` (one-sided) is spent. `planned` is the
/// number of pairs that spending is relative to. If time runs out earlier, the last look is early and gets all of the
/// rest.
pub fn levels(looks: &[usize], planned: usize, alpha: f64) -> Arc<Vec<f64>> {
    type Made = Mutex<BTreeMap<(Vec<usize>, usize, u64), Arc<Vec<f64>>>>;
    static MADE: OnceLock<Made> = OnceLock::new();
    let mut made = MADE.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    let key = (looks.to_vec(), planned, alpha.to_bits());
    Arc::clone(made.entry(key).or_insert_with(|| Arc::new(integrate(looks, planned, alpha))))
}

fn integrate(looks: &[usize], planned: usize, alpha: f64) -> Vec<f64> {
    let normal = Normal::standard();
    let mut levels = Vec::with_capacity(looks.len());
    // The density, over sums of `pairs` unit normals, of reaching this look without stopping.
    let mut density: Option<Density> = None;
    let mut spent = 0.0;
    for (index, &pairs) in looks.iter().enumerate() {
        let fraction = pairs as f64 / planned.max(1) as f64;
        let target = if index + 1 == looks.len() { alpha } else { alpha * fraction.min(1.0).powf(EXPONENT) };
        let spend = (target - spent).max(alpha * 1e-6);
        let critical = match &density {
            None => normal.inverse_cdf(1.0 - spend),
            Some(density) => density.critical(pairs, spend),
        };
        levels.push(1.0 - normal.cdf(critical));
        spent += spend;
        let bound = critical * (pairs as f64).sqrt();
        density = Some(match density {
            None => Density::first(pairs, bound),
            Some(density) => density.next(pairs, bound),
        });
    }
    levels
}

struct Density {
    pairs: usize,
    points: Vec<f64>,
    /// Density times the width of the trapezoid at each point.
    masses: Vec<f64>,
}

impl Density {
    fn first(pairs: usize, bound: f64) -> Self {
        let scale = (pairs as f64).sqrt();
        Self::on(pairs, bound, |sum| Normal::standard().pdf(sum / scale) / scale)
    }

    fn next(&self, pairs: usize, bound: f64) -> Self {
        let scale = ((pairs - self.pairs) as f64).sqrt();
        let from = |sum: f64| {
            let arriving = self.points.iter().zip(&self.masses);
            arriving.map(|(from, mass)| mass * Normal::standard().pdf((sum - from) / scale) / scale).sum()
        };
        Self::on(pairs, bound, from)
    }

    /// Both boundaries count: a comparison also stops on the other side.
    fn on(pairs: usize, bound: f64, density: impl Fn(f64) -> f64) -> Self {
        let reach = bound.min(RANGE * (pairs as f64).sqrt());
        let step = 2.0 * reach / (POINTS - 1) as f64;
        let points: Vec<f64> = (0..POINTS).map(|index| step * index as f64 - reach).collect();
        let width = |index| if index == 0 || index == POINTS - 1 { step / 2.0 } else { step };
        let masses = points.iter().enumerate().map(|(index, &point)| density(point) * width(index)).collect();
        Self { pairs, points, masses }
    }

    /// The standard score exceeded with probability `spend` at `pairs`, given no earlier stop.
    fn critical(&self, pairs: usize, spend: f64) -> f64 {
        let (scale, root) = (((pairs - self.pairs) as f64).sqrt(), (pairs as f64).sqrt());
        let normal = Normal::standard();
        let passed = |score: f64| -> f64 {
            let arriving = self.points.iter().zip(&self.masses);
            arriving.map(|(from, mass)| mass * (1.0 - normal.cdf((score * root - from) / scale))).sum()
        };
        let (mut low, mut high) = (0.0, RANGE);
        for _ in 0..40 {
            let middle = f64::midpoint(low, high);
            if passed(middle) > spend { low = middle } else { high = middle }
        }
        high
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_look_spends_everything_and_the_first_of_many_its_share() {
        assert!((levels(&[12], 12, 0.025)[0] - 0.025).abs() < 1e-9);
        let spent = 0.025 * (4.0_f64 / 12.0).powf(EXPONENT);
        assert!((levels(&[4, 8, 12], 12, 0.025)[0] - spent).abs() < 1e-9);
    }

    #[test]
    fn a_budget_cut_short_spends_what_is_left() {
        let (whole, short) = (levels(&[4, 6, 8, 10, 12], 12, 0.025), levels(&[4, 6, 8], 12, 0.025));
        assert_eq!(whole[..2], short[..2]);
        assert!(short[2] > whole[2] && short[2] < 0.025, "{short:?}");
    }

    /// Checks the computation by simulation: random walks cross the boundaries at the declared rate.
    #[test]
    fn random_walks_cross_the_boundaries_as_often_as_declared() {
        const WALKS: u32 = 40_000;
        let looks = [4, 6, 8, 10, 12];
        let scores: Vec<f64> =
            levels(&looks, 12, 0.025).iter().map(|level| Normal::standard().inverse_cdf(1.0 - level)).collect();
        let mut random = fastrand::Rng::with_seed(20);
        let mut crossed = 0_u32;
        for _ in 0..WALKS {
            let (mut sum, mut at) = (0.0, 0);
            for (&pairs, score) in looks.iter().zip(&scores) {
                let step = Normal::standard().inverse_cdf(random.f64().clamp(1e-12, 1.0 - 1e-12));
                sum += step * f64::sqrt((pairs - at) as f64);
                at = pairs;
                if sum.abs() > score * f64::sqrt(pairs as f64) {
                    crossed += 1;
                    break;
                }
            }
        }
        let rate = f64::from(crossed) / f64::from(WALKS);
        // Four standard deviations of the rate, for 40,000 walks at 5 %.
        assert!((rate - 0.05).abs() < 0.0044, "{rate}");
    }
}
