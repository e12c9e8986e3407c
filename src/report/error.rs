//! Errors of reports.

use std::path::PathBuf;

/// Result of reading or writing a report.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A report could not be written or read.
#[derive(Debug, thiserror::Error)]
#[error("the report {}: {reason}", path.display())]
pub struct Error {
    /// The report's path.
    pub path: PathBuf,
    /// The fault.
    pub reason: String,
}
