//! Whether a count is one that a stated share gives: the exact binomial interval of Clopper and Pearson (Biometrika 26,
//! 1934).

use std::fmt;

use statrs::function::beta::beta_reg;

/// Halvings of the search for an end: the end is exact to 2⁻⁵⁰.
const HALVINGS: u32 = 50;

/// How many of how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// Those that count.
    pub hits: usize,
    /// All of them, each independent of the others.
    pub trials: usize,
}

/// The shares that a count is consistent with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ShareInterval {
    /// Lower end, from 0 to 1.
    pub low: f64,
    /// Upper end, from 0 to 1.
    pub high: f64,
}

impl Share {
    /// How many of `all` count.
    pub fn of<T>(all: &[T], counts: impl Fn(&T) -> bool) -> Self {
        Self { hits: all.iter().filter(|one| counts(one)).count(), trials: all.len() }
    }

    /// The interval that leaves out the true share with a probability of at most `error`, half of it on each side.
    /// Without trials, every share is in it.
    pub fn interval(self, error: f64) -> ShareInterval {
        let (hits, misses) = (self.hits as f64, self.trials.saturating_sub(self.hits) as f64);
        let tail = error / 2.0;
        // P(X ≥ k) = I_p(k, n − k + 1) rises with p.
        let low = match self.hits {
            0 => 0.0,
            _ => crossing(|share| beta_reg(hits, misses + 1.0, share) >= tail),
        };
        // P(X ≤ k) = 1 − I_p(k + 1, n − k) falls with p.
        let high = match misses {
            0.0 => 1.0,
            _ => crossing(|share| 1.0 - beta_reg(hits + 1.0, misses, share) <= tail),
        };
        ShareInterval { low, high }
    }

    /// Whether the count is one that `share` gives, except with a probability of at most `error`. A share of 0 or 1
    /// permits no exception. No trials fit nothing.
    pub fn fits(self, share: f64, error: f64) -> bool {
        let ShareInterval { low, high } = self.interval(error);
        self.trials > 0 && (low..=high).contains(&share)
    }
}

/// Where `is_beyond` turns true, between 0 and 1.
fn crossing(is_beyond: impl Fn(f64) -> bool) -> f64 {
    let (mut below, mut beyond) = (0.0, 1.0);
    for _ in 0..HALVINGS {
        let middle = f64::midpoint(below, beyond);
        if is_beyond(middle) { beyond = middle } else { below = middle }
    }
    f64::midpoint(below, beyond)
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.hits, self.trials)
    }
}

impl fmt::Display for ShareInterval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} to {:.1} %", 100.0 * self.low, 100.0 * self.high)
    }
}

#[cfg(test)]
mod tests {
    use statrs::distribution::{Binomial, Discrete};

    use super::*;

    #[test]
    fn the_interval_is_that_of_the_tables() {
        let ShareInterval { low, high } = Share { hits: 4, trials: 20 }.interval(0.05);
        assert!((low - 0.057_33).abs() < 1e-5 && (high - 0.436_61).abs() < 1e-5, "{low} {high}");
        let ShareInterval { low, high } = Share { hits: 0, trials: 10 }.interval(0.05);
        assert!(low == 0.0 && (high - 0.308_50).abs() < 1e-5, "{high}");
    }

    #[test]
    fn a_right_share_is_refused_at_most_as_often_as_stated_and_a_wrong_one_nearly_always() {
        let refused = |true_share: f64, stated: f64, trials: usize| {
            let law = Binomial::new(true_share, trials as u64).unwrap();
            let refused = (0..=trials).filter(|hits| !Share { hits: *hits, trials }.fits(stated, 1e-6));
            refused.map(|hits| law.pmf(hits as u64)).sum::<f64>()
        };
        for share in [0.1, 0.2, 0.3, 0.5, 0.8] {
            assert!(refused(share, share, 150) <= 1e-6, "{share}");
        }
        assert!(refused(0.5, 0.8, 150) > 0.998);
        assert!(refused(0.0, 0.3, 150) > 0.999_999);
    }

    #[test]
    fn none_and_all_permit_no_exception_and_nothing_fits_nothing() {
        let fits = |hits, trials, share| Share { hits, trials }.fits(share, 1e-6);
        assert!(fits(0, 9, 0.0) && fits(9, 9, 1.0));
        assert!(!fits(1, 900, 0.0) && !fits(899, 900, 1.0));
        assert!(!fits(0, 0, 0.0) && !fits(0, 0, 0.5));
    }
}
