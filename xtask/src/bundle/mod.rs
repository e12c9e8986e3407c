//! A bundle: one archive of whatever can be collected. What cannot be is listed in its `errors.txt`, and the rest goes
//! on.
//!
//! Every text passes [`redact`], so that no secret goes in.

mod archive;
mod collect;
mod redact;

pub(crate) use archive::Archive;
pub(crate) use collect::{Collector, said};
