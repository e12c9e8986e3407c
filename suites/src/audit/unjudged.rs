//! What the audit cannot judge is never taken for a refusal, and never for a fault of the mesh.

use std::sync::Arc;
use std::time::Duration;

use meshproof::audit::{Audit, Cell, Options, Rates, Standing, audit};
use meshproof::istio::strict;
use meshproof::k8s_openapi::api::core::v1::Pod;
use meshproof::kube::api::DeleteParams;
use meshproof::probe::{self, Outcome, Phase, Protocol, Vantage, dial};
use meshproof::record::{Requirement, Write};
use meshproof::report::Claim;
use meshproof::scope::deploy_probe;
use meshproof::{Cluster, Error, Scope, Seen, Verdict, Workload, eventually};
use serde_json::json;
use tokio::sync::Notify;

use super::SUITE;

/// Longest wait for a policy of the network to take effect, where policies are enforced at all.
const ENFORCED: Duration = Duration::from_secs(6);

/// A probe in a STRICT namespace of the test's own.
async fn strict_probe(scope: &Scope, cluster: &Arc<Cluster>, purpose: &str) -> Result<Workload, Error> {
    let namespace = scope.injected_namespace(cluster, purpose).await?;
    scope.apply(cluster, &mut strict(&namespace)).await?;
    deploy_probe(scope, cluster, &namespace).await
}

/// Claims that every port that an audit found, of those that are asked, has this verdict, and one of these words.
fn all_are(id: &str, requirement: &str, found: &Audit, standing: Standing, named: &str) -> Claim {
    let asked: Vec<&Cell> =
        found.cells.iter().filter(|cell| !cell.wire.kind.to_string().contains("own port")).collect();
    let said = |cell: &&&Cell| format!("{:?}, {}, {}", cell.standing(), cell.wire.kind, cell.why.join(", "));
    let is_right = |cell: &&Cell| cell.standing() == standing && said(&cell).contains(named);
    Claim::about(id, requirement).expects(format!("{standing:?}, `{named}`, for every port")).observes(
        &asked,
        |asked| asked.iter().map(|cell| said(&cell)).collect::<Vec<_>>().join("; "),
        |asked| !asked.is_empty() && asked.iter().all(is_right),
    )
}

/// Seen red by: the namespace made PERMISSIVE meanwhile ("expected Holds, STRICT, for every port, seen Red, PERMISSIVE").
async fn a_port_behind_a_default_deny_network_policy_is_inconclusive_and_not_strict() -> Verdict {
    Scope::run(SUITE, "a_port_behind_a_default_deny_network_policy_is_inconclusive_and_not_strict", async |scope| {
        scope.requires([Requirement::Probes, Requirement::Write(Write::Namespaces)])?;
        let cluster = &scope.testbed.clusters[0];
        let probe = strict_probe(scope, cluster, "denied").await?;
        let options = Options { namespaces: vec![probe.namespace.clone()], ..Options::default() };
        let before = Box::pin(audit(&scope.testbed, &options, |_| ())).await?;
        let requirement = "without a policy of the network, the same ports are judged";
        scope.claim(all_are("denied/before", requirement, &before, Standing::Holds, "STRICT"));
        let mut deny = json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "metadata": { "name": "deny", "namespace": probe.namespace },
            "spec": { "podSelector": {}, "policyTypes": ["Ingress"] },
        });
        scope.apply(cluster, &mut deny).await?;
        let enforced = is_enforced(cluster, &probe).await?;
        let after = Box::pin(audit(&scope.testbed, &options, |_| ())).await?;
        scope.claim(if enforced {
            let requirement = "what the network drops is inconclusive, and the policy of the network is named";
            all_are("denied/after", requirement, &after, Standing::Unclear, "deny selects the pod")
        } else {
            let requirement = "a policy of the network that nothing enforces changes nothing";
            all_are("denied/after", requirement, &after, Standing::Holds, "STRICT")
        });
        Ok(())
    })
    .await
}

/// Whether the network drops what the naked probe sends to the pod.
async fn is_enforced(cluster: &Arc<Cluster>, to: &Workload) -> Result<bool, Error> {
    let vantage = Vantage::Naked(probe::naked(cluster).await?);
    let port = probe::port(cluster, Protocol::Http1)?;
    let dropped = eventually("the policy of the network to take effect", ENFORCED, async || {
        let mut dial = dial("enforced", Protocol::Http1, &to.address, port);
        dial.timeout_ms = 1_000;
        let exchanges = vantage.dial(vec![dial]).await?;
        let dropped = *exchanges[0].outcome() == Outcome::Timeout { phase: Phase::Connect };
        let seen = exchanges[0].outcome().to_string();
        Ok::<_, Error>(if dropped { Seen::Yes(()) } else { Seen::NotYet(seen) })
    });
    Ok(dropped.await.is_ok())
}

/// Seen red by: the namespace made PERMISSIVE meanwhile, so that no port holds before the pod goes (`going/before`: 0); no
/// second look at pods in `audit::run` (`going/after`: "Unclear, … timed out while connecting").
async fn a_pod_that_goes_meanwhile_is_not_judged_and_not_red() -> Verdict {
    Scope::run(SUITE, "a_pod_that_goes_meanwhile_is_not_judged_and_not_red", async |scope| {
        scope.requires([Requirement::Probes, Requirement::Write(Write::Namespaces)])?;
        let cluster = &scope.testbed.clusters[0];
        let probe = strict_probe(scope, cluster, "going").await?;
        // So slow that the ports of the pod are asked by two commands.
        let rates = Rates { per_pod: 1, in_all: 100 };
        let options = Options { namespaces: vec![probe.namespace.clone()], rates, ..Options::default() };
        let judged = Notify::new();
        let going = async {
            judged.notified().await;
            let pods = cluster.api::<Pod>(&probe.namespace);
            let deleted = pods.delete(&probe.pod, &DeleteParams::default().grace_period(0)).await;
            deleted.map(drop).map_err(|error| Error::from(cluster.failed("delete the probe")(error)))
        };
        let mut holding = 0;
        let auditing = async {
            let found = Box::pin(audit(&scope.testbed, &options, |cell| {
                if cell.standing() == Standing::Holds {
                    holding += 1;
                    judged.notify_one();
                }
            }));
            let found = found.await;
            // Also if no port holds: the pod must not be waited for.
            judged.notify_one();
            found
        };
        let (found, gone) = tokio::join!(auditing, going);
        gone?;
        let mut found = found?;
        scope.claim(
            Claim::about("going/before", "the ports that were asked before the pod went are judged")
                .expects("at least one")
                .observes(&holding, ToString::to_string, |holding| *holding > 0),
        );
        found.cells.retain(|cell| cell.standing() != Standing::Holds);
        let requirement = "a port whose pod has gone since the inventory is not judged";
        scope.claim(all_are("going/after", requirement, &found, Standing::NotJudged, "meanwhile"));
        Ok(())
    })
    .await
}

crate::trials! {
    a_pod_that_goes_meanwhile_is_not_judged_and_not_red,
    a_port_behind_a_default_deny_network_policy_is_inconclusive_and_not_strict,
}
