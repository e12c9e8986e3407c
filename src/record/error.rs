//! Errors of the record.

use std::path::PathBuf;

/// Result of reading, writing or querying the record.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why there is no usable record, or why the record does not offer what a claim needs.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no record.
    #[error(
        "no testbed at {}: attach a mesh with `meshproof attach`, run `cargo xtask testbed up` in a checkout of \
         meshproof, or set MESHPROOF_TESTBED to the directory of a record",
        path.display()
    )]
    NoTestbed {
        /// The expected path of the record.
        path: PathBuf,
    },
    /// The record exists, but is unusable.
    #[error(
        "the testbed record {} cannot be used: {reason}; write a new one, as the old one was: by `meshproof attach`, or by \
         `cargo xtask testbed up`",
        path.display()
    )]
    Unusable {
        /// The record's path.
        path: PathBuf,
        /// The fault.
        reason: String,
    },
    /// The mesh does not offer something that a claim needs.
    #[error("not declared: the record of this mesh does not offer {what}, so this cannot be judged")]
    NotDeclared {
        /// All that is missing, and where.
        what: String,
    },
}

impl Error {
    /// The error for a claim that cannot be judged, because the record does not offer `what`.
    pub fn not_declared(what: impl Into<String>) -> Self {
        Self::NotDeclared { what: what.into() }
    }
}
