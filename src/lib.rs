//! Suites that judge a live multi-cluster service mesh.
//!
//! A suite opens a [`Scope`], dials from a [`Vantage`](probe::Vantage), and states claims. Every claim is judged
//! once, on evidence from both ends, and recorded in `target/meshproof/<suite>/report.json`; a denial cannot be
//! stated without the control that shows the same path answering.
//!
//! ```no_run
//! use meshproof::probe::{Expected, Protocol, Vantage, dial, handshake};
//! use meshproof::scope::claims;
//! use meshproof::{Scope, Verdict, istio};
//!
//! #[tokio::main] // `#[tokio::test]` in a suite
//! async fn plaintext_is_reset() -> Verdict {
//!     Scope::run("example", "plaintext_is_reset", async |scope| {
//!         let (naked, meshed) = (scope.naked("cluster1").await?, scope.meshed("cluster1").await?);
//!         let certificate = istio::issue(&scope.testbed, &meshed).await?;
//!         let plaintext = dial("http1", Protocol::Http1, &meshed.address, 8080);
//!         let control = handshake("control", (&meshed.address, 8080), None, Some(&certificate), Protocol::Http1);
//!         let seen = Vantage::Naked(naked).dial(vec![plaintext, control]).await?;
//!         let owed = "a STRICT namespace takes no plaintext";
//!         scope.claim(claims::denied("plaintext", owed, &seen[0], Expected::Reset, &seen[1], Some(&meshed)));
//!         Ok(())
//!     })
//!     .await
//! }
//! ```

pub mod boutique;
pub mod cluster;
pub mod compare;
pub mod host;
pub mod identity;
pub mod istio;
pub mod judge;
pub mod probe;
pub mod record;
pub mod report;
pub mod scope;
pub mod suites;
pub mod treatment;

pub use cluster::{Cluster, Seen, Testbed, Workload, eventually};
pub use scope::{Error, Result, Scope, Verdict};
