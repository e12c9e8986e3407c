//! The two arms of a comparison, and the order in which they run.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One side of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Arm {
    /// Without the change under judgement.
    Control,
    /// With the change under judgement.
    Treatment,
}

/// The arm of run number `order` of a comparison: ABBA, BAAB, ABBA … Within a block, a linear drift of the machine
/// cancels. Reversing every other block cancels the correlation of neighbouring blocks.
pub fn arm(order: u32) -> Arm {
    let place = order % 8;
    if matches!(place, 0 | 3 | 5 | 6) { Arm::Control } else { Arm::Treatment }
}

/// The order in which `rows` comparisons make their treatment runs, if they share the control run of number `order`:
/// there and back. Within a block, a linear drift of the machine cancels for each comparison.
pub fn turns(order: u32, rows: usize) -> Vec<usize> {
    let second_half = order % 4 >= 2;
    if second_half { (0..rows).rev().collect() } else { (0..rows).collect() }
}

impl fmt::Display for Arm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Control => "control",
            Self::Treatment => "treatment",
        })
    }
}
