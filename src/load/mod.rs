//! Load inside a cluster: a client and a server, with proxies or without, and what a run between them costs.

mod bench;
mod cost;
mod profile;
mod quiet;

pub use bench::{Asked, Bench, Side};
pub use cost::Cost;
pub use meshproof_load::{Loop, Plan, Summary};
pub use profile::{Profile, Profiler};
pub use quiet::{Hold, Quiet};
