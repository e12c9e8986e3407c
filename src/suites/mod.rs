//! Code shared by several suites.

mod flaw;
mod newcomer;
mod paths;

pub use flaw::{Flaw, intermediate_of};
pub use newcomer::Newcomer;
pub use paths::{Controlled, Path};
