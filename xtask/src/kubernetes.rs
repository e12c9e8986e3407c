//! Writes objects to a cluster, and waits until the cluster matches them.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures::future::try_join_all;
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, ContainerState, Node, Pod};
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::discovery::{ApiCapabilities, ApiResource, Scope};
use kube::runtime::watcher;
use kube::{Client, Resource, ResourceExt};
use meshproof::cluster::access::Kubeconfigs;
use meshproof::cluster::{availability, watch_all, watch_one};
use meshproof::{Seen, eventually};
use serde_json::json;

use crate::progress;

const FIELD_MANAGER: &str = "meshproof";

/// Number of objects that are written at the same time.
const WRITES: usize = 8;

/// ConfigMap in the cluster that records the finished work on the cluster.
const STATE: &str = "meshproof-state";

/// A client for `context` of the kubeconfig at `path`.
pub(crate) async fn client(path: &Path, context: &str) -> Result<Client> {
    Ok(Kubeconfigs::load(&[path.to_owned()])?.client(context).await?)
}

/// Waits until the API server reports that it is ready. Polls, because no watch can begin before that.
pub(crate) async fn wait_for_api(client: &Client, bound: Duration) -> Result<()> {
    let ready = eventually("the API server to be ready", bound, async || -> Result<Seen<()>> {
        let request = http::Request::get("/readyz").body(Vec::new())?;
        client.request_text(request).await?;
        Ok(Seen::Yes(()))
    });
    Ok(ready.await?)
}

/// Waits until every replica of a deployment has the newest template and is available.
pub(crate) async fn wait_for_deployment(client: &Client, namespace: &str, name: &str, bound: Duration) -> Result<()> {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    let want = format!("every replica of deployment {namespace}/{name} to be available");
    match watch_one(deployments, name, want, bound, availability).await {
        Ok(()) => Ok(()),
        Err(error) => Err(error).context(why_not_available(client, namespace).await),
    }
}

/// As [`wait_for_deployment`], for every deployment of a namespace.
pub(crate) async fn wait_for_deployments(client: &Client, namespace: &str, bound: Duration) -> Result<()> {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    let deployments = deployments.list(&ListParams::default()).await.context("cannot list the deployments")?;
    let names: Vec<String> = deployments.items.iter().map(ResourceExt::name_any).collect();
    let waits = names.iter().map(|name| wait_for_deployment(client, namespace, name, bound));
    try_join_all(waits).await.map(drop)
}

/// The container states that keep a namespace's pods from becoming ready.
pub(crate) async fn why_not_available(client: &Client, namespace: &str) -> String {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let Ok(pods) = pods.list(&ListParams::default()).await else {
        return format!("the pods of {namespace} cannot be listed");
    };
    let states = pods.items.iter().flat_map(|pod| {
        let status = pod.status.clone().unwrap_or_default();
        let containers = status.init_container_statuses.into_iter().chain(status.container_statuses).flatten();
        containers.filter(|container| !container.ready).filter_map(|container| {
            let state = container.state?;
            let waiting = state.waiting.map(|waiting| {
                format!("{} {}", waiting.reason.unwrap_or_default(), waiting.message.unwrap_or_default())
            });
            let ended = state.terminated.map(|ended| format!("ended with {}", ended.exit_code));
            let state = waiting.or(ended).unwrap_or_else(|| "running, not ready".into());
            Some(format!("{}/{}: {state}", pod.name_any(), container.name))
        })
    });
    states.collect::<Vec<_>>().join("; ")
}

/// Waits until the node is ready.
pub(crate) async fn wait_for_node(client: &Client, name: &str, bound: Duration) -> Result<()> {
    let nodes: Api<Node> = Api::all(client.clone());
    let ready = watch_one(nodes, name, format!("node {name} to be ready"), bound, |node| match node {
        Some(node) if is_ready(node) => Seen::Yes(()),
        Some(_) => Seen::NotYet("it is not ready".into()),
        None => Seen::NotYet("it has not joined".into()),
    });
    Ok(ready.await?)
}

/// Waits until every container of every pod on the node runs, is ready, and has a start time of at least `since`
/// (seconds after the epoch). After a restart of a node, the API server first reports the old state of the node's pods.
pub(crate) async fn wait_for_pods_since(client: &Client, node: &str, since: i64, bound: Duration) -> Result<()> {
    let pods: Api<Pod> = Api::all(client.clone());
    let on_node = watcher::Config::default().fields(&format!("spec.nodeName={node}"));
    let again = watch_all(pods, on_node, format!("every pod on {node} to run again"), bound, |pods| {
        none_of(pods.iter().copied().filter(|pod| !runs_since(pod, since)))
    });
    Ok(again.await?)
}

/// Waits until the cluster has nodes and every node is ready.
pub(crate) async fn wait_for_nodes(client: &Client, bound: Duration) -> Result<()> {
    let nodes: Api<Node> = Api::all(client.clone());
    Ok(watch_all(nodes, watcher::Config::default(), "every node to be ready", bound, readiness).await?)
}

fn readiness(nodes: &[&Node]) -> Seen<()> {
    if nodes.is_empty() {
        return Seen::NotYet("there is no node".into());
    }
    none_of(nodes.iter().copied().filter(|node| !is_ready(node)))
}

fn is_ready(node: &Node) -> bool {
    let mut conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// Whether no object lacks what is wanted.
fn none_of<'a, K: Resource + 'a>(lacking: impl Iterator<Item = &'a K>) -> Seen<()> {
    let names: Vec<String> = lacking.map(ResourceExt::name_any).collect();
    if names.is_empty() { Seen::Yes(()) } else { Seen::NotYet(format!("not {}", names.join(", "))) }
}

fn runs_since(pod: &Pod, since: i64) -> bool {
    let Some(status) = &pod.status else { return false };
    if matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")) {
        return true;
    }
    let containers = status.container_statuses.as_deref().unwrap_or_default();
    let runs =
        |state: &ContainerState| state.running.as_ref()?.started_at.as_ref().map(|time| time.0.as_second() >= since);
    !containers.is_empty()
        && containers
            .iter()
            .all(|container| container.ready && container.state.as_ref().and_then(runs).unwrap_or(false))
}

/// Scales a deployment from no replicas to one.
pub(crate) async fn revive(client: &Client, namespace: &str, name: &str) -> Result<()> {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    let found = deployments.get(name).await.with_context(|| format!("cannot read deployment {namespace}/{name}"))?;
    if found.spec.and_then(|spec| spec.replicas) == Some(0) {
        progress::count_command();
        let scale = Patch::Merge(json!({"spec": {"replicas": 1}}));
        let scaled = deployments.patch_scale(name, &PatchParams::default(), &scale).await;
        scaled.with_context(|| format!("cannot scale deployment {namespace}/{name}"))?;
    }
    Ok(())
}

/// Writes all objects of a YAML document, by server-side apply.
///
/// # Errors
/// Fails if the text is not YAML, or the API server refuses an object. The error names the object.
pub(crate) async fn apply(client: &Client, yaml: &str) -> Result<Vec<Id>> {
    apply_objects(client, &parse(yaml)?).await
}

/// The objects of a YAML document.
///
/// # Errors
/// Fails if the text is not YAML, or not a list of objects.
pub(crate) fn parse(yaml: &str) -> Result<Vec<DynamicObject>> {
    serde_saphyr::from_multiple(yaml).context("not a list of Kubernetes objects")
}

/// As [`apply`], for objects that are already parsed.
///
/// # Errors
/// Fails as [`apply`] does.
pub(crate) async fn apply_objects(client: &Client, objects: &[DynamicObject]) -> Result<Vec<Id>> {
    let mut applied = Vec::new();
    for order in [Order::First, Order::Between, Order::Last] {
        let now: Vec<&DynamicObject> = objects.iter().filter(|object| Order::of(object) == order).collect();
        let kinds = kinds_of(client, &now).await?;
        let writes = now.into_iter().map(|object| write(client, &kinds, object));
        applied.extend(stream::iter(writes).buffered(WRITES).try_collect::<Vec<_>>().await?);
    }
    Ok(applied)
}

/// When an object is written, among others that are written together.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    /// What other objects are in or of.
    First,
    Between,
    /// What runs pods: a pod needs its account and its configuration.
    Last,
}

impl Order {
    fn of(object: &DynamicObject) -> Self {
        match object.types.as_ref().map(|types| types.kind.as_str()) {
            Some("Namespace" | "CustomResourceDefinition") => Self::First,
            Some("Deployment" | "DaemonSet" | "StatefulSet" | "Job" | "Pod") => Self::Last,
            _ => Self::Between,
        }
    }
}

/// The kinds that the cluster knows, by `apiVersion` and `kind`.
type Kinds = BTreeMap<(String, String), (ApiResource, ApiCapabilities)>;

async fn kinds_of(client: &Client, objects: &[&DynamicObject]) -> Result<Kinds> {
    let types = objects.iter().map(|object| object.types.as_ref().context("an object without apiVersion and kind"));
    let types: BTreeSet<(&str, &str)> = types
        .map(|types| types.map(|types| (types.api_version.as_str(), types.kind.as_str())))
        .collect::<Result<_>>()?;
    let found = types.into_iter().map(async |(version, name)| {
        let found = Kind { version, name }.find(client).await?;
        anyhow::Ok(((version.to_owned(), name.to_owned()), found))
    });
    Ok(try_join_all(found).await?.into_iter().collect())
}

async fn write(client: &Client, kinds: &Kinds, object: &DynamicObject) -> Result<Id> {
    let types = object.types.clone().context("an object without apiVersion and kind")?;
    let what = format!("{} {}/{}", types.kind, object.namespace().unwrap_or_default(), object.name_any());
    let kind = kinds.get(&(types.api_version, types.kind.clone()));
    let (resource, ApiCapabilities { scope, .. }) = kind.with_context(|| format!("{what} is of an unknown kind"))?;
    let api: Api<DynamicObject> = match (scope, object.namespace()) {
        (Scope::Namespaced, Some(namespace)) => Api::namespaced_with(client.clone(), &namespace, resource),
        (Scope::Namespaced, None) => bail!("{what} has no namespace"),
        (Scope::Cluster, _) => Api::all_with(client.clone(), resource),
    };
    progress::count_command();
    tracing::debug!(object = what, "writing");
    let parameters = PatchParams::apply(FIELD_MANAGER).force();
    let written = api.patch(&object.name_any(), &parameters, &Patch::Apply(object)).await;
    written.with_context(|| format!("cannot write {what}"))?;
    Ok(Id { kind: types.kind, namespace: object.namespace().unwrap_or_default(), name: object.name_any() })
}

/// Identifies an object among all objects of a cluster of the kinds in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Id {
    kind: String,
    namespace: String,
    name: String,
}

/// A kind of objects.
#[derive(Clone, Copy)]
pub(crate) struct Kind<'a> {
    /// Group and version, for example `networking.istio.io/v1`. Only the version for the core group.
    pub(crate) version: &'a str,
    /// Name, for example `Gateway`.
    pub(crate) name: &'a str,
}

impl Kind<'_> {
    async fn find(self, client: &Client) -> Result<(ApiResource, ApiCapabilities)> {
        let (group, version) = self.version.split_once('/').unwrap_or(("", self.version));
        let found = kube::discovery::pinned_kind(client, &GroupVersionKind::gvk(group, version, self.name)).await;
        found.with_context(|| format!("the cluster does not know {} {}", self.version, self.name))
    }
}

/// Removes the objects of these kinds that have the labels and are not in `keep`.
///
/// # Errors
/// Fails if the objects cannot be listed or an object cannot be removed. The error names the object.
pub(crate) async fn prune(client: &Client, kinds: &[Kind<'_>], labels: &str, keep: &[Id]) -> Result<()> {
    try_join_all(kinds.iter().map(|kind| prune_kind(client, *kind, labels, keep))).await.map(drop)
}

async fn prune_kind(client: &Client, kind: Kind<'_>, labels: &str, keep: &[Id]) -> Result<()> {
    let (resource, _) = kind.find(client).await?;
    let kind = kind.name;
    let everywhere: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
    let listed = everywhere.list(&ListParams::default().labels(labels)).await;
    for object in listed.with_context(|| format!("cannot list the objects of kind {kind} with {labels}"))? {
        let namespace = object.namespace().unwrap_or_default();
        let id = Id { kind: kind.to_owned(), namespace, name: object.name_any() };
        if keep.contains(&id) {
            continue;
        }
        progress::count_command();
        tracing::debug!(kind, namespace = id.namespace, name = id.name, "removing");
        let api: Api<DynamicObject> = match object.namespace() {
            Some(namespace) => Api::namespaced_with(client.clone(), &namespace, &resource),
            None => everywhere.clone(),
        };
        // Background deletion is not the default of every kind: the pods of a Job would outlive the Job.
        unless_gone(api.delete(&id.name, &DeleteParams::background()).await)
            .with_context(|| format!("cannot remove {kind} {}/{}", id.namespace, id.name))?;
    }
    Ok(())
}

/// Removes a node from Kubernetes, with its pods: a new node of that name would start them again, and until then they
/// would count as ready.
///
/// # Errors
/// Fails if the API server refuses. The error names the object.
pub(crate) async fn forget_node(client: &Client, name: &str) -> Result<()> {
    progress::count_command();
    let nodes: Api<Node> = Api::all(client.clone());
    unless_gone(nodes.delete(name, &DeleteParams::default()).await)
        .with_context(|| format!("cannot remove node {name}"))?;
    let pods: Api<Pod> = Api::all(client.clone());
    let of_node = ListParams::default().fields(&format!("spec.nodeName={name}"));
    let pods = pods.list(&of_node).await.with_context(|| format!("cannot list the pods of node {name}"))?;
    let deleting = pods.items.iter().map(async |pod| {
        let (namespace, pod) = (pod.namespace().unwrap_or_default(), pod.name_any());
        let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace);
        unless_gone(pods.delete(&pod, &DeleteParams::default().grace_period(0)).await)
            .with_context(|| format!("cannot remove pod {namespace}/{pod} of node {name}"))
    });
    try_join_all(deleting).await.map(drop)
}

/// The answer to a deletion, where it is no fault that the object is gone.
fn unless_gone<T>(answer: kube::Result<T>) -> kube::Result<()> {
    match answer {
        Err(kube::Error::Api(error)) if error.code == 404 => Ok(()),
        other => other.map(drop),
    }
}

/// Does `work`, unless the cluster's own record shows that the work is done for the same inputs.
///
/// # Errors
/// Fails if `work` fails. Nothing is recorded then, and the next run repeats the work.
pub(crate) async fn once(
    client: &Client,
    name: &str,
    inputs: &str,
    work: impl Future<Output = Result<()>>,
) -> Result<()> {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "kube-system");
    let state = maps.get_opt(STATE).await.context("cannot read the cluster's state")?;
    let hash = crate::artifacts::Key::new(name).text(inputs).finish();
    if state.and_then(|map| map.data?.remove(name)).is_some_and(|recorded| recorded == hash) {
        progress::mark_cached();
        return Ok(());
    }
    work.await?;
    progress::mark_made();
    let patch = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": STATE, "namespace": "kube-system"},
        "data": {name: hash},
    });
    // Each entry has its own field manager. With a shared manager, server-side apply would remove the other entries.
    let parameters = PatchParams::apply(&format!("{FIELD_MANAGER}-{name}")).force();
    maps.patch(STATE, &parameters, &Patch::Apply(patch)).await.context("cannot record the cluster's state")?;
    Ok(())
}

#[cfg(test)]
mod tests;
