//! Queries the system that runs the nodes, the API servers, istiod and the ingress gateways. All queries run at the
//! same time, each for a few seconds at most.

use std::collections::HashSet;
use std::time::Duration;

use anyhow::{Result, bail};
use futures::future::join_all;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt};
use meshproof::scope::RUN_LABEL;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::super::installed::Installed;
use super::super::inventory::Inventory;
use super::super::peers;
use super::components::components;
use super::health::{self, Cluster, Ingress, LastUp, Node, Pods, Problem, Recorded, Status};
use crate::kubernetes;
use crate::ledger::Ledger;
use crate::provider::node::{NodeState, State};
use crate::provider::{KnownCluster, Machines, Provider};

/// Time limit for one query.
const BOUND: Duration = Duration::from_secs(4);

/// The status of the testbed. A failed query is listed as a problem.
pub(super) async fn testbed(inventory: &Inventory) -> Status {
    let reachable = inventory.clusters.iter().any(|cluster| !cluster.nodes.is_empty());
    let (machines, silent) = if reachable { connect(inventory.provider).await } else { (None, None) };
    let names: Vec<&str> = inventory.clusters.iter().map(|cluster| cluster.name.as_str()).collect();
    let clusters =
        inventory.contents().map(async |(known, installed)| cluster(machines.as_ref(), known, installed, &names).await);
    let clusters = join_all(clusters).await;

    let whole = |problem| Problem { cluster: None, problem };
    let mut problems: Vec<Problem> = silent.map(whole).into_iter().collect();
    problems.extend(inventory.record.as_ref().err().cloned().map(whole));
    problems.extend(clusters.iter().flat_map(Cluster::problems));
    Status {
        schema: health::SCHEMA,
        healthy: problems.is_empty(),
        problems,
        warnings: machines.as_ref().and_then(Machines::warning).into_iter().collect(),
        directory: inventory.directory.clone(),
        testbed: inventory.record.as_ref().ok().map(|record| Recorded {
            provider: record.provider.clone(),
            layout: record.layout().unwrap_or("none").into(),
            mesh: record.mesh.id.clone(),
            mesh_version: record.mesh.version.clone(),
        }),
        last_up: Ledger::read(&inventory.directory).map(|ledger| LastUp {
            total_seconds: ledger.total_seconds,
            first_cross_cluster_success_seconds: ledger.first_cross_cluster_success_seconds,
            warm: ledger.warm,
        }),
        clusters,
    }
}

/// Connects to the system that runs the nodes, or returns the reason of the failure.
async fn connect(provider: Provider) -> (Option<Machines>, Option<String>) {
    match bounded(provider.connect()).await {
        Ok(machines) => (Some(machines), None),
        Err(error) => (None, Some(format!("{} does not answer: {}", provider.machines_name(), error.root_cause()))),
    }
}

/// Runs `work` with the time limit [`BOUND`].
async fn bounded<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let silent = |_| Err(anyhow::anyhow!("no answer within {} s", BOUND.as_secs()));
    tokio::time::timeout(BOUND, work).await.unwrap_or_else(silent)
}

async fn cluster(machines: Option<&Machines>, known: &KnownCluster, installed: &Installed, names: &[&str]) -> Cluster {
    let nodes = join_all(known.nodes.iter().map(|name| node(machines, name))).await;
    if !nodes.is_empty() && nodes.iter().all(|node| node.state.is_down()) {
        // No component of the cluster answers, so queries would only take time.
        return Cluster { name: known.name.clone(), nodes, ..Cluster::default() };
    }
    let ingress = async {
        // Without a route, a gateway listens on no port.
        installed.probes.as_ref()?.meshed.ingress_host.as_ref()?;
        let address = installed.gateways.ingress.as_ref()?.address.as_ref()?.to_string();
        let error = bounded(http_answer(&address)).await.err().map(|error| format!("{error:#}"));
        Some(Ingress { address, error })
    };
    let peers: Vec<&str> = names.iter().copied().filter(|name| *name != known.name).collect();
    let (ingress, cluster) = tokio::join!(ingress, asked(known, installed, &peers));
    // If the API server does not answer, do not report a silent ingress gateway as a second problem.
    let down = cluster.api.as_ref().is_some_and(|api| api.error.is_some());
    let ingress = ingress.filter(|ingress| !down || ingress.error.is_none());
    Cluster { nodes, ingress, ..cluster }
}

/// The provider's information about a node.
async fn node(machines: Option<&Machines>, name: &str) -> Node {
    let unknown = |detail| NodeState { state: State::Unknown, detail, problem: None };
    let Some(machines) = machines else { return Node::new(name, unknown(None)) };
    let state = bounded(machines.state(name)).await.unwrap_or_else(|error| unknown(Some(format!("{error:#}"))));
    let mut node = Node::new(name, state);
    if !node.state.is_down() {
        // Measure before other queries, so that they do not add to the usage. An unknown usage is not a problem.
        let usage = bounded(machines.usage(name)).await.unwrap_or_default();
        (node.memory_mib, node.cpu_percent) = (usage.memory_mib, usage.cpu_percent);
    }
    node
}

/// Succeeds on any HTTP answer. The suites check the routes.
async fn http_answer(address: &str) -> Result<()> {
    let mut stream = tokio::net::TcpStream::connect(address).await?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: meshproof.invalid\r\nConnection: close\r\n\r\n").await?;
    let mut start = [0; 5];
    stream.read_exact(&mut start).await?;
    if &start != b"HTTP/" {
        bail!("the answer is not HTTP");
    }
    Ok(())
}

/// Data from the API server and, through the API server, from istiod.
async fn asked(known: &KnownCluster, installed: &Installed, peers: &[&str]) -> Cluster {
    let named = Cluster { name: known.name.clone(), ..Cluster::default() };
    let (client, version) = match bounded(ready(known)).await {
        Ok(ready) => ready,
        Err(error) => {
            let api = health::Api { version: None, error: Some(error.root_cause().to_string()) };
            return Cluster { api: Some(api), ..named };
        }
    };
    let (components, pods, peers) = tokio::join!(
        bounded(components(&client, known, installed)),
        bounded(pods(&client)),
        bounded(peers::of(&client, &known.name, installed, peers)),
    );
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

async fn ready(known: &KnownCluster) -> Result<(Client, String)> {
    let client = kubernetes::client(&known.kubeconfig, &known.context).await?;
    client.request_text(http::Request::get("/readyz").body(Vec::new())?).await?;
    let version = client.apiserver_version().await?.git_version;
    Ok((client, version))
}

/// Counts the pods, without those in a test's own namespace: a test's pods come and go, and may be broken on purpose.
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
    // A pod that has succeeded never becomes ready again.
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

/// The reason why a pod is not ready: its removal, or the state of the first container that is not ready.
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
        // A successful init container is not ready, but does not keep the pod waiting.
        let ended = state.terminated.as_ref().filter(|ended| ended.exit_code != 0);
        let ended = ended.map(|ended| format!("ended with exit code {}", ended.exit_code));
        let running = state.running.as_ref().map(|_| "running, not ready".to_owned());
        waiting.or(ended).or(running).map(|reason| format!("{name}: {reason}"))
    })
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
}
