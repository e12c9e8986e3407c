//! Probes deployed by a test.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use futures::future::try_join_all;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::{Error, Result, Scope};
use crate::cluster::{self, Cluster, Seen, Workload, is_ready};
use crate::probe::{self, rollout};
use crate::record::{self, ProbePorts};

/// Deploys a meshed probe into `namespace`, as a copy of the cluster's own meshed probe, and waits until the probe is
/// ready.
///
/// # Errors
/// [`Error::Cluster`]. [`NotDeclared`](crate::record::Error::NotDeclared): the record
/// names no probes.
pub async fn deploy_probe(scope: &Scope, cluster: &Arc<Cluster>, namespace: &str) -> Result<Workload> {
    deploy_probe_serving(scope, cluster, namespace, None).await
}

/// Like [`deploy_probe`]. The probe also serves raw TCP on each port of `lines`, and so does its service.
///
/// # Errors
/// The errors of [`deploy_probe`].
pub async fn deploy_probe_serving(
    scope: &Scope,
    cluster: &Arc<Cluster>,
    namespace: &str,
    lines: Option<RangeInclusive<u16>>,
) -> Result<Workload> {
    let copy = copied(cluster, namespace, lines).await?;
    deployed(scope, cluster, namespace, copy).await?;
    Ok(Workload::find(cluster, namespace, &probe::declared(cluster)?.meshed.selector).await?)
}

/// Like [`deploy_probe`], with `change` applied to the copy before it is written. Returns all of its pods.
///
/// # Errors
/// The errors of [`deploy_probe`].
pub async fn deploy_probe_with(
    scope: &Scope,
    cluster: &Arc<Cluster>,
    namespace: &str,
    change: impl FnOnce(&mut CopiedProbe),
) -> Result<Vec<Workload>> {
    let mut copy = copied(cluster, namespace, None).await?;
    change(&mut copy);
    deployed(scope, cluster, namespace, copy).await?;
    let pods = cluster.ready_pods(namespace, &probe::declared(cluster)?.meshed.selector).await?;
    Ok(pods.iter().filter_map(|pod| Workload::of(cluster, pod)).collect())
}

async fn deployed(scope: &Scope, cluster: &Arc<Cluster>, namespace: &str, copy: CopiedProbe) -> Result<()> {
    let CopiedProbe { mut account, mut service, mut deployment } = copy;
    if let Some(secret) = probe::deploy::pull_secret(cluster, namespace).await? {
        let mut secret = serde_json::to_value(secret).map_err(Error::suite)?;
        scope.apply(cluster, &mut secret).await?;
    }
    for object in [&mut account, &mut service] {
        scope.apply(cluster, object).await?;
    }
    let _turn = STARTING.acquire().await;
    scope.apply(cluster, &mut deployment).await?;
    let model = &probe::declared(cluster)?.meshed;
    rollout::available(cluster, &record::Probe { namespace: namespace.into(), ..model.clone() }).await?;
    Ok(())
}

/// The objects of a copied probe.
#[derive(Debug, Clone)]
pub struct CopiedProbe {
    /// The service account.
    pub account: Value,
    /// The service, with the probe's name.
    pub service: Value,
    /// The deployment.
    pub deployment: Value,
}

/// A copy of a cluster's meshed probe for `namespace`, for a test that changes the copy, or applies a part of it: the
/// service alone, for example, in a cluster that only calls.
///
/// # Errors
/// The errors of [`deploy_probe`].
pub async fn copied_probe(cluster: &Arc<Cluster>, namespace: &str) -> Result<CopiedProbe> {
    copied(cluster, namespace, None).await
}

async fn copied(cluster: &Arc<Cluster>, namespace: &str, lines: Option<RangeInclusive<u16>>) -> Result<CopiedProbe> {
    let probes = probe::declared(cluster)?;
    let model = &probes.meshed;
    let found = cluster.api::<Deployment>(&model.namespace).get(&model.deployment).await;
    let found = found.map_err(cluster.failed(format!("read deployment {}/{}", model.namespace, model.deployment)))?;
    let copy = Copy::of(&found, &model.deployment, namespace).ok_or_else(|| cluster::Error::NoPod {
        cluster: cluster.name().into(),
        namespace: model.namespace.clone(),
        selector: model.selector.clone(),
        seen: "and its deployment has no pod template".into(),
    })?;
    let copy = match &lines {
        Some(lines) => copy.serving(&probes.container, lines),
        None => copy,
    };
    let [account, service, deployment] = copy.objects(&probes.ports, lines);
    Ok(CopiedProbe { account, service, deployment })
}

/// A copy of a probe, for another namespace.
struct Copy<'a> {
    name: &'a str,
    namespace: &'a str,
    account: String,
    labels: Value,
    selector: Value,
    template: Value,
}

impl<'a> Copy<'a> {
    /// A copy of `model`. `None` if `model` has no pod template.
    fn of(model: &Deployment, name: &'a str, namespace: &'a str) -> Option<Self> {
        let spec = model.spec.as_ref()?;
        let account = spec.template.spec.as_ref()?.service_account_name.clone();
        Some(Self {
            name,
            namespace,
            account: account.unwrap_or_else(|| "default".into()),
            labels: serde_json::to_value(&spec.selector.match_labels).ok()?,
            selector: serde_json::to_value(&spec.selector).ok()?,
            template: serde_json::to_value(&spec.template).ok()?,
        })
    }

    /// The copy, with these ports of raw TCP in the command of its container.
    fn serving(mut self, container: &str, lines: &RangeInclusive<u16>) -> Self {
        let containers = self.template.pointer_mut("/spec/containers").and_then(Value::as_array_mut);
        let probe = containers.into_iter().flatten().find(|one| one["name"] == container);
        if let Some(probe) = probe {
            probe["args"] = json!(["serve", "--lines", format!("{}-{}", lines.start(), lines.end())]);
        }
        self
    }

    /// The copy's service account, service (with the probe's name) and deployment.
    fn objects(self, ports: &ProbePorts, lines: Option<RangeInclusive<u16>>) -> [Value; 3] {
        let metadata = |name: &str| json!({ "name": name, "namespace": self.namespace });
        let mut ports: Vec<Value> =
            ports.named().map(|(name, port)| json!({ "name": name, "port": port })).into_iter().collect();
        let lines = lines.into_iter().flatten();
        ports.extend(lines.map(|port| json!({ "name": format!("tcp-{port}"), "port": port })));
        [
            json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata(&self.account) }),
            json!({
                "apiVersion": "v1", "kind": "Service", "metadata": metadata(self.name),
                "spec": { "selector": self.labels, "ports": ports },
            }),
            json!({
                "apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata(self.name),
                "spec": { "replicas": 1, "selector": self.selector, "template": self.template },
            }),
        ]
    }
}

/// A probe of a test's own.
#[derive(Debug, Clone, Default)]
pub struct ProbePlan {
    /// Name of the workload, and value of its pods' label `app`.
    pub name: String,
    /// Further labels of the pod, for example one that keeps it out of the mesh.
    pub labels: BTreeMap<String, String>,
    /// Annotations of the pod.
    pub annotations: BTreeMap<String, String>,
    /// Whether the pod shares its node's network.
    pub host_network: bool,
    /// Whether the workload is a StatefulSet. Otherwise it is a Deployment.
    pub stateful: bool,
}

/// Label of the pods of [`deploy_probes`].
const PLANNED: &str = "meshproof.dev/planned";

/// Longest wait for the pods of one wave of [`deploy_probes`].
const PLANNED_BOUND: Duration = Duration::from_secs(240);

/// Most pods of one call of [`deploy_probes`] that start at the same time.
const WAVE: usize = 8;

/// Pods that may start at the same time, in all tests of a process. When all sidecars of `modes` started at once, two busy
/// processors took longer than the 10 s that API servers wait for the injector.
static STARTING: Semaphore = Semaphore::const_new(2 * WAVE);

/// Deploys several probes into `namespace`, as copies of the cluster's own meshed probe and without services, and waits
/// until all are ready. They start in waves. The pods are in the order of their plans. Pods that are refused, for example
/// by a quota or by admission, and pods that cannot start are told within 10 s.
///
/// # Errors
/// The errors of [`deploy_probe`], and of [`Cluster::await_pods`].
pub async fn deploy_probes(
    scope: &Scope,
    cluster: &Arc<Cluster>,
    namespace: &str,
    plans: &[ProbePlan],
) -> Result<Vec<Workload>> {
    let model = &probe::declared(cluster)?.meshed;
    let found = cluster.api::<Deployment>(&model.namespace).get(&model.deployment).await;
    let found = found.map_err(cluster.failed(format!("read deployment {}/{}", model.namespace, model.deployment)))?;
    let template = serde_json::to_value(found.spec.map(|spec| spec.template)).map_err(Error::suite)?;
    let mut named = vec![json!({
        "apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": { "name": template["spec"]["serviceAccountName"], "namespace": namespace },
    })];
    if let Some(secret) = probe::deploy::pull_secret(cluster, namespace).await? {
        named.push(serde_json::to_value(secret).map_err(Error::suite)?);
    }
    // Before the workloads that name them: a ReplicaSet keeps its first refusal, and would tell of a missing account.
    scope.apply_all(cluster, named).await?;
    let waves = plans.chunks(WAVE).map(async |wave| {
        // The semaphore is never closed.
        let _turn = STARTING.acquire_many(u32::try_from(wave.len()).unwrap_or(1)).await;
        let workloads = wave.iter().map(|plan| plan.workload(namespace, template.clone())).collect();
        scope.apply_all(cluster, workloads).await?;
        ready(cluster, namespace, wave).await
    });
    Ok(try_join_all(waves).await?.concat())
}

/// The pods of these plans, when all are ready.
async fn ready(cluster: &Arc<Cluster>, namespace: &str, plans: &[ProbePlan]) -> Result<Vec<Workload>> {
    let want = format!("{} probes in {namespace} of {} to be ready", plans.len(), cluster.name());
    let judge = |pods: &[&Pod]| {
        let of = |plan: &ProbePlan| {
            let mut pods = pods.iter().filter(|pod| pod.labels().get("app") == Some(&plan.name) && is_ready(pod));
            pods.find_map(|pod| Workload::of(cluster, pod))
        };
        let ready: Vec<Workload> = plans.iter().filter_map(of).collect();
        let seen = format!("{} of {} are ready", ready.len(), plans.len());
        if ready.len() == plans.len() { Seen::Yes(ready) } else { Seen::NotYet(seen) }
    };
    let lack = async {
        match plans.iter().any(|plan| plan.stateful) {
            true => cluster.lasting_lack(namespace, PLANNED).await,
            false => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        ready = cluster.await_pods(namespace, PLANNED, want, PLANNED_BOUND, judge) => Ok(ready?),
        lack = lack => Err(cluster.stuck(namespace, lack).into()),
    }
}

impl ProbePlan {
    /// The workload, with the pod `template` of another probe.
    fn workload(&self, namespace: &str, mut template: Value) -> Value {
        let Self { name, labels, annotations, host_network, stateful } = self;
        template["metadata"]["labels"]["app"] = name.as_str().into();
        template["metadata"]["labels"][PLANNED] = "true".into();
        for (key, value) in labels {
            template["metadata"]["labels"][key] = value.as_str().into();
        }
        for (key, value) in annotations {
            template["metadata"]["annotations"][key] = value.as_str().into();
        }
        if *host_network {
            template["spec"]["hostNetwork"] = true.into();
            // Otherwise the pod asks the node's resolver, which does not know the cluster's services.
            template["spec"]["dnsPolicy"] = "ClusterFirstWithHostNet".into();
        }
        let mut workload = json!({
            "apiVersion": "apps/v1", "kind": if *stateful { "StatefulSet" } else { "Deployment" },
            "metadata": { "name": name, "namespace": namespace },
            "spec": { "replicas": 1, "selector": { "matchLabels": { "app": name } }, "template": template },
        });
        if *stateful {
            workload["spec"]["serviceName"] = name.as_str().into();
        }
        workload
    }
}
