//! Code shared by several suites.

mod flaw;
mod paths;

pub use flaw::Flaw;
pub use paths::{Controlled, Path};
