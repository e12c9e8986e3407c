//! What the performance suite measures on, judged without a number: the mesh that is under test goes on, all else is held still
//! meanwhile, and all of it goes on afterwards.
//!
//! Needs a live testbed (`cargo xtask testbed up`). Both clusters are held for seconds, so nothing else may use them then: a
//! test binary of its own.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::future::join_all;
use k8s_openapi::api::apps::v1::Deployment;
use meshproof::compare::{Asked, Bench, QUIET_SHARE, Quiet, Side};
use meshproof::host::Host;
use meshproof::judge::Run;
use meshproof::record;
use meshproof::report::Claim;
use meshproof::{Cluster, Error, Scope, Seen, Verdict, eventually};
use serial_test::file_serial;

const SUITE: &str = "bench";

/// Where load is made; the other clusters are paused.
const CLUSTER: &str = "cluster1";

/// How long all else is held, twice: once to see that it is, once to see that load is made meanwhile.
const HELD: Duration = Duration::from_secs(3);

/// An API server that is not held answers in a tenth of that.
const PATIENCE: Duration = Duration::from_millis(300);

/// How long all may take to go on.
const BACK: Duration = Duration::from_secs(30);

/// Several times what a controller manager that is not held takes to notice a change.
const NOTICED: Duration = Duration::from_secs(3);

#[tokio::test]
#[file_serial(mesh)]
async fn all_but_what_is_measured_is_held_still() -> Verdict {
    Scope::run(SUITE, "quiet", async |scope| {
        let cluster = scope.testbed.cluster(CLUSTER)?;
        let bench = Bench::start(scope, cluster, Side::Meshed, Side::Meshed).await?;
        let arguments = ["--connections=4", "--rate=200", "--warmup=500ms", "--path=/echo?size=1024"].map(String::from);
        bench.answers(&arguments[3..]).await?;
        let quiet = Quiet::sparing(scope, CLUSTER, &bench.namespaces())?;
        let quiet = quiet.ok_or_else(|| record::Error::not_declared("the fault pause-cluster"))?;
        scope.claim(silent(&scope.testbed.clusters, &quiet).await?);
        answers_again(cluster).await?;
        let (host, length) = (Host::this(), HELD);
        let asked = Asked {
            comparison: "bench/quiet",
            order: 0,
            host: &host,
            length,
            drain: Duration::ZERO,
            arguments: &arguments,
            quiet: Some(&quiet),
        };
        let run = bench.run(&asked).await?;
        let (share, lost) = (run.receipts.get(QUIET_SHARE).copied().unwrap_or_default(), run.errors + run.dropped);
        // From when each request was due: one end that was held as well has waited for as long as that.
        let p99 = Duration::from_secs_f64(run.metrics["p99_us"].value / 1e6);
        let observed = |run: &Run| {
            format!(
                "{} requests, {lost} of them lost, p99 {p99:?}, all else held for {share:.2} of the time",
                run.requests
            )
        };
        // A driver that came late, on a busy machine, was loaded for less of it; the suite makes such a run again.
        let goes_on = |run: &Run| share >= 0.5 && run.requests > 0 && lost == 0 && p99 < HELD / 3;
        let claim = Claim::about("measured-goes-on", "what is measured goes on while all else is held still")
            .from(bench.pods()[0])
            .to(bench.target())
            .expects(format!("every request answered, p99 below {:?}, all else held for half of the time", HELD / 3))
            .observes(&run, observed, goes_on);
        scope.claim(claim);
        drop(quiet);
        for cluster in &scope.testbed.clusters {
            answers_again(cluster).await?;
        }
        Ok(())
    })
    .await
}

#[tokio::test]
#[file_serial(mesh)]
async fn what_can_be_spared_is_held_for_as_long_as_it_takes() -> Verdict {
    Scope::run(SUITE, "spared", async |scope| {
        let cluster = scope.testbed.cluster(CLUSTER)?;
        let quiet = Quiet::but(scope, CLUSTER)?;
        let quiet = quiet.ok_or_else(|| record::Error::not_declared("the fault pause-cluster"))?;
        scope.scale(cluster, Side::Naked.namespace(), "server", 1).await?;
        #[allow(clippy::disallowed_methods, reason = "that nothing happens is what is to be seen")]
        tokio::time::sleep(NOTICED).await;
        let (changed, noticed) = generations(cluster).await?;
        let requirement = "what can be spared of the control plane is held still, and the API server goes on";
        let claim = Claim::about("spared-held", requirement)
            .to(cluster.name())
            .expects(format!("an answer, and a change that no controller has noticed for {NOTICED:?}"))
            .observes(
                &(changed, noticed),
                |(changed, noticed)| format!("a deployment's generation {changed}, of which {noticed} was observed"),
                |(changed, noticed)| noticed < changed,
            );
        scope.claim(claim);
        drop(quiet);
        Ok(eventually(format!("the controller manager of {} to go on", cluster.name()), BACK, async || {
            let (changed, noticed) = generations(cluster).await?;
            let seen = format!("generation {noticed} of {changed} observed");
            Ok::<_, Error>(if noticed == changed { Seen::Yes(()) } else { Seen::NotYet(seen) })
        })
        .await?)
    })
    .await
}

/// How often the server's deployment was changed, and up to which change its controller has followed.
async fn generations(cluster: &Cluster) -> Result<(i64, i64), Error> {
    let namespace = Side::Naked.namespace();
    let server = cluster.api::<Deployment>(namespace).get("server").await;
    let server = server.map_err(cluster.failed(format!("get the deployment {namespace}/server")))?;
    let observed = server.status.and_then(|status| status.observed_generation);
    Ok((server.metadata.generation.unwrap_or_default(), observed.unwrap_or_default()))
}

/// Has all held, and asks every API server meanwhile: none may answer.
async fn silent(clusters: &[Arc<Cluster>], quiet: &Quiet) -> Result<Claim, Error> {
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
    let held = tokio::select! {
        held = quiet.hold(HELD) => held?,
        never = asking => never,
    };
    // One that was asked before it was held answers a little later.
    answers.retain(|(at, _)| *at > held.from + 2.0 * PATIENCE.as_secs_f64() && *at < held.to);
    let answered: BTreeSet<&String> = answers.iter().flat_map(|(_, answered)| answered).collect();
    let names: Vec<&str> = clusters.iter().map(|cluster| cluster.name()).collect();
    Ok(Claim::about("others-held", "all but what is measured is held still, and the other clusters as a whole")
        .to(format!("the API servers of {}", names.join(", ")))
        .expects(format!("no answer for {HELD:?}"))
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
