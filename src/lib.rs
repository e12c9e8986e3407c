//! Suites that judge a live multi-cluster service mesh.
//!
//! A suite opens a [`Scope`], dials from a [`Vantage`](probe::Vantage), and states claims. Every claim is judged once,
//! on evidence from both ends, and recorded in `target/meshproof/<suite>/report.json`. A denial always needs a control:
//! an answered dial on the same path.
//!
//! The feature `suites` is on by default. The feature `judge` alone has [`record`], [`host`], [`judge`] and [`report`],
//! and needs neither Kubernetes nor a crypto library.
//!
#![cfg_attr(feature = "suites", doc = "```no_run")]
#![cfg_attr(not(feature = "suites"), doc = "```ignore")]
//! use meshproof::probe::{self, Expected, Protocol, Vantage, dial, handshake};
//! use meshproof::record::HostPort;
//! use meshproof::scope::claims;
//! use meshproof::{Scope, Verdict, istio};
//!
//! #[tokio::main] // `#[tokio::test]` in a suite
//! async fn plaintext_is_reset() -> Verdict {
//!     Scope::run("example", "plaintext_is_reset", async |scope| {
//!         let cluster = &scope.testbed.clusters[0];
//!         let (naked, meshed) = (probe::naked(cluster).await?, probe::meshed(cluster).await?);
//!         let (certificate, port) = (istio::issue(&scope.testbed, &meshed).await?, probe::port(cluster, Protocol::Http1)?);
//!         let plaintext = dial("http1", Protocol::Http1, &meshed.address, port);
//!         let address = HostPort::new(&meshed.address, port);
//!         let control = handshake("control", &address, None, Some(&certificate), Protocol::Http1);
//!         let seen = Vantage::Naked(naked).dial(vec![plaintext, control]).await?;
//!         let requirement = "a STRICT namespace takes no plaintext";
//!         scope.claim(claims::denied("plaintext", requirement, &seen[0], Expected::Reset, &seen[1], Some(&meshed)));
//!         Ok(())
//!     })
//!     .await
//! }
//! ```

#[cfg(feature = "suites")]
pub mod attach;
#[cfg(feature = "suites")]
pub mod audit;
#[cfg(feature = "suites")]
pub mod cluster;
#[cfg(feature = "suites")]
pub mod compare;
#[cfg(feature = "suites")]
pub mod diagnosis;
#[cfg(feature = "judge")]
pub mod host;
#[cfg(feature = "suites")]
pub mod identity;
#[cfg(feature = "suites")]
pub mod istio;
#[cfg(feature = "judge")]
pub mod judge;
#[cfg(feature = "judge")]
pub mod ledger;
#[cfg(feature = "suites")]
pub mod policy;
#[cfg(feature = "suites")]
pub mod probe;
#[cfg(feature = "judge")]
pub mod record;
#[cfg(feature = "judge")]
pub mod report;
#[cfg(feature = "suites")]
pub mod scope;
#[cfg(feature = "suites")]
pub mod suites;

#[cfg(feature = "suites")]
pub use k8s_openapi;
#[cfg(feature = "suites")]
pub use kube;

#[cfg(feature = "suites")]
pub use cluster::{Cluster, Seen, Testbed, Workload, eventually};
#[cfg(feature = "suites")]
pub use scope::{Error, Result, Scope, Verdict};
