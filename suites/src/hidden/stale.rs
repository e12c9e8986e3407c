//! State that outlives its cause: once a pod is gone, no proxy of any cluster sends calls to where it was.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::try_join_all;
use meshproof::cluster::watch_all;
use meshproof::istio::{Endpoint, endpoints, outbound_name};
use meshproof::k8s_openapi::api::core::v1::Pod;
use meshproof::kube::runtime::watcher;
use meshproof::probe::{self, Exchange, Expected, Protocol, Vantage, dial};
use meshproof::record::{Requirement, Write};
use meshproof::report::Claim;
use meshproof::scope::{claims, copied_probe};
use meshproof::suites::Newcomer;
use meshproof::{Cluster, Error, Scope, Seen, Verdict, Workload, eventually};

use super::SUITE;

/// Longest time for which a proxy may know an endpoint whose pod is gone.
const FORGOTTEN: Duration = Duration::from_secs(10);

/// Longest wait for a pod to end.
const ENDED: Duration = Duration::from_secs(60);

/// A service that was answered loses its pod. Every caller's proxy forgets it in time, and tells its application at once
/// that nobody is there, as HTTP 503.
///
/// Red if endpoints live on after their pod (tried: istiod of the caller's cluster scaled to 0 meanwhile).
async fn an_endpoint_is_forgotten_once_its_pod_is_gone() -> Verdict {
    Scope::run(SUITE, "an_endpoint_is_forgotten_once_its_pod_is_gone", async |scope| {
        scope.requires([Requirement::Probes, Requirement::Write(Write::Namespaces)])?;
        let judge = async |to: &Arc<Cluster>| {
            let created = Newcomer::create(scope, to, &format!("ends-in-{}", to.name())).await?;
            let callers = try_join_all(scope.testbed.clusters.iter().map(probe::caller)).await?;
            let calls = callers.iter().map(async |caller| created.call(caller, &id(caller, to)).await);
            let controls = try_join_all(calls).await?;
            end(scope, to, &created).await?;
            let gone = Instant::now();
            let judging = callers
                .iter()
                .zip(&controls)
                .map(async |(caller, control)| forgotten(scope, caller, control, &created, gone).await);
            try_join_all(judging).await.map(drop)
        };
        scope.for_each(&scope.testbed.clusters, |to| to.name().to_owned(), judge).await;
        Ok(())
    })
    .await
}

fn id(caller: &Workload, to: &Cluster) -> String {
    format!("{}-to-{}", caller.cluster.name(), to.name())
}

/// Scales the probe to nothing, and waits until its pod is gone.
async fn end(scope: &Scope, cluster: &Arc<Cluster>, created: &Newcomer) -> Result<(), Error> {
    let namespace = &created.destination.namespace;
    let mut deployment = copied_probe(cluster, namespace).await?.deployment;
    deployment["spec"]["replicas"] = 0.into();
    scope.apply(cluster, &mut deployment).await?;
    let want = format!("the pods of {namespace} in {} to end", cluster.name());
    let pods = cluster.api::<Pod>(namespace);
    let ended = watch_all(pods, watcher::Config::default(), want, ENDED, |pods: &[&Pod]| match pods {
        [] => Seen::Yes(()),
        left => Seen::NotYet(format!("{} are left", left.len())),
    });
    Ok(ended.await?)
}

async fn forgotten(
    scope: &Scope,
    caller: &Workload,
    control: &Exchange,
    created: &Newcomer,
    gone: Instant,
) -> Result<(), Error> {
    let (to, port) = (&created.destination.cluster, created.port(Protocol::Http1)?);
    let name = outbound_name(port, &created.host);
    let is = |one: &&Endpoint| one.upstream_cluster == name;
    let waited = eventually(format!("the proxy of {caller} to forget {}", created.host), FORGOTTEN, async || {
        let left = endpoints(caller).await?.iter().filter(is).count();
        Ok::<_, Error>(if left == 0 { Seen::Yes(gone.elapsed()) } else { Seen::NotYet(format!("{left} endpoints")) })
    });
    scope.claim(
        Claim::about(format!("forgotten/{}", id(caller, to)), "an endpoint is forgotten once its pod is gone")
            .from(caller)
            .to(&created.host)
            .expects(format!("no endpoint within {FORGOTTEN:?}"))
            .observes(
                &waited.await,
                |waited| match waited {
                    Ok(after) => format!("none after {after:.1?}"),
                    Err(late) => late.to_string(),
                },
                Result::is_ok,
            ),
    );
    let call = dial(id(caller, to), Protocol::Http1, &created.host, port);
    let seen = Vantage::Meshed(caller.clone()).dial(vec![call]).await?;
    let owed = "a call to a service without a pod is refused at once";
    scope.claim(claims::denied("gone", owed, &seen[0], Expected::Http(503), control, None));
    Ok(())
}

crate::trials! {
    an_endpoint_is_forgotten_once_its_pod_is_gone,
}
