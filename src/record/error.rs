//! Errors of the record.

use std::path::PathBuf;

/// Result of reading, writing or asking the record.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why there is no usable record, or why the record does not offer what a claim needs.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no record.
    #[error("no testbed at {}: run `cargo xtask testbed up`", path.display())]
    NoTestbed {
        /// Where the record was looked for.
        path: PathBuf,
    },
    /// The record exists and cannot be used.
    #[error("the testbed record {} cannot be used: {reason}; run `cargo xtask testbed up` to write a new one", path.display())]
    Unusable {
        /// The record.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The testbed lacks something that a claim needs.
    #[error("not declared: the `{provider}` testbed does not offer `{what}`, so this cannot be judged")]
    NotDeclared {
        /// The fault, treatment or address.
        what: String,
        /// Who made the testbed.
        provider: String,
    },
}
