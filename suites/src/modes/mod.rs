//! The truth table of mutual TLS: every mode of servers, at every level, against every kind of client and protocol.
//!
//! Each cell is foretold by the model in `meshproof::policy` from the policies in effect, dialled, and told from what both
//! ends saw. `target/meshproof/modes/truth-table.json` has all cells ([reference](../../../docs/reference/truth-table.md)).
//! Needs a live testbed (`cargo xtask testbed up`).

mod cases;
mod cells;
mod columns;
mod judge;
mod objects;
mod observe;
mod rows;
mod stage;

use meshproof::istio::configuration;
use meshproof::policy::Mode;
use meshproof::record::{Requirement, Write};
use meshproof::report::{Claim, State};
use meshproof::{Scope, Verdict};
use serde_json::json;

use columns::Rule;
use stage::Stage;

const SUITE: &str = "modes";

/// All modes of namespaces, workloads and ports, and rules of clients and services.
///
/// Red if a policy of one row is changed behind the suite's back, for example
/// `kubectl -n NAMESPACE-OF-strict patch peerauthentication workload-disable-z --type merge -p '{"spec":{"mtls":{"mode":"STRICT"}}}'`.
async fn every_cell_is_as_the_model_foretells() -> Verdict {
    Scope::run(SUITE, "every_cell_is_as_the_model_foretells", async |scope| {
        scope.requires([Requirement::Probes, Requirement::AccessLog, Requirement::Write(Write::Namespaces)])?;
        let cluster = &scope.testbed.clusters[0];
        let ports = stage::ports_of(cluster)?.iter().map(|port| port.number).collect::<Vec<u16>>();
        let stage = Stage::set(scope, rows::groups(&ports), &Rule::ALL).await?;
        let table = judge::judge(scope, &stage).await?;
        println!("{} cells: {:?}", table.cells.len(), table.counts());
        assert!(table.counts().get(&State::Holds).is_some_and(|holding| *holding > 1_000), "the table is not empty");
        Ok(())
    })
    .await
}

/// Modes of the whole mesh: what a namespace without a mode inherits, and what overrides it.
///
/// Red if the policy in the root namespace is removed behind the suite's back:
/// `kubectl -n istio-system delete peerauthentication meshproof-modes`.
async fn a_mode_of_the_mesh_is_inherited_and_overridden(mode: &'static str) -> Verdict {
    Scope::alone(SUITE, format!("a_mode_of_the_mesh_{mode}"), async |scope| {
        let writes = [Write::Namespaces, Write::Objects].map(Requirement::Write);
        scope.requires([Requirement::Probes, Requirement::AccessLog].into_iter().chain(writes))?;
        for cluster in &scope.testbed.clusters {
            let root = &cluster.record().istio.namespace;
            let policy = json!({
                "apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication",
                "metadata": { "name": "meshproof-modes", "namespace": root }, "spec": { "mtls": { "mode": mode } },
            });
            scope.place(cluster, policy).await?;
        }
        for cluster in &scope.testbed.clusters {
            let in_effect = configuration(cluster).await.policies.of_namespace("of no name");
            if in_effect != Mode::of(mode) {
                let reason = "the mesh has a policy in the root namespace already, and the oldest counts";
                scope.claim(Claim::not_declared(format!("modes/mesh-{mode}/{}", cluster.name()), reason));
                return Ok(());
            }
        }
        let stage = Stage::set(scope, rows::of_mesh(mode), &[Rule::IstioMutual]).await?;
        judge::judge(scope, &stage).await.map(drop)
    })
    .await
}

crate::trials! {
    every_cell_is_as_the_model_foretells,
    // Before those that need the mesh alone, so that they run beside the table.
    mod cases,
    a_mode_of_the_mesh_is_inherited_and_overridden {
        strict("STRICT"),
        permissive("PERMISSIVE"),
        disable("DISABLE"),
    },
}
