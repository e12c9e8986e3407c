//! A cluster's API, its workloads, and the testbed of all clusters.

pub mod access;
mod error;
mod eventually;
mod exec;
pub(crate) mod http;
mod logs;
mod pages;
mod permission;
mod pods;
mod put;
mod testbed;
mod trouble;
mod watch;
mod workload;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams};
use kube::core::{GroupVersionKind, NamespaceResourceScope};
use kube::{Api, Resource};
use serde_json::Value;

use crate::record;
pub use error::{Error, Result};
pub(crate) use error::{brief, code};
pub use eventually::{Seen, eventually};
use exec::within;
pub use exec::{Container, exec};
pub(crate) use exec::{EXEC_BOUND, Input};
pub(crate) use pages::pages;
pub(crate) use permission::request;
pub use permission::{Permission, permission};
pub use pods::is_ready;
pub(crate) use pods::{has_container, trouble};
pub use testbed::{ATTACHED, DIRECTORY_VARIABLE, Pair, Testbed, testbed_directory};
pub(crate) use trouble::NoStart;
use trouble::is_slow_webhook;
pub use watch::{watch_all, watch_one};
pub use workload::{ProxyCount, Workload};

/// Field manager for server-side apply.
const FIELD_MANAGER: &str = "meshproof";

/// Most attempts at an object that a webhook does not check in time.
const ATTEMPTS: u32 = 3;

/// Label of a node with its host name. Node selectors name a node by this label.
pub(crate) const HOSTNAME_LABEL: &str = "kubernetes.io/hostname";

/// The API for an object of any kind.
pub(crate) struct ObjectApi {
    /// The API for the object's kind, in the object's namespace.
    pub(crate) api: Api<DynamicObject>,
    /// The object's name.
    pub(crate) name: String,
    /// The object's description for errors.
    pub(crate) what: String,
}

/// One cluster of the testbed.
pub struct Cluster {
    record: record::Cluster,
    kubeconfig: PathBuf,
    client: kube::Client,
    version: String,
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("name", &self.record.name).finish_non_exhaustive()
    }
}

impl Cluster {
    pub(crate) fn new(record: record::Cluster, kubeconfig: PathBuf, client: kube::Client, version: String) -> Self {
        Self { record, kubeconfig, client, version }
    }

    /// The cluster's name in the mesh.
    pub fn name(&self) -> &str {
        &self.record.name
    }

    /// The cluster's entry in the record.
    pub fn record(&self) -> &record::Cluster {
        &self.record
    }

    /// The version that the API server reports.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// A client for the cluster.
    pub fn client(&self) -> kube::Client {
        self.client.clone()
    }

    /// The objects of a kind in a namespace.
    pub fn api<K>(&self, namespace: &str) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client(), namespace)
    }

    /// All objects of one of Istio's kinds, in version `v1`, of all namespaces. None if the kind is not installed.
    ///
    /// # Errors
    /// [`Error::Api`].
    pub async fn list(&self, group: &str, kind: &str) -> Result<Vec<DynamicObject>> {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, "v1", kind));
        match Api::<DynamicObject>::all_with(self.client(), &resource).list(&ListParams::default()).await {
            Ok(listed) => Ok(listed.items),
            Err(error) if code(&error) == Some(404) => Ok(Vec::new()),
            Err(error) => Err(self.failed(format!("list all {kind} objects"))(error)),
        }
    }

    /// Whether the API server serves this kind.
    ///
    /// # Errors
    /// [`Error::Api`].
    pub async fn knows(&self, group: &str, version: &str, kind: &str) -> Result<bool> {
        match kube::discovery::pinned_kind(&self.client, &GroupVersionKind::gvk(group, version, kind)).await {
            Ok(_) => Ok(true),
            Err(kube::Error::Discovery(_)) => Ok(false),
            Err(error) if code(&error) == Some(404) => Ok(false),
            Err(error) => Err(self.failed(format!("find the kind {kind}"))(error)),
        }
    }

    /// The error for a failed request to the API server.
    pub fn failed(&self, doing: impl Into<String>) -> impl FnOnce(kube::Error) -> Error {
        let (cluster, doing) = (self.record.name.clone(), doing.into());
        move |source| Error::Api { cluster, doing, source: Box::new(source) }
    }

    /// The start of a command line for the cluster, for example `kubectl --kubeconfig … --context …`.
    pub fn command(&self, tool: &str) -> String {
        let path = std::path::absolute(&self.kubeconfig).unwrap_or_else(|_| self.kubeconfig.clone());
        format!("{tool} --kubeconfig {} --context {}", Path::display(&path), self.record.context)
    }

    /// Runs a command in a container and returns its standard output. Writes all of `stdin`, if given, to standard
    /// input.
    ///
    /// # Errors
    /// [`Error::Exec`]: the command cannot be started, takes too long, or exits with a code other than 0.
    pub async fn exec(&self, at: Container<'_>, command: &[&str], stdin: Option<&[u8]>) -> Result<String> {
        self.exec_within(EXEC_BOUND, at, command, stdin.map_or(Input::None, Input::Bytes)).await
    }

    /// Like [`Self::exec`], for a long command with the time limit `bound`.
    ///
    /// # Errors
    /// The errors of [`Self::exec`].
    pub(crate) async fn exec_within(
        &self,
        bound: Duration,
        at: Container<'_>,
        command: &[&str],
        input: Input<'_>,
    ) -> Result<String> {
        within(bound, &self.client, self.name(), at, command, input).await
    }

    /// Applies an object of any kind, given as JSON. An object that a webhook does not check in time is applied again.
    ///
    /// # Errors
    /// [`Error::Api`], also for a kind that the cluster does not know.
    #[tracing::instrument(level = "debug", skip_all, fields(cluster = %self.record.name))]
    pub async fn apply(&self, object: &Value) -> Result<DynamicObject> {
        let ObjectApi { api, name, what } = self.api_of(object).await?;
        let (forced, object) = (PatchParams::apply(FIELD_MANAGER).force(), Patch::Apply(object));
        let mut attempts = 1;
        loop {
            match api.patch(&name, &forced, &object).await {
                // Nothing is written if a webhook does not answer in time, and a busy istiod may be in time again.
                Err(error) if attempts < ATTEMPTS && is_slow_webhook(&error.to_string()) => attempts += 1,
                applied => return applied.map_err(self.failed(format!("apply {what}"))),
            }
        }
    }

    /// Removes an object of any kind, given as JSON. Does nothing if it is not there.
    ///
    /// # Errors
    /// [`Error::Api`].
    pub(crate) async fn delete(&self, object: &Value) -> Result<()> {
        let ObjectApi { api, name, what } = self.api_of(object).await?;
        match api.delete(&name, &DeleteParams::background()).await {
            Err(error) if code(&error) != Some(404) => Err(self.failed(format!("remove {what}"))(error)),
            _ => Ok(()),
        }
    }

    /// The API for a JSON object.
    ///
    /// # Errors
    /// [`Error::Api`], also for a kind that the cluster does not know.
    pub(crate) async fn api_of(&self, object: &Value) -> Result<ObjectApi> {
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let (kind, name, namespace) = (text("/kind"), text("/metadata/name"), text("/metadata/namespace"));
        let what = format!("{kind} {namespace}/{name}");
        let (group, version) = text("/apiVersion").split_once('/').unwrap_or(("", text("/apiVersion")));
        let known = kube::discovery::pinned_kind(&self.client, &GroupVersionKind::gvk(group, version, kind)).await;
        let (resource, _) = known.map_err(self.failed(format!("find the kind of {what}")))?;
        let api: Api<DynamicObject> = match namespace {
            "" => Api::all_with(self.client(), &resource),
            namespace => Api::namespaced_with(self.client(), namespace, &resource),
        };
        Ok(ObjectApi { api, name: name.to_owned(), what })
    }
}

/// Whether every replica of a deployment has the newest template and is available.
pub fn availability(deployment: Option<&Deployment>) -> Seen<()> {
    let Some(deployment) = deployment else { return Seen::NotYet("no such deployment".into()) };
    let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    let status = deployment.status.clone().unwrap_or_default();
    let current = status.observed_generation >= deployment.metadata.generation;
    let (updated, available) = (status.updated_replicas.unwrap_or(0), status.available_replicas.unwrap_or(0));
    if current && updated >= wanted && available >= wanted && status.replicas.unwrap_or(0) == wanted {
        return Seen::Yes(());
    }
    Seen::NotYet(format!("{available} of {wanted} available"))
}

#[cfg(test)]
pub(crate) mod tests {
    use std::convert::Infallible;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use kube::client::Body;
    use serde_json::json;

    use super::*;

    /// A workload of a fictitious cluster, for tests that only need its name. Requires a Tokio runtime.
    pub(crate) fn workload() -> Workload {
        workload_of("cluster1")
    }

    pub(crate) fn workload_of(cluster: &str) -> Workload {
        let record = record::tests::cluster(cluster);
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let config = kube::Config::new("http://127.0.0.1:1/".parse().unwrap());
        let client = kube::Client::try_from(config).unwrap();
        let cluster = Cluster::new(record, "/testbed/kubeconfig".into(), client, "v1.34.3".into());
        Workload {
            service_account: format!("probe-{}", cluster.name()),
            cluster: Arc::new(cluster),
            namespace: "pinnacle".into(),
            pod: "probe-0".into(),
            address: "192.168.0.9".into(),
            node: "worker1".into(),
        }
    }

    /// Applies an object to an API server that refuses `refusals` attempts with these words. Returns the attempts.
    async fn applied(refusals: u32, words: &'static str) -> (Result<DynamicObject>, u32) {
        let attempts = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&attempts);
        let answer = move |request: ::http::Request<Body>| {
            let (status, body) = if request.method() != ::http::Method::PATCH {
                let kind = json!({ "name": "configmaps", "namespaced": true, "kind": "ConfigMap", "verbs": ["patch"] });
                (200, json!({ "kind": "APIResourceList", "groupVersion": "v1", "resources": [kind] }))
            } else if counted.fetch_add(1, Ordering::Relaxed) < refusals {
                (
                    500,
                    json!({ "kind": "Status", "status": "Failure", "code": 500, "reason": "InternalError", "message": words }),
                )
            } else {
                (200, json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "a" } }))
            };
            let body = Body::from(body.to_string().into_bytes());
            std::future::ready(Ok::<_, Infallible>(::http::Response::builder().status(status).body(body).unwrap()))
        };
        let client = kube::Client::new(tower::service_fn(answer), "default");
        let cluster = Cluster::new(record::tests::cluster("east"), "/kubeconfig".into(), client, "v1".into());
        let object = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "a", "namespace": "n" } });
        (cluster.apply(&object).await, attempts.load(Ordering::Relaxed))
    }

    #[tokio::test]
    async fn an_object_is_applied_again_only_if_a_webhook_was_too_slow_to_check_it() {
        let slow = "failed calling webhook \"validation.istio.io\": context deadline exceeded";
        let (object, attempts) = applied(2, slow).await;
        assert!(object.is_ok() && attempts == 3, "{object:?} {attempts}");
        let (object, attempts) = applied(9, slow).await;
        assert!(object.unwrap_err().to_string().contains(slow) && attempts == ATTEMPTS, "{attempts}");
        let (object, attempts) = applied(9, "denied the request").await;
        assert!(object.unwrap_err().to_string().contains("denied the request") && attempts == 1, "{attempts}");
    }

    #[tokio::test]
    async fn a_command_line_names_the_kubeconfig_and_the_context() {
        let command = workload().cluster.command("kubectl");
        assert_eq!(command, "kubectl --kubeconfig /testbed/kubeconfig --context cluster1");
    }
}
