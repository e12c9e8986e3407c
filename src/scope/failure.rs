//! Why a test failed.

use std::any::Any;
use std::fmt;
use std::io::Write as _;

use crate::report::Claim;

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

/// Prints that a claim was not judged. The test harness does not capture direct writes to standard error.
pub(super) fn announce(test: &str, claim: &Claim) {
    let _ = writeln!(std::io::stderr(), "{test}: {}", claim.observed());
}

/// The message of a panic.
pub(super) fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a message")
}
