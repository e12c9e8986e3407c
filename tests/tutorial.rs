//! My first suite.

use meshproof::cluster::Pair;
use meshproof::istio::{await_endpoint, both_ends, issue};
use meshproof::probe::{self, Expected, Protocol, Vantage, dial, handshake};
use meshproof::record::{HostPort, Requirement, Write};
use meshproof::scope::claims::{self, Peers};
use meshproof::scope::deploy_probe;
use meshproof::{Scope, Verdict};

/// Names the directory of the report: target/meshproof/tutorial.
const SUITE: &str = "tutorial";

#[tokio::test]
async fn a_meshed_workload_refuses_plaintext() -> Verdict {
    Scope::run(SUITE, "a_meshed_workload_refuses_plaintext", async |scope| {
        scope.requires([Requirement::Probes])?;
        for cluster in &scope.testbed.clusters {
            let (naked, meshed) = (probe::naked(cluster).await?, probe::meshed(cluster).await?);
            let port = probe::port(cluster, Protocol::Http1)?;
            // The denial: plaintext HTTP from a pod without a sidecar.
            let plaintext = dial(cluster.name(), Protocol::Http1, &meshed.address, port);
            // The control: the same place from the same pod, with a certificate of the mesh.
            let certificate = issue(&scope.testbed, &meshed).await?;
            let address = HostPort::new(&meshed.address, port);
            let control = handshake("control", &address, None, Some(&certificate), Protocol::Http1);
            let seen = Vantage::Naked(naked).dial(vec![plaintext, control]).await?;
            let requirement = "a STRICT namespace takes no plaintext";
            scope.claim(claims::denied("plaintext", requirement, &seen[0], Expected::Reset, &seen[1], Some(&meshed)));
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn clusters_reach_each_other_over_mutual_tls() -> Verdict {
    Scope::run(SUITE, "clusters_reach_each_other_over_mutual_tls", async |scope| {
        scope.requires([Requirement::Probes, Requirement::AccessLog, Requirement::Clusters(2)])?;
        for pair in scope.testbed.pairs().into_iter().filter(Pair::crosses) {
            let (source, destination) = (probe::caller(&pair.from).await?, probe::meshed(&pair.to).await?);
            let host = probe::service_host(&pair.to)?;
            let mut dials = Vec::new();
            for protocol in [Protocol::Http1, Protocol::Grpc, Protocol::Tcp] {
                let port = probe::port(&pair.to, protocol)?;
                dials.push(dial(format!("{protocol}/{pair}"), protocol, host, port));
            }
            let exchanges = Vantage::Meshed(source.clone()).dial(dials).await?;
            // What both proxies logged of each connection.
            let ends = both_ends(&exchanges, &source, &destination).await?;
            for (exchange, ends) in exchanges.iter().zip(&ends) {
                let between = Peers { source: &source, destination: &destination };
                scope.claim(claims::mutual_tls("mutual-tls", exchange, ends.as_ref(), between, &scope.testbed.trust));
            }
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_new_namespace_takes_calls_from_the_mesh() -> Verdict {
    Scope::run(SUITE, "a_new_namespace_takes_calls_from_the_mesh", async |scope| {
        scope.requires([Requirement::Probes, Requirement::Write(Write::Namespaces)])?;
        let cluster = &scope.testbed.clusters[0];
        let namespace = scope.injected_namespace(cluster, "first").await?;
        let destination = deploy_probe(scope, cluster, &namespace).await?;
        let source = probe::caller(cluster).await?;
        // A pod can be ready before the proxies of its callers know it.
        await_endpoint(&source, &destination).await?;
        let host = format!("probe.{namespace}.svc.{}", cluster.record().domain);
        let call = dial("http1", Protocol::Http1, host, probe::port(cluster, Protocol::Http1)?);
        let seen = Vantage::Meshed(source).dial(vec![call]).await?;
        let requirement = "a meshed caller reaches a new meshed workload";
        scope.claim(claims::answered("new-namespace", requirement, &seen[0], &destination));
        Ok(())
    })
    .await
}
