//! Support that several suites share.

mod flaw;
mod paths;

pub use flaw::Flaw;
pub use paths::Path;
