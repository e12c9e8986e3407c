//! Waits for a deployed probe, and tells soon why it cannot start.

use std::fmt::Debug;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, Event, Pod, PodStatus};
use kube::api::{Api, DeleteParams, ListParams};
use kube::runtime::watcher;
use kube::{Resource, ResourceExt};
use serde::de::DeserializeOwned;

use crate::cluster::{Cluster, Error, Result, Seen, availability, watch_all, watch_one};
use crate::record::Probe;

/// Longest wait for a probe, with its image and its proxy.
const BOUND: Duration = Duration::from_secs(90);

/// A trouble that lasts longer does not pass by itself. The report is due 10 s after the trouble began.
const LASTING: Duration = Duration::from_secs(4);

/// States in which a container waits though all is well.
const STARTING: [&str; 2] = ["ContainerCreating", "PodInitializing"];

/// Waits until the probe's deployment is available. Returns whether it was not at first. A deployment that cannot start
/// is removed: Kubernetes would try it again only after longer and longer pauses, also when the cause is gone.
///
/// # Errors
/// [`Error::NotStarted`], with what Kubernetes says. [`Error::NotInTime`].
pub(crate) async fn available(cluster: &Cluster, probe: &Probe) -> Result<bool> {
    let Probe { namespace, deployment, .. } = probe;
    let deployments: Api<Deployment> = cluster.api(namespace);
    let named = watcher::Config::default().fields(&format!("metadata.name={deployment}"));
    let selected = watcher::Config::default().labels(&probe.selector);
    let has_waited = AtomicBool::new(false);
    let want = format!("deployment {namespace}/{deployment} of {} to be available", cluster.name());
    let rollout = watch_one(deployments.clone(), deployment, want, BOUND, |found| {
        let seen = availability(found);
        has_waited.fetch_or(seen != Seen::Yes(()), Ordering::Relaxed);
        seen
    });
    let reason = tokio::select! {
        biased;
        rolled_out = rollout => match rolled_out {
            Ok(()) => return Ok(has_waited.into_inner()),
            Err(late) => match warning(cluster, namespace, deployment).await {
                Some(warning) => format!("not available after {} s: {warning}", BOUND.as_secs()),
                None => return Err(late),
            },
        },
        reason = lasting(deployments.clone(), named, |found| refusal(found.first().copied())) => reason,
        reason = lasting(cluster.api(namespace), selected, |pods| pods.iter().find_map(|pod| trouble(pod))) => reason,
    };
    if let Err(error) = deployments.delete(deployment, &DeleteParams::background()).await {
        tracing::warn!(%error, namespace, deployment, "a deployment that cannot start is left behind");
    }
    let (namespace, deployment) = (namespace.clone(), deployment.clone());
    Err(Error::NotStarted { cluster: cluster.name().into(), namespace, deployment, reason })
}

/// Waits for a trouble of the objects that does not pass, and returns its description. Never ends while all is well.
async fn lasting<K>(api: Api<K>, which: watcher::Config, describe: impl Fn(&[&K]) -> Option<String>) -> String
where
    K: Clone + Debug + Send + DeserializeOwned + Resource + 'static,
{
    loop {
        let began = watch_all(api.clone(), which.clone(), "a trouble", BOUND, |objects| match describe(objects) {
            Some(trouble) => Seen::Yes(trouble),
            None => Seen::NotYet("none".into()),
        });
        let Ok(trouble) = began.await else { continue };
        let passed = watch_all(api.clone(), which.clone(), "it to pass", LASTING, |objects| match describe(objects) {
            None => Seen::Yes(()),
            Some(trouble) => Seen::NotYet(trouble),
        });
        if passed.await.is_err() {
            return trouble;
        }
    }
}

/// Why no pod can be created, for example for a quota or by admission.
fn refusal(deployment: Option<&Deployment>) -> Option<String> {
    let Some(deployment) = deployment else { return Some("it is gone".into()) };
    let status = deployment.status.as_ref()?;
    if status.observed_generation < deployment.metadata.generation {
        return None;
    }
    let is_refusal =
        |kind: &str, state: &str| matches!((kind, state), ("ReplicaFailure", "True") | ("Progressing", "False"));
    let mut conditions = status.conditions.iter().flatten();
    let refusal = conditions.find(|condition| is_refusal(&condition.type_, &condition.status))?;
    Some(said(refusal.reason.as_deref(), refusal.message.as_deref()))
}

/// Why a pod does not run: it has no node, or a container cannot start or does not keep running.
fn trouble(pod: &Pod) -> Option<String> {
    if pod.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let status = pod.status.as_ref()?;
    let of_pod = || {
        (status.phase.as_deref() == Some("Failed")).then(|| said(status.reason.as_deref(), status.message.as_deref()))
    };
    let reason = of_pod().or_else(|| unscheduled(status)).or_else(|| {
        let mut containers =
            [&status.init_container_statuses, &status.container_statuses].into_iter().flatten().flatten();
        containers.find_map(stuck)
    })?;
    Some(format!("pod {}: {reason}", pod.name_any()))
}

fn unscheduled(status: &PodStatus) -> Option<String> {
    let mut conditions = status.conditions.iter().flatten();
    let found = conditions.find(|condition| condition.type_ == "PodScheduled" && condition.status == "False")?;
    Some(said(found.reason.as_deref(), found.message.as_deref()))
}

fn stuck(container: &ContainerStatus) -> Option<String> {
    let state = container.state.as_ref()?;
    let failed = |ended: &ContainerStateTerminated| {
        (ended.exit_code != 0).then(|| {
            let said = said(ended.reason.as_deref(), ended.message.as_deref());
            format!("ended with exit code {}: {said}", ended.exit_code)
        })
    };
    let waiting = state.waiting.as_ref().and_then(|waiting| {
        let reason = waiting.reason.as_deref().filter(|reason| !STARTING.contains(reason))?;
        let before = container.last_state.as_ref().and_then(|last| failed(last.terminated.as_ref()?));
        let said = said(Some(reason), waiting.message.as_deref());
        Some(before.map_or(said.clone(), |before| format!("{said}; it {before}")))
    });
    let reason = waiting.or_else(|| failed(state.terminated.as_ref()?))?;
    Some(format!("container {}: {reason}", container.name))
}

/// The last warning about the deployment and what it made, as Kubernetes words it.
async fn warning(cluster: &Cluster, namespace: &str, deployment: &str) -> Option<String> {
    let events = cluster.api::<Event>(namespace).list(&ListParams::default().fields("type=Warning")).await.ok()?;
    let about = |event: &&Event| {
        let name = event.involved_object.name.as_deref().unwrap_or_default();
        name.strip_prefix(deployment).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    };
    let time = |event: &&Event| event.last_timestamp.as_ref().map(|time| time.0);
    let last = events.items.iter().filter(about).max_by_key(time)?;
    let object = &last.involved_object;
    let (kind, name) = (object.kind.as_deref().unwrap_or_default(), object.name.as_deref().unwrap_or_default());
    Some(format!("{kind} {name}: {}", said(last.reason.as_deref(), last.message.as_deref())))
}

fn said(reason: Option<&str>, message: Option<&str>) -> String {
    [reason, message].into_iter().flatten().filter(|text| !text.is_empty()).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests;
