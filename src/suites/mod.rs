//! Code shared by several suites.

mod flaw;
mod paths;

pub use flaw::{Flaw, intermediate_of};
pub use paths::{Controlled, Path};
