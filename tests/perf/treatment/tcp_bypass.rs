//! The eBPF TCP bypass, enabled per node by a label. An agent on each node counts the redirected traffic.

use std::sync::Arc;
use std::time::Duration;

use meshproof::cluster;
use meshproof::compare::{Bench, Counted, Treatment};
use meshproof::judge::Run;
use meshproof::record::treatment::TCP_BYPASS;
use meshproof::record::{Requirement, Write};
use meshproof::{Cluster, Error, Result, Scope, Seen, Workload, eventually};
use meshproof_tcp_bypass::{Counters, Traffic};

const SELECTOR: &str = "app=tcp-bypass";

/// Label of nodes with the bypass (`fixtures/perf/tcp-bypass.yaml`).
const NODE_LABEL: &str = "meshproof.dev/tcp-bypass";

/// Longest wait for the agent to start or stop. Redirected data is read to its end first.
const SWITCHED: Duration = Duration::from_secs(60);

/// Longest wait for the agent to find a ready pod. The agent looks every second.
const FOUND: Duration = Duration::from_secs(5);

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

    /// Switches the bypass on or off on every node, and waits for the effect. The end of the test switches the bypass
    /// off.
    ///
    /// # Errors
    /// [`Error::NotInTime`], with the last log of the agent's container if the agent does not start.
    pub(crate) async fn switch(&self, scope: &Scope, on: bool) -> Result<()> {
        scope.label_nodes(&self.cluster, NODE_LABEL, on.then_some("on")).await?;
        if !on {
            return Ok(self.cluster.no_pods(Self::NAMESPACE, SELECTOR, SWITCHED).await?);
        }
        Workload::await_ready(&self.cluster, Self::NAMESPACE, SELECTOR, SWITCHED).await?;
        Ok(())
    }

    /// Counters since the bypass was switched on, and the data that sockets of `pods` have sent past TCP, since the
    /// switch or since the pods' start. Zero while the bypass is off. Pods that opt out are included.
    ///
    /// # Errors
    /// [`Error::Exec`]: the agent's answer cannot be parsed. [`Error::NotInTime`]: the agent does not know a pod, so
    /// the counters are incomplete.
    async fn counters(&self, pods: &[&Workload]) -> Result<(Counters, Traffic)> {
        Ok(eventually("the bypass to know whose messages to count".to_owned(), FOUND, async || {
            let Some(counters) = self.ask().await? else { return Ok::<_, Error>(Seen::Yes(Default::default())) };
            Ok(match sum(&counters, pods) {
                Ok(traffic) => Seen::Yes((counters, traffic)),
                Err(unknown) => Seen::NotYet(format!("no namespace has the address of {unknown}")),
            })
        })
        .await?)
    }

    /// The agent's counters, if there is an agent.
    async fn ask(&self) -> cluster::Result<Option<Counters>> {
        let agent = match self.agent().await {
            Err(cluster::Error::NoPod { .. }) => return Ok(None),
            other => other?,
        };
        let command = ["/tcp-bypass", "counters"];
        let output = self.cluster.exec(agent.container("tcp-bypass"), &command, None).await?;
        serde_json::from_str(&output)
            .map(Some)
            .map_err(|error| agent.unusable(command.join(" "), format!("its counters cannot be read: {error}")))
    }

    async fn agent(&self) -> cluster::Result<Workload> {
        Workload::find(&self.cluster, Self::NAMESPACE, SELECTOR).await
    }
}

/// Counters of the bypass.
#[derive(Debug, Default)]
pub(crate) struct Redirected {
    /// All pods of the cluster.
    all: Counters,
    /// The pods of one arm.
    arm: Traffic,
}

impl Treatment for TcpBypass {
    type Counters = Redirected;

    async fn count(&self, bench: &Bench) -> Result<Redirected> {
        let (all, arm) = self.counters(&bench.pods()).await?;
        Ok(Redirected { all, arm })
    }

    fn receipts(&self, counted: &Counted<Redirected>, run: &mut Run) {
        let Counted { before, after } = counted;
        let since = |after: u64, before: u64| after.saturating_sub(before) as f64;
        let messages = since(after.arm.messages, before.arm.messages);
        let per_request = messages / run.requests.max(1) as f64;
        run.receipts.insert("redirected_messages".into(), messages);
        run.receipts.insert("redirected_messages_per_request".into(), per_request);
        let failures = since(after.all.failures.total(), before.all.failures.total());
        run.receipts.insert("bypass_failures".into(), failures);
    }

    fn namespaces(&self) -> Vec<String> {
        vec![Self::NAMESPACE.to_owned()]
    }
}

/// The sum over all `pods`, or the first unknown pod as an error.
fn sum(counters: &Counters, pods: &[&Workload]) -> std::result::Result<Traffic, String> {
    let mut sum = Traffic::default();
    for pod in pods {
        let namespace = pod.address.parse().ok().and_then(|address| counters.at(address));
        let sent = namespace.ok_or_else(|| format!("{}/{}, {}", pod.namespace, pod.pod, pod.address))?.redirected;
        sum.messages += sent.messages;
        sum.bytes += sent.bytes;
    }
    Ok(sum)
}
