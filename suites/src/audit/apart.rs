//! Pods that have no sidecar for a reason of their own: the audit names the reason.

use std::sync::Arc;

use meshproof::attach::PROVIDER;
use meshproof::audit::{Audit, Cell, Options, Standing, audit};
use meshproof::istio::injection;
use meshproof::probe;
use meshproof::record::{self, Label, Requirement, Write};
use meshproof::report::Claim;
use meshproof::scope::{ProbePlan, deploy_probes};
use meshproof::{Cluster, Scope, Verdict};
use serde_json::json;

use super::SUITE;

/// Label that makes Kubernetes refuse pods that do not comply with a level of Pod Security.
const POD_SECURITY: &str = "pod-security.kubernetes.io/enforce";

/// Label of a namespace or pod in the ambient mesh, or out of it.
const DATAPLANE: &str = "istio.io/dataplane-mode";

fn label(key: &str, value: &str) -> Label {
    Label { key: key.into(), value: value.into() }
}

/// Claims that the audit says `kind` and `why` of the port `number` of every pod of `workload`.
fn told(id: &str, requirement: &str, found: &Audit, workload: &str, number: u16, owed: Told) -> Claim {
    let cells: Vec<&Cell> =
        found.cells.iter().filter(|cell| cell.workload.name == workload && cell.port.number == number).collect();
    let said = |cell: &&Cell| format!("{:?}, {}, {}", cell.standing(), cell.wire.kind, cell.why.join(", "));
    let Told { standing, kind, named } = owed;
    let is_right =
        |cell: &&Cell| cell.standing() == standing && cell.wire.kind.name() == kind && said(cell).contains(named);
    Claim::about(id, requirement)
        .to(format!("{workload}:{number}"))
        .expects(format!("{kind}, {standing:?}, `{named}`"))
        .observes(
            &cells,
            |cells| match cells.as_slice() {
                [] => "no such port in the audit".to_owned(),
                some => some.iter().map(said).collect::<Vec<_>>().join("; "),
            },
            |cells| !cells.is_empty() && cells.iter().all(is_right),
        )
}

/// What the audit must say of a port.
struct Told {
    standing: Standing,
    kind: &'static str,
    named: &'static str,
}

/// Alone: two pods in the network of one node cannot have the same ports.
///
/// Red when broken: without the look at `hostNetwork` in `audit::pod`, the reason is that the pod is older than the
/// namespace's label.
async fn a_pod_in_the_network_of_its_node_is_told_as_such() -> Verdict {
    Scope::alone(SUITE, "a_pod_in_the_network_of_its_node_is_told_as_such", async |scope| {
        scope.requires([Requirement::Probes, Requirement::Write(Write::Namespaces)])?;
        if scope.testbed.record.provider == PROVIDER {
            let what = "a pod in the network of a node: it needs a namespace of Pod Security `privileged`";
            return Err(record::Error::not_declared(what).into());
        }
        let cluster = &scope.testbed.clusters[0];
        let labels = [cluster.record().istio.injection.clone(), label(POD_SECURITY, "privileged")];
        let namespace = scope.namespace(cluster, "host", &labels).await?;
        let plans = [
            ProbePlan { name: "on-node".into(), host_network: true, ..ProbePlan::default() },
            ProbePlan { name: "beside".into(), ..ProbePlan::default() },
        ];
        let ports = probe::declared(cluster)?.ports;
        for ProbePlan { name, .. } in &plans {
            serve(scope, cluster, &namespace, name, ports.http).await?;
        }
        scope.apply(cluster, &mut meshproof::istio::strict(&namespace)).await?;
        deploy_probes(scope, cluster, &namespace, &plans).await?;
        let options = Options { namespaces: vec![namespace], ..Options::default() };
        let found = Box::pin(audit(&scope.testbed, &options, |_| ())).await?;
        let requirement = "a pod in the network of its node has no sidecar, and the audit says why";
        let owed = Told { standing: Standing::Red, kind: "plaintext only", named: "it shares its node's network" };
        scope.claim(told("host-network/told", requirement, &found, "on-node", ports.http, owed));
        let requirement = "the same pod in a network of its own takes mutual TLS only (the control)";
        let owed = Told { standing: Standing::Holds, kind: "STRICT", named: "" };
        scope.claim(told("host-network/control", requirement, &found, "beside", ports.http, owed));
        Ok(())
    })
    .await
}

/// A namespace of the ambient mesh by its label: the testbed has no ztunnel, and the audit asks none.
///
/// Red when broken: if an audit of nothing but such ports is an error, as it was.
async fn a_namespace_of_the_ambient_mesh_is_not_judged_by_name() -> Verdict {
    Scope::run(SUITE, "a_namespace_of_the_ambient_mesh_is_not_judged_by_name", async |scope| {
        scope.requires([Requirement::Probes, Requirement::Write(Write::Namespaces)])?;
        let cluster = &scope.testbed.clusters[0];
        let labels = [injection(&cluster.record().istio, false), label(DATAPLANE, "ambient")];
        let namespace = scope.namespace(cluster, "waves", &labels).await?;
        let plan = |name: &str, labels| ProbePlan { name: name.into(), labels, ..ProbePlan::default() };
        let ashore = plan("ashore", [(DATAPLANE.into(), "none".into())].into());
        let ports = probe::declared(cluster)?.ports;
        serve(scope, cluster, &namespace, "surf", ports.http).await?;
        deploy_probes(scope, cluster, &namespace, &[plan("surf", Default::default())]).await?;
        let options = Options { namespaces: vec![namespace.clone()], ..Options::default() };
        let found = Box::pin(audit(&scope.testbed, &options, |_| ())).await?;
        let requirement = "a port in a namespace of the ambient mesh is not judged, by name";
        let owed = || Told { standing: Standing::NotJudged, kind: "not judged", named: "ambient mode is not judged" };
        scope.claim(told("ambient/told", requirement, &found, "surf", ports.http, owed()));
        serve(scope, cluster, &namespace, "ashore", ports.http).await?;
        deploy_probes(scope, cluster, &namespace, &[ashore]).await?;
        let found = Box::pin(audit(&scope.testbed, &options, |_| ())).await?;
        scope.claim(told("ambient/beside", requirement, &found, "surf", ports.http, owed()));
        let requirement = "a pod of the same namespace that is not in the ambient mesh is asked (the control)";
        let owed = Told { standing: Standing::Shown, kind: "plaintext only", named: "outside the mesh" };
        scope.claim(told("ambient/control", requirement, &found, "ashore", ports.http, owed));
        Ok(())
    })
    .await
}

/// A service of the pods `name`.
async fn serve(
    scope: &Scope,
    cluster: &Arc<Cluster>,
    namespace: &str,
    name: &str,
    port: u16,
) -> Result<(), meshproof::Error> {
    let mut service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": name, "namespace": namespace },
        "spec": { "selector": { "app": name }, "ports": [{ "name": "http", "port": port }] },
    });
    scope.apply(cluster, &mut service).await
}

crate::trials! {
    a_namespace_of_the_ambient_mesh_is_not_judged_by_name,
    a_pod_in_the_network_of_its_node_is_told_as_such,
}
