//! What `status` says of a testbed, and what in it is a problem.

use std::path::PathBuf;

use serde::Serialize;

/// Schema identifier of the JSON.
pub(super) const SCHEMA: &str = "meshproof.status/v1";

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
    /// The container it runs in; `None` where this machine does not run it.
    pub(super) container: Option<Container>,
    /// `None` where it was not asked: its container does not run.
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

/// A node's container.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Container {
    pub(super) name: String,
    pub(super) state: State,
    /// More about a state other than running, for example the exit code.
    pub(super) detail: Option<String>,
    /// Memory in use, less the page cache that can be dropped at once.
    pub(super) memory_mib: Option<u64>,
    /// Use of the processors over most of a second before anything else was asked; 100 is one of them.
    pub(super) cpu_percent: Option<f64>,
}

/// What a container does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    Running,
    Paused,
    Stopped,
    Missing,
    /// The engine did not say.
    Unknown,
}

impl State {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
            Self::Missing => "missing",
            Self::Unknown => "unknown",
        }
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
    /// What is wrong with it. A consequence of another problem in the list is left out where it is plain.
    pub(super) fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if let Some(container) = &self.container {
            let Container { name, detail, .. } = container;
            let detail = detail.as_ref().map(|detail| format!(" ({detail})")).unwrap_or_default();
            match container.state {
                State::Paused => problems.push(format!("container {name} is paused: `docker unpause {name}`")),
                State::Stopped => problems.push(format!("container {name} is stopped{detail}")),
                State::Missing => problems.push(format!("container {name} does not exist")),
                // That of an engine that does not answer is told once, not for each cluster.
                State::Running | State::Unknown => {}
            }
        }
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
            container: Some(Container {
                name: "meshproof-cluster1".into(),
                state: State::Running,
                detail: None,
                memory_mib: Some(811),
                cpu_percent: Some(11.4),
            }),
            api: Some(Api { version: Some("v1.34.3".into()), error: None }),
            components: vec![component],
            pods: Some(Pods { ready: 11, total: 11, not_ready: vec![] }),
            ingress: Some(Ingress { address: "127.0.0.1:32778".into(), error: None }),
            peers: vec![Peer { name: "cluster2".into(), status: "synced".into() }],
            unanswered: vec![],
        }
    }

    pub(in super::super) fn stopped() -> Cluster {
        let container = Container {
            name: "meshproof-cluster2".into(),
            state: State::Stopped,
            detail: Some("exit code 137".into()),
            memory_mib: None,
            cpu_percent: None,
        };
        Cluster { name: "cluster2".into(), container: Some(container), ..Cluster::default() }
    }

    fn words(cluster: &Cluster) -> Vec<String> {
        cluster.problems().into_iter().map(|problem| problem.problem).collect()
    }

    #[test]
    fn a_healthy_cluster_has_no_problem() {
        assert_eq!(words(&healthy()), [""; 0]);
    }

    #[test]
    fn a_stopped_container_is_the_only_problem_told() {
        assert_eq!(words(&stopped()), ["container meshproof-cluster2 is stopped (exit code 137)"]);
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
