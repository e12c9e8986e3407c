//! Growth with the number of authorization policies of a workload.

use std::collections::BTreeSet;
use std::ops::Range;

use meshproof::istio::inbound_listeners;
use meshproof::record::{Requirement, Write};
use meshproof::scope::removals_done;
use meshproof::{Error, Scope, Verdict, Workload};
use serde_json::{Value, json};

use super::new_sidecar::{Costs, Place};
use super::{SUITE, judge};

/// Numbers of policies.
const SIZES: [u32; 3] = [0, 10, 100];

async fn one_more_policy_costs_little() -> Verdict {
    Scope::alone(SUITE, "policies", async |scope| {
        scope.requires([Requirement::Probes, Requirement::Write(Write::Namespaces)])?;
        removals_done(&scope.testbed).await?;
        let cluster = &scope.testbed.clusters[0];
        let namespace = scope.injected_namespace(cluster, "policies").await?;
        let place = Place { cluster, namespace: &namespace };
        let (mut costs, mut made) = (Costs::default(), 0);
        for size in SIZES {
            let objects = policies(&namespace, made..size);
            made = size;
            costs.measure(scope, place, size, objects, async |workload| lacks(workload, size).await).await?;
        }
        judge(scope, costs.growths("policies")?)
    })
    .await
}

/// The first of `size` policies that the sidecar does not have.
async fn lacks(workload: &Workload, size: u32) -> Result<Option<String>, Error> {
    let listeners = inbound_listeners(workload).await?;
    let rules: BTreeSet<&str> =
        listeners.iter().flat_map(|one| &one.authorization).map(|rule| rule.policy.as_str()).collect();
    let name = |index: u32| format!("{}/{}", workload.namespace, name(index));
    Ok((0..size).map(name).find(|name| !rules.contains(name.as_str())))
}

fn name(index: u32) -> String {
    format!("p{index}")
}

/// Policies that deny what nobody asks for.
fn policies(namespace: &str, indices: Range<u32>) -> Vec<Value> {
    let policy = |index: u32| {
        json!({
            "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
            "metadata": { "name": name(index), "namespace": namespace },
            "spec": { "action": "DENY", "rules": [{ "to": [{ "operation": { "paths": [format!("/growth-{index}/*")] } }] }] },
        })
    };
    indices.map(policy).collect()
}

crate::trials! {
    one_more_policy_costs_little,
}
