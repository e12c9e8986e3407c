//! Errors of the shop's pages.

use meshproof::scope;

/// A page of the shop is not answered, or cannot be parsed.
#[derive(Debug, thiserror::Error)]
#[error("{url}: {reason}: see `cargo xtask testbed status`")]
pub(crate) struct PageError {
    /// The page's address.
    pub(crate) url: String,
    /// The fault.
    pub(crate) reason: String,
}

impl From<PageError> for scope::Error {
    fn from(error: PageError) -> Self {
        Self::suite(error)
    }
}
