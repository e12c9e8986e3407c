//! The workload's door: plaintext is refused, and a caller of the mesh is let in.

use meshproof::istio::issue;
use meshproof::probe::{self, Expected, Protocol, Vantage, dial, handshake};
use meshproof::record::{HostPort, Requirement};
use meshproof::scope::claims;
use meshproof::{Scope, Verdict};

/// Names the directory of the report: target/meshproof/door.
const SUITE: &str = "door";

#[tokio::test]
async fn the_door_takes_no_plaintext() -> Verdict {
    Scope::run(SUITE, "the_door_takes_no_plaintext", async |scope| {
        scope.requires([Requirement::Probes])?;
        for cluster in &scope.testbed.clusters {
            let (naked, meshed) = (probe::naked(cluster).await?, probe::meshed(cluster).await?);
            let port = probe::port(cluster, Protocol::Http1)?;
            let plaintext = dial(cluster.name(), Protocol::Http1, &meshed.address, port);
            let certificate = issue(&scope.testbed, &meshed).await?;
            let address = HostPort::new(&meshed.address, port);
            let control = handshake("control", &address, None, Some(&certificate), Protocol::Http1);
            let seen = Vantage::Naked(naked).dial(vec![plaintext, control]).await?;
            let requirement = "the door takes no plaintext";
            scope.claim(claims::denied("plaintext", requirement, &seen[0], Expected::Reset, &seen[1], Some(&meshed)));
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_caller_of_the_mesh_is_let_in() -> Verdict {
    Scope::run(SUITE, "a_caller_of_the_mesh_is_let_in", async |scope| {
        scope.requires([Requirement::Probes])?;
        for cluster in &scope.testbed.clusters {
            let (source, destination) = (probe::caller(cluster).await?, probe::meshed(cluster).await?);
            let (host, port) = (probe::service_host(cluster)?, probe::port(cluster, Protocol::Http1)?);
            let seen = Vantage::Meshed(source).dial(vec![dial(cluster.name(), Protocol::Http1, host, port)]).await?;
            let requirement = "a caller of the mesh is let in";
            scope.claim(claims::answered("let-in", requirement, &seen[0], &destination));
        }
        Ok(())
    })
    .await
}
