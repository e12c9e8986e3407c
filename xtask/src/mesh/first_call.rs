//! The check that a testbed is up: a workload of each cluster gets an answer from each other cluster over mutual TLS.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use futures::future::try_join_all;
use meshproof::probe::{self, Outcome, Protocol, Vantage};
use meshproof::{Cluster, Seen, Testbed, eventually};

/// Time limit for the first answer after the installation: endpoints and certificates must reach the proxies.
const BOUND: Duration = Duration::from_secs(90);

/// Calls from each cluster to every other cluster until all calls are answered. Returns the time of the first answer.
///
/// # Errors
/// Fails if a cluster does not answer in time. The error has the proxy's last response.
pub(crate) async fn each_way(directory: &Path) -> Result<Instant> {
    let testbed = Testbed::connect_in(directory).await?;
    let pairs = testbed
        .clusters
        .iter()
        .flat_map(|from| testbed.clusters.iter().filter(|to| to.name() != from.name()).map(move |to| call(from, to)));
    let answered = try_join_all(pairs).await?;
    Ok(answered.into_iter().min().unwrap_or_else(Instant::now))
}

async fn call(from: &Arc<Cluster>, to: &Cluster) -> Result<Instant> {
    let want = format!("an answer from {} to a meshed call from {}", to.name(), from.name());
    let answered = eventually(want, BOUND, async || -> Result<Seen<Instant>> {
        let vantage = Vantage::Meshed(probe::caller(from).await?);
        let dials =
            vec![probe::dial("first", Protocol::Http1, probe::service_host(to)?, probe::port(to, Protocol::Http1)?)];
        let Some(exchange) = vantage.dial(dials).await?.pop() else {
            return Ok(Seen::NotYet("no report".into()));
        };
        let who = exchange.report.who.as_ref();
        // The other side's proxy writes the header, and only for a peer that the proxy has authenticated.
        let authenticated = who.is_some_and(|who| who.cluster == to.name() && who.forwarded_client_cert.is_some());
        if authenticated && matches!(exchange.outcome(), Outcome::Answered { .. }) {
            return Ok(Seen::Yes(Instant::now()));
        }
        Ok(Seen::NotYet(format!("{:?}", exchange.report.outcome)))
    });
    Ok(answered.await?)
}
