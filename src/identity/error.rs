//! Errors of identities.

/// Result of reading or making an identity.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A certificate, key or SPIFFE id cannot be read or made.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {reason}")]
pub struct Error {
    /// Which certificate, key or id.
    pub what: String,
    /// What is wrong with it.
    pub reason: String,
}
