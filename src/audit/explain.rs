//! What explains a finding: the policy, the annotation, the missing sidecar. It stands beside a verdict, and makes none.

use super::inventory::Inventory;
use super::kind::Kind;
use super::pod::{Pod, PortKey};
use crate::policy::{Effective, Policies};

/// The explanations of what was found at a port.
pub(super) fn explain(
    inventory: &Inventory,
    pod: &Pod,
    key: PortKey,
    kind: &Kind,
    effective: Option<&Effective>,
) -> Vec<String> {
    let mut why = Vec::new();
    if !pod.proxy.is_sidecar() {
        why.push(pod.proxy.to_string());
    }
    if let Some(uncaptured) = pod.uncaptured.as_ref().filter(|one| pod.proxy.is_sidecar() && one.covers(key.number)) {
        let (annotation, value) = (uncaptured.annotation, &uncaptured.value);
        why.push(format!("its annotation {annotation} is `{value}`: the sidecar leaves this port to the application"));
    }
    match (pod.proxy.is_sidecar(), effective, &inventory.policies) {
        (true, Some(effective), _) => {
            why.push(effective.by.clone());
            why.extend(effective.without_effect.iter().cloned());
        }
        (true, None, Policies::Unknown { reason }) => why.push(format!("its policy is unknown: {reason}")),
        _ => {}
    }
    if matches!(kind, Kind::Inconclusive { .. }) {
        let restrictions = inventory.restrictions(pod);
        if !restrictions.is_empty() {
            let names = restrictions.join(", ");
            why.push(format!("NetworkPolicy {names} selects the pod, and may drop what the probe sends"));
        }
    }
    if !pod.ready && !matches!(kind, Kind::Strict) {
        why.push("the pod is not ready".into());
    }
    why
}
