//! Reads a cluster with whatever rights there are. A request that is refused is never taken for an empty answer.

use std::fmt::Debug;
use std::sync::{Mutex, PoisonError};

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DynamicObject, ListParams, PartialObjectMeta};
use kube::core::{ClusterResourceScope, NamespaceResourceScope};
use kube::discovery::ApiResource;
use kube::{Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};

use super::error::{Error, Result};
use super::found::Unread;
use crate::cluster::{self, code, pages};

/// A connection to one cluster.
pub(super) struct Reader {
    pub(super) client: Client,
    /// The context, for messages.
    pub(super) context: String,
    unread: Mutex<Vec<Unread>>,
}

/// What an API server answered: `None` if it refused.
pub(super) type Answer<T> = Option<T>;

impl Reader {
    pub(super) fn new(client: Client, context: &str) -> Self {
        Self { client, context: context.to_owned(), unread: Mutex::default() }
    }

    /// What could not be read so far.
    pub(super) fn unread(&self) -> Vec<Unread> {
        self.unread.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes that something could not be read, and why. `so` says what therefore is unknown.
    pub(super) fn note(&self, what: impl Into<String>, reason: impl Into<String>, so: &str) {
        let unread = Unread { what: what.into(), reason: reason.into(), so: so.into() };
        self.unread.lock().unwrap_or_else(PoisonError::into_inner).push(unread);
    }

    fn failed(&self, doing: impl Into<String>, source: kube::Error) -> Error {
        cluster::Error::Api { cluster: self.context.clone(), doing: doing.into(), source: Box::new(source) }.into()
    }

    /// The objects of a kind in a namespace, or in all. `so` says what is unknown if they may not be listed.
    pub(super) async fn list<K>(&self, namespace: Option<&str>, labels: &str, so: &str) -> Result<Answer<Vec<K>>>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
    {
        let api: Api<K> = match namespace {
            None => Api::all(self.client.clone()),
            Some(namespace) => Api::namespaced(self.client.clone(), namespace),
        };
        self.allowed(
            &format!("list {}", K::plural(&())),
            pages(&api, &ListParams::default().labels(labels), Some).await,
            so,
        )
    }

    /// The objects of a kind without namespaces.
    pub(super) async fn list_all<K>(&self, so: &str) -> Result<Answer<Vec<K>>>
    where
        K: Resource<Scope = ClusterResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
    {
        let api: Api<K> = Api::all(self.client.clone());
        self.allowed(&format!("list {}", K::plural(&())), pages(&api, &ListParams::default(), Some).await, so)
    }

    /// The objects of a kind that may not be installed.
    pub(super) async fn list_dynamic(&self, kind: &ApiResource, so: &str) -> Result<Answer<Vec<DynamicObject>>> {
        let api: Api<DynamicObject> = Api::all_with(self.client.clone(), kind);
        match pages(&api, &ListParams::default(), Some).await {
            Err(error) if code(&error) == Some(404) => Ok(Some(Vec::new())),
            listed => self.allowed(&format!("list {}.{}", kind.plural, kind.group), listed, so),
        }
    }

    /// The metadata of the objects of a kind in a namespace.
    pub(super) async fn metadata<K>(
        &self,
        namespace: &str,
        labels: &str,
        so: &str,
    ) -> Result<Answer<Vec<PartialObjectMeta<K>>>>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), namespace);
        let listed = api.list_metadata(&ListParams::default().labels(labels)).await.map(|list| list.items);
        self.allowed(&format!("list {} in {namespace}", K::plural(&())), listed, so)
    }

    /// An object in a namespace. The inner `None`: there is no such object.
    pub(super) async fn get<K>(&self, namespace: &str, name: &str, so: &str) -> Result<Answer<Option<K>>>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), namespace);
        let what = format!("get {} {namespace}/{name}", K::plural(&()));
        self.allowed(&what, api.get_opt(name).await, so)
    }

    /// An object without a namespace.
    pub(super) async fn get_global<K>(&self, name: &str, so: &str) -> Result<Answer<Option<K>>>
    where
        K: Resource<Scope = ClusterResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
    {
        let api: Api<K> = Api::all(self.client.clone());
        self.allowed(&format!("get {} {name}", K::plural(&())), api.get_opt(name).await, so)
    }

    /// Notes a refusal, and returns every other error.
    fn allowed<T>(&self, doing: &str, answered: kube::Result<T>, so: &str) -> Result<Answer<T>> {
        match answered {
            Ok(answer) => Ok(Some(answer)),
            Err(error) if code(&error) == Some(403) => {
                self.note(doing, "403", so);
                Ok(None)
            }
            Err(error) => Err(self.failed(doing, error)),
        }
    }

    /// A connection to a port of a pod, through the API server.
    ///
    /// # Errors
    /// The reason, as text: a pod that cannot be reached only leaves something unknown.
    pub(super) async fn connect(
        &self,
        namespace: &str,
        pod: &str,
        port: u16,
    ) -> Result<impl AsyncRead + AsyncWrite + Unpin + Send + 'static, String> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let forwarded = pods.portforward(pod, &[port]).await;
        let mut forwarded =
            forwarded.map_err(|error| format!("no port-forward to {namespace}/{pod}: {}", cluster::brief(&error)))?;
        forwarded.take_stream(port).ok_or_else(|| format!("the port-forward to {namespace}/{pod} has no stream"))
    }
}

/// Namespace and name, for messages.
pub(super) fn place(object: &impl ResourceExt) -> String {
    format!("{}/{}", object.namespace().unwrap_or_default(), object.name_any())
}
