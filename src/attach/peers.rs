//! The other clusters of a mesh: whose remote secrets there are, and whom istiod sees.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::ResourceExt;

use super::control_planes::ControlPlane;
use super::error::Result;
use super::found::Peers;
use super::reader::{Reader, place};
use crate::cluster::http;
use crate::istio::{self, Registered};

/// Annotation of a remote secret with the name of its cluster.
const CLUSTER: &str = "networking.istio.io/cluster";

/// Port of istiod's debug pages.
const DEBUG: u16 = 8080;

/// The other clusters of the mesh, as seen from the cluster `own`. Only the metadata of secrets is read: they are keys to
/// other clusters.
///
/// # Errors
/// [`Error::Cluster`](super::Error::Cluster).
pub(super) async fn find(reader: &Reader, plane: &ControlPlane, istiods: &[Pod], own: &str) -> Result<Peers> {
    let so = "whose remote secrets there are, is unknown";
    let secrets = reader.metadata::<Secret>(&plane.namespace(), &format!("{}=true", istio::MULTI_CLUSTER), so).await?;
    let secrets = secrets.map(|secrets| {
        let name = |secret: &kube::api::PartialObjectMeta<Secret>| {
            let annotated = secret.annotations().get(CLUSTER).cloned();
            annotated.unwrap_or_else(|| secret.name_any().trim_start_matches("istio-remote-secret-").to_owned())
        };
        secrets.iter().map(name).collect::<BTreeSet<_>>()
    });
    let asked = futures::future::join_all(istiods.iter().map(|istiod| seen_by(reader, istiod))).await;
    let mut seen: Option<BTreeMap<String, String>> = None;
    for (istiod, answer) in istiods.iter().zip(asked) {
        match answer {
            Ok(registered) => istio::worst(seen.get_or_insert_default(), registered),
            Err(reason) => reader.note(
                format!("ask istiod {} for its clusters", place(istiod)),
                reason,
                "whether it sees the other clusters, is unknown",
            ),
        }
    }
    if let Some(seen) = &mut seen {
        seen.remove(own);
    }
    Ok(Peers { secrets, seen })
}

async fn seen_by(reader: &Reader, istiod: &Pod) -> Result<Vec<Registered>, String> {
    let namespace = istiod.namespace().unwrap_or_default();
    let answer = http::bounded(async {
        let stream = reader.connect(&namespace, &istiod.name_any(), DEBUG).await?;
        http::get(stream, "/debug/clusterz").await
    });
    istio::registered(&answer.await?).map_err(|error| format!("its answer is unreadable: {error}"))
}
