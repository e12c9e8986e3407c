//! The eBPF TCP bypass of a cluster's nodes: on where a node has its label, with an agent that counts what it did.

use std::sync::Arc;
use std::time::Duration;

use meshproof_tcp_bypass::{Counters, Traffic};

use super::{TCP_BYPASS, TCP_BYPASS_LABEL};
use crate::cluster::{self, Cluster, Workload};
use crate::cluster::{Seen, eventually};
use crate::record::Requirement;
use crate::scope::Scope;
use crate::scope::{Error, Result};

const SELECTOR: &str = "app=tcp-bypass";

/// Bound on the agent's coming and going: what was redirected is read to its end first.
const SWITCHED: Duration = Duration::from_secs(60);

/// Bound on the agent's finding a pod that is ready: it looks each second.
const FOUND: Duration = Duration::from_secs(5);

/// The bypass of one cluster.
#[derive(Debug, Clone)]
pub struct TcpBypass {
    cluster: Arc<Cluster>,
}

impl TcpBypass {
    /// Where its agents are.
    pub const NAMESPACE: &str = "meshproof-bypass";

    /// That of `cluster`.
    ///
    /// # Errors
    /// [`NotDeclared`](crate::record::Error::NotDeclared) where the testbed has none.
    pub fn of(scope: &Scope, cluster: &Arc<Cluster>) -> Result<Self> {
        scope.requires([Requirement::Treatment(TCP_BYPASS)])?;
        Ok(Self { cluster: Arc::clone(cluster) })
    }

    /// Has it on, or off, on every node, and returns when it is so. It is off again when the test ends.
    ///
    /// # Errors
    /// [`NotInTime`](crate::cluster::Error::NotInTime), with what the agent's container said last where it does not start.
    pub async fn switch(&self, scope: &Scope, on: bool) -> Result<()> {
        scope.label_nodes(&self.cluster, TCP_BYPASS_LABEL, on.then_some("on")).await?;
        if !on {
            return Ok(self.cluster.no_pods(Self::NAMESPACE, SELECTOR, SWITCHED).await?);
        }
        Ok(eventually(format!("the bypass to run in {}", self.cluster.name()), SWITCHED, async || {
            match self.agent().await {
                Ok(_) => Ok(Seen::Yes(())),
                Err(cluster::Error::NoPod { seen, .. }) => Ok(Seen::NotYet(seen)),
                Err(error) => Err(error),
            }
        })
        .await?)
    }

    /// What it has done since it was switched on, and of that, what sockets of these pods have sent past TCP since, or since the
    /// pods were there; nothing while it is off. A pod that opts out is told, too.
    ///
    /// # Errors
    /// [`Exec`](crate::cluster::Error::Exec) where the agent's answer cannot be read; [`NotInTime`](crate::cluster::Error::NotInTime) where the agent does not know a pod: that
    /// would not be nothing.
    pub async fn counters(&self, pods: &[&Workload]) -> Result<(Counters, Traffic)> {
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

/// Of all of `pods`; or the first that is not known.
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
