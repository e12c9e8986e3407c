//! The interim analysis of one metric: the interval that holds at this look, and the verdict on a bound. In
//! group-sequential testing, a *look* is an analysis before all pairs are measured.

use statrs::distribution::{ContinuousCDF, Normal, StudentsT};

use super::interval::{DRIFT, Interval, Method, RESOLUTION, interval};
use super::sequential;

/// Power of the minimum detectable effect.
pub const POWER: f64 = 0.8;

/// Pairs of one ABBA block. Looks are at the end of a block, where a linear drift has cancelled.
pub const BLOCK: usize = 2;

/// Upper limit for predicted pairs. Above it, no number of pairs is predicted to suffice.
const NEVER: usize = 5_000;

/// The times of looks, and the error to spend over all looks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    /// Pairs before the first look.
    pub min: usize,
    /// Pairs at the last look.
    pub max: usize,
    /// Probability that an interval is wrong on one side, over all looks.
    pub tail: f64,
    /// Method for the intervals.
    pub method: Method,
}

impl Schedule {
    /// Looks after every block from `min` to `max` pairs, with simultaneous intervals at `confidence`.
    pub fn new(min: usize, max: usize, confidence: f64) -> Self {
        Self { min, max, tail: (1.0 - confidence) / 2.0, method: Method::Symmetric }
    }

    /// Whether there is a look after this many pairs.
    pub fn due(&self, pairs: usize) -> bool {
        pairs >= self.max || (pairs >= self.min && pairs.is_multiple_of(BLOCK))
    }

    /// The nominal one-sided error of the look at `pairs`. `last`: no other look follows.
    fn level(&self, pairs: usize, last: bool) -> f64 {
        let ends = if last { pairs } else { self.max.max(pairs) };
        let mut looks: Vec<usize> = (self.min..ends).filter(|&pairs| self.due(pairs)).collect();
        looks.push(ends);
        let levels = sequential::levels(&looks, self.max, self.tail);
        let index = looks.iter().position(|&look| look >= pairs).unwrap_or(looks.len() - 1);
        levels[index]
    }

    /// Analyzes `logs`, one log ratio per pair, at least two pairs.
    pub fn analyze(&self, logs: &[f64], last: bool) -> InterimAnalysis {
        let level = self.level(logs.len(), last);
        InterimAnalysis {
            pairs: logs.len(),
            level,
            final_level: self.level(self.max.max(logs.len()), true),
            interval: interval(logs, level, self.method),
        }
    }
}

/// The analysis of the pairs so far.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct InterimAnalysis {
    /// Number of pairs.
    pub pairs: usize,
    /// Nominal one-sided error of the interval.
    pub level: f64,
    /// Nominal one-sided error of the budget's last look.
    final_level: f64,
    /// The interval, on the log scale.
    pub interval: Interval,
}

impl InterimAnalysis {
    /// Ratio of treatment to control: the geometric mean over pairs.
    pub fn ratio(&self) -> f64 {
        self.interval.estimate.exp()
    }

    /// The interval of the ratio.
    pub fn ends(&self) -> [f64; 2] {
        [self.interval.low.exp(), self.interval.high.exp()]
    }

    /// The smallest true change, as a fraction, that this many pairs with this noise detect with probability [`POWER`].
    pub fn minimum_detectable(&self) -> f64 {
        let reach = (self.interval.high - self.interval.low) / 2.0;
        let beyond = Normal::standard().inverse_cdf(POWER) * self.interval.error * DRIFT;
        (reach + beyond).exp_m1()
    }

    /// The number of further pairs, at this noise, until the interval reaches at most `distance` from the estimate (log
    /// scale). Computed with Student's interval, which is close to the bootstrap's. `None` if the bound is too near for
    /// any number of runs.
    pub fn pairs_needed(&self, distance: f64) -> Option<usize> {
        if distance <= RESOLUTION {
            return None;
        }
        let deviation = self.interval.error * (self.pairs as f64).sqrt() * DRIFT;
        let enough = |&pairs: &usize| {
            let student = StudentsT::new(0.0, 1.0, (pairs - 1) as f64).map(|t| t.inverse_cdf(1.0 - self.final_level));
            student.is_ok_and(|score| score * deviation / (pairs as f64).sqrt() <= distance)
        };
        // Double first: the inverse of Student's distribution is slow.
        let mut high = self.pairs + BLOCK;
        while !enough(&high) {
            high *= 2;
            if high > NEVER {
                return None;
            }
        }
        let mut low = self.pairs;
        while high - low > BLOCK {
            let middle = low + (high - low) / 2 / BLOCK * BLOCK;
            if enough(&middle) { high = middle } else { low = middle }
        }
        Some(high - self.pairs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOGS: [f64; 8] = [0.06, -0.04, 0.05, 0.01, -0.02, 0.04, 0.0, 0.03];

    #[test]
    fn looks_come_at_the_end_of_blocks() {
        let schedule = Schedule::new(4, 9, 0.95);
        assert_eq!((0..12).filter(|&pairs| schedule.due(pairs)).collect::<Vec<_>>(), [4, 6, 8, 9, 10, 11]);
    }

    #[test]
    fn an_early_look_is_wider_than_a_last_one() {
        let schedule = Schedule::new(4, 12, 0.95);
        let (early, last) = (schedule.analyze(&LOGS, false), schedule.analyze(&LOGS, true));
        assert!(early.ends()[1] > last.ends()[1], "{early:?} {last:?}");
        assert!(last.level < schedule.tail, "what earlier looks spent is gone");
    }

    #[test]
    fn a_nearer_bound_needs_more_pairs_and_one_on_the_estimate_cannot_be_had() {
        let analysis = Schedule::new(4, 8, 0.95).analyze(&LOGS, true);
        let (near, far) = (analysis.pairs_needed(0.01).unwrap(), analysis.pairs_needed(0.03).unwrap());
        assert!(near > 4 * far, "{near} {far}");
        assert_eq!(analysis.pairs_needed(0.0005), None);
        let detectable = analysis.minimum_detectable();
        assert!(detectable > analysis.ends()[1] - analysis.ratio() && detectable < 0.15, "{detectable}");
    }
}
