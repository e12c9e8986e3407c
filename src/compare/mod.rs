//! Performance comparisons of two configurations of a mesh.
//!
//! A [`Bench`] is a client and a server in a cluster, with or without proxies. [`Arms`] holds one bench per arm.
//! [`interleave`] measures the arms of each [`Case`] in turn until the judge has decided, records every attempt, and
//! takes the receipts of a [`Treatment`]. Meanwhile, everything else in the clusters is paused ([`isolation`]). A
//! [`Job`] makes load from many pods at once.

mod arms;
mod bench;
pub mod configurations;
mod cost;
mod counted;
mod error;
mod interleave;
pub mod isolation;
mod job;
mod k6;
mod places;
mod profile;
mod runner;
mod side;
mod treatment;

pub use arms::{Arms, Case, Load, gateway_arguments};
pub use bench::{Bench, GATEWAY, GATEWAY_CREDENTIAL, GATEWAY_PORT, RunSpec, SERVER_NAMES};
pub use cost::Cost;
pub use counted::{Counted, CountedRun};
pub use error::{Error, Result};
pub use interleave::{Setting, interleave};
pub use isolation::Isolation;
pub use job::{Gathered, Job};
pub use k6::K6Spec;
pub use meshproof_load::{Loop, Plan, Summary};
pub use places::Places;
pub use profile::{LayerShare, Profile, Profiler};
pub use runner::{GATEWAY_BUSY, TLS_HANDSHAKES};
pub use side::Side;
pub use treatment::{Treatment, Untreated};
