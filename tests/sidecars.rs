//! Whether the testbed has room for a real workload: 120 pods with sidecars, spread over the clusters, each of which
//! answers over mutual TLS. Runs by name only: `cargo test --test sidecars`. The pods take some 10 GiB.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::future::try_join_all;
use meshproof::istio::await_endpoint;
use meshproof::probe::{self, Exchange, Protocol, Vantage, dial};
use meshproof::record::{Requirement, Write};
use meshproof::report::Claim;
use meshproof::scope::change::Replicas;
use meshproof::scope::deploy_probe;
use meshproof::{Cluster, Error, Scope, Verdict};
use serial_test::file_serial;

/// Name of the report's directory.
const SUITE: &str = "sidecars";

/// Number of pods in all clusters together.
const PODS: usize = 120;

/// Number of pods that start at once.
const STEP: usize = 10;

/// Calls for each pod: enough that a pod without a call, by the chance of load balancing, is not to be expected.
const CALLS: usize = 10;

/// Number of calls at once. All at once would judge how the machine bears the calls.
const AT_ONCE: usize = 20;

#[tokio::test]
#[file_serial(mesh)]
async fn a_hundred_and_twenty_sidecars_are_ready_and_answer() -> Verdict {
    Scope::run(SUITE, "a_hundred_and_twenty_sidecars_are_ready_and_answer", async |scope| {
        scope.requires([
            Requirement::Probes,
            Requirement::Write(Write::Namespaces),
            Requirement::Write(Write::Replicas),
        ])?;
        let each = PODS / scope.testbed.clusters.len();
        let crowds = scope.testbed.clusters.iter().map(|cluster| crowd(scope, cluster, each));
        try_join_all(crowds).await.map(drop)
    })
    .await
}

/// Deploys the pods in one cluster, and claims that all are ready and that each answers.
async fn crowd(scope: &Scope, cluster: &Arc<Cluster>, pods: usize) -> Result<(), Error> {
    let probes = probe::declared(cluster)?;
    let namespace = scope.injected_namespace(cluster, "crowd").await?;
    let first = deploy_probe(scope, cluster, &namespace).await?;
    for wanted in (STEP..=pods).step_by(STEP) {
        let wanted = i32::try_from(wanted).unwrap_or(i32::MAX);
        scope.inject(Replicas::new(cluster, &namespace, &probes.meshed.deployment, wanted).await?).await?;
    }
    let ready = cluster.ready_pods(&namespace, &probes.meshed.selector).await?;
    let ready: BTreeSet<String> = ready.into_iter().filter_map(|pod| pod.metadata.name).collect();
    let id = |what: &str| format!("{}/{what}", cluster.name());
    scope.claim(
        Claim::about(id("ready"), "every pod with a sidecar becomes ready").to(&namespace).equals(&pods, &ready.len()),
    );

    let caller = probe::caller(cluster).await?;
    await_endpoint(&caller, &first).await?;
    let host = format!("{}.{namespace}.svc.{}", probes.meshed.deployment, cluster.record().domain);
    let port = probe::port(cluster, Protocol::Http1)?;
    let dials = (0..pods * CALLS).map(|call| dial(format!("{}/{call}", cluster.name()), Protocol::Http1, &host, port));
    let dials: Vec<_> = dials.collect();
    let mut exchanges = Vec::new();
    for some in dials.chunks(AT_ONCE) {
        exchanges.extend(Vantage::Meshed(caller.clone()).dial(some.to_vec()).await?);
    }
    let answered: BTreeSet<String> = exchanges.iter().filter_map(authenticated).collect();
    let silent: Vec<&String> = ready.difference(&answered).collect();
    let failed = exchanges.iter().filter(|exchange| authenticated(exchange).is_none()).count();
    let claim = Claim::about(id("answers"), "every pod with a sidecar answers a caller whom its proxy authenticated")
        .from(&caller)
        .to(&host)
        .expects(format!("an answer from each of {pods} pods, and no other outcome"))
        .observes(
            &answered,
            |answered| format!("answers from {} pods, {failed} calls without such an answer", answered.len()),
            |answered| answered.len() == pods && failed == 0,
        );
    let claim = silent.into_iter().fold(claim, |claim, pod| claim.with_evidence(format!("no answer from {pod}")));
    let unanswered = exchanges.iter().filter(|exchange| authenticated(exchange).is_none());
    let outcomes: BTreeSet<String> = unanswered.map(|exchange| exchange.outcome().to_string()).collect();
    scope.claim(outcomes.into_iter().fold(claim, |claim, outcome| claim.with_evidence(format!("seen: {outcome}"))));
    Ok(())
}

/// The pod that answered a caller whom its proxy authenticated.
fn authenticated(exchange: &Exchange) -> Option<String> {
    let who = exchange.report.who.as_ref().filter(|_| exchange.outcome().is_answered())?;
    who.forwarded_client_cert.as_ref().map(|_| who.pod.clone())
}
