//! Load inside a cluster: a client and a server, with proxies or without, and what a run between them costs; and many clients
//! at once, as the pods of a Job.

mod bench;
mod cost;
mod error;
mod job;
mod k6;
mod profile;
mod quiet;

pub use bench::{Asked, Bench, QUIET_SHARE, Side};
pub use cost::Cost;
pub use error::{Error, Result};
pub use job::{Gathered, Job};
pub use k6::Users;
pub use meshproof_load::{Loop, Plan, Summary};
pub use profile::{Profile, Profiler};
pub use quiet::{Quiet, Span};
