//! Suites that judge a live multi-cluster service mesh.

pub mod error;
pub mod testbed;

pub use error::{Error, Result};
