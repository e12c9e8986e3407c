//! The interim analysis of one metric: the interval that holds at this look, and what it says of a bound. A *look* is
//! the field's word for an analysis before all pairs are measured.

use statrs::distribution::{ContinuousCDF, Normal, StudentsT};

use super::interval::{DRIFT, Interval, Method, RESOLUTION, interval};
use super::sequential;

/// Power that the minimum detectable effect is given for.
pub const POWER: f64 = 0.8;

/// Pairs of one ABBA block: looks come at its end, where a linear drift has cancelled.
pub const BLOCK: usize = 2;

/// More pairs than anybody will run: beyond it, none are promised to be enough.
const NEVER: usize = 5_000;

/// When to look, and how much error to spend by the end.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    /// Pairs before the first look.
    pub min: usize,
    /// Pairs at the last.
    pub max: usize,
    /// Probability that an interval is wrong on one side, over all looks.
    pub tail: f64,
    /// How intervals are made.
    pub method: Method,
}

impl Schedule {
    /// Looks after every block from `min` to `max` pairs, with intervals that hold together with `confidence`.
    pub fn new(min: usize, max: usize, confidence: f64) -> Self {
        Self { min, max, tail: (1.0 - confidence) / 2.0, method: Method::Symmetric }
    }

    /// Whether this many pairs are looked at.
    pub fn due(&self, pairs: usize) -> bool {
        pairs >= self.max || (pairs >= self.min && pairs.is_multiple_of(BLOCK))
    }

    /// The nominal error, a side, of the look at `pairs`; `last` where there will be no other.
    fn level(&self, pairs: usize, last: bool) -> f64 {
        let ends = if last { pairs } else { self.max.max(pairs) };
        let mut looks: Vec<usize> = (self.min..ends).filter(|&pairs| self.due(pairs)).collect();
        looks.push(ends);
        let levels = sequential::levels(&looks, self.max, self.tail);
        let index = looks.iter().position(|&look| look >= pairs).unwrap_or(looks.len() - 1);
        levels[index]
    }

    /// Analyzes `logs`, one log ratio a pair: at least two.
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

/// What the pairs so far say.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct InterimAnalysis {
    /// Pairs there are.
    pub pairs: usize,
    /// Nominal error, a side, of the interval.
    pub level: f64,
    /// That of the last look of the budget.
    final_level: f64,
    /// The interval, on the log scale.
    pub interval: Interval,
}

impl InterimAnalysis {
    /// Ratio of treatment to control: the geometric mean over pairs.
    pub fn ratio(&self) -> f64 {
        self.interval.estimate.exp()
    }

    /// Its interval.
    pub fn ends(&self) -> [f64; 2] {
        [self.interval.low.exp(), self.interval.high.exp()]
    }

    /// The smallest true change, as a fraction, that pairs as many and as noisy as these show with probability
    /// [`POWER`].
    pub fn minimum_detectable(&self) -> f64 {
        let reach = (self.interval.high - self.interval.low) / 2.0;
        let beyond = Normal::standard().inverse_cdf(POWER) * self.interval.error * DRIFT;
        (reach + beyond).exp_m1()
    }

    /// How many pairs more, as noisy as these, would make an interval that reaches no further than `distance` from
    /// the estimate (log scale): from Student's interval, which the bootstrap's is close to. `None` where the bound
    /// is so near that no number of runs would do.
    pub fn pairs_needed(&self, distance: f64) -> Option<usize> {
        if distance <= RESOLUTION {
            return None;
        }
        let deviation = self.interval.error * (self.pairs as f64).sqrt() * DRIFT;
        let enough = |&pairs: &usize| {
            let student = StudentsT::new(0.0, 1.0, (pairs - 1) as f64).map(|t| t.inverse_cdf(1.0 - self.final_level));
            student.is_ok_and(|score| score * deviation / (pairs as f64).sqrt() <= distance)
        };
        // Doubling first: the inverse of Student's distribution is slow.
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
