//! Errors of the shop's pages.

use meshproof::scope;

/// A page of the shop was not answered, or cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{url}: {reason}: see `cargo xtask testbed status`")]
pub(crate) struct PageError {
    /// The page's address.
    pub(crate) url: String,
    /// What is wrong with it.
    pub(crate) reason: String,
}

impl From<PageError> for scope::Error {
    fn from(error: PageError) -> Self {
        Self::suite(error)
    }
}
