//! Why a test failed.

use std::fmt;

/// Why a test failed. `{:?}` prints the same text as `{}`, because the test harness prints `{:?}`.
pub struct Failure(pub(super) String);

impl Failure {
    /// The failure of a test that could not begin.
    pub(super) fn of(error: impl fmt::Display) -> Self {
        Self(error.to_string())
    }
}

impl From<super::Error> for Failure {
    fn from(error: super::Error) -> Self {
        Self::of(error)
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Failure {}
