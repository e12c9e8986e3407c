//! A bundle: one archive of all data that can be collected. A failed item is listed in `errors.txt` and does not stop
//! the others.
//!
//! Every text passes through [`redact`], so the archive has no secrets.

mod archive;
mod collect;
mod redact;

pub(crate) use archive::Archive;
pub(crate) use collect::{Collector, Question, said};
