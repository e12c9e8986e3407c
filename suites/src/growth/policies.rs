//! Growth with the number of authorization policies of a workload.

use std::collections::BTreeSet;
use std::ops::Range;

use meshproof::istio::inbound_listeners;
use meshproof::{Error, Verdict, Workload};
use serde_json::{Value, json};

use super::new_sidecar::costs_little;

/// Numbers of policies.
const SIZES: [u32; 3] = [0, 10, 100];

/// What a new sidecar costs with 0, 10 and 100 policies.
///
/// Red if: a policy names 300 long paths (1 MiB of configuration and 1.8 MiB of memory each).
async fn one_more_policy_costs_little() -> Verdict {
    costs_little("policies", SIZES, policies, lacks).await
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
