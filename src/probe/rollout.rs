//! Waits for a deployed probe, and tells soon why it cannot start.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Api, DeleteParams};

use crate::cluster::{Cluster, NoStart, Result, Seen, availability, watch_one};
use crate::record::Probe;

/// Longest wait for a probe, with its image and its proxy.
const BOUND: Duration = Duration::from_secs(90);

/// Waits until the probe's deployment is available. Returns whether it was not at first. A deployment that cannot start
/// is removed: Kubernetes would try it again only after longer and longer pauses, also when the cause is gone.
///
/// # Errors
/// [`NotStarted`](crate::cluster::Error::NotStarted), with what Kubernetes says.
/// [`NotInTime`](crate::cluster::Error::NotInTime).
pub(crate) async fn available(cluster: &Cluster, probe: &Probe) -> Result<bool> {
    let Probe { namespace, deployment, .. } = probe;
    let deployments: Api<Deployment> = cluster.api(namespace);
    let has_waited = AtomicBool::new(false);
    let want = format!("deployment {namespace}/{deployment} of {} to be available", cluster.name());
    let rollout = watch_one(deployments.clone(), deployment, want, BOUND, |found| {
        let seen = availability(found);
        has_waited.fetch_or(seen != Seen::Yes(()), Ordering::Relaxed);
        seen
    });
    let trouble = tokio::select! {
        biased;
        rolled_out = rollout => match rolled_out {
            Ok(()) => return Ok(has_waited.into_inner()),
            Err(late) => match warning(cluster, namespace, deployment).await {
                Some(warning) => NoStart::of(format!("not available after {} s: {warning}", BOUND.as_secs())),
                None => return Err(late),
            },
        },
        trouble = cluster.lasting_refusal(namespace, deployment) => trouble,
        trouble = cluster.lasting_trouble(namespace, &probe.selector) => trouble,
    };
    if let Err(error) = deployments.delete(deployment, &DeleteParams::background()).await {
        tracing::warn!(%error, namespace, deployment, "a deployment that cannot start is left behind");
    }
    Err(cluster.not_started(namespace, deployment, trouble))
}

/// The last warning about the deployment and what it made, as Kubernetes words it.
async fn warning(cluster: &Cluster, namespace: &str, deployment: &str) -> Option<String> {
    let is_about =
        |name: &str| name.strip_prefix(deployment).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'));
    cluster.last_warning(namespace, is_about).await
}

#[cfg(test)]
mod tests;
