//! What istiod of a cluster reads of mutual TLS, for the model in [`policy`](crate::policy).

use std::sync::Arc;

use kube::api::{Api, DynamicObject, ListParams};
use kube::core::GroupVersionKind;
use serde_json::Value;

use crate::cluster::{Cluster, Result};
use crate::policy::{Configuration, DestinationRule, PeerAuthentication, Policies};

/// The `PeerAuthentication`s and `DestinationRule`s of a cluster, of all namespaces: those of the mesh, of a namespace and
/// of a client count together. Policies that cannot be listed are [unknown](Policies::Unknown).
pub async fn configuration(cluster: &Arc<Cluster>) -> Configuration {
    let root = cluster.record().istio.namespace.clone();
    let (policies, rules) = futures::join!(
        listed(cluster, "security.istio.io", "PeerAuthentication"),
        listed(cluster, "networking.istio.io", "DestinationRule"),
    );
    let policies = match policies {
        Ok(objects) => Policies::Known { root, policies: objects.iter().filter_map(PeerAuthentication::of).collect() },
        Err(error) => Policies::Unknown { reason: error.to_string() },
    };
    // Rules only explain an audit, and a cluster that does not show them has none to show.
    let rules = rules.unwrap_or_default().iter().filter_map(DestinationRule::of).collect();
    Configuration { policies, rules, domain: cluster.record().domain.clone() }
}

/// All objects of one of Istio's kinds.
async fn listed(cluster: &Arc<Cluster>, group: &str, kind: &str) -> Result<Vec<Value>> {
    let kind = GroupVersionKind::gvk(group, "v1", kind);
    let what = format!("list all {} objects", kind.kind);
    let known = kube::discovery::pinned_kind(&cluster.client(), &kind).await;
    let (resource, _) = known.map_err(cluster.failed(&what))?;
    let api: Api<DynamicObject> = Api::all_with(cluster.client(), &resource);
    let objects = api.list(&ListParams::default()).await.map_err(cluster.failed(what))?.items;
    // An object that was read from JSON can be written as JSON.
    Ok(objects.iter().filter_map(|object| serde_json::to_value(object).ok()).collect())
}
