//! What is to be compared.

use std::ops::RangeInclusive;

use super::manifests::Manifests;

/// Minutes that a comparison may measure: time for the fewest pairs, and a day.
pub const MINUTES: RangeInclusive<f64> = 0.5..=1440.0;

/// Minutes that a comparison measures, unless it is told otherwise.
pub const DEFAULT_MINUTES: f64 = 3.0;

/// A comparison to make.
#[derive(Debug, Clone, Default)]
pub struct Compare {
    /// The manifests of the control.
    pub control: Manifests,
    /// The manifests of the treatment.
    pub treatment: Manifests,
    /// The user's own service, in both directories, as the server. `None`: a probe.
    pub service: Option<OwnService>,
    /// The cluster. `None`: the first one.
    pub cluster: Option<String>,
    /// Image of the load driver. `None`: the testbed's own.
    pub driver: Option<String>,
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
