//! Starts istiod again.
//!
//! istiod 1.31-alpha does not always let go of a cluster whose token is refused. If the secret changes or goes before the
//! first sync, it has two registries of one cluster, or reads no remote secret any more.

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt};

use super::error::{Error, Result};
use crate::cluster::{self, availability, watch_one};

/// Label of every istiod's deployment.
const ISTIOD: &str = "app=istiod";

/// Longest wait for a new istiod.
const BOUND: Duration = Duration::from_secs(90);

/// Starts every istiod of a namespace again, whatever its revision. Waits until the new ones are available and the old
/// ones end.
///
/// # Errors
/// [`Error::Cluster`].
pub(crate) async fn restart(client: &Client, cluster: &str, namespace: &str) -> Result<()> {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    let failed = |source| -> Error {
        let (cluster, doing) = (cluster.to_owned(), format!("start istiod in {namespace} again"));
        cluster::Error::Api { cluster, doing, source: Box::new(source) }.into()
    };
    let listed = deployments.list_metadata(&ListParams::default().labels(ISTIOD)).await.map_err(failed)?;
    for istiod in listed.items.iter().map(ResourceExt::name_any) {
        let restarted = deployments.restart(&istiod).await.map_err(failed)?;
        let generation = restarted.metadata.generation;
        let want = format!("a new pod of deployment {namespace}/{istiod} in {cluster}");
        let is_new = |found: Option<&Deployment>| {
            let found = found.filter(|found| found.metadata.generation >= generation);
            availability(found)
        };
        watch_one(deployments.clone(), &istiod, want, BOUND, is_new).await?;
    }
    Ok(())
}
