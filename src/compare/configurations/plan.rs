//! What is to be compared.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

use super::error::Equal;
use super::manifests::{Declared, Manifests};
use crate::judge::Arm;

/// Fewest minutes: time for the fewest pairs.
const FEWEST: f64 = 0.5;

/// Most minutes: a day.
const MOST: f64 = 1440.0;

/// How long a comparison measures, in minutes. By default three.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Deserialize)]
#[serde(try_from = "f64")]
pub struct Minutes(f64);

/// The number of minutes is none that a comparison can measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("give minutes, from {FEWEST} to {MOST}")]
pub struct NotMinutes;

impl Minutes {
    /// As seconds.
    pub fn seconds(self) -> f64 {
        self.0 * 60.0
    }
}

impl Default for Minutes {
    fn default() -> Self {
        Self(3.0)
    }
}

impl fmt::Display for Minutes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl TryFrom<f64> for Minutes {
    type Error = NotMinutes;

    fn try_from(minutes: f64) -> Result<Self, NotMinutes> {
        (FEWEST..=MOST).contains(&minutes).then_some(Self(minutes)).ok_or(NotMinutes)
    }
}

impl FromStr for Minutes {
    type Err = NotMinutes;

    fn from_str(text: &str) -> Result<Self, NotMinutes> {
        text.parse::<f64>().map_err(|_| NotMinutes)?.try_into()
    }
}

/// The manifests of two sides that differ.
#[derive(Debug, Clone)]
pub struct Sides {
    pub(super) control: Manifests,
    pub(super) treatment: Manifests,
    declared: Vec<Declared>,
}

impl Sides {
    /// Two sides, and how they differ. Needs no mesh.
    ///
    /// # Errors
    /// They do not differ.
    pub fn of(control: Manifests, treatment: Manifests) -> Result<Self, Equal> {
        let declared = control.declared(&treatment);
        if declared.is_empty() {
            return Err(Equal { objects: control.len() });
        }
        Ok(Self { control, treatment, declared })
    }

    /// The manifests of a side.
    pub(super) fn side(&self, side: Arm) -> &Manifests {
        match side {
            Arm::Control => &self.control,
            Arm::Treatment => &self.treatment,
        }
    }

    /// The objects that the treatment declares differently.
    pub fn declared(&self) -> &[Declared] {
        &self.declared
    }
}

/// A comparison to make.
#[derive(Debug, Clone)]
pub struct Compare {
    /// The manifests of both sides.
    pub sides: Sides,
    /// The user's own service, in both directories, as the server. `None`: a probe.
    pub service: Option<OwnService>,
    /// The cluster. `None`: the first one.
    pub cluster: Option<String>,
    /// Image of the load driver. `None`: the testbed's own.
    pub driver: Option<String>,
    /// Namespaces of the cluster that run on while the arms are measured and all else is frozen.
    pub running: Vec<String>,
}

/// A service of the user, which the client calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnService {
    /// Name.
    pub name: String,
    /// Port.
    pub port: u16,
    /// Path of the request. It answers with status 200.
    pub path: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minutes_are_a_number_that_leaves_time_for_the_fewest_pairs() {
        assert_eq!("0.5".parse(), Minutes::try_from(0.5));
        for wrong in ["0", "-1", "NaN", "inf", "3m", "1441"] {
            let error = wrong.parse::<Minutes>().unwrap_err();
            assert_eq!(error.to_string(), "give minutes, from 0.5 to 1440", "{wrong}");
        }
        assert_eq!(Minutes::default().to_string().parse(), Ok(Minutes::default()), "clap shows it and parses it");
    }
}
