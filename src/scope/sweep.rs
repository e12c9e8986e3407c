//! Clean-up of what killed tests left in a cluster.

use std::collections::BTreeSet;
use std::fmt::Debug;

use futures::StreamExt;
use futures::stream;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace, Node, Secret};
use kube::api::{Api, DeleteParams, DynamicObject, ListParams};
use kube::core::PartialObjectMeta;
use kube::discovery::{ApiCapabilities, ApiResource, Discovery, verbs};
use kube::{Client, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::error::{Error, Result};
use super::label::RUN_LABEL;
use super::{istiod, prior};
use crate::cluster::{self, Permission, code, permission, request};
use crate::probe::PROBES_LABEL;
use crate::record::Write;

/// Most concurrent requests.
const CONCURRENCY: usize = 8;

/// What was cleaned up in a cluster.
#[derive(Debug, Default)]
pub struct Swept {
    /// What was removed or restored. What was in a removed namespace is not listed.
    pub done: Vec<String>,
    /// The error of each kind that may not be listed (403). Objects of ours may be among them.
    pub denied: Vec<Error>,
    /// Every other error.
    pub failures: Vec<Error>,
}

impl Swept {
    fn gather(&mut self, results: Vec<Result<String>>) {
        for result in results {
            match result {
                Ok(what) => self.done.push(what),
                Err(error) if is_denied(&error) => self.denied.push(error),
                Err(error) => self.failures.push(error),
            }
        }
    }

    /// What was done, if all was.
    fn complete(self) -> Result<Vec<String>> {
        let failures: Vec<Error> = self.denied.into_iter().chain(self.failures).collect();
        if failures.is_empty() { Ok(self.done) } else { Err(Error::NotReverted { failures }) }
    }
}

/// Removes all objects that have a run's label, and restores the labels of nodes, the replicas and nodes of deployments,
/// the data of Secrets, and remote secrets. Starts istiod again after a remote secret had other data. Call this function
/// only while no test runs. Returns what was restored.
///
/// # Errors
/// [`Error::NotReverted`], with every kind that cannot be listed and every object that cannot be restored. An error
/// does not stop the rest. [`Error::Cluster`]: API discovery fails.
pub async fn sweep(client: &Client, cluster: &str) -> Result<Vec<String>> {
    all(client, cluster).await?.complete()
}

async fn all(client: &Client, cluster: &str) -> Result<Swept> {
    let sweeper = Sweeper { client, cluster, label: RUN_LABEL, prefix: None };
    let mut swept = Swept::default();
    swept.gather(sweeper.remove_all().await?);
    swept.gather(sweeper.labels().await);
    // The nodes first, so that pods start where they belong.
    swept.gather(sweeper.put_back(Changed::deployments("nodes", prior::PLACEMENT, prior::unplacing)).await);
    swept.gather(sweeper.put_back(Changed::deployments("replicas", prior::REPLICAS, prior::unscaling)).await);
    swept.gather(sweeper.secrets().await);
    Ok(swept)
}

/// Like [`sweep`], after tests that were permitted these changes only, in namespaces whose names begin with `prefix`.
/// Asks for no rights that the tests did not need, and leaves the namespaces of others alone, who may be testing.
///
/// # Errors
/// The errors of [`sweep`].
pub(super) async fn sweep_after(
    client: &Client,
    cluster: &str,
    writes: &[Write],
    prefix: Option<&str>,
) -> Result<Vec<String>> {
    match writes {
        [] => Ok(Vec::new()),
        // All that such tests leave is in their namespaces.
        [Write::Namespaces] => {
            let mut swept = Swept::default();
            let sweeper = Sweeper { client, cluster, label: RUN_LABEL, prefix };
            swept.gather(sweeper.remove(ApiResource::erase::<Namespace>(&()), &BTreeSet::new()).await);
            swept.complete()
        }
        _ => sweep(client, cluster).await,
    }
}

/// Removes everything of ours from a cluster: what tests have left, and the probes. Returns what was done, also if not
/// all could be done.
///
/// # Errors
/// [`Error::Cluster`]: API discovery fails.
pub async fn remove_everything(client: &Client, cluster: &str) -> Result<Swept> {
    let mut swept = all(client, cluster).await?;
    swept.gather(Sweeper { client, cluster, label: PROBES_LABEL, prefix: None }.remove_all().await?);
    Ok(swept)
}

/// Removes all objects with `label`, of every kind. Returns what was removed.
///
/// # Errors
/// The errors of [`sweep`].
pub(super) async fn remove_labelled(client: &Client, cluster: &str, label: &str) -> Result<Vec<String>> {
    let mut swept = Swept::default();
    swept.gather(Sweeper { client, cluster, label, prefix: None }.remove_all().await?);
    swept.complete()
}

/// The kinds whose objects can be both listed and deleted.
fn removable(kinds: Vec<(ApiResource, ApiCapabilities)>) -> impl Iterator<Item = ApiResource> {
    let possible = |can: &ApiCapabilities| can.supports_operation(verbs::LIST) && can.supports_operation(verbs::DELETE);
    kinds.into_iter().filter(move |(_, can)| possible(can)).map(|(kind, _)| kind)
}

struct Sweeper<'a> {
    client: &'a Client,
    cluster: &'a str,
    /// Label of the objects to remove.
    label: &'a str,
    /// Beginning of the names of the objects to remove, up to a hyphen. All of them if it is absent.
    prefix: Option<&'a str>,
}

impl Sweeper<'_> {
    fn failed(&self, doing: impl Into<String>) -> impl Fn(kube::Error) -> Error {
        let (cluster, doing) = (self.cluster.to_owned(), doing.into());
        move |source| {
            cluster::Error::Api { cluster: cluster.clone(), doing: doing.clone(), source: Box::new(source) }.into()
        }
    }

    /// Removes the labelled objects of every kind: first the namespaces, which take along what is in them.
    async fn remove_all(&self) -> Result<Vec<Result<String>>> {
        let discovered = Discovery::new(self.client.clone()).run_aggregated().await;
        let discovered = discovered.map_err(self.failed("list the kinds of objects"))?;
        let kinds: Vec<ApiResource> =
            discovered.groups().flat_map(|group| removable(group.resources_by_stability())).collect();
        let (namespaces, others): (Vec<_>, Vec<_>) = kinds.into_iter().partition(is_namespace);
        let mut ending = BTreeSet::new();
        let mut results = Vec::new();
        for kind in namespaces {
            results.extend(self.remove(kind, &ending).await);
            ending.extend(self.namespaces().await.unwrap_or_default());
        }
        let removed = stream::iter(others).map(|kind| self.remove(kind, &ending)).buffer_unordered(CONCURRENCY);
        results.extend(removed.collect::<Vec<_>>().await.into_iter().flatten());
        Ok(results)
    }

    /// The labelled namespaces, all of which end. Kubernetes deletes their objects: a test that has just ended left
    /// nothing behind.
    async fn namespaces(&self) -> kube::Result<Vec<String>> {
        let everywhere: Api<Namespace> = Api::all(self.client.clone());
        let labelled = everywhere.list_metadata(&ListParams::default().labels(self.label)).await?.items;
        Ok(labelled.iter().map(ResourceExt::name_any).collect())
    }

    /// Removes the labelled objects of a kind, except those that Kubernetes deletes with the namespaces `ending`.
    async fn remove(&self, kind: ApiResource, ending: &BTreeSet<String>) -> Vec<Result<String>> {
        let everywhere: Api<DynamicObject> = Api::all_with(self.client.clone(), &kind);
        let listed = match everywhere.list_metadata(&ListParams::default().labels(self.label)).await {
            Ok(listed) => listed.items,
            Err(error) if is_absent(&error) => return Vec::new(),
            Err(error) if is_forbidden(&error) && self.none_is_ours(&kind).await => return Vec::new(),
            Err(error) => return vec![Err(self.failed(format!("list the objects of kind {}", named(&kind)))(error))],
        };
        let is_named = |object: &PartialObjectMeta<DynamicObject>| {
            let (name, begins) = (object.name_any(), |rest: &str| rest.starts_with('-'));
            self.prefix.is_none_or(|prefix| name.strip_prefix(prefix).is_some_and(begins))
        };
        let leaving = |object: &PartialObjectMeta<DynamicObject>| {
            let ends = object.namespace().is_some_and(|namespace| ending.contains(&namespace));
            ends || object.metadata.deletion_timestamp.is_some()
        };
        let mut results = Vec::new();
        for object in listed.iter().filter(|object| is_named(object) && !leaving(object)) {
            let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
            let api: Api<DynamicObject> = match namespace.as_str() {
                "" => Api::all_with(self.client.clone(), &kind),
                namespace => Api::namespaced_with(self.client.clone(), namespace, &kind),
            };
            let what = match namespace.as_str() {
                "" => format!("{} {name}", named(&kind)),
                namespace => format!("{} {namespace}/{name}", named(&kind)),
            };
            // Background deletion is not the default for every kind: the pods of a Job would remain.
            match api.delete(&name, &DeleteParams::background()).await {
                Err(error) if !is_absent(&error) => results.push(Err(self.failed(format!("remove {what}"))(error))),
                _ => results.push(Ok(what)),
            }
        }
        results
    }

    /// Whether these credentials, which may not list the kind, cannot have left an object of it to remove on its own.
    async fn none_is_ours(&self, kind: &ApiResource) -> bool {
        // Copies of Secrets are in namespaces of meshproof only, and go with them.
        let goes_along = kind.group.is_empty() && kind.plural == "secrets";
        goes_along || self.may_not("create", &kind.group, &kind.plural).await
    }

    async fn may_not(&self, verb: &str, group: &str, resource: &str) -> bool {
        permission(self.client, request(verb, group, resource)).await == Permission::Denied
    }

    /// Restores the node labels that tests changed.
    async fn labels(&self) -> Vec<Result<String>> {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let listed = match nodes.list_metadata(&ListParams::default()).await {
            Ok(listed) => listed.items,
            Err(error) if is_forbidden(&error) && self.may_not("patch", "", "nodes").await => return Vec::new(),
            Err(error) => return vec![Err(self.failed("list the nodes")(error))],
        };
        let mut results = Vec::new();
        for node in listed.iter().filter(|node| node.annotations().contains_key(prior::LABELS)) {
            let name = node.name_any();
            let what = format!("the labels of node {name}");
            let back = |node: &Node| prior::unlabelling(node, None);
            let changed = prior::change(&nodes, &name, self.failed(format!("put back {what}")), back).await;
            results.push(changed.map(|_| what));
        }
        results
    }

    /// Restores the Secrets that tests changed.
    async fn secrets(&self) -> Vec<Result<String>> {
        let mut results = self.put_back(Changed::secrets("data", prior::DATA, prior::unreplacing)).await;
        let renewed = self.istiods_of_other_remotes().await;
        results.extend(self.put_back(Changed::secrets("label and the data", prior::REMOTE, prior::unhiding)).await);
        for namespace in renewed {
            let restarted = istiod::restart(self.client, self.cluster, &namespace).await;
            results.push(restarted.map(|()| format!("istiod in {namespace}, by a restart")));
        }
        results
    }

    /// The namespaces with a remote secret whose data a test has changed. An error is left to what puts them back.
    async fn istiods_of_other_remotes(&self) -> BTreeSet<String> {
        let everywhere: Api<Secret> = Api::all(self.client.clone());
        let listed = everywhere.list_metadata(&ListParams::default().labels(prior::REMOTE)).await;
        let secrets = listed.map(|listed| listed.items).unwrap_or_default();
        secrets
            .iter()
            .filter(|secret| is_marked(*secret, prior::REMOTE_DATA))
            .filter_map(|one| one.namespace())
            .collect()
    }

    async fn put_back<K>(&self, changed: Changed<K>) -> Vec<Result<String>>
    where
        K: kube::Resource<DynamicType = (), Scope = NamespaceResourceScope> + k8s_openapi::Resource,
        K: Clone + DeserializeOwned + Debug,
    {
        let Changed { objects, listing, what, mark, back } = changed;
        let everywhere: Api<K> = Api::all(self.client.clone());
        let listed = match everywhere.list_metadata(&listing).await {
            Ok(listed) => listed.items,
            Err(error) if is_forbidden(&error) && self.may_not("patch", K::GROUP, K::URL_PATH_SEGMENT).await => {
                return Vec::new();
            }
            Err(error) => return vec![Err(self.failed(format!("list the {objects}"))(error))],
        };
        let mut results = Vec::new();
        for object in listed.iter().filter(|object| is_marked(*object, mark)) {
            let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
            let what = format!("the {what} {namespace}/{name}");
            let api: Api<K> = Api::namespaced(self.client.clone(), &namespace);
            let failed = self.failed(format!("put back {what}"));
            results.push(prior::change(&api, &name, failed, back).await.map(|_| what));
        }
        results
    }
}

/// Objects of one kind that tests changed, and what restores them.
struct Changed<K> {
    /// The objects that are listed, in words.
    objects: &'static str,
    listing: ListParams,
    /// What is restored, and the kind.
    what: String,
    /// Label or annotation of those that are changed.
    mark: &'static str,
    back: fn(&K) -> Result<Option<Value>>,
}

impl Changed<Deployment> {
    /// Deployments with the annotation `mark`.
    fn deployments(what: &str, mark: &'static str, back: fn(&Deployment) -> Result<Option<Value>>) -> Self {
        Self {
            objects: "deployments",
            listing: ListParams::default(),
            what: format!("{what} of deployment"),
            mark,
            back,
        }
    }
}

impl Changed<Secret> {
    /// Secrets with the label `mark`.
    fn secrets(what: &str, mark: &'static str, back: fn(&Secret) -> Result<Option<Value>>) -> Self {
        let (objects, listing) = ("Secrets that tests changed", ListParams::default().labels(mark));
        Self { objects, listing, what: format!("{what} of Secret"), mark, back }
    }
}

fn is_marked(object: &impl ResourceExt, mark: &str) -> bool {
    object.labels().contains_key(mark) || object.annotations().contains_key(mark)
}

/// Whether the kind or the object does not exist, or the kind does not support the request.
fn is_absent(error: &kube::Error) -> bool {
    matches!(code(error), Some(404 | 405))
}

fn is_forbidden(error: &kube::Error) -> bool {
    code(error) == Some(403)
}

/// Whether the credentials do not allow the request.
fn is_denied(error: &Error) -> bool {
    let Error::Cluster(cluster::Error::Api { source, .. }) = error else { return false };
    is_forbidden(source)
}

fn is_namespace(kind: &ApiResource) -> bool {
    kind.group.is_empty() && kind.kind == "Namespace"
}

fn named(kind: &ApiResource) -> String {
    if kind.group.is_empty() { kind.kind.clone() } else { format!("{}.{}", kind.kind, kind.group) }
}

#[cfg(test)]
mod tests;
