//! Checks the isolation of the performance suite, without a measurement: the mesh under test keeps running, everything
//! else is frozen, and everything runs again afterwards.
//!
//! Needs a live testbed (`cargo xtask testbed up`). Both clusters are frozen for seconds, so no other test may use them
//! at that time. Therefore this is a separate test binary.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::future::join_all;
use k8s_openapi::api::apps::v1::Deployment;
use meshproof::cluster::watch_one;
use meshproof::compare::isolation::Extent;
use meshproof::compare::{Bench, Isolation, Places, RunSpec, Side};
use meshproof::host::Host;
use meshproof::judge::Run;
use meshproof::judge::attempt::FROZEN_SHARE;
use meshproof::record::{Requirement, Write, fault};
use meshproof::report::Claim;
use meshproof::{Cluster, Error, Scope, Seen, Verdict, eventually};

const SUITE: &str = "bench";

/// Requirements of both tests.
const REQUIREMENTS: [Requirement; 3] =
    [Requirement::Bench, Requirement::Fault(fault::PAUSE_CLUSTER), Requirement::Write(Write::Replicas)];

/// Duration of each of two freezes: one checks the freeze, the other checks load during a freeze.
const FROZEN: Duration = Duration::from_secs(3);

/// Time limit for an answer: ten times as long as a running API server takes.
const PATIENCE: Duration = Duration::from_millis(300);

/// Longest wait until everything runs again.
const BACK: Duration = Duration::from_secs(30);

/// Several times as long as a running controller manager takes to observe a change.
const NOTICED: Duration = Duration::from_secs(3);

/// All but the client and the server is frozen, in every cluster, while the client's load goes on.
///
/// Red if: the other clusters are not paused; the freeze ends at once. Not red if the pods of `kube-system` are spared too:
/// it asks API servers only, and theirs seems to be frozen all the same.
async fn all_but_what_is_measured_is_frozen() -> Verdict {
    Scope::alone(SUITE, "frozen", async |scope| {
        scope.requires(REQUIREMENTS)?;
        let cluster = Bench::first_cluster(&scope.testbed)?;
        let places = Places::one_node(cluster).await?;
        let bench = Bench::start(scope, cluster, &places, Side::Meshed, Side::Meshed).await?;
        let arguments = ["--connections=4", "--rate=200", "--warmup=500ms", "--path=/echo?size=1024"].map(String::from);
        bench.answers(&arguments[3..]).await?;
        let namespaces = bench.namespaces().into_iter().collect();
        let extent = Extent::AllButNamespaces { except: cluster.name().to_owned(), namespaces };
        let isolation = Isolation::begin(&scope.testbed.record, extent, scope.lock())?;
        let isolation = isolation.expect("the fault is declared");
        scope.claim(silent(&scope.testbed.clusters, &isolation).await?);
        answers_again(cluster).await?;
        let (host, length) = (Host::this(), FROZEN);
        let spec = RunSpec {
            comparison: "bench/frozen",
            order: 0,
            host: &host,
            length,
            drain: Duration::ZERO,
            arguments: &arguments,
            isolation: Some(&isolation),
        };
        let run = bench.run(&spec).await?;
        let (share, lost) = (run.receipts.get(FROZEN_SHARE).copied().unwrap_or_default(), run.errors + run.dropped);
        // Latency counts from the due time, so a frozen client or server would show here.
        let p99 = Duration::from_secs_f64(run.metrics["p99_us"].value / 1e6);
        let observed = |run: &Run| {
            format!(
                "{} requests, {lost} of them lost, p99 {p99:?}, all else frozen for {share:.2} of the time",
                run.requests
            )
        };
        // A late driver, on a busy machine, overlaps less with the freeze. The suite repeats such a run.
        let goes_on = |run: &Run| share >= 0.5 && run.requests > 0 && lost == 0 && p99 < FROZEN / 3;
        let claim = Claim::about("measured-goes-on", "what is measured goes on while all else is frozen")
            .from(bench.pods()[0])
            .to(bench.target())
            .expects(format!(
                "every request answered, p99 below {:?}, all else frozen for half of the time",
                FROZEN / 3
            ))
            .observes(&run, observed, goes_on);
        scope.claim(claim);
        drop(isolation);
        for cluster in &scope.testbed.clusters {
            answers_again(cluster).await?;
        }
        Ok(())
    })
    .await
}

/// Seen red by: a loop that lets the controller manager go on meanwhile ("generation 2, of which 2 was observed").
async fn what_can_be_spared_is_stopped_for_as_long_as_it_takes() -> Verdict {
    Scope::alone(SUITE, "spared", async |scope| {
        scope.requires(REQUIREMENTS)?;
        let cluster = Bench::first_cluster(&scope.testbed)?;
        let extent = Extent::OtherClusters { except: cluster.name().to_owned() };
        let isolation = Isolation::begin(&scope.testbed.record, extent, scope.lock())?;
        let isolation = isolation.expect("the fault is declared");
        scope.scale(cluster, Side::Naked.namespace(cluster)?, "server", 1).await?;
        #[allow(clippy::disallowed_methods, reason = "that nothing happens is what is to be seen")]
        tokio::time::sleep(NOTICED).await;
        let (changed, noticed) = generations(&server(cluster).await?);
        let requirement = "what can be spared of the control plane is stopped, and the API server goes on";
        let claim = Claim::about("spared-stopped", requirement)
            .to(cluster.name())
            .expects(format!("an answer, and a change that no controller has noticed for {NOTICED:?}"))
            .observes(
                &(changed, noticed),
                |(changed, noticed)| format!("a deployment's generation {changed}, of which {noticed} was observed"),
                |(changed, noticed)| noticed < changed,
            );
        scope.claim(claim);
        drop(isolation);
        let servers = cluster.api::<Deployment>(Side::Naked.namespace(cluster)?);
        let want = format!("the controller manager of {} to go on", cluster.name());
        let noticed = watch_one(servers, "server", want, BACK, |server| {
            let (changed, noticed) = server.map(generations).unwrap_or_default();
            let seen = format!("generation {noticed} of {changed} observed");
            if server.is_some() && noticed == changed { Seen::Yes(()) } else { Seen::NotYet(seen) }
        });
        Ok(noticed.await?)
    })
    .await
}

/// The server's deployment.
async fn server(cluster: &Cluster) -> Result<Deployment, Error> {
    let namespace = Side::Naked.namespace(cluster)?;
    let server = cluster.api::<Deployment>(namespace).get("server").await;
    Ok(server.map_err(cluster.failed(format!("get the deployment {namespace}/server")))?)
}

/// Generation of a deployment, and the generation that its controller has observed.
fn generations(deployment: &Deployment) -> (i64, i64) {
    let observed = deployment.status.as_ref().and_then(|status| status.observed_generation);
    (deployment.metadata.generation.unwrap_or_default(), observed.unwrap_or_default())
}

/// Freezes everything, and queries every API server meanwhile. Claims that none answers.
async fn silent(clusters: &[Arc<Cluster>], isolation: &Isolation) -> Result<Claim, Error> {
    let mut answers = Vec::new();
    let asking = async {
        let mut ticks = tokio::time::interval(PATIENCE);
        loop {
            ticks.tick().await;
            let asked = clusters.iter().map(async |cluster| {
                let answer = tokio::time::timeout(PATIENCE, cluster.client().apiserver_version()).await;
                matches!(answer, Ok(Ok(_))).then(|| cluster.name().to_owned())
            });
            let answered = join_all(asked).await.into_iter().flatten().collect::<Vec<_>>();
            answers.push((SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64(), answered));
        }
    };
    let frozen = tokio::select! {
        frozen = isolation.freeze(FROZEN) => frozen?,
        never = asking => never,
    };
    // A request sent before the freeze may be answered slightly later.
    answers.retain(|(at, _)| *at > frozen.from + 2.0 * PATIENCE.as_secs_f64() && *at < frozen.to);
    let answered: BTreeSet<&String> = answers.iter().flat_map(|(_, answered)| answered).collect();
    let names: Vec<&str> = clusters.iter().map(|cluster| cluster.name()).collect();
    Ok(Claim::about("others-frozen", "all but what is measured is frozen, and the other clusters as a whole")
        .to(format!("the API servers of {}", names.join(", ")))
        .expects(format!("no answer for {FROZEN:?}"))
        .observes(
            &answered,
            |answered| format!("asked {} times, answered by {}: {answered:?}", answers.len(), answered.len()),
            |answered| answered.is_empty() && answers.len() > 2,
        ))
}

/// Waits until the cluster's API server answers.
async fn answers_again(cluster: &Cluster) -> Result<(), Error> {
    Ok(eventually(format!("{} to go on", cluster.name()), BACK, async || {
        let version = tokio::time::timeout(PATIENCE, cluster.client().apiserver_version()).await;
        Ok::<_, Error>(if matches!(version, Ok(Ok(_))) { Seen::Yes(()) } else { Seen::NotYet("no answer".into()) })
    })
    .await?)
}

crate::trials! {
    all_but_what_is_measured_is_frozen,
    what_can_be_spared_is_stopped_for_as_long_as_it_takes,
}
