//! The probes that the record leaves to the first suite. They stand between runs, until [`remove_probes`].

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::future::try_join_all;
use k8s_openapi::api::authorization::v1::ResourceAttributes;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, ObjectMeta};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::error::{Error, Result};
use super::sweep;
use crate::cluster::{Cluster, Permission, Seen, Testbed, permission, watch_all, watch_one};
use crate::istio::{self, evidence_log};
use crate::probe::deploy::{self, Plan};
use crate::probe::{self, PROBES_LABEL, evidence_label, rollout};
use crate::record::{Label, Write};

/// Label that makes Kubernetes refuse pods in a namespace that do not comply with a level of Pod Security.
const POD_SECURITY: &str = "pod-security.kubernetes.io/enforce";

/// Name of the object that enables the evidence log of the probes.
const EVIDENCE: &str = "meshproof-evidence";

/// Longest wait for a namespace to be gone, with its pods.
const GONE: Duration = Duration::from_secs(90);

/// How the deployment ended. A failure is not tried again in this process: each test reports it at once.
type Deployed = Result<(), Arc<Error>>;

/// The deployments of this process, by the testbed's directory.
static STANDING: Mutex<Option<HashMap<PathBuf, Deployed>>> = Mutex::const_new(None);

/// Creates the namespaces of the Leases that are missing, if they are meshproof's own to create.
///
/// # Errors
/// [`Error::Cluster`].
pub(super) async fn lease_namespaces(testbed: &Testbed) -> Result<()> {
    let creating = Standing::of(testbed).into_iter().map(async |standing| {
        let Some(name) = standing.cluster.record().lease_namespace.as_deref() else { return Ok(()) };
        match standing.namespace(name).await? {
            Some(there) if there.metadata.deletion_timestamp.is_none() => Ok(()),
            _ => standing.ensure_namespace(name, standing.namespaces.get(name).copied().unwrap_or(false)).await,
        }
    });
    try_join_all(creating).await.map(drop)
}

/// Deploys the probes, once a process, and waits until they are available. What is there stays untouched.
///
/// # Errors
/// [`Error::Probes`].
pub(super) async fn ensure(testbed: &Testbed) -> Result<()> {
    let mut standing = STANDING.lock().await;
    let known = standing.get_or_insert_default();
    if !known.contains_key(&testbed.directory) {
        let deployed = deploy(testbed).await.map_err(Arc::new);
        known.insert(testbed.directory.clone(), deployed);
    }
    known.get(&testbed.directory).cloned().unwrap_or(Ok(())).map_err(Error::Probes)
}

/// Removes all probes that suites have deployed in a cluster, with their namespaces, and waits until they are gone.
/// Returns what was removed.
///
/// # Errors
/// The errors of [`sweep`](super::sweep()). [`Error::Cluster`]: a namespace is not gone in time.
pub async fn remove_probes(client: &Client, cluster: &str) -> Result<Vec<String>> {
    let removed = sweep::remove_labelled(client, cluster, PROBES_LABEL).await?;
    let which = kube::runtime::watcher::Config::default().labels(PROBES_LABEL);
    let want = format!("the namespaces of the probes in {cluster} to be gone");
    watch_all(Api::<Namespace>::all(client.clone()), which, want, GONE, |left| match left {
        [] => Seen::Yes(()),
        left => Seen::NotYet(left.iter().map(|namespace| namespace.name_any()).collect::<Vec<_>>().join(", ")),
    })
    .await?;
    Ok(removed)
}

async fn deploy(testbed: &Testbed) -> Result<()> {
    let standing = Standing::of(testbed);
    let waited = try_join_all(standing.iter().map(Standing::deploy)).await?;
    // New services take a moment to reach the proxies. What then is still missing is for the suites to judge.
    if waited.contains(&true)
        && let Err(error) = try_join_all(standing.iter().map(|standing| standing.known(testbed))).await
    {
        tracing::warn!(%error, "a proxy does not know a probe's service");
    }
    Ok(())
}

/// The probes to deploy in one cluster.
struct Standing<'a> {
    cluster: &'a Arc<Cluster>,
    plan: Plan<'a>,
    /// The plans of all clusters: a service exists everywhere.
    all: Vec<Plan<'a>>,
    /// The namespaces of the probes of all clusters, each with whether it is in the mesh.
    namespaces: BTreeMap<&'a str, bool>,
}

impl<'a> Standing<'a> {
    /// For each cluster whose probes must be deployed. None if the record does not permit that.
    fn of(testbed: &'a Testbed) -> Vec<Self> {
        let permitted = [Write::Namespaces, Write::Objects].map(|write| testbed.record.capabilities.may_write(write));
        if permitted != [true; 2] {
            return Vec::new();
        }
        let all: Vec<Plan<'a>> = testbed.clusters.iter().filter_map(|cluster| Plan::of(cluster.record())).collect();
        let namespaces: BTreeMap<&str, bool> = all.iter().flat_map(Plan::namespaces).collect();
        let standing = testbed.clusters.iter().filter_map(|cluster| {
            let plan = Plan::of(cluster.record())?;
            Some(Self { cluster, plan, all: all.clone(), namespaces: namespaces.clone() })
        });
        standing.collect()
    }

    /// Makes everything as it should be, and waits for the probes. Returns whether they had to be waited for.
    async fn deploy(&self) -> Result<bool> {
        let cluster = self.cluster;
        try_join_all(self.namespaces.iter().map(|(name, meshed)| self.ensure_namespace(name, *meshed))).await?;
        let services: Vec<_> =
            self.all.iter().filter_map(Plan::meshed_service).chain(self.plan.naked_service()).collect();
        for namespace in self.plan.namespaces().keys() {
            if let Some(secret) = deploy::pull_secret(cluster, namespace).await? {
                cluster.put(&secret).await?;
            }
        }
        let accounts = self.plan.accounts();
        futures::try_join!(cluster.put_all(&accounts), cluster.put_all(&services), self.apply_policies())?;
        // Last, so that a new proxy starts with the policy and with the evidence log.
        cluster.put_all(&self.plan.deployments()).await?;
        let waiting = self.plan.probes.each().map(|(probe, _)| rollout::available(cluster, probe));
        Ok(try_join_all(waiting).await?.contains(&true))
    }

    /// Mutual TLS only, the evidence log, and the way in from other networks, for each namespace in the mesh.
    async fn apply_policies(&self) -> crate::cluster::Result<()> {
        for namespace in self.namespaces.iter().filter_map(|(name, meshed)| meshed.then_some(*name)) {
            self.cluster.apply(&signed(istio::strict(namespace))).await?;
            if let Some(log) = &self.cluster.record().istio.access_log {
                let object = evidence_log(log, EVIDENCE, namespace, &evidence_label());
                self.cluster.apply(&signed(object)).await?;
            }
            let record = self.cluster.record();
            let gateway = record.gateways.eastwest.as_ref();
            if let Some(object) = gateway.and_then(|gateway| istio::exposed(gateway, namespace, &record.domain)) {
                self.cluster.apply(&signed(object)).await?;
            }
        }
        Ok(())
    }

    /// Waits until the proxies of the cluster know the meshed probe of every cluster.
    async fn known(&self, testbed: &Testbed) -> Result<()> {
        let caller = probe::caller(self.cluster).await?;
        let services = testbed.clusters.iter().filter_map(|cluster| {
            let probes = cluster.record().probes.as_ref()?;
            Some((probes.meshed.service.as_deref()?, probes.ports.http))
        });
        try_join_all(services.map(|(host, port)| istio::await_service(&caller, host, port))).await?;
        Ok(())
    }

    async fn namespace(&self, name: &str) -> Result<Option<Namespace>> {
        let found = Api::<Namespace>::all(self.cluster.client()).get_opt(name).await;
        Ok(found.map_err(self.cluster.failed(format!("look for namespace {name}")))?)
    }

    /// Creates a namespace for probes, or sets its labels. Waits for an older one that is being deleted.
    ///
    /// # Errors
    /// [`Error::NotOurs`]: the namespace is another's.
    async fn ensure_namespace(&self, name: &str, meshed: bool) -> Result<()> {
        match self.namespace(name).await? {
            Some(found) if found.metadata.deletion_timestamp.is_some() => {
                let want = format!("namespace {name} of {} to be gone", self.cluster.name());
                watch_one(Api::<Namespace>::all(self.cluster.client()), name, want, GONE, |found| match found {
                    Some(found) if found.metadata.deletion_timestamp.is_some() => Seen::NotYet("it ends".into()),
                    _ => Seen::Yes(()),
                })
                .await?;
            }
            Some(found) if !found.labels().contains_key(PROBES_LABEL) => {
                return Err(Error::NotOurs { cluster: self.cluster.name().into(), namespace: name.into() });
            }
            _ => {}
        }
        self.removable().await?;
        let metadata = ObjectMeta {
            name: Some(name.into()),
            labels: Some(self.namespace_labels(meshed)),
            ..ObjectMeta::default()
        };
        Ok(self.cluster.put(&Namespace { metadata, ..Namespace::default() }).await?)
    }

    /// Refuses to begin with what could not be removed again.
    ///
    /// # Errors
    /// [`Error::NotRemovable`].
    async fn removable(&self) -> Result<()> {
        for (group, resource) in [("", "namespaces"), ("apps", "deployments")] {
            let request = ResourceAttributes {
                group: Some(group.into()),
                resource: Some(resource.into()),
                verb: Some("delete".into()),
                ..ResourceAttributes::default()
            };
            let reason = match permission(&self.cluster.client(), request).await {
                Permission::Allowed => continue,
                Permission::Denied => "these credentials have no right to".to_owned(),
                Permission::Unknown(reason) => format!("the API server does not say whether they may: {reason}"),
            };
            return Err(Error::NotRemovable { cluster: self.cluster.name().into(), resource, reason });
        }
        Ok(())
    }

    fn namespace_labels(&self, meshed: bool) -> BTreeMap<String, String> {
        let istio = &self.cluster.record().istio;
        let Label { key, value } = istio::injection(istio, meshed);
        let mut labels = deploy::labels();
        labels.insert(key, value);
        // The init container that Istio adds without its CNI may do what `restricted` forbids.
        let level = if meshed && istio.proxy.init_container { "privileged" } else { "restricted" };
        labels.insert(POD_SECURITY.into(), level.into());
        labels
    }
}

/// The object, with the label of the probes.
fn signed(mut object: Value) -> Value {
    object["metadata"]["labels"] = json!(deploy::labels());
    object
}

#[cfg(test)]
mod tests;
