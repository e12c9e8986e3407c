//! The one error type of the framework. Every variant says what was wrong, where, and what to do about it.

use std::path::PathBuf;

/// Result of a framework operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong between a suite and a testbed. A *verdict* is never an error: a connection that is refused is
/// an outcome that the suite judges.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No testbed has been brought up here.
    #[error("no testbed at {}: run `cargo xtask testbed up`", path.display())]
    NoTestbed {
        /// Where the record was looked for.
        path: PathBuf,
    },
    /// The record exists and cannot be used.
    #[error("the testbed record {} cannot be used: {reason}; run `cargo xtask testbed up` to write a new one", path.display())]
    Record {
        /// The record.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}
