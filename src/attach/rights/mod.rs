//! The rights that meshproof needs in a cluster: which, why, whether they are there, and how to grant them.

mod manifest;
mod needs;
mod preflight;
mod rule;

pub use manifest::{Subject, to_yaml};
pub use needs::{Mode, Places, Task, needed};
pub use preflight::{Asked, Preflight, Refused, preflight};
pub use rule::{Extent, Rule};

#[cfg(test)]
mod tests;
