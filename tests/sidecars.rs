//! Whether the testbed has room for a real workload: 120 pods with sidecars, spread over the clusters, each of which
//! answers over mutual TLS, and the mTLS suite beside them. Runs by name only: `cargo test --test sidecars`. The pods
//! take some 10 GiB.

use std::collections::BTreeSet;
use std::process::Output;
use std::sync::Arc;
use std::time::Duration;

use futures::future::try_join_all;
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Patch, PatchParams};
use meshproof::cluster::is_ready;
use meshproof::compare::Cost;
use meshproof::host;
use meshproof::istio::endpoints;
use meshproof::probe::{self, Exchange, Protocol, Vantage, dial};
use meshproof::record::{Requirement, Write, fault};
use meshproof::report::Claim;
use meshproof::scope::deploy_probe;
use meshproof::{Cluster, Error, Scope, Seen, Verdict, Workload, eventually};
use serde_json::json;

/// Name of the report's directory.
const SUITE: &str = "sidecars";

/// Number of pods in all clusters together.
const PODS: usize = 120;

/// Number of pods of a cluster that start at once.
const STEP: usize = 10;

/// Longest wait for that many pods, on a machine that starts as many in each cluster.
const STARTED: Duration = Duration::from_secs(120);

/// Longest wait for the machine to have done what the start of the pods left to do.
const SETTLED: Duration = Duration::from_secs(180);

/// Longest wait for a proxy to know all endpoints.
const KNOWN: Duration = Duration::from_secs(60);

/// Calls for each pod: enough that a pod without a call, by the chance of load balancing, is not to be expected.
const CALLS: usize = 10;

/// Number of calls at once. All at once would judge how the machine bears the calls.
const AT_ONCE: usize = 20;

/// Number of proxies of a cluster whose costs are read, and the time between two readings.
const SAMPLE: usize = 5;
const WINDOW: Duration = Duration::from_secs(20);

/// Shares the mesh, because the mTLS suite runs beside the pods. Nothing that other tests rely on is changed.
#[tokio::test]
async fn a_hundred_and_twenty_sidecars_are_ready_and_answer() -> Verdict {
    Scope::run(SUITE, "a_hundred_and_twenty_sidecars_are_ready_and_answer", async |scope| {
        scope.requires([Requirement::Probes, Requirement::Write(Write::Namespaces)])?;
        let each = PODS / scope.testbed.clusters.len();
        let crowds = scope.testbed.clusters.iter().map(|cluster| Crowd::gather(scope, cluster, each));
        let crowds = try_join_all(crowds).await?;
        crowds.iter().for_each(|crowd| scope.claim(crowd.is_ready(each)));
        let pressure = settled(scope).await?;
        try_join_all(crowds.iter().map(Crowd::known)).await?;
        let costs = try_join_all(crowds.iter().map(Crowd::cost)).await?;
        for (crowd, cost) in crowds.iter().zip(costs) {
            scope.claim(crowd.answers().await?.with_evidence(format!("{pressure}; {cost}")));
        }
        scope.claim(mtls().await?);
        Ok(())
    })
    .await
}

/// The pods of one cluster.
struct Crowd {
    caller: Workload,
    namespace: String,
    host: String,
    port: u16,
    pods: Vec<Workload>,
}

impl Crowd {
    /// Deploys `number` pods, some at a time, and waits until they are ready.
    async fn gather(scope: &Scope, cluster: &Arc<Cluster>, number: usize) -> Result<Self, Error> {
        let meshed = &probe::declared(cluster)?.meshed;
        // Of its own name in each cluster: Istio makes one service of services with one name and namespace, and sends
        // calls to the other clusters too, whose gateways are not open for this namespace.
        let namespace = scope.injected_namespace(cluster, &format!("crowd-{}", cluster.name())).await?;
        deploy_probe(scope, cluster, &namespace).await?;
        let mut pods = Vec::new();
        for wanted in (STEP..=number).step_by(STEP) {
            let scale = Patch::Merge(json!({ "spec": { "replicas": wanted } }));
            let deployments = cluster.api::<Deployment>(&namespace);
            let scaled = deployments.patch_scale(&meshed.deployment, &PatchParams::default(), &scale).await;
            scaled
                .map_err(cluster.failed(format!("scale deployment {namespace}/{} to {wanted}", meshed.deployment)))?;
            let want = format!("{wanted} ready pods in {namespace} of {}", cluster.name());
            let started = cluster.await_pods(&namespace, &meshed.selector, want, STARTED, |pods| {
                let ready = pods.iter().filter(|pod| is_ready(pod));
                let ready: Vec<Workload> = ready.filter_map(|pod| Workload::of(cluster, pod)).collect();
                if ready.len() == wanted { Seen::Yes(ready) } else { Seen::NotYet(format!("{} ready", ready.len())) }
            });
            pods = started.await?;
        }
        let host = format!("{}.{namespace}.svc.{}", meshed.deployment, cluster.record().domain);
        let (caller, port) = (probe::caller(cluster).await?, probe::port(cluster, Protocol::Http1)?);
        Ok(Self { caller, namespace, host, port, pods })
    }

    fn id(&self, what: &str) -> String {
        format!("{}/{what}", self.caller.cluster.name())
    }

    fn is_ready(&self, number: usize) -> Claim {
        Claim::about(self.id("ready"), "every pod with a sidecar becomes ready")
            .to(&self.namespace)
            .equals(&number, &self.pods.len())
    }

    /// Waits until the caller's proxy knows every pod as a healthy endpoint.
    async fn known(&self) -> Result<(), Error> {
        let want = format!("the proxy of {} to know {} pods", self.caller, self.pods.len());
        let known = eventually(want, KNOWN, async || {
            let known = endpoints(&self.caller).await?;
            let healthy: BTreeSet<&str> =
                known.iter().filter(|one| one.healthy).map(|one| one.address.as_str()).collect();
            let missing = self.pods.iter().filter(|pod| !healthy.contains(pod.address.as_str())).count();
            Ok::<_, Error>(if missing == 0 { Seen::Yes(()) } else { Seen::NotYet(format!("{missing} missing")) })
        });
        Ok(known.await?)
    }

    /// Calls every pod through their service, and claims that each call had an answer.
    async fn answers(&self) -> Result<Claim, Error> {
        let calls = self.pods.len() * CALLS;
        let dials = (0..calls).map(|call| dial(self.id(&call.to_string()), Protocol::Http1, &self.host, self.port));
        let dials: Vec<_> = dials.collect();
        let mut exchanges = Vec::new();
        for some in dials.chunks(AT_ONCE) {
            exchanges.extend(Vantage::Meshed(self.caller.clone()).dial(some.to_vec()).await?);
        }
        let answered: BTreeSet<String> = exchanges.iter().filter_map(authenticated).collect();
        let failed: Vec<&Exchange> = exchanges.iter().filter(|exchange| authenticated(exchange).is_none()).collect();
        let number = self.pods.len();
        let owed = "every pod with a sidecar answers a caller whom its proxy authenticated";
        let claim = Claim::about(self.id("answers"), owed)
            .from(&self.caller)
            .to(&self.host)
            .expects(format!("an answer from each of {number} pods, and no other outcome"))
            .observes(
                &answered,
                |answered| {
                    format!("answers from {} pods, {} calls without such an answer", answered.len(), failed.len())
                },
                |answered| answered.len() == number && failed.is_empty(),
            );
        let silent = self.pods.iter().filter(|pod| !answered.contains(&pod.pod));
        let claim = silent.fold(claim, |claim, pod| claim.with_evidence(format!("no answer from {pod}")));
        let slowest = exchanges.iter().map(|exchange| exchange.report.elapsed_us).max().unwrap_or_default();
        let claim = claim.with_evidence(format!("the slowest of {calls} calls took {:.1} s", slowest as f64 / 1e6));
        Ok(outcomes(&failed).into_iter().fold(claim, Claim::with_evidence))
    }

    /// What a sidecar takes while nothing is called: the mean over some pods.
    async fn cost(&self) -> Result<String, Error> {
        let pods = &self.pods[..SAMPLE.min(self.pods.len())];
        let proxy = &self.caller.cluster.record().istio.proxy.container;
        let read = async || try_join_all(pods.iter().map(|pod| Cost::read(pod, proxy))).await;
        let before = read().await?;
        #[allow(clippy::disallowed_methods, reason = "the time that passes is what a rate is measured over")]
        tokio::time::sleep(WINDOW).await;
        let after = read().await?;
        let sum = |costs: &[Cost], of: fn(&Cost) -> f64| costs.iter().map(of).sum::<f64>() / costs.len() as f64;
        let used = sum(&after, |cost| cost.cpu_us) - sum(&before, |cost| cost.cpu_us);
        let memory = sum(&after, |cost| cost.memory_bytes) / f64::from(1 << 20);
        let share = used / WINDOW.as_secs_f64() / 1e4;
        Ok(format!("a sidecar without calls: {memory:.0} MiB, {share:.2} % of a processor (of {} pods)", pods.len()))
    }
}

/// What calls saw, and how many saw it.
fn outcomes(failed: &[&Exchange]) -> Vec<String> {
    let mut seen: Vec<String> = failed.iter().map(|exchange| exchange.outcome().to_string()).collect();
    seen.sort_unstable();
    seen.chunk_by(|one, other| one == other).map(|same| format!("seen {} times: {}", same.len(), same[0])).collect()
}

/// The pod that answered a caller whom its proxy authenticated.
fn authenticated(exchange: &Exchange) -> Option<String> {
    let who = exchange.report.who.as_ref().filter(|_| exchange.outcome().is_answered())?;
    who.forwarded_client_cert.as_ref().map(|_| who.pod.clone())
}

/// Waits until processes on this machine wait for a processor no more than half of the time, if the clusters are on
/// this machine. Right after their start, the pods keep the machine busy, and calls would judge the machine. Returns
/// what was seen.
async fn settled(scope: &Scope) -> Result<String, Error> {
    let is_local = scope.testbed.record.capabilities.fault(fault::PAUSE_CLUSTER).is_some();
    let Some(pressure) = host::processor_pressure().filter(|_| is_local) else {
        return Ok("the processors' load is not known".into());
    };
    let want = "the processors to be free half of the time";
    let began = std::time::Instant::now();
    let now = eventually(want, SETTLED, async || {
        let pressure = host::processor_pressure().unwrap_or_default();
        let seen = format!("somebody waits for a processor {pressure:.0} % of the time");
        Ok::<_, Error>(if pressure <= 50.0 { Seen::Yes(pressure) } else { Seen::NotYet(seen) })
    });
    let now = now.await?;
    let waited = began.elapsed().as_secs();
    Ok(format!("after {waited} s, somebody waited for a processor {now:.0} % of the time, at first {pressure:.0} %"))
}

/// Runs the mTLS suite beside the pods.
async fn mtls() -> Result<Claim, Error> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut suite = tokio::process::Command::new(cargo);
    suite.args(["test", "--quiet", "--test", "mtls"]).current_dir(env!("CARGO_MANIFEST_DIR"));
    let ended = suite.kill_on_drop(true).output().await.map_err(Error::suite)?;
    let words = |ended: &Output| {
        let output = String::from_utf8_lossy(&ended.stdout).into_owned();
        let result = output.lines().rfind(|line| line.starts_with("test result")).unwrap_or("no result").to_owned();
        format!("{result} ({})", ended.status)
    };
    let claim = Claim::about("mtls", "the mTLS suite is green beside the pods").expects("every test passes").observes(
        &ended,
        words,
        |ended| ended.status.success(),
    );
    let output = String::from_utf8_lossy(&ended.stdout);
    let red = output.lines().filter(|line| line.starts_with("claim ") || line.starts_with("Error"));
    Ok(red.fold(claim, |claim, line| claim.with_evidence(line.to_owned())))
}
