//! What `status` says of a testbed, and what in it is a problem.

use std::path::PathBuf;

use serde::Serialize;

use crate::provider::node::{NodeState, State};

/// Schema identifier of the JSON.
pub(super) const SCHEMA: &str = "meshproof.status/v2";

/// Status of a testbed at one moment.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Status {
    /// Always [`SCHEMA`].
    pub(super) schema: &'static str,
    /// Whether there is no problem at all.
    pub(super) healthy: bool,
    /// What is wrong, the cause before its consequences.
    pub(super) problems: Vec<Problem>,
    /// The testbed's directory.
    pub(super) directory: PathBuf,
    /// What the record says; `None` where there is no usable one.
    pub(super) testbed: Option<Recorded>,
    /// What the ledger says of the last `up` that finished.
    pub(super) last_up: Option<LastUp>,
    /// The clusters.
    pub(super) clusters: Vec<Cluster>,
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Problem {
    /// Where; `None` for the testbed as a whole.
    pub(super) cluster: Option<String>,
    /// What, in one line.
    pub(super) problem: String,
}

/// From the testbed's record.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Recorded {
    pub(super) provider: String,
    pub(super) layout: String,
    pub(super) mesh: String,
    pub(super) mesh_version: String,
}

/// From the ledger.
#[derive(Debug, Clone, Serialize)]
pub(super) struct LastUp {
    /// Duration of the whole command.
    pub(super) total_seconds: f64,
    /// From its start to the first answered call across clusters.
    pub(super) first_cross_cluster_success_seconds: f64,
    /// Whether every artifact was in the cache.
    pub(super) warm: bool,
}

/// One cluster.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Cluster {
    pub(super) name: String,
    /// The nodes that the provider can reach; empty where it can reach none.
    pub(super) nodes: Vec<Node>,
    /// `None` where it was not asked: no node of it runs.
    pub(super) api: Option<Api>,
    pub(super) components: Vec<Component>,
    /// Pods other than those of running tests.
    pub(super) pods: Option<Pods>,
    pub(super) ingress: Option<Ingress>,
    /// The other clusters, as this one's istiod sees them.
    pub(super) peers: Vec<Peer>,
    /// Questions that were asked of a ready API server and got no answer.
    pub(super) unanswered: Vec<String>,
}

/// A node, as the provider sees it.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Node {
    pub(super) name: String,
    pub(super) state: State,
    /// More about a state other than running, for example the exit code.
    pub(super) detail: Option<String>,
    /// Memory in use, less the page cache that can be dropped at once.
    pub(super) memory_mib: Option<u64>,
    /// Use of the processors over most of a second before anything else was asked; 100 is one of them.
    pub(super) cpu_percent: Option<f64>,
    /// What is wrong with it.
    #[serde(skip)]
    problem: Option<String>,
}

impl Node {
    /// A node of which no more than its state is known.
    pub(super) fn new(name: &str, NodeState { state, detail, problem }: NodeState) -> Self {
        Self { name: name.to_owned(), state, detail, memory_mib: None, cpu_percent: None, problem }
    }
}

/// An API server.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Api {
    /// Version of Kubernetes, where the server is ready.
    pub(super) version: Option<String>,
    /// Why it is not ready.
    pub(super) error: Option<String>,
}

/// A deployment that the testbed consists of.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Component {
    /// What people call it.
    pub(super) name: &'static str,
    pub(super) namespace: &'static str,
    pub(super) deployment: &'static str,
    /// Replicas that are available; `None` where there is no such deployment.
    pub(super) available: Option<i32>,
    pub(super) wanted: i32,
}

/// How many pods there are, and which are not ready.
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
    /// Why it gave no HTTP answer; `None` where it did.
    pub(super) error: Option<String>,
}

/// Another cluster in an istiod's registry.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Peer {
    pub(super) name: String,
    /// Istio's word for it; `synced` is the good one.
    pub(super) status: String,
}

impl Peer {
    pub(super) fn is_synced(&self) -> bool {
        self.status == "synced"
    }
}

impl Component {
    pub(super) fn is_available(&self) -> bool {
        self.available.is_some_and(|available| available >= self.wanted)
    }
}

impl Status {
    /// Where there is no testbed at all.
    pub(super) fn of_none(directory: PathBuf, problem: String) -> Self {
        Self {
            schema: SCHEMA,
            healthy: false,
            problems: vec![Problem { cluster: None, problem }],
            directory,
            testbed: None,
            last_up: None,
            clusters: Vec::new(),
        }
    }
}

impl Cluster {
    /// What is wrong with it. Obvious consequences of another problem in the list are left out.
    pub(super) fn problems(&self) -> Vec<Problem> {
        let mut problems: Vec<String> = self.nodes.iter().filter_map(|node| node.problem.clone()).collect();
        if let Some(error) = self.api.as_ref().and_then(|api| api.error.as_ref()) {
            problems.push(format!("the API server is not ready: {error}"));
        }
        for component in self.components.iter().filter(|component| !component.is_available()) {
            let Component { name, namespace, deployment, wanted, .. } = component;
            problems.push(match component.available {
                None => format!("{name}: there is no deployment {namespace}/{deployment}"),
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
            namespace: "istio-system",
            deployment: "istiod",
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

    /// A node that uses something where it runs, and is a problem where it does not.
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
        cluster.components.push(Component { name: "CoreDNS", available: None, ..cluster.components[0].clone() });
        cluster.pods = Some(Pods { ready: 0, total: 1, not_ready: vec!["a/b: CrashLoopBackOff".into()] });
        cluster.ingress = Some(Ingress { address: "127.0.0.1:1".into(), error: Some("refused".into()) });
        cluster.peers[0].status = "timeout".into();
        cluster.unanswered.push("pods: no answer within 4 s".into());
        assert_eq!(
            words(&cluster),
            [
                "istiod: 0 of 1 replicas available",
                "CoreDNS: there is no deployment istio-system/istiod",
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
    fn no_testbed_is_not_healthy() {
        let status = Status::of_none("/nowhere".into(), "no testbed".into());
        assert!(!status.healthy && status.problems.len() == 1);
    }
}
