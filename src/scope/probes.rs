//! Probes that a test adds.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use meshproof_probe::port;
use serde_json::{Value, json};

use super::{Result, Scope};
use crate::cluster::{self, Cluster, Seen, Workload, eventually};
use crate::probe::{DEPLOYMENT, MESHED_NAMESPACE, SELECTOR};

/// Bound on a new probe with its sidecar becoming ready.
const READY_BOUND: Duration = Duration::from_secs(90);

/// Deploys a meshed probe into `namespace`, made as the one that `up` deployed, and waits until it is ready.
///
/// # Errors
/// [`Error::Cluster`].
pub async fn deploy_probe(scope: &Scope, cluster: &Arc<Cluster>, namespace: &str) -> Result<Workload> {
    let model = cluster.api::<Deployment>(MESHED_NAMESPACE).get(DEPLOYMENT).await;
    let model = model.map_err(cluster.failed(format!("read deployment {MESHED_NAMESPACE}/{DEPLOYMENT}")))?;
    let mut deployment = like(&model, namespace).ok_or_else(|| cluster::Error::NoPod {
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
    Ok(eventually(
        format!("the probe in {namespace} of {}", cluster.name()),
        READY_BOUND,
        async || match Workload::find(cluster, namespace, SELECTOR).await {
            Ok(workload) => Ok(Seen::Yes(workload)),
            Err(cluster::Error::NoPod { seen, .. }) => Ok(Seen::NotYet(seen)),
            Err(error) => Err(error),
        },
    )
    .await?)
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
