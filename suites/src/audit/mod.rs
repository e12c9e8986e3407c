//! Every port of every workload that runs in the mesh takes mutual TLS only. And the audit that says so finds each way in
//! which a port may not, told by the wire and explained by the object that makes it so.
//!
//! Needs a live testbed (`cargo xtask testbed up`).

mod apart;
mod broken;
mod size;
mod unjudged;
mod workloads;

use std::time::Duration;

use meshproof::audit::{Options, Standing, audit, table};
use meshproof::record::Requirement;
use meshproof::report::Claim;
use meshproof::scope::removals_done;
use meshproof::{Scope, Verdict};

/// Name of the report's directory.
const SUITE: &str = "audit";

/// Longest duration of an audit of the testbed that `up` makes by default.
const LONGEST: Duration = Duration::from_secs(15);

/// Alone: other suites make namespaces that are not STRICT.
///
/// Seen red by: a `PeerAuthentication` that makes the probes PERMISSIVE (each of their ports: "expected STRICT, seen PERMISSIVE").
async fn every_port_in_the_mesh_takes_mutual_tls_only() -> Verdict {
    Scope::alone(SUITE, "every_port_in_the_mesh_takes_mutual_tls_only", async |scope| {
        scope.requires([Requirement::Probes])?;
        removals_done(&scope.testbed).await?;
        let mut announced = 0;
        // Boxed, because a test's thread has a small stack.
        let found = Box::pin(audit(&scope.testbed, &Options::default(), |_| announced += 1)).await?;
        println!("{}", table(&found, Default::default()));
        found.claims().into_iter().for_each(|claim| scope.claim(claim));
        scope.claim(
            Claim::about("audit/announced", "every port is announced as soon as it is judged")
                .equals(&found.cells.len(), &announced),
        );
        let holding = found.counts().get(&Standing::Holds).copied().unwrap_or(0);
        scope.claim(
            Claim::about("audit/judged", "the audit judges the probes, if nothing else runs")
                .expects("at least one port that holds for each cluster")
                .observes(
                    &holding,
                    |holding| format!("{holding} ports that hold"),
                    |holding| *holding >= scope.testbed.clusters.len(),
                ),
        );
        if scope.testbed.record.provider == "local" {
            scope.claim(
                Claim::about("audit/duration", "an audit of the testbed is short")
                    .expects(format!("at most {LONGEST:?}"))
                    .observes(&found.took, |took| format!("{took:.1?}"), |took| *took <= LONGEST),
            );
        }
        Ok(())
    })
    .await
}

crate::trials! {
    every_port_in_the_mesh_takes_mutual_tls_only,
    // The longest of the others first, and last one that needs the mesh alone.
    mod unjudged,
    mod broken,
    mod apart,
    mod size,
}
