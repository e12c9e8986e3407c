//! Suites that judge a live multi-cluster service mesh.
//!
//! A suite opens a [`Scope`], dials from a [`Vantage`](vantage::Vantage), and states claims. Every claim is judged
//! once, on evidence from both ends, and recorded in `target/meshproof/<suite>/report.json`; a denial cannot be
//! stated without the control that shows the same path answering.

pub mod cluster;
pub mod error;
pub mod eventually;
pub mod identity;
pub mod report;
pub mod scope;
pub mod testbed;
pub mod vantage;

pub use cluster::{Cluster, Workload};
pub use error::{Error, Result};
pub use eventually::{Seen, eventually};
pub use scope::{Scope, Verdict};
pub use testbed::Testbed;
