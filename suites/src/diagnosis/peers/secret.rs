//! A remote secret that is taken away, or whose token is refused.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::LocalBoxFuture;
use meshproof::cluster::Pair;
use meshproof::istio::{Registered, seen_by_istiod};
use meshproof::k8s_openapi::api::core::v1::Secret;
use meshproof::kube::ResourceExt;
use meshproof::kube::api::{ListParams, Patch, PatchParams};
use meshproof::record::Write;
use meshproof::scope::change::Change;
use meshproof::{Cluster, Error, Result, Seen, eventually};
use serde_json::{Value, json};

/// Label by which istiod finds remote secrets.
const LABEL: &str = "istio/multiCluster";

/// Label that keeps a remote secret whose [`LABEL`] is taken away, and the annotation with the data of one whose token is
/// replaced: what a person needs to put the secret right after a killed test.
const TAKEN: &str = "meshproof.dev/prior-multi-cluster";
const PRIOR: &str = "meshproof.dev/prior-data";

/// Longest wait for istiod to notice. istiod reads on by the old token until it has tried the new one for 30 s
/// (`PILOT_REMOTE_CLUSTER_TIMEOUT`).
const NOTICED: Duration = Duration::from_secs(60);

/// The status of a cluster that istiod still tries to read.
const SYNCING: &str = "syncing";

/// What is wrong with the secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    Missing,
    Refused,
}

/// The remote secret by which one cluster's istiod reads another cluster.
pub(super) struct RemoteSecret {
    cluster: Arc<Cluster>,
    peer: String,
    name: String,
    fault: Fault,
}

impl RemoteSecret {
    /// The secret of `pair.to` in `pair.from`.
    pub(super) async fn find(Pair { from, to }: &Pair, fault: Fault) -> Result<Self> {
        let namespace = &from.record().istio.namespace;
        let listed = from.api::<Secret>(namespace).list_metadata(&ListParams::default().labels(LABEL)).await;
        let listed = listed.map_err(from.failed(format!("list the remote secrets in {namespace}")))?;
        let named = format!("istio-remote-secret-{}", to.name());
        let is = |name: &String| *name == named;
        let found = listed.items.iter().map(|secret| secret.name_any()).find(is);
        let lacking = || meshproof::record::Error::not_declared(format!("a remote secret {named} in {}", from.name()));
        Ok(Self { cluster: Arc::clone(from), peer: to.name().into(), name: found.ok_or_else(lacking)?, fault })
    }

    /// The object, as a diagnosis names it.
    pub(super) fn object(&self) -> String {
        format!("Secret {}/{}", self.cluster.record().istio.namespace, self.name)
    }

    async fn patch(&self, patch: Value) -> Result<()> {
        let secrets = self.cluster.api::<Secret>(&self.cluster.record().istio.namespace);
        let patched = secrets.patch(&self.name, &PatchParams::default(), &Patch::Merge(patch)).await;
        Ok(patched.map(drop).map_err(self.cluster.failed(format!("change {}", self.object())))?)
    }

    async fn read(&self) -> Result<Secret> {
        let secrets = self.cluster.api::<Secret>(&self.cluster.record().istio.namespace);
        let found = secrets.get(&self.name).await;
        Ok(found.map_err(self.cluster.failed(format!("read {}", self.object())))?)
    }

    /// Waits until istiod's word about the peer is as `is` accepts.
    async fn noticed(&self, want: &str, is: impl Fn(Option<&String>) -> bool) -> Result<()> {
        let want = format!("istiod of {} {want} {}", self.cluster.name(), self.peer);
        let noticed = eventually(want, NOTICED, async || {
            let seen = seen_by_istiod(&self.cluster).await.map_err(Error::suite)?;
            let status = seen.get(&self.peer);
            Ok::<_, Error>(if is(status) { Seen::Yes(()) } else { Seen::NotYet(format!("{status:?}")) })
        });
        Ok(noticed.await?)
    }
}

impl fmt::Display for RemoteSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {}", self.object(), self.cluster.name())
    }
}

impl Change for RemoteSecret {
    fn write(&self) -> Write {
        Write::Objects
    }

    fn apply(&self) -> LocalBoxFuture<'_, Result<()>> {
        async {
            match self.fault {
                Fault::Missing => self.patch(json!({ "metadata": { "labels": { LABEL: null, TAKEN: "true" } } })).await,
                Fault::Refused => {
                    let found = self.read().await?;
                    let data = serde_json::to_value(&found.data).map_err(Error::suite)?;
                    let refused: serde_json::Map<String, Value> = found
                        .data
                        .iter()
                        .flatten()
                        .map(|(name, kubeconfig)| {
                            (name.clone(), refused(&String::from_utf8_lossy(&kubeconfig.0)).into())
                        })
                        .collect();
                    let annotations = json!({ PRIOR: data.to_string() });
                    self.patch(json!({ "metadata": { "annotations": annotations }, "stringData": refused })).await
                }
            }
        }
        .boxed_local()
    }

    fn verify(&self) -> LocalBoxFuture<'_, Result<()>> {
        let is_unread =
            |status: Option<&String>| status.is_none_or(|status| status != Registered::SYNCED && status != SYNCING);
        self.noticed("to lose", is_unread).boxed_local()
    }

    fn revert(&self) -> LocalBoxFuture<'_, Result<()>> {
        async {
            let found = self.read().await?;
            if found.labels().contains_key(TAKEN) {
                self.patch(json!({ "metadata": { "labels": { LABEL: "true", TAKEN: null } } })).await?;
            }
            if let Some(prior) = found.annotations().get(PRIOR) {
                let data: Value = serde_json::from_str(prior).map_err(Error::suite)?;
                self.patch(json!({ "metadata": { "annotations": { PRIOR: null } }, "data": data })).await?;
            }
            let is_read = |status: Option<&String>| status.is_some_and(|status| status == Registered::SYNCED);
            self.noticed("to read", is_read).await
        }
        .boxed_local()
    }
}

/// A kubeconfig with another token.
fn refused(kubeconfig: &str) -> String {
    let line = |line: &str| match line.split_once("token:") {
        Some((before, _)) => format!("{before}token: refused"),
        None => line.to_owned(),
    };
    kubeconfig.lines().map(line).collect::<Vec<_>>().join("\n")
}
