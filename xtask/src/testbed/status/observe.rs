//! Asks the engine, the API servers, istiod and the ingress gateways, all at once and each for a few seconds at most.

use std::collections::HashSet;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures::StreamExt;
use futures::future::join_all;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt};
use meshproof::scope::RUN_LABEL;
use serde::Deserialize;
use testcontainers::bollard::models::{ContainerStateStatusEnum, ContainerStatsResponse};
use testcontainers::bollard::query_parameters::StatsOptionsBuilder;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::super::exec::exec;
use super::super::targets::{Target, Targets};
use super::health::{
    self, Cluster, Component, Container, Ingress, LastUp, Peer, Pods, Problem, Recorded, State, Status,
};
use crate::kubernetes;
use crate::ledger::Ledger;
use crate::local::engine::Engine;

/// Bound on one question.
const BOUND: Duration = Duration::from_secs(4);

/// Time over which the use of the processors is measured.
const WINDOW: Duration = Duration::from_millis(800);

/// Namespace of the control plane.
const SYSTEM: &str = "istio-system";

/// The deployments a testbed consists of: what people call it, namespace, name.
const COMPONENTS: [(&str, &str, &str); 7] = [
    ("istiod", SYSTEM, "istiod"),
    ("ingress gateway", SYSTEM, "istio-ingressgateway"),
    ("east-west gateway", SYSTEM, "istio-eastwestgateway"),
    ("CoreDNS", "kube-system", "coredns"),
    ("meshed probe", "pinnacle", "probe"),
    ("second meshed probe", "pinnacle", "caller"),
    ("naked probe", "meshproof-naked", "probe"),
];

/// The status of the testbed; what cannot be learnt is in it as a problem.
pub(super) async fn testbed(targets: &Targets) -> Status {
    let local = targets.clusters.iter().any(|target| target.container.is_some());
    let (engine, engine_error) = if local { connect().await } else { (None, None) };
    let names: Vec<&str> = targets.clusters.iter().map(|target| target.name.as_str()).collect();
    let clusters = join_all(targets.clusters.iter().map(|target| cluster(engine.as_ref(), target, &names))).await;

    let whole = |problem| Problem { cluster: None, problem };
    let mut problems: Vec<Problem> = engine_error.map(whole).into_iter().collect();
    problems.extend(targets.record.as_ref().err().cloned().map(whole));
    problems.extend(clusters.iter().flat_map(Cluster::problems));
    Status {
        schema: health::SCHEMA,
        healthy: problems.is_empty(),
        problems,
        directory: targets.directory.clone(),
        testbed: targets.record.as_ref().ok().map(|record| Recorded {
            provider: record.provider.clone(),
            layout: record.layout().unwrap_or("none").into(),
            mesh: record.mesh.id.clone(),
            mesh_version: record.mesh.version.clone(),
        }),
        last_up: Ledger::read(&targets.directory).map(|ledger| LastUp {
            total_seconds: ledger.total_seconds,
            first_cross_cluster_success_seconds: ledger.first_cross_cluster_success_seconds,
            warm: ledger.warm,
        }),
        clusters,
    }
}

/// The engine, or what is wrong with it.
async fn connect() -> (Option<Engine>, Option<String>) {
    match bounded(Engine::connect()).await {
        Ok(engine) => (Some(engine), None),
        Err(error) => (None, Some(format!("the container engine does not answer: {}", error.root_cause()))),
    }
}

/// Gives `work` [`BOUND`].
async fn bounded<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let silent = |_| Err(anyhow::anyhow!("no answer within {} s", BOUND.as_secs()));
    tokio::time::timeout(BOUND, work).await.unwrap_or_else(silent)
}

async fn cluster(engine: Option<&Engine>, target: &Target, names: &[&str]) -> Cluster {
    let mut container = None;
    if let Some(name) = &target.container {
        let (state, detail) = container_state(engine, name).await;
        let known = Container { name: name.clone(), state, detail, memory_mib: None, cpu_percent: None };
        if matches!(state, State::Paused | State::Stopped | State::Missing) {
            // Nothing in it answers; asking would only take time.
            return Cluster { name: target.name.clone(), container: Some(known), ..Cluster::default() };
        }
        container = Some(known);
    }
    if let (Some(container), Some(engine)) = (&mut container, engine) {
        // Before anything is asked, so that answering does not count. Worth showing, not worth a complaint.
        if let Ok(usage) = bounded(usage(engine, &container.name)).await {
            (container.memory_mib, container.cpu_percent) = usage;
        }
    }
    let ingress = async {
        let address = target.ingress.as_ref()?.to_string();
        let error = bounded(http_answer(&address)).await.err().map(|error| format!("{error:#}"));
        Some(Ingress { address, error })
    };
    let peers: Vec<&str> = names.iter().copied().filter(|name| *name != target.name).collect();
    let (ingress, cluster) = tokio::join!(ingress, asked(target, &peers));
    // An ingress that does not answer while its API server does not either says nothing new.
    let down = cluster.api.as_ref().is_some_and(|api| api.error.is_some());
    let ingress = ingress.filter(|ingress| !down || ingress.error.is_none());
    Cluster { container, ingress, ..cluster }
}

/// What the engine says a container does, and in which way if it does not run.
async fn container_state(engine: Option<&Engine>, name: &str) -> (State, Option<String>) {
    let Some(engine) = engine else { return (State::Unknown, None) };
    let details = match bounded(engine.inspect(name)).await {
        Ok(Some(details)) => details,
        Ok(None) => return (State::Missing, None),
        Err(error) => return (State::Unknown, Some(format!("{error:#}"))),
    };
    let state = details.state.unwrap_or_default();
    match state.status {
        Some(ContainerStateStatusEnum::RUNNING) => (State::Running, None),
        Some(ContainerStateStatusEnum::PAUSED) => (State::Paused, None),
        Some(status) => {
            let memory = if state.oom_killed == Some(true) { ", out of memory" } else { "" };
            let error = state.error.filter(|error| !error.is_empty()).map(|error| format!(", {error}"));
            let code = state.exit_code.unwrap_or_default();
            (State::Stopped, Some(format!("{status}, exit code {code}{memory}{}", error.unwrap_or_default())))
        }
        None => (State::Unknown, None),
    }
}

/// Memory in MiB, and use of the processors in per cent of one.
#[expect(clippy::disallowed_methods, reason = "the time that passes is what a rate is measured over")]
async fn usage(engine: &Engine, name: &str) -> Result<(Option<u64>, Option<f64>)> {
    let before = statistics(engine, name).await?;
    tokio::time::sleep(WINDOW).await;
    let now = statistics(engine, name).await?;
    Ok((memory_mib(&now), cpu_percent(&before, &now)))
}

async fn statistics(engine: &Engine, name: &str) -> Result<ContainerStatsResponse> {
    let options = StatsOptionsBuilder::default().stream(false).one_shot(true).build();
    let mut answers = std::pin::pin!(engine.docker().stats(name, Some(options)));
    Ok(answers.next().await.context("no answer")??)
}

/// As `docker stats` counts it: without file pages that can be dropped at once.
fn memory_mib(stats: &ContainerStatsResponse) -> Option<u64> {
    let memory = stats.memory_stats.as_ref()?;
    let details = memory.stats.as_ref();
    // The first name is that of cgroups v1.
    let file = details.and_then(|stats| stats.get("total_inactive_file").or_else(|| stats.get("inactive_file")));
    Some(memory.usage?.saturating_sub(file.copied().unwrap_or(0)) >> 20)
}

fn cpu_percent(before: &ContainerStatsResponse, now: &ContainerStatsResponse) -> Option<f64> {
    let (before, now) = (before.cpu_stats.as_ref()?, now.cpu_stats.as_ref()?);
    let used = now.cpu_usage.as_ref()?.total_usage?.checked_sub(before.cpu_usage.as_ref()?.total_usage?)?;
    let passed = now.system_cpu_usage?.checked_sub(before.system_cpu_usage?)?;
    let percent = used as f64 / passed as f64 * f64::from(now.online_cpus?) * 100.0;
    percent.is_finite().then(|| (percent * 10.0).round() / 10.0)
}

/// Any HTTP answer will do: which routes there are is the suites' business.
async fn http_answer(address: &str) -> Result<()> {
    let mut stream = tokio::net::TcpStream::connect(address).await?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: meshproof.invalid\r\nConnection: close\r\n\r\n").await?;
    let mut start = [0; 5];
    stream.read_exact(&mut start).await?;
    if &start != b"HTTP/" {
        bail!("what answers there does not speak HTTP");
    }
    Ok(())
}

/// What the API server and, through it, istiod say.
async fn asked(target: &Target, peers: &[&str]) -> Cluster {
    let named = Cluster { name: target.name.clone(), ..Cluster::default() };
    let (client, version) = match bounded(ready(target)).await {
        Ok(ready) => ready,
        Err(error) => {
            let api = health::Api { version: None, error: Some(error.root_cause().to_string()) };
            return Cluster { api: Some(api), ..named };
        }
    };
    let (components, pods, peers) =
        tokio::join!(bounded(components(&client)), bounded(pods(&client)), bounded(peers_of(&client, peers)),);
    let mut unanswered = Vec::new();
    Cluster {
        api: Some(health::Api { version: Some(version), error: None }),
        components: told("deployments", components, &mut unanswered).unwrap_or_default(),
        pods: told("pods", pods, &mut unanswered),
        peers: told("the clusters that istiod sees", peers, &mut unanswered).unwrap_or_default(),
        unanswered,
        ..named
    }
}

fn told<T>(what: &str, answer: Result<T>, unanswered: &mut Vec<String>) -> Option<T> {
    answer.map_err(|error| unanswered.push(format!("{what}: {error:#}"))).ok()
}

async fn ready(target: &Target) -> Result<(Client, String)> {
    let client = kubernetes::client(&target.kubeconfig, &target.context).await?;
    client.request_text(http::Request::get("/readyz").body(Vec::new())?).await?;
    let version = client.apiserver_version().await?.git_version;
    Ok((client, version))
}

async fn components(client: &Client) -> Result<Vec<Component>> {
    let found = Api::<Deployment>::all(client.clone()).list(&ListParams::default()).await?.items;
    let component = |&(name, namespace, deployment): &(&'static str, &'static str, &'static str)| {
        let mut candidates = found.iter();
        let found =
            candidates.find(|other| other.name_any() == deployment && other.namespace().as_deref() == Some(namespace));
        let replicas = |found: &Deployment| found.status.as_ref()?.available_replicas;
        Component {
            name,
            namespace,
            deployment,
            available: found.map(|found| replicas(found).unwrap_or(0)),
            wanted: found.and_then(|found| found.spec.as_ref()?.replicas).unwrap_or(1),
        }
    };
    Ok(COMPONENTS.iter().map(component).collect())
}

/// Counts the pods. Those in a test's own namespace come and go, and may be broken on purpose: not the testbed's.
async fn pods(client: &Client) -> Result<Pods> {
    let (namespaces, pods) = (Api::<Namespace>::all(client.clone()), Api::<Pod>::all(client.clone()));
    let of_runs = ListParams::default().labels(RUN_LABEL);
    let all = ListParams::default();
    let (of_runs, pods) = tokio::try_join!(namespaces.list(&of_runs), pods.list(&all))?;
    let of_runs: HashSet<String> = of_runs.iter().map(ResourceExt::name_any).collect();
    let ours = pods.items.iter().filter(|pod| !pod.namespace().is_some_and(|name| of_runs.contains(&name)));
    Ok(count(ours))
}

fn count<'a>(pods: impl Iterator<Item = &'a Pod>) -> Pods {
    let phase = |pod: &Pod| pod.status.as_ref().and_then(|status| status.phase.clone()).unwrap_or_default();
    let mut counted = Pods::default();
    // A pod that has done its work is never ready again.
    for pod in pods.filter(|pod| phase(pod) != "Succeeded") {
        counted.total += 1;
        if meshproof::cluster::is_ready(pod) {
            counted.ready += 1;
        } else {
            let reason = waiting(pod).unwrap_or_else(|| phase(pod));
            counted.not_ready.push(format!(
                "{}/{} is not ready: {reason}",
                pod.namespace().unwrap_or_default(),
                pod.name_any()
            ));
        }
    }
    counted
}

/// What keeps a pod from being ready: its end, or the state of the first container that is not ready.
fn waiting(pod: &Pod) -> Option<String> {
    if pod.metadata.deletion_timestamp.is_some() {
        return Some("being removed".into());
    }
    let status = pod.status.as_ref()?;
    let mut containers = status.init_container_statuses.iter().chain(&status.container_statuses).flatten();
    containers.find_map(|container| {
        let state = container.state.as_ref().filter(|_| !container.ready)?;
        let name = &container.name;
        let waiting = state.waiting.as_ref().and_then(|waiting| waiting.reason.clone());
        // An init container that has ended well is not ready either, and keeps nothing waiting.
        let ended = state.terminated.as_ref().filter(|ended| ended.exit_code != 0);
        let ended = ended.map(|ended| format!("ended with exit code {}", ended.exit_code));
        let running = state.running.as_ref().map(|_| "running, not ready".to_owned());
        waiting.or(ended).or(running).map(|reason| format!("{name}: {reason}"))
    })
}

/// An entry of istiod's `/debug/clusterz`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Registered {
    id: String,
    sync_status: String,
}

/// How a cluster's istiod sees each of `peers`; of several istiods, the first ready one.
async fn peers_of(client: &Client, peers: &[&str]) -> Result<Vec<Peer>> {
    if peers.is_empty() {
        return Ok(Vec::new());
    }
    let pods: Api<Pod> = Api::namespaced(client.clone(), SYSTEM);
    let istiods = pods.list(&ListParams::default().labels("app=istiod")).await?.items;
    let Some(istiod) = istiods.iter().find(|pod| meshproof::cluster::is_ready(pod)) else {
        // Its deployment is a problem already.
        return Ok(Vec::new());
    };
    let command = ["pilot-discovery", "request", "GET", "/debug/clusterz"];
    let answer = exec(&pods, &istiod.name_any(), "discovery", &command).await?;
    seen_peers(&answer, peers)
}

fn seen_peers(answer: &str, peers: &[&str]) -> Result<Vec<Peer>> {
    let registered: Vec<Registered> =
        serde_json::from_str(answer).with_context(|| format!("istiod's list of clusters is unreadable: {answer}"))?;
    let peer = |name: &&str| {
        let found = registered.iter().find(|registered| registered.id == **name);
        let status = found.map_or_else(|| "no remote secret".to_owned(), |found| found.sync_status.clone());
        Peer { name: (*name).to_owned(), status }
    };
    Ok(peers.iter().map(peer).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(status: serde_json::Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "n"}, "status": status})).unwrap()
    }

    #[test]
    fn a_pod_that_is_not_ready_says_why_and_one_that_has_ended_well_does_not_count() {
        let pods = [
            pod(json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]})),
            pod(json!({"phase": "Succeeded"})),
            pod(json!({"phase": "Pending"})),
            pod(json!({"phase": "Running", "containerStatuses": [
                {"name": "c", "ready": false, "restartCount": 3, "image": "", "imageID": "",
                 "state": {"waiting": {"reason": "CrashLoopBackOff"}}},
            ]})),
        ];
        let counted = count(pods.iter());
        assert_eq!((counted.ready, counted.total), (1, 3));
        assert_eq!(counted.not_ready, ["n/p is not ready: Pending", "n/p is not ready: c: CrashLoopBackOff"]);
    }

    #[test]
    fn a_peer_that_istiod_does_not_list_has_no_remote_secret() {
        let answer = r#"[{"id":"cluster1","secretName":"","syncStatus":"synced"},
                         {"id":"cluster2","secretName":"s","syncStatus":"timeout"}]"#;
        let peers = seen_peers(answer, &["cluster2", "cluster3"]).unwrap();
        assert_eq!(peers[0].status, "timeout");
        assert_eq!(peers[1].status, "no remote secret");
        assert!(seen_peers("oops", &[]).unwrap_err().to_string().contains("oops"));
    }

    #[test]
    fn memory_and_processor_use_are_counted_as_docker_stats_does() {
        let stats = |used: u64, passed: u64| -> ContainerStatsResponse {
            let cpu = json!({"cpu_usage": {"total_usage": used}, "system_cpu_usage": passed, "online_cpus": 2});
            let memory = json!({"usage": 900 << 20, "stats": {"total_inactive_file": 100 << 20}});
            serde_json::from_value(json!({"memory_stats": memory, "cpu_stats": cpu})).unwrap()
        };
        let (before, now) = (stats(50, 1000), stats(150, 3000));
        assert_eq!((memory_mib(&now), cpu_percent(&before, &now)), (Some(800), Some(10.0)));
        assert_eq!(cpu_percent(&now, &now), None, "no time has passed");
    }
}
