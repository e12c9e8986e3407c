//! The requirement on a receipt.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The required range of a counter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counter {
    /// Lower limit.
    pub at_least: Option<f64>,
    /// Upper limit.
    pub at_most: Option<f64>,
}

impl Counter {
    /// Whether `value` is in the range. NaN is never in the range.
    pub fn allows(self, value: f64) -> bool {
        !value.is_nan()
            && self.at_least.is_none_or(|least| value >= least)
            && self.at_most.is_none_or(|most| value <= most)
    }

    /// Whether any value is allowed.
    pub(super) fn is_empty(self) -> bool {
        self.at_least.is_none() && self.at_most.is_none()
    }
}

impl fmt::Display for Counter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let least = self.at_least.map(|least| format!("at least {least}"));
        let most = self.at_most.map(|most| format!("at most {most}"));
        f.write_str(&[least, most].into_iter().flatten().collect::<Vec<_>>().join(" and "))
    }
}
