//! The probes that `up` deploys, and those that a test adds.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use meshproof_probe::port;
use serde_json::{Value, json};

use crate::cluster::{Cluster, Workload};
use crate::error::{Error, Result};
use crate::eventually::{Seen, eventually};
use crate::scope::Scope;

/// Namespace of the meshed probes: injected, STRICT, `ISTIO_MUTUAL`.
pub const MESHED_NAMESPACE: &str = "pinnacle";

/// Namespace of the naked probes: no injection.
pub const NAKED_NAMESPACE: &str = "meshproof-naked";

/// Container of a probe's pod that holds `/probe`.
pub const PROBE_CONTAINER: &str = "probe";

/// Name of the probes' Deployments.
const DEPLOYMENT: &str = "probe";

const SELECTOR: &str = "app=probe";

/// Bound on a new probe with its sidecar becoming ready.
const READY_BOUND: Duration = Duration::from_secs(90);

/// The meshed probe of a cluster.
///
/// # Errors
/// As [`Cluster::ready_pods`].
pub async fn meshed(cluster: &Arc<Cluster>) -> Result<Workload> {
    Workload::find(cluster, MESHED_NAMESPACE, SELECTOR).await
}

/// The meshed probe of a cluster that only calls: a pod and an identity of its own, so that a call within the cluster
/// crosses two proxies.
///
/// # Errors
/// As [`Cluster::ready_pods`].
pub async fn caller(cluster: &Arc<Cluster>) -> Result<Workload> {
    Workload::find(cluster, MESHED_NAMESPACE, "app=caller").await
}

/// The naked probe of a cluster.
///
/// # Errors
/// As [`Cluster::ready_pods`].
pub async fn naked(cluster: &Arc<Cluster>) -> Result<Workload> {
    Workload::find(cluster, NAKED_NAMESPACE, SELECTOR).await
}

/// The ingress gateway of a cluster.
///
/// # Errors
/// As [`Cluster::ready_pods`].
pub async fn ingress_gateway(cluster: &Arc<Cluster>) -> Result<Workload> {
    Workload::find(cluster, "istio-system", "istio=ingressgateway").await
}

/// The east-west gateway of a cluster.
///
/// # Errors
/// As [`Cluster::ready_pods`].
pub async fn eastwest_gateway(cluster: &Arc<Cluster>) -> Result<Workload> {
    Workload::find(cluster, "istio-system", "istio=eastwestgateway").await
}

/// Name of the service of a cluster's meshed probe, in every cluster.
pub fn service_host(cluster: &str) -> String {
    format!("probe-{cluster}.{MESHED_NAMESPACE}.svc.cluster.local")
}

/// Deploys a meshed probe into `namespace`, made as the one that `up` deployed, and waits until it is ready.
///
/// # Errors
/// [`Error::Api`], [`Error::NotInTime`].
pub async fn deploy_probe(scope: &Scope, cluster: &Arc<Cluster>, namespace: &str) -> Result<Workload> {
    let model = cluster.api::<Deployment>(MESHED_NAMESPACE).get(DEPLOYMENT).await;
    let model = model.map_err(cluster.failed(format!("read deployment {MESHED_NAMESPACE}/{DEPLOYMENT}")))?;
    let mut deployment = like(&model, namespace).ok_or_else(|| Error::NoPod {
        cluster: cluster.name().into(),
        namespace: MESHED_NAMESPACE.into(),
        selector: SELECTOR.into(),
        seen: "and its deployment has no pod template".into(),
    })?;
    let account = deployment.pointer("/spec/template/spec/serviceAccountName").cloned();
    let metadata = |name: Value| json!({ "name": name, "namespace": namespace });
    let account = account.unwrap_or_else(|| "default".into());
    let mut account = json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata(account) });
    let mut service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": metadata(DEPLOYMENT.into()),
        "spec": { "selector": { "app": "probe" }, "ports": [
            { "name": "http", "port": port::HTTP }, { "name": "http2", "port": port::HTTP2 },
            { "name": "grpc", "port": port::GRPC }, { "name": "tcp", "port": port::TCP },
            { "name": "tcp-server-first", "port": port::SERVER_FIRST }, { "name": "tls", "port": port::TLS },
        ] },
    });
    for object in [&mut account, &mut service, &mut deployment] {
        scope.apply(cluster, object).await?;
    }
    eventually(format!("the probe in {namespace} of {}", cluster.name()), READY_BOUND, async || {
        match Workload::find(cluster, namespace, SELECTOR).await {
            Ok(workload) => Ok(Seen::Yes(workload)),
            Err(Error::NoPod { seen, .. }) => Ok(Seen::NotYet(seen)),
            Err(error) => Err(error),
        }
    })
    .await
}

/// A Deployment for `namespace` with the pod template of `model`.
fn like(model: &Deployment, namespace: &str) -> Option<Value> {
    let spec = model.spec.as_ref()?;
    let template = serde_json::to_value(&spec.template).ok()?;
    let selector = serde_json::to_value(&spec.selector).ok()?;
    Some(json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": { "name": DEPLOYMENT, "namespace": namespace },
        "spec": { "replicas": 1, "selector": selector, "template": template },
    }))
}
