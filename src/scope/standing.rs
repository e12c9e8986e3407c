//! The probes that the record leaves to the first suite. They stand between runs, until [`remove_probes`].

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::future::try_join_all;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, DeleteParams, ListParams};
use kube::{Client, ResourceExt};
use tokio::sync::Mutex;

use super::error::{Error, Result};
use super::label::RUN_LABEL;
use super::wanted::Wanted;
use super::{lease, sweep};
use crate::cluster::{self, Cluster, Permission, Seen, Testbed, code, permission, request, watch_all, watch_one};
use crate::istio;
use crate::probe::{self, PROBES_LABEL, deploy, rollout};

/// Longest wait for a namespace to be gone, with its pods.
const GONE: Duration = Duration::from_secs(90);

/// Longest wait for what earlier tests removed: some hundred pods, on a busy machine.
const EMPTIED: Duration = Duration::from_secs(180);

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
            _ => standing.ensure_namespace(&standing.wanted.namespace(name)).await,
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
    namespaces_gone(client, cluster, PROBES_LABEL).await?;
    Ok(removed)
}

/// Waits until no namespace has a label of ours: neither one of the probes, nor one of a test.
///
/// # Errors
/// [`Error::Cluster`]: a namespace is not gone in time.
pub async fn gone(client: &Client, cluster: &str) -> Result<()> {
    futures::try_join!(namespaces_gone(client, cluster, PROBES_LABEL), namespaces_gone(client, cluster, RUN_LABEL),)
        .map(drop)
}

/// What of meshproof's was in a cluster before a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Before {
    /// The namespaces that the run makes.
    pub missing: Vec<String>,
    /// Whether probes stood there.
    pub probes: bool,
}

/// What is in a cluster of the namespaces `names` and the probes in them.
///
/// # Errors
/// [`Error::Cluster`]: namespaces or deployments cannot be listed.
pub async fn before(client: &Client, cluster: &str, names: &[String]) -> Result<Before> {
    let ours = ListParams::default().labels(PROBES_LABEL);
    let failed = |doing: &str| {
        let (cluster, doing) = (cluster.to_owned(), doing.to_owned());
        move |source| cluster::Error::Api { cluster, doing, source: Box::new(source) }
    };
    let there = Api::<Namespace>::all(client.clone()).list_metadata(&ours).await.map_err(failed("list namespaces"))?;
    let there: Vec<String> = there.items.iter().map(ResourceExt::name_any).collect();
    let probes = Api::<Deployment>::all(client.clone()).list_metadata(&ours).await;
    let probes = probes.map_err(failed("list deployments"))?.items;
    Ok(Before {
        missing: names.iter().filter(|name| !there.contains(name)).cloned().collect(),
        probes: probes.iter().any(|probe| probe.namespace().is_some_and(|namespace| names.contains(&namespace))),
    })
}

/// Removes the probes of a cluster from namespaces that stay, such as those that hold the roles of a service account. The
/// Lease and the copy of a pull secret stay there too: nobody needs the right to remove one.
///
/// # Errors
/// [`Error::Cluster`]: an object cannot be removed.
pub async fn remove_deployed(testbed: &Testbed, cluster: &str) -> Result<()> {
    for Standing { cluster, wanted } in Standing::of(testbed).iter().filter(|one| one.cluster.name() == cluster) {
        let planned = wanted.planned().objects.into_iter().filter(|object| object["kind"] != "Namespace");
        for object in planned {
            cluster.delete(&object).await?;
        }
    }
    Ok(())
}

/// Removes those of the namespaces `names` that are meshproof's, with all that is in them, and waits until they are gone:
/// what one run by the record in `directory` has made.
///
/// # Errors
/// [`Error::Held`]: another run uses them. [`Error::Cluster`]: a namespace cannot be removed, or is not gone in time.
pub async fn remove_namespaces(client: &Client, cluster: &str, names: &[String], directory: &Path) -> Result<()> {
    try_join_all(names.iter().map(|name| lease::no_other(client, cluster, name, directory))).await?;
    let api = Api::<Namespace>::all(client.clone());
    let failed = |doing: String| {
        let cluster = cluster.to_owned();
        move |source| cluster::Error::Api { cluster, doing, source: Box::new(source) }
    };
    let removing = names.iter().map(async |name| {
        let found = api.get_opt(name).await.map_err(failed(format!("look for namespace {name}")))?;
        if !found.is_some_and(|found| found.labels().contains_key(PROBES_LABEL)) {
            return Ok(());
        }
        match api.delete(name, &DeleteParams::background()).await {
            Err(error) if code(&error) == Some(404) => return Ok(()),
            Err(error) => return Err(failed(format!("remove namespace {name}"))(error).into()),
            Ok(_) => {}
        }
        let want = format!("namespace {name} of {cluster} to be gone");
        watch_one(api.clone(), name, want, GONE, |found| match found {
            None => Seen::Yes(()),
            Some(_) => Seen::NotYet("it ends".into()),
        })
        .await?;
        Ok::<_, Error>(())
    });
    try_join_all(removing).await.map(drop)
}

/// Waits until the namespaces that earlier tests have removed are gone, with their pods and policies: for a test that
/// judges all that is in the mesh. Kubernetes takes up to a minute to empty a namespace.
///
/// # Errors
/// [`Error::Cluster`]: a namespace is not gone in time.
pub async fn removals_done(testbed: &Testbed) -> Result<()> {
    let waiting = testbed.clusters.iter().map(async |cluster| {
        let which = kube::runtime::watcher::Config::default().labels(RUN_LABEL);
        let want = format!("what earlier tests removed in {} to be gone", cluster.name());
        watch_all(Api::<Namespace>::all(cluster.client()), which, want, EMPTIED, |found| {
            let removed = found.iter().filter(|one| one.metadata.deletion_timestamp.is_some());
            match removed.map(|one| one.name_any()).collect::<Vec<_>>() {
                left if left.is_empty() => Seen::Yes(()),
                left => Seen::NotYet(left.join(", ")),
            }
        })
        .await
    });
    Ok(try_join_all(waiting).await.map(drop)?)
}

async fn namespaces_gone(client: &Client, cluster: &str, label: &str) -> Result<()> {
    let which = kube::runtime::watcher::Config::default().labels(label);
    let want = format!("the namespaces with the label {label} in {cluster} to be gone");
    watch_all(Api::<Namespace>::all(client.clone()), which, want, GONE, |left| match left {
        [] => Seen::Yes(()),
        left => Seen::NotYet(left.iter().map(|namespace| namespace.name_any()).collect::<Vec<_>>().join(", ")),
    })
    .await?;
    Ok(())
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
    wanted: Wanted<'a>,
}

impl<'a> Standing<'a> {
    /// For each cluster whose probes must be deployed. None if the record does not permit that.
    fn of(testbed: &'a Testbed) -> Vec<Self> {
        let wanted = Wanted::of(&testbed.record);
        let standing = wanted.into_iter().filter_map(|wanted| {
            let cluster = testbed.clusters.iter().find(|cluster| cluster.name() == wanted.record.name)?;
            Some(Self { cluster, wanted })
        });
        standing.collect()
    }

    /// Makes everything as it should be, and waits for the probes. Returns whether they had to be waited for.
    async fn deploy(&self) -> Result<bool> {
        let Self { cluster, wanted } = self;
        try_join_all(wanted.namespaces().iter().map(|namespace| self.ensure_namespace(namespace))).await?;
        for namespace in wanted.pulling() {
            if let Some(secret) = deploy::pull_secret(cluster, namespace).await? {
                cluster.put(&secret).await?;
            }
        }
        let (accounts, services, policies) = (wanted.plan.accounts(), wanted.services(), wanted.policies());
        let applying = try_join_all(policies.iter().map(|policy| cluster.apply(policy)));
        futures::try_join!(cluster.put_all(&accounts), cluster.put_all(&services), applying)?;
        // Last, so that a new proxy starts with the policy and with the evidence log.
        cluster.put_all(&wanted.deployments()).await?;
        let waiting = wanted.plan.probes.each().map(|(probe, _)| rollout::available(cluster, probe));
        Ok(try_join_all(waiting).await?.contains(&true))
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
    async fn ensure_namespace(&self, wanted: &Namespace) -> Result<()> {
        let name = &wanted.name_any();
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
        Ok(self.cluster.put(wanted).await?)
    }

    /// Refuses to begin with what could not be removed again.
    ///
    /// # Errors
    /// [`Error::NotRemovable`].
    async fn removable(&self) -> Result<()> {
        for (group, resource) in [("", "namespaces"), ("apps", "deployments")] {
            let reason = match permission(&self.cluster.client(), request("delete", group, resource)).await {
                Permission::Allowed => continue,
                Permission::Denied => "these credentials have no right to".to_owned(),
                Permission::Unknown(reason) => format!("the API server does not say whether they may: {reason}"),
            };
            return Err(Error::NotRemovable { cluster: self.cluster.name().into(), resource, reason });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
