//! What a cluster enforces, as declared: the mesh-wide policy, Pod Security and quotas of namespaces, network policies,
//! and the agents on every node.

use anyhow::{Context, Result};
use k8s_openapi::api::apps::v1::DaemonSet;
use kube::Client;
use kube::api::Api;
use meshproof::Seen;
use meshproof::cluster::watch_one;

use super::install::{BOUND, Member, SYSTEM};
use super::values;
use crate::declaration::Namespace;
use crate::kubernetes::{self, Kind};

/// Namespace of the agent that enforces network policies.
const KUBE_SYSTEM: &str = "kube-system";

/// DaemonSet of Istio's CNI agent.
const CNI: &str = "istio-cni-node";

/// Kind of the mesh-wide policy.
const POLICY: Kind<'static> = Kind { version: "security.istio.io/v1", name: "PeerAuthentication" };

/// Label of the mesh-wide policy.
const POLICY_LABEL: &str = "meshproof.dev/declared=policy";

/// Kind of the quotas.
const QUOTA: Kind<'static> = Kind { version: "v1", name: "ResourceQuota" };

/// Label of the quotas.
const QUOTA_LABEL: &str = "meshproof.dev/declared=quota";

impl Member<'_> {
    /// Writes the declared namespaces with what they enforce, and what enforces network policies.
    pub(super) async fn enforce(&self) -> Result<()> {
        let mut quotas = Vec::new();
        for namespace in &self.declaration.namespaces {
            let Namespace { name, injected, pod_security, quota } = namespace;
            let labels = values::of_namespace(&self.declaration.istio, *injected, *pod_security);
            let values = [("NAMESPACE", name.clone()), ("NAMESPACE_LABELS", labels)];
            self.apply_for(&values, "mesh/workload-namespace.yaml").await?;
            if *quota {
                quotas.extend(self.apply_for(&values, "mesh/quota.yaml").await?);
            }
        }
        kubernetes::prune(&self.target.client, &[QUOTA], QUOTA_LABEL, &quotas).await?;
        if self.declared.network_policies {
            let values = [("POD_SUBNET", self.declared.pods.to_string())];
            self.apply_for(&values, "clusters/network-policies.yaml").await?;
        }
        Ok(())
    }

    /// Writes the mesh-wide policy, or removes it if none is declared.
    pub(super) async fn mesh_policy(&self) -> Result<()> {
        let declared = match self.declaration.mesh.policy {
            Some(mode) => self.apply_for(&[("POLICY", mode.name().to_owned())], "mesh/mesh-policy.yaml").await?,
            None => Vec::new(),
        };
        kubernetes::prune(&self.target.client, &[POLICY], POLICY_LABEL, &declared).await
    }

    /// Waits until Istio's CNI agent, if declared, runs on the nodes that have joined.
    pub(super) async fn redirects(&self) -> Result<()> {
        match self.declaration.istio.cni {
            true => wait_for_daemon_set(&self.target.client, SYSTEM, CNI).await,
            false => Ok(()),
        }
    }

    /// Waits until the declared agents run on every node. Nothing is enforced on a node before its agent runs.
    pub(crate) async fn node_agents(&self) -> Result<()> {
        let cni = self.declaration.istio.cni.then_some((SYSTEM, CNI));
        let policies = self.declared.network_policies.then_some((KUBE_SYSTEM, "kube-network-policies"));
        let agents: Vec<_> = [cni, policies].into_iter().flatten().collect();
        if agents.is_empty() {
            return Ok(());
        }
        self.step("agents on every node", async {
            for (namespace, name) in agents {
                wait_for_daemon_set(&self.target.client, namespace, name).await?;
            }
            Ok(())
        })
        .await
    }
}

/// Waits until every node runs the newest template of a DaemonSet.
async fn wait_for_daemon_set(client: &Client, namespace: &str, name: &str) -> Result<()> {
    let daemon_sets: Api<DaemonSet> = Api::namespaced(client.clone(), namespace);
    let want = format!("{namespace}/{name} to be ready on every node");
    let waited = watch_one(daemon_sets, name, want, BOUND, readiness).await;
    match waited {
        Ok(()) => Ok(()),
        Err(error) => Err(error).context(kubernetes::why_not_available(client, namespace).await),
    }
}

fn readiness(daemon_set: Option<&DaemonSet>) -> Seen<()> {
    let Some(daemon_set) = daemon_set else { return Seen::NotYet("no such DaemonSet".into()) };
    let status = daemon_set.status.clone().unwrap_or_default();
    let current = status.observed_generation >= daemon_set.metadata.generation;
    let (wanted, ready) = (status.desired_number_scheduled, status.number_ready);
    let updated = status.updated_number_scheduled.unwrap_or(0);
    if current && wanted > 0 && updated >= wanted && ready >= wanted {
        return Seen::Yes(());
    }
    Seen::NotYet(format!("{ready} of {wanted} ready"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn judged(generation: i64, wanted: i32, updated: i32, ready: i32) -> bool {
        let daemon_set = json!({
            "metadata": {"generation": generation},
            "status": {
                "observedGeneration": 2,
                "desiredNumberScheduled": wanted,
                "currentNumberScheduled": wanted,
                "numberMisscheduled": 0,
                "updatedNumberScheduled": updated,
                "numberReady": ready,
            },
        });
        let daemon_set: DaemonSet = serde_json::from_value(daemon_set).unwrap();
        matches!(readiness(Some(&daemon_set)), Seen::Yes(()))
    }

    #[test]
    fn an_agent_is_ready_when_every_node_runs_its_newest_template() {
        assert!(judged(2, 3, 3, 3));
        assert!(!judged(3, 3, 3, 3), "the template is newer than the status");
        assert!(!judged(2, 0, 0, 0), "no node is known yet");
        assert!(!judged(2, 3, 2, 3), "a node runs an older template");
        assert!(!judged(2, 3, 3, 2), "a node's agent is not ready");
        assert!(matches!(readiness(None), Seen::NotYet(_)));
    }
}
