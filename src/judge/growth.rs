//! How a figure grows with the size of something: a straight line through the points, and a bound on its slope.

use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, StudentsT};

/// Confidence of the interval of a slope.
pub const CONFIDENCE: f64 = 0.95;

/// A figure, measured at several sizes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Growth {
    /// Id, unique within the suite.
    pub id: String,
    /// What is measured: `memory of a sidecar`.
    pub figure: String,
    /// Unit of the figure: `bytes` or `us`.
    pub unit: String,
    /// What the size counts, in the plural: `services`.
    pub per: String,
    /// The measured points.
    pub points: Vec<Point>,
    /// Largest slope that passes, in the figure's unit for each one more of `per`.
    pub at_most: f64,
    /// Where the bound comes from.
    pub source: String,
}

/// A figure at a size.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Size.
    pub size: u32,
    /// The figure, in its unit.
    pub value: f64,
}

/// A straight line through points, by least squares.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Line {
    /// The figure at size 0.
    pub base: f64,
    /// What one more adds.
    pub slope: f64,
    /// Interval of the slope, with [`CONFIDENCE`].
    pub interval: [f64; 2],
    /// The growth's exponent, from the means at the smallest, the second largest and the largest size: 1 if the figure
    /// grows in proportion. `None` for fewer than three sizes, or if the figure does not grow between them.
    pub exponent: Option<f64>,
}

/// A judged growth.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Slope {
    /// All of the interval is within the bound.
    Within(Line),
    /// All of the interval is beyond the bound.
    Beyond(Line),
    /// The bound is inside of the interval.
    Undecided(Line),
    /// The points do not determine a line: fewer than three, or all of one size.
    NoLine,
}

impl Growth {
    /// Compares the slope's interval with the bound.
    pub fn judged(&self) -> Slope {
        match line(&self.points) {
            None => Slope::NoLine,
            Some(line) if line.interval[1] <= self.at_most => Slope::Within(line),
            Some(line) if line.interval[0] > self.at_most => Slope::Beyond(line),
            Some(line) => Slope::Undecided(line),
        }
    }
}

/// The line through `points`. `None` for fewer than three points, or if all are of one size.
///
/// Source: Draper & Smith, Applied Regression Analysis, 3rd edition, chapter 1 (interval of the slope from Student's t
/// with n-2 degrees of freedom).
pub fn line(points: &[Point]) -> Option<Line> {
    let n = points.len() as f64;
    let freedom = points.len().checked_sub(2).filter(|freedom| *freedom > 0)? as f64;
    let sizes = || points.iter().map(|point| f64::from(point.size));
    let (mean_size, mean) = (sizes().sum::<f64>() / n, points.iter().map(|point| point.value).sum::<f64>() / n);
    let spread: f64 = sizes().map(|size| (size - mean_size).powi(2)).sum();
    if spread == 0.0 || !mean.is_finite() {
        return None;
    }
    let together: f64 = sizes().zip(points).map(|(size, point)| (size - mean_size) * (point.value - mean)).sum();
    let slope = together / spread;
    let base = mean - slope * mean_size;
    let residuals: f64 = sizes().zip(points).map(|(size, point)| (point.value - base - slope * size).powi(2)).sum();
    let quantile = StudentsT::new(0.0, 1.0, freedom).ok()?.inverse_cdf(f64::midpoint(1.0, CONFIDENCE));
    let half = quantile * (residuals / freedom / spread).sqrt();
    Some(Line { base, slope, interval: [slope - half, slope + half], exponent: exponent(points) })
}

/// See [`Line::exponent`].
fn exponent(points: &[Point]) -> Option<f64> {
    let mut sizes: Vec<u32> = points.iter().map(|point| point.size).collect();
    sizes.sort_unstable();
    sizes.dedup();
    let [first, .., middle, last] = sizes[..] else { return None };
    let mean = |size: u32| {
        let values: Vec<f64> = points.iter().filter(|point| point.size == size).map(|point| point.value).collect();
        values.iter().sum::<f64>() / values.len() as f64
    };
    let grown = (mean(last) - mean(first)) / (mean(middle) - mean(first));
    let size = f64::from(last - first) / f64::from(middle - first);
    Some(grown.ln() / size.ln()).filter(|exponent| exponent.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn growth(values: &[(u32, f64)], at_most: f64) -> Growth {
        Growth {
            id: "services/memory".into(),
            figure: "memory of a sidecar".into(),
            unit: "bytes".into(),
            per: "services".into(),
            points: values.iter().map(|&(size, value)| Point { size, value }).collect(),
            at_most,
            source: "a test".into(),
        }
    }

    #[test]
    fn the_line_of_a_textbook_is_found_with_its_interval() {
        // Draper & Smith's formulas by hand: x 1..5, y 2 4 5 4 5: slope 0.6, base 2.2, standard error 0.2828, t 3.182.
        let textbook = growth(&[(1, 2.0), (2, 4.0), (3, 5.0), (4, 4.0), (5, 5.0)], 0.0);
        let line = line(&textbook.points).unwrap();
        assert!((line.slope - 0.6).abs() < 1e-9 && (line.base - 2.2).abs() < 1e-9, "{line:?}");
        assert!((line.interval[1] - 0.6 - 3.182 * 0.282_84).abs() < 1e-3, "{line:?}");
    }

    #[test]
    fn a_slope_is_judged_by_all_of_its_interval() {
        let values = [(10, 110.0), (10, 112.0), (100, 200.0), (100, 203.0), (1000, 1101.0), (1000, 1099.0)];
        assert!(matches!(growth(&values, 1.1).judged(), Slope::Within(_)));
        assert!(matches!(growth(&values, 0.9).judged(), Slope::Beyond(_)));
        let Slope::Undecided(line) = growth(&values, 1.0).judged() else { panic!("the bound is the slope") };
        assert!((line.exponent.unwrap() - 1.0).abs() < 0.05, "{line:?}");
    }

    #[test]
    fn a_square_has_the_exponent_two_and_what_does_not_grow_has_none() {
        let square = growth(&[(0, 0.0), (10, 100.0), (100, 10_000.0)], 1.0);
        assert!((line(&square.points).unwrap().exponent.unwrap() - 2.0).abs() < 1e-9);
        let flat = growth(&[(0, 5.0), (10, 5.0), (100, 5.0)], 1.0);
        assert_eq!(line(&flat.points).unwrap().exponent, None);
        assert!(matches!(flat.judged(), Slope::Within(_)));
    }

    #[test]
    fn points_of_one_size_are_no_line() {
        for values in [&[][..], &[(1, 1.0), (2, 2.0)], &[(5, 1.0), (5, 2.0), (5, 3.0)]] {
            assert_eq!(growth(values, 1.0).judged(), Slope::NoLine);
        }
    }
}
