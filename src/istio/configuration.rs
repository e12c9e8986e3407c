//! What istiod of a cluster reads of mutual TLS, for the model in [`policy`](crate::policy).

use std::sync::Arc;

use kube::api::DynamicObject;
use serde_json::Value;

use crate::cluster::Cluster;
use crate::policy::{Configuration, DestinationRule, PeerAuthentication, Policies};

/// The `PeerAuthentication`s and `DestinationRule`s of a cluster, of all namespaces: those of the mesh, of a namespace and
/// of a client count together. Policies that cannot be listed are [unknown](Policies::Unknown).
pub async fn configuration(cluster: &Arc<Cluster>) -> Configuration {
    let (policies, rules) =
        futures::join!(peer_authentications(cluster), cluster.list("networking.istio.io", "DestinationRule"));
    // Rules only explain an audit, and a cluster that does not show them has none to show.
    let rules = json(&rules.unwrap_or_default()).filter_map(|rule| DestinationRule::of(&rule)).collect();
    Configuration { policies, rules, domain: cluster.record().domain.clone() }
}

/// The `PeerAuthentication`s of a cluster, of all namespaces. Policies that cannot be listed are
/// [unknown](Policies::Unknown).
pub async fn peer_authentications(cluster: &Cluster) -> Policies {
    let root = cluster.record().istio.namespace.clone();
    match cluster.list("security.istio.io", "PeerAuthentication").await {
        Ok(objects) => {
            let policies = json(&objects).filter_map(|object| PeerAuthentication::of(&object)).collect();
            Policies::Known { root, policies }
        }
        Err(error) => Policies::Unknown { reason: error.to_string() },
    }
}

/// The objects as JSON: what was read from JSON can be written as JSON.
fn json(objects: &[DynamicObject]) -> impl Iterator<Item = Value> {
    objects.iter().filter_map(|object| serde_json::to_value(object).ok())
}
