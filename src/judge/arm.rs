//! The two arms of a comparison, and the order in which they run.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Which side of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Arm {
    /// As it was.
    Control,
    /// With what is being judged.
    Treatment,
}

/// The arm of the run in place `order` of a comparison: ABBA, BAAB, ABBA … Within a block a linear drift of the
/// machine cancels; turning every other block round cancels the correlation of neighbouring blocks.
pub fn arm(order: u32) -> Arm {
    let place = order % 8;
    if matches!(place, 0 | 3 | 5 | 6) { Arm::Control } else { Arm::Treatment }
}

/// In which turn each of `rows` has its treated run, where comparisons share the control's run of place `order`: there and back, so
/// that within a block a linear drift of the machine cancels for every one of them.
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
