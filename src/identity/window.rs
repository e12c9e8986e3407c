//! A period of validity.

use std::time::SystemTime;

/// The time in which a certificate is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Start.
    pub from: SystemTime,
    /// End.
    pub until: SystemTime,
}
