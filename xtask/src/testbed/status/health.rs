//! The status of a testbed, and its problems.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

use super::super::peers::Peer;
use crate::provider::node::{NodeState, State};

/// Schema identifier of the JSON.
pub(super) const SCHEMA: &str = "meshproof.status/v2";

/// Status of a testbed at one moment.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Status {
    /// Always [`SCHEMA`].
    pub(super) schema: &'static str,
    /// Whether there are no problems.
    pub(super) healthy: bool,
    /// Problems. A cause is before its consequences.
    pub(super) problems: Vec<Problem>,
    /// What will become a problem.
    pub(super) warnings: Vec<String>,
    /// Directory of the testbed.
    pub(super) directory: PathBuf,
    /// Data from the record. `None` if there is no usable record.
    pub(super) testbed: Option<Recorded>,
    /// Data from the ledger about the last `up` that finished.
    pub(super) last_up: Option<LastUp>,
    /// The clusters.
    pub(super) clusters: Vec<Cluster>,
}

/// A problem.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Problem {
    /// Cluster with the problem. `None` for the testbed as a whole.
    pub(super) cluster: Option<String>,
    /// The problem, in one line.
    pub(super) problem: String,
}

/// Data from the testbed's record.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Recorded {
    pub(super) provider: String,
    pub(super) layout: String,
    pub(super) mesh: String,
    pub(super) mesh_version: String,
}

/// Data from the ledger.
#[derive(Debug, Clone, Serialize)]
pub(super) struct LastUp {
    /// Duration of the whole command.
    pub(super) total_seconds: f64,
    /// Time from the start of the command to the first answered call across clusters.
    pub(super) first_cross_cluster_success_seconds: f64,
    /// Whether every artifact was in the cache.
    pub(super) warm: bool,
}

/// One cluster.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Cluster {
    pub(super) name: String,
    /// The nodes that the provider can reach. Empty if the provider can reach no node.
    pub(super) nodes: Vec<Node>,
    /// `None` if the API server was not queried because no node of the cluster runs.
    pub(super) api: Option<Api>,
    pub(super) components: Vec<Component>,
    /// Pods, without those of running tests.
    pub(super) pods: Option<Pods>,
    pub(super) ingress: Option<Ingress>,
    /// The other clusters, as this cluster's istiod sees them.
    pub(super) peers: Vec<Peer>,
    /// Queries that a ready API server did not answer.
    pub(super) unanswered: Vec<String>,
}

/// A node, as the provider sees it.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Node {
    pub(super) name: String,
    pub(super) state: State,
    /// Details of a state other than running, for example the exit code.
    pub(super) detail: Option<String>,
    /// Memory in use, without the page cache that can be dropped at once.
    pub(super) memory_mib: Option<u64>,
    /// CPU usage over most of a second, measured before any other query. 100 is one processor.
    pub(super) cpu_percent: Option<f64>,
    /// The node's problem, if any.
    #[serde(skip)]
    problem: Option<String>,
}

impl Node {
    /// A node of which only the state is known.
    pub(super) fn new(name: &str, NodeState { state, detail, problem }: NodeState) -> Self {
        Self { name: name.to_owned(), state, detail, memory_mib: None, cpu_percent: None, problem }
    }
}

/// An API server.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Api {
    /// Version of Kubernetes, if the server is ready.
    pub(super) version: Option<String>,
    /// The reason why the server is not ready.
    pub(super) error: Option<String>,
}

/// A required deployment of a testbed.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Component {
    /// Common name of the component.
    pub(super) name: &'static str,
    pub(super) namespace: String,
    #[serde(flatten)]
    pub(super) which: Which,
    /// Number of available replicas. `None` if the deployment does not exist.
    pub(super) available: Option<i32>,
    pub(super) wanted: i32,
}

/// The deployments of a component.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Which {
    /// The deployment with this name.
    Deployment(String),
    /// The deployments whose pods match this label selector.
    Selector(String),
}

impl fmt::Display for Which {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Deployment(name) => write!(f, "deployment {name}"),
            Self::Selector(selector) => write!(f, "deployment with pods `{selector}`"),
        }
    }
}

/// The number of pods, and the pods that are not ready.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Pods {
    pub(super) ready: usize,
    pub(super) total: usize,
    /// `namespace/name: reason`.
    pub(super) not_ready: Vec<String>,
}

/// The ingress gateway, as this machine reaches it.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Ingress {
    /// `host:port`.
    pub(super) address: String,
    /// The reason for a missing HTTP answer. `None` if the gateway answered.
    pub(super) error: Option<String>,
}

impl Component {
    pub(super) fn is_available(&self) -> bool {
        self.available.is_some_and(|available| available >= self.wanted)
    }
}

impl Status {
    /// The status if there is no testbed.
    pub(super) fn of_none(directory: PathBuf, problem: String) -> Self {
        Self {
            schema: SCHEMA,
            healthy: false,
            problems: vec![Problem { cluster: None, problem }],
            warnings: Vec::new(),
            directory,
            testbed: None,
            last_up: None,
            clusters: Vec::new(),
        }
    }
}

impl Cluster {
    /// The cluster's problems. Leaves out obvious consequences of another problem in the list.
    pub(super) fn problems(&self) -> Vec<Problem> {
        let mut problems: Vec<String> = self.nodes.iter().filter_map(|node| node.problem.clone()).collect();
        if let Some(error) = self.api.as_ref().and_then(|api| api.error.as_ref()) {
            problems.push(format!("the API server is not ready: {error}"));
        }
        for component in self.components.iter().filter(|component| !component.is_available()) {
            let Component { name, namespace, which, wanted, .. } = component;
            problems.push(match component.available {
                None => format!("{name}: there is no {which} in namespace {namespace}"),
                Some(available) => format!("{name}: {available} of {wanted} replicas available"),
            });
        }
        if let Some(pods) = &self.pods {
            problems.extend(pods.not_ready.iter().map(|pod| format!("pod {pod}")));
        }
        if let Some(Ingress { address, error: Some(error) }) = &self.ingress {
            problems.push(format!("the ingress gateway gives no HTTP answer at {address}: {error}"));
        }
        for peer in self.peers.iter().filter(|peer| !peer.is_synced()) {
            problems.push(format!("istiod does not see {}: {}", peer.name, peer.status));
        }
        problems.extend(self.unanswered.iter().cloned());
        let problem = |problem| Problem { cluster: Some(self.name.clone()), problem };
        problems.into_iter().map(problem).collect()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn healthy() -> Cluster {
        let component = Component {
            name: "istiod",
            namespace: "istio-system".into(),
            which: Which::Selector("app=istiod".into()),
            available: Some(1),
            wanted: 1,
        };
        Cluster {
            name: "cluster1".into(),
            nodes: vec![node("meshproof-cluster1", State::Running)],
            api: Some(Api { version: Some("v1.34.3".into()), error: None }),
            components: vec![component],
            pods: Some(Pods { ready: 11, total: 11, not_ready: vec![] }),
            ingress: Some(Ingress { address: "127.0.0.1:32778".into(), error: None }),
            peers: vec![Peer { name: "cluster2".into(), status: "synced".into() }],
            unanswered: vec![],
        }
    }

    /// A running node has resource usage. Any other node has a problem.
    pub(in super::super) fn node(name: &str, state: State) -> Node {
        let runs = state == State::Running;
        let problem = (!runs).then(|| format!("container {name} is {}", state.word()));
        let node = Node::new(name, NodeState { state, detail: None, problem });
        Node { memory_mib: runs.then_some(811), cpu_percent: runs.then_some(11.4), ..node }
    }

    pub(in super::super) fn stopped() -> Cluster {
        let nodes = vec![node("meshproof-cluster2", State::Stopped)];
        Cluster { name: "cluster2".into(), nodes, ..Cluster::default() }
    }

    fn words(cluster: &Cluster) -> Vec<String> {
        cluster.problems().into_iter().map(|problem| problem.problem).collect()
    }

    #[test]
    fn a_healthy_cluster_has_no_problem() {
        assert_eq!(words(&healthy()), [""; 0]);
    }

    #[test]
    fn a_stopped_node_is_the_only_problem_told_of_its_cluster() {
        assert_eq!(words(&stopped()), ["container meshproof-cluster2 is stopped"]);
    }

    #[test]
    fn every_part_can_be_a_problem() {
        let mut cluster = healthy();
        cluster.components[0].available = Some(0);
        let missing = Component { available: None, ..cluster.components[0].clone() };
        let which = Which::Deployment("gateway".into());
        cluster.components.push(Component { name: "ingress gateway", which, ..missing.clone() });
        cluster.components.push(missing);
        cluster.pods = Some(Pods { ready: 0, total: 1, not_ready: vec!["a/b: CrashLoopBackOff".into()] });
        cluster.ingress = Some(Ingress { address: "127.0.0.1:1".into(), error: Some("refused".into()) });
        cluster.peers[0].status = "timeout".into();
        cluster.unanswered.push("pods: no answer within 4 s".into());
        assert_eq!(
            words(&cluster),
            [
                "istiod: 0 of 1 replicas available",
                "ingress gateway: there is no deployment gateway in namespace istio-system",
                "istiod: there is no deployment with pods `app=istiod` in namespace istio-system",
                "pod a/b: CrashLoopBackOff",
                "the ingress gateway gives no HTTP answer at 127.0.0.1:1: refused",
                "istiod does not see cluster2: timeout",
                "pods: no answer within 4 s",
            ]
        );
        cluster.api = Some(Api { version: None, error: Some("connection refused".into()) });
        assert!(words(&cluster)[0].contains("connection refused"), "{:?}", words(&cluster));
    }

    #[test]
    fn json_has_the_name_or_the_selector_of_a_component() {
        let mut component = healthy().components.remove(0);
        assert_eq!(serde_json::to_value(&component).unwrap()["selector"], "app=istiod");
        component.which = Which::Deployment("gateway".into());
        assert_eq!(serde_json::to_value(&component).unwrap()["deployment"], "gateway");
    }

    #[test]
    fn no_testbed_is_not_healthy() {
        let status = Status::of_none("/nowhere".into(), "no testbed".into());
        assert!(!status.healthy && status.problems.len() == 1);
    }
}
