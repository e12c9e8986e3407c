//! The eBPF TCP bypass, enabled per node by a label. An agent on each node counts the redirected traffic.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::ResourceExt;
use kube::api::{Api, ListParams};
use meshproof::cluster::{self, Container, is_ready};
use meshproof::compare::{Bench, Counted, Treatment};
use meshproof::judge::Run;
use meshproof::record::treatment::TCP_BYPASS;
use meshproof::record::{Requirement, Write};
use meshproof::{Cluster, Error, Result, Scope, Seen, Workload, eventually};
use meshproof_tcp_bypass::{Counters, Traffic};

/// Label of nodes with the bypass (`fixtures/perf/tcp-bypass.yaml`).
const NODE_LABEL: &str = "meshproof.dev/tcp-bypass";

/// Longest wait for the agents to start, and for others to stop. Redirected data is read to its end first.
const SWITCHED: Duration = Duration::from_secs(60);

/// Longest wait for an agent to find a ready pod. An agent looks every second.
const FOUND: Duration = Duration::from_secs(5);

/// The connections that the bypass treats. Each has agents of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Treated {
    /// Between sidecars of one node, and between an application and its sidecar.
    All,
    /// Between sidecars of one node.
    BetweenPods,
}

impl Treated {
    /// Value of the node label, and of the agents' label `app`.
    fn labels(self) -> (&'static str, &'static str) {
        match self {
            Self::All => ("on", "tcp-bypass"),
            Self::BetweenPods => ("between-pods", "tcp-bypass-between-pods"),
        }
    }
}

/// The bypass of one cluster.
#[derive(Debug, Clone)]
pub(crate) struct TcpBypass {
    cluster: Arc<Cluster>,
}

impl TcpBypass {
    /// Namespace of the agents.
    const NAMESPACE: &str = "meshproof-bypass";

    /// Finds the bypass of `cluster`.
    ///
    /// # Errors
    /// [`Error::NotDeclared`]: the testbed has no bypass.
    pub(crate) fn find(scope: &Scope, cluster: &Arc<Cluster>) -> Result<Self> {
        scope.requires([Requirement::Treatment(TCP_BYPASS), Requirement::Write(Write::NodeLabels)])?;
        Ok(Self { cluster: Arc::clone(cluster) })
    }

    /// Switches the bypass on, on every node, and waits until the agent of every node treats new connections. The end
    /// of the test switches the bypass off.
    ///
    /// # Errors
    /// The errors of [`Cluster::await_pods`], with the nodes that have no ready agent.
    pub(crate) async fn switch_on(&self, scope: &Scope, treated: Treated) -> Result<()> {
        let (value, app) = treated.labels();
        let nodes = Api::<Node>::all(self.cluster.client()).list(&ListParams::default()).await;
        let nodes: Vec<String> =
            nodes.map_err(self.cluster.failed("list the nodes"))?.iter().map(|node| node.name_any()).collect();
        scope.label_nodes(&self.cluster, NODE_LABEL, Some(value)).await?;
        let want = format!("a ready agent of the bypass on each node of {}, and no other", self.cluster.name());
        let switched = self.cluster.await_pods(Self::NAMESPACE, "", want, SWITCHED, |pods| {
            let is_ours = |pod: &Pod| pod.labels().get("app").is_some_and(|label| label == app);
            if let Some(other) = pods.iter().find(|pod| !is_ours(pod)) {
                return Seen::NotYet(format!("{} is there", other.name_any()));
            }
            let has_agent = |node: &&String| pods.iter().any(|pod| is_ready(pod) && on(pod) == Some(node.as_str()));
            let missing: Vec<&str> = nodes.iter().filter(|node| !has_agent(node)).map(String::as_str).collect();
            if missing.is_empty() { Seen::Yes(()) } else { Seen::NotYet(format!("none on {}", missing.join(", "))) }
        });
        Ok(switched.await?)
    }

    /// Counters of the agents on the nodes of `bench`, since the bypass was switched on. Zero while the bypass is off.
    /// Pods that opt out are included.
    ///
    /// # Errors
    /// [`Error::Exec`]: an agent's answer cannot be parsed. [`Error::NotInTime`]: an agent does not know a pod, so the
    /// counters are incomplete.
    async fn counters(&self, bench: &Bench) -> Result<Redirected> {
        Ok(eventually("the bypass to know whose messages to count".to_owned(), FOUND, async || {
            let agents = self.ask(bench).await?;
            Ok::<_, Error>(match Redirected::of(&agents, &bench.pods()) {
                Ok(redirected) => Seen::Yes(redirected),
                Err(unknown) => Seen::NotYet(format!("no namespace has the address of {unknown}")),
            })
        })
        .await?)
    }

    /// The counters of the agents on the nodes of `bench`, by node. A node without an agent is left out.
    async fn ask(&self, bench: &Bench) -> cluster::Result<BTreeMap<String, Counters>> {
        let mut counters = BTreeMap::new();
        let agents = match self.cluster.ready_pods(Self::NAMESPACE, "").await {
            Err(cluster::Error::NoPod { .. }) => return Ok(counters),
            other => other?,
        };
        for node in bench.nodes() {
            let Some(agent) = agents.iter().find(|agent| on(agent) == Some(node)) else { continue };
            let pod = agent.name_any();
            let at = Container { namespace: Self::NAMESPACE, pod: &pod, container: "tcp-bypass" };
            let command = ["/tcp-bypass", "counters"];
            let output = self.cluster.exec(at, &command, None).await?;
            let parsed = serde_json::from_str(&output).map_err(|error| cluster::Error::Exec {
                cluster: self.cluster.name().into(),
                namespace: Self::NAMESPACE.into(),
                pod: pod.clone(),
                command: command.join(" ").into(),
                reason: format!("its counters cannot be read: {error}").into(),
            })?;
            counters.insert(node.to_owned(), parsed);
        }
        Ok(counters)
    }
}

/// The node of a pod.
fn on(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref()
}

/// Counters of the bypass, on the nodes of one arm.
#[derive(Debug, Default)]
pub(crate) struct Redirected {
    /// Number of nodes with an agent.
    nodes: usize,
    /// Sockets on these nodes that could not be treated.
    failures: u64,
    /// Sent past TCP by the pods of the arm.
    arm: Traffic,
}

impl Redirected {
    /// The sums over the agents of all nodes, or the first pod as an error that its node's agent does not know.
    fn of(agents: &BTreeMap<String, Counters>, pods: &[&Workload]) -> std::result::Result<Self, String> {
        let failures = agents.values().map(|counters| counters.failures.total()).sum();
        let mut sums = Self { nodes: agents.len(), failures, arm: Traffic::default() };
        for pod in pods {
            let Some(agent) = agents.get(&pod.node) else { continue };
            let namespace = pod.address.parse().ok().and_then(|address| agent.at(address));
            let sent = namespace.ok_or_else(|| format!("{}/{}, {}", pod.namespace, pod.pod, pod.address))?.redirected;
            sums.arm.messages += sent.messages;
            sums.arm.bytes += sent.bytes;
        }
        Ok(sums)
    }
}

impl Treatment for TcpBypass {
    type Counters = Redirected;

    async fn count(&self, bench: &Bench) -> Result<Redirected> {
        self.counters(bench).await
    }

    fn receipts(&self, counted: &Counted<Redirected>, run: &mut Run) {
        let Counted { before, after } = counted;
        let since = |after: u64, before: u64| after.saturating_sub(before) as f64;
        let messages = since(after.arm.messages, before.arm.messages);
        let per_request = messages / run.requests.max(1) as f64;
        run.receipts.insert("redirected_messages".into(), messages);
        run.receipts.insert("redirected_messages_per_request".into(), per_request);
        run.receipts.insert("bypass_failures".into(), since(after.failures, before.failures));
        // Without an agent on each node, no message is counted, and a zero proves nothing.
        run.receipts.insert("bypass_nodes".into(), before.nodes.min(after.nodes) as f64);
    }

    fn namespaces(&self) -> Vec<String> {
        vec![Self::NAMESPACE.to_owned()]
    }
}
