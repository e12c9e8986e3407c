//! Errors of the ledger and of the quarantine.

use std::path::PathBuf;

/// Result of reading or writing a ledger, or of reading a quarantine.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A ledger or a quarantine cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// A line of the file is unusable.
    #[error("{}:{line}: {reason}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The fault.
        reason: String,
    },
    /// Outcomes belong to a commit, and there is none.
    #[error(
        "the report of {suite} is of the revision `{revision}`, which is no commit: commit first, or name the commit that was tested"
    )]
    NoCommit {
        /// The suite.
        suite: String,
        /// What the report says.
        revision: String,
    },
}
