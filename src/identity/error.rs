//! Errors of identities.

/// Result of reading or creating an identity.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A certificate, key or SPIFFE ID cannot be read or created.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {reason}")]
pub struct Error {
    /// The certificate, key or ID.
    pub what: String,
    /// The fault.
    pub reason: String,
}
