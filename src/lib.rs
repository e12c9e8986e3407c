//! Suites that judge a live multi-cluster service mesh.
//!
//! A suite opens a [`Scope`], dials from a [`Vantage`](vantage::Vantage), and states claims. Every claim is judged
//! once, on evidence from both ends, and recorded in `target/meshproof/<suite>/report.json`; a denial cannot be
//! stated without the control that shows the same path answering.
//!
//! ```no_run
//! use meshproof::vantage::{self, Expected, Protocol, Vantage, dial, handshake};
//! use meshproof::{Scope, Verdict, identity};
//!
//! #[tokio::main] // `#[tokio::test]` in a suite
//! async fn plaintext_is_reset() -> Verdict {
//!     Scope::run("example", "plaintext_is_reset", async |scope| {
//!         let (naked, meshed) = (scope.naked("cluster1").await?, scope.meshed("cluster1").await?);
//!         let certificate = identity::issue(&scope.testbed, &meshed).await?;
//!         let plaintext = dial("http1", Protocol::Http1, &meshed.address, 8080);
//!         let control = handshake("control", (&meshed.address, 8080), None, Some(&certificate), Protocol::Http1);
//!         let seen = Vantage::Naked(naked).dial(vec![plaintext, control]).await?;
//!         let owed = "a STRICT namespace takes no plaintext";
//!         scope.claim(vantage::denied("plaintext", owed, &seen[0], Expected::Reset, &seen[1], Some(&meshed)));
//!         Ok(())
//!     })
//!     .await
//! }
//! ```

pub mod boutique;
pub mod cluster;
pub mod error;
pub mod eventually;
pub mod identity;
pub mod judge;
pub mod load;
pub mod report;
pub mod scope;
pub mod testbed;
pub mod treatment;
pub mod vantage;

pub use cluster::{Cluster, Workload};
pub use error::{Error, Result};
pub use eventually::{Seen, eventually};
pub use scope::{Scope, Verdict};
pub use testbed::Testbed;
