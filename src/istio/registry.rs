//! istiod's registry of the clusters of a mesh.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::future::join_all;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;

use crate::cluster::{Cluster, Error, Workload, brief, http};

/// Port of istiod's debug pages.
const DEBUG: u16 = 8080;

/// An entry of istiod's `/debug/clusterz`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Registered {
    /// Name of the cluster.
    pub id: String,
    /// How far istiod has read the cluster.
    pub sync_status: String,
}

impl Registered {
    /// The status of a cluster that istiod has read.
    pub const SYNCED: &str = "synced";
}

/// Label by which istiod finds remote secrets.
pub(crate) const MULTI_CLUSTER: &str = "istio/multiCluster";

/// The entries in an answer of `/debug/clusterz`.
///
/// # Errors
/// The answer is not such a list.
pub fn registered(answer: &str) -> serde_json::Result<Vec<Registered>> {
    serde_json::from_str(answer)
}

/// An object in istiod's `/debug/configz`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Configured {
    /// Kind, namespace and name, as `KIND NAMESPACE/NAME`.
    pub object: String,
    /// The version that istiod has read.
    pub version: String,
}

/// The ready istiods of a cluster.
///
/// # Errors
/// The errors of [`Cluster::ready_pods`].
pub async fn istiods(cluster: &Arc<Cluster>) -> Result<Vec<Workload>, Error> {
    let istio = &cluster.record().istio;
    let pods = cluster.ready_pods(&istio.namespace, &istio.control_plane.selector).await?;
    Ok(pods.iter().filter_map(|pod| Workload::of(cluster, pod)).collect())
}

/// The clusters that all istiods of a cluster see, each with the worst status that one of them tells.
///
/// # Errors
/// The reason, as text: an istiod cannot be asked.
pub async fn seen_by_istiod(cluster: &Arc<Cluster>) -> Result<BTreeMap<String, String>, String> {
    let istiods = istiods(cluster).await.map_err(|error| error.to_string())?;
    let mut seen = BTreeMap::new();
    for registered in join_all(istiods.iter().map(seen_by)).await {
        worst(&mut seen, registered?);
    }
    Ok(seen)
}

/// The clusters that one istiod sees.
///
/// # Errors
/// The reason, as text: it cannot be asked.
pub async fn seen_by(istiod: &Workload) -> Result<Vec<Registered>, String> {
    let answer = asked(istiod, DEBUG, "/debug/clusterz").await?;
    registered(&answer).map_err(|error| format!("istiod's answer is unreadable: {error}"))
}

/// The objects that one istiod has read: policies, routes, gateways and the like.
///
/// # Errors
/// The reason, as text: it cannot be asked.
pub async fn configured(istiod: &Workload) -> Result<BTreeSet<Configured>, String> {
    /// As far as it is read. Some kinds are made by istiod and have no version.
    #[derive(Deserialize)]
    struct Object {
        kind: String,
        metadata: ObjectMeta,
    }
    let answer = asked(istiod, DEBUG, "/debug/configz").await?;
    let objects: Vec<Object> =
        serde_json::from_str(&answer).map_err(|error| format!("istiod's answer is unreadable: {error}"))?;
    let of = |Object { kind, metadata }: Object| Configured {
        object: format!("{kind} {}/{}", metadata.namespace.unwrap_or_default(), metadata.name.unwrap_or_default()),
        version: metadata.resource_version.unwrap_or_default(),
    };
    Ok(objects.into_iter().map(of).collect())
}

/// The answer of an istiod to a GET of `path` at `port`, through the API server.
pub(super) async fn asked(istiod: &Workload, port: u16, path: &str) -> Result<String, String> {
    let asking = async {
        let pods = istiod.cluster.api::<Pod>(&istiod.namespace);
        let forwarded = pods.portforward(&istiod.pod, &[port]).await;
        let mut forwarded = forwarded.map_err(|error| format!("no port-forward to {istiod}: {}", brief(&error)))?;
        let stream = forwarded.take_stream(port).ok_or("the port-forward has no stream")?;
        http::get(stream, path).await
    };
    http::bounded(asking).await
}

/// Adds what one istiod sees. A cluster that one of several istiods does not see, is not seen.
pub(crate) fn worst(seen: &mut BTreeMap<String, String>, registered: Vec<Registered>) {
    for Registered { id, sync_status } in registered {
        let known = seen.entry(id).or_insert_with(|| sync_status.clone());
        if known.as_str() == Registered::SYNCED {
            *known = sync_status;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_of_two_istiods_does_not_see_is_not_seen() {
        let answer = |status: &str| -> Vec<Registered> {
            registered(&format!(
                r#"[{{"id":"east","secretName":"","syncStatus":"synced"}},{{"id":"west","syncStatus":"{status}"}}]"#
            ))
            .unwrap()
        };
        for order in [["synced", "timeout"], ["timeout", "synced"]] {
            let mut seen = BTreeMap::new();
            order.iter().for_each(|status| worst(&mut seen, answer(status)));
            assert_eq!(seen["west"], "timeout");
            assert_eq!(seen["east"], Registered::SYNCED);
        }
    }
}
